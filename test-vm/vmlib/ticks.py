# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads what the bare guest says on its serial port, and when."""
import array
import bisect
import fcntl
import os
import threading
import time

# The guest does not wait for its transmitter: a full pipe would lose bytes.
PIPE_BYTES = 1 << 20
F_SETPIPE_SZ = 1031


class Ticks:
    """Arrival times (CLOCK_MONOTONIC, ns) of the guest's ticks; a dot and a T line are one each."""

    def __init__(self, pipe):
        self.stamps = array.array("Q")
        self.last_line = {}
        self.corrupt = []
        self.notes = []
        self._pipe = pipe
        self._rest = b""
        try:
            fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # a smaller pipe serves as long as the reader gets its turn
        self._thread = threading.Thread(target=self._read, daemon=True, name="ticks")
        self._thread.start()

    @property
    def count(self):
        return len(self.stamps)

    @property
    def first_ns(self):
        return self.stamps[0] if self.stamps else None

    @property
    def last_ns(self):
        return self.stamps[-1] if self.stamps else None

    def last_before(self, when_ns):
        """The last tick not after a moment, or None."""
        place = bisect.bisect_right(self.stamps, when_ns)
        return self.stamps[place - 1] if place else None

    def longest_gap_ms(self, since_ns=0):
        """The longest pause between two ticks that followed each other after a moment."""
        stamps = self.stamps[bisect.bisect_left(self.stamps, since_ns):]
        return max((b - a for a, b in zip(stamps, stamps[1:])), default=0) / 1e6

    def _read(self):
        descriptor = self._pipe.fileno()
        while chunk := os.read(descriptor, 65536):
            self._take(chunk, time.monotonic_ns())

    def _take(self, chunk, now):
        # No line of the guest holds a dot, so dots count wherever they stand.
        self.stamps.extend([now] * chunk.count(b"."))
        lines = (self._rest + chunk).replace(b".", b"").split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._take_line(line.decode("ascii", "replace"), now)

    def _take_line(self, line, now):
        words = line.split()
        if line.startswith("CORRUPT "):
            self.corrupt.append(line)
        elif line.startswith("#"):
            self.notes.append(line)
        elif len(words) == 6 and words[0] == "T" and all(w.isdigit() for w in words[1:]):
            names = ("seq", "ms", "dirtied", "checked", "errors")
            self.last_line = dict(zip(names, map(int, words[1:])))
            self.stamps.append(now)

    def join(self):
        self._thread.join(5)
        self._pipe.close()
