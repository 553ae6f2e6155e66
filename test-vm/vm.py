# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real QEMUs in pairs for tests and benches: Qemu, find_qemus, kvm_works, Pair, Link.

    with Pair(qemu, qemu, workload={"ws": "64M", "rate": 2000}) as pair:
        pair.wait_ticking(pair.src)
        pair.dst.cmd("migrate-incoming", uri=f"unix:{pair.dir}/channel")
        ...
"""
import functools
import os

from vmlib.link import Link, can_link
from vmlib.pair import Pair
from vmlib.qemus import Qemu, find_qemus
from vmlib.qmp import QmpError

__all__ = ["Qemu", "find_qemus", "kvm_works", "Pair", "Link", "can_link", "QmpError"]


@functools.lru_cache(maxsize=None)
def kvm_works(qemu):
    """Does the bare guest tick under KVM? Really boots it; twice, if the first boot fails."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        with Pair(qemu, qemu, mem_mib=128, workload={"ws": "1M", "rate": 0}, fill=0) as pair:
            pair.dst.stop()
            pair.wait_ticking(pair.src)  # boots once more by itself
    except (RuntimeError, TimeoutError, QmpError):
        return False
    return True
