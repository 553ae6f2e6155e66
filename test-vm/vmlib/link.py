# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two network namespaces joined by a veth pair of limited rate."""
import atexit
import itertools
import os
import re
import subprocess

_numbers = itertools.count(1)
_UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


def _run(*words):
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


def bits_per_second(rate):
    """What tc calls a rate: 100mbit."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?bit)", rate)
    if not match:
        raise ValueError(f"rate {rate!r}: want a number and bit, kbit, mbit or gbit")
    return float(match[1]) * _UNITS[match[2]]


def can_link():
    """Why no link can be made here, or None."""
    try:
        Link("1gbit").close()
    except (RuntimeError, OSError) as error:
        return str(error)
    return None


class Link:
    """A cable between two hosts that are not there; nothing of it is seen outside."""

    def __init__(self, rate="1gbit"):
        number = next(_numbers)
        name = f"qmig-{os.getpid()}-{number}"
        self.src_ns, self.dst_ns = f"{name}-s", f"{name}-d"
        # The addresses live inside the namespaces only, so every link may use the same.
        self.src_addr, self.dst_addr = "10.77.0.1", "10.77.0.2"
        self.exec_prefix = ["ip", "netns", "exec", self.src_ns]
        self.dst_exec_prefix = ["ip", "netns", "exec", self.dst_ns]
        self._made = []
        self.rate = rate
        bits_per_second(rate)
        atexit.register(self.close)
        try:
            self._make()
            self.set_rate(rate)
        except BaseException:
            self.close()
            raise

    def _make(self):
        for namespace in (self.src_ns, self.dst_ns):
            _run("ip", "netns", "add", namespace)
            self._made.append(namespace)
        _run("ip", "-n", self.src_ns, "link", "add", "link0", "type", "veth",
             "peer", "name", "link0", "netns", self.dst_ns)
        for namespace, address in ((self.src_ns, self.src_addr), (self.dst_ns, self.dst_addr)):
            _run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "link0")
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
            _run("ip", "-n", namespace, "link", "set", "link0", "up")

    def set_rate(self, rate):
        """Change the rate of both directions, also while data flows."""
        # One scheduler tick's worth of data and no less than a whole GSO packet must fit the
        # bucket; a queue of 50 ms is about what a switch has.
        burst = max(int(bits_per_second(rate) / 8 / 250), 128 * 1024)
        for namespace in (self.src_ns, self.dst_ns):
            _run("ip", "netns", "exec", namespace, "tc", "qdisc", "replace", "dev", "link0",
                 "root", "tbf", "rate", rate, "burst", str(burst), "latency", "50ms")
        self.rate = rate

    def close(self):
        atexit.unregister(self.close)
        while self._made:
            # Deleting a namespace takes its end of the cable along, and that the other end.
            subprocess.run(["ip", "netns", "delete", self._made.pop()], check=False,
                           capture_output=True, stdin=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
