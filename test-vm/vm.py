# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real guests for tests: start a pair of QEMUs, watch the guest, compare memory. See README.md."""
from vmkit import disks
from vmkit.cleanup import VmError
from vmkit.disks import Disk
from vmkit.link import Link, Loopback, parse_rate
from vmkit.migrate import migrate
from vmkit.pair import Pair, kvm_works, parse_size
from vmkit.qemus import Qemu, bare_image, find_qemus, linux_images
from vmkit.qmp import Qmp, QmpClosed, QmpError, QmpTimeout
from vmkit.ram import pool, template
from vmkit.side import Side
from vmkit.ticks import Status, TickLog

__all__ = ["Disk", "Link", "Loopback", "Pair", "Qemu", "Qmp", "QmpClosed", "QmpError",
           "QmpTimeout", "Side", "Status", "TickLog", "VmError", "bare_image", "disks",
           "find_qemus", "kvm_works", "linux_images", "migrate", "parse_rate", "parse_size", "pool",
           "template"]
