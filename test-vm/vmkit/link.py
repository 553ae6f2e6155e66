# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network link of known rate: two network namespaces, a veth pair, tbf at both ends."""
import contextlib
import itertools
import os
import re
import subprocess

from . import cleanup
from .cleanup import VmError

_numbers = itertools.count()
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def parse_rate(rate):
    """Bits per second of 1000000, "100mbit", "2.5gbit"."""
    match = re.fullmatch(r"([0-9.]+)\s*([kmg]?)(?:bit)?", str(rate).strip().lower())
    if not match:
        raise VmError(f"rate {rate!r}: want a number with kbit, mbit or gbit")
    return int(float(match[1]) * _UNITS[match[2]])


def _ip(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VmError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")


def _count(prefix, interface):
    """The bytes an interface has sent."""
    path = f"/sys/class/net/{interface}/statistics/tx_bytes"
    return int(subprocess.run([*prefix, "cat", path], capture_output=True, text=True,
                              check=True).stdout)


class Link:
    """The source side is in .src_ns, the destination in .dst_ns; nothing else reaches either.

    rate   of each direction, e.g. "1gbit"; None: as fast as veth goes
    queue_ms   how much tbf queues at most: what a full link adds to the round trip
    """

    src_addr = "10.251.0.1"     # the same in every Link: the namespaces are its own
    dst_addr = "10.251.0.2"

    def __init__(self, rate="1gbit", queue_ms=20, mtu=1500):
        self.rate_bps = parse_rate(rate) if rate is not None else None
        self._name_ends(f"qmig{os.getpid()}-{next(_numbers)}")
        self.exec_prefix = ["ip", "netns", "exec", self.src_ns]
        self.dst_exec_prefix = ["ip", "netns", "exec", self.dst_ns]
        self._queue_ms, self._closed = queue_ms, False
        self._dir = cleanup.PrivateDir("/dev/shm")
        cleanup.register(self)
        try:
            with open(self._dir.file("netns"), "w") as names:
                names.write(f"{self.src_ns} {self.dst_ns}\n")
            self._make(mtu)
        except BaseException:
            self.close()
            raise

    def _name_ends(self, name):
        self.src_ns, self.dst_ns = name + "s", name + "d"

    def _make(self, mtu):
        for namespace in (self.src_ns, self.dst_ns):
            _ip("ip", "netns", "add", namespace)
            _ip("ip", "-n", namespace, "link", "set", "lo", "up")
        _ip("ip", "-n", self.src_ns, "link", "add", "veth0", "mtu", str(mtu), "type", "veth",
            "peer", "name", "veth0", "mtu", str(mtu), "netns", self.dst_ns)
        for namespace, address in ((self.src_ns, self.src_addr), (self.dst_ns, self.dst_addr)):
            _ip("ip", "-n", namespace, "address", "add", address + "/30", "dev", "veth0")
            _ip("ip", "-n", namespace, "link", "set", "veth0", "up")
        if self.rate_bps:
            self.set_rate(self.rate_bps)

    def set_rate(self, rate):
        """Change the rate of both directions, also under way."""
        self.rate_bps = parse_rate(rate)
        bytes_per_ms = self.rate_bps // 8000
        # Two timer ticks' worth at least, or the kernel cannot keep up the rate; not so
        # much that short transfers escape it. A packet of 64 KiB (GSO) has to fit.
        burst = max(128 * 1024, 4 * bytes_per_ms)
        limit = burst + max(self._queue_ms * bytes_per_ms, 64 * 1024)
        for namespace in (self.src_ns, self.dst_ns):
            _ip("tc", "-n", namespace, "qdisc", "replace", "dev", "veth0", "root", "tbf",
                "rate", f"{self.rate_bps}bit", "burst", str(burst), "limit", str(limit))

    def bytes_sent(self):
        """(by the source side, by the destination side), as the interfaces count: with headers."""
        return (_count(self.exec_prefix, "veth0"), _count(self.dst_exec_prefix, "veth0"))

    def set_up(self, up):
        """Cut the cable, or mend it."""
        _ip("ip", "-n", self.src_ns, "link", "set", "veth0", "up" if up else "down")

    @staticmethod
    def why_not():
        """None if links can be made here, else the reason."""
        if os.geteuid() != 0:
            return "network namespaces need root"
        try:
            Link("100mbit").close()
        except (VmError, OSError) as error:
            return str(error)
        return None

    def close(self):
        if self._closed:
            return
        self._closed = True
        for namespace in (self.src_ns, self.dst_ns):
            with contextlib.suppress(OSError):
                subprocess.run(["ip", "netns", "delete", namespace], check=False,
                               stderr=subprocess.DEVNULL)
        self._dir.close()
        cleanup.forget(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Loopback(Link):
    """Both sides in one namespace: by 127.0.0.1, as fast as it goes, and counted."""

    src_addr = dst_addr = "127.0.0.1"

    def __init__(self):
        super().__init__(rate=None)

    def _name_ends(self, name):
        self.src_ns = self.dst_ns = name + "l"

    def _make(self, _mtu):
        _ip("ip", "netns", "add", self.src_ns)
        _ip("ip", "-n", self.src_ns, "link", "set", "lo", "up")

    def set_rate(self, rate):
        raise VmError("a loopback has no rate to set")

    def set_up(self, up):
        _ip("ip", "-n", self.src_ns, "link", "set", "lo", "up" if up else "down")

    def bytes_sent(self):
        """(all that was sent, 0): one interface for both directions."""
        return (_count(self.exec_prefix, "lo"), 0)
