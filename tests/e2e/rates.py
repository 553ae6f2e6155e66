# SPDX-License-Identifier: LGPL-2.1-or-later
"""
How many bytes an interface sends over time. It counts as the sender writes, as long as the reader
keeps up: what lies in buffers behind it does not blur the picture.
"""
import subprocess
import sys
import threading
import time

SAMPLER = """
import os, sys, time
fd = os.open("/sys/class/net/%s/statistics/tx_bytes" % sys.argv[1], os.O_RDONLY)
while True:
    before = time.monotonic_ns()
    count = os.pread(fd, 32, 0).decode().strip()
    print(before, count, time.monotonic_ns(), flush=True)
    time.sleep(float(sys.argv[2]))
"""


class Sampler:
    """
    Samples of what `interface` has sent, by a process that `prefix` puts into its namespace:
    (ns before, bytes, ns after) each. The count was read somewhere between the two.
    """

    def __init__(self, prefix, interface="veth0", interval_s=0.02):
        self.samples = []
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-c", SAMPLER, interface, str(interval_s)],
            stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._process.stdout:
            self.samples.append(tuple(map(int, line.split())))

    def wait_for(self, n_bytes, timeout_s=30):
        """Wait until so many bytes have gone. Return: when that was seen, ns."""
        deadline = time.monotonic() + timeout_s
        first = None
        while time.monotonic() < deadline:
            if self.samples:
                first = first or self.samples[0][1]
                _, count, after = self.samples[-1]
                if count - first >= n_bytes:
                    return after
            time.sleep(0.01)
        raise AssertionError(f"{n_bytes} bytes are not sent within {timeout_s} s")

    def close(self):
        """End the process."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        self._process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def between(samples, begin_ns, end_ns):
    """Those that were taken in that time."""
    return [s for s in samples if s[0] >= begin_ns and s[2] <= end_ns]


def windows(samples, length_s=1.0):
    """(bytes, the most ns they can have taken) of each shortest window of at least that length."""
    found, last = [], 0
    for first in samples:
        while last < len(samples) and samples[last][2] - first[0] < length_s * 1e9:
            last += 1
        if last == len(samples):
            break
        found.append((samples[last][1] - first[1], samples[last][2] - first[0]))
    return found


def fastest(samples, length_s=1.0):
    """The highest rate of all windows, bytes/s: not more than it was."""
    return max((n * 1e9 / ns for n, ns in windows(samples, length_s)), default=0.0)


def whole(samples):
    """The rate from the first to the last sample, bytes/s."""
    if len(samples) < 2:
        return 0.0
    return (samples[-1][1] - samples[0][1]) * 1e9 / (samples[-1][2] - samples[0][2])
