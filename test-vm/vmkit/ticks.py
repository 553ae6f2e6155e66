# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest says on its serial line, stamped on arrival.

The guests print a dot or a line `T <seq> <ms> <dirtied> <checked> <errors>` per tick (with a disk,
how many blocks of it were written comes last), a line
`CORRUPT …` for memory gone wrong, and `# …` for people. A migration cuts this stream
anywhere: what a destination says up to its first line end belongs to a line that the
source began, and counts as life but not as a tick.
"""
import array
import bisect
import collections
import os
import threading
import time

Status = collections.namedtuple("Status", "ns seq ms dirtied checked errors disk_writes",
                                defaults=[0])


class TickLog:
    """Threads: one reader inside, any number of readers of the attributes.

    count               ticks so far
    first_ns, last_ns   arrival of the first and the last byte, CLOCK_MONOTONIC; None: none yet
    statuses            every T line, as Status; its ns is the arrival of the line's end
    corrupt             the CORRUPT lines
    notes               other lines, the last thousand
    """

    def __init__(self, fd):
        self.count = 0
        self.first_ns = self.last_ns = None
        self.statuses, self.corrupt = [], []
        self.notes = collections.deque(maxlen=1000)
        self._arrivals, self._counts = array.array("q"), array.array("q")
        self._text = b""            # of the line not ended yet
        self._changed = threading.Condition()
        self._fd, self.closed = fd, False
        self._thread = threading.Thread(target=self._read, name="ticks", daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                data = b""
            now = time.monotonic_ns()
            with self._changed:
                if not data:
                    self.closed = True
                else:
                    self._take(data, now)
                self._changed.notify_all()
            if not data:
                os.close(self._fd)
                return

    def _take(self, data, now):
        if self.first_ns is None:
            self.first_ns = now
        self.last_ns = now
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(self._dots(line), now)
            self._text = b""
        self._dots(rest)
        self._arrivals.append(now)
        self._counts.append(self.count)

    def _dots(self, piece):
        """Count the dots a line begins with; what follows them is text up to the line's end."""
        if not self._text:
            text = piece.lstrip(b".")
            self.count += len(piece) - len(text)
            piece = text
        self._text += piece
        return self._text

    def _line(self, text, now):
        words = text.decode("ascii", "replace").strip()
        if words.startswith("CORRUPT"):
            self.corrupt.append(words)
        elif words.startswith("T "):
            try:
                self.statuses.append(Status(now, *map(int, words.split()[1:7])))
                self.count += 1
            except (ValueError, TypeError):
                self.notes.append(words)
        elif words:
            self.notes.append(words)

    # ---- asking ------------------------------------------------------------------------------

    @property
    def status(self):
        """The last T line, or None."""
        return self.statuses[-1] if self.statuses else None

    def errors(self):
        """Corruption seen: the guest's lines, one not ended included, or that it counts some."""
        with self._changed:
            lines = list(self.corrupt)
            if self._text.startswith(b"CORRUPT"):
                lines.append(self._text.decode("ascii", "replace"))
        if not lines and self.status and self.status.errors:
            lines.append(f"CORRUPT counted by the guest: {self.status.errors}")
        return lines

    def wait(self, ready, timeout):
        """Wait until ready(self) holds, asked after every arrival; whether it came to hold."""
        with self._changed:
            return self._changed.wait_for(lambda: ready(self) or self.closed, timeout) \
                and bool(ready(self))

    def wait_ticks(self, n, timeout):
        """Wait for n more ticks."""
        target = self.count + n
        return self.wait(lambda log: log.count >= target, timeout)

    def ticks_between(self, from_ns, to_ns):
        """How many ticks arrived in that time."""
        with self._changed:
            return self._count_until(to_ns) - self._count_until(from_ns)

    def _count_until(self, ns):
        at = bisect.bisect_right(self._arrivals, ns)
        return self._counts[at - 1] if at else 0

    def gaps(self, min_ms, from_ns=0):
        """[(start_ns, length_ms)] of the silences of at least that length."""
        with self._changed:
            stamps = self._arrivals[bisect.bisect_left(self._arrivals, from_ns):]
        return [(a, (b - a) / 1e6) for a, b in zip(stamps, stamps[1:]) if b - a >= min_ms * 1e6]

    def dirty_rate(self, seconds=1.0):
        """Pages dirtied per second by the guest's own count, over about the last seconds."""
        statuses = list(self.statuses)
        if not statuses:
            return 0.0
        last = statuses[-1]
        for first in reversed(statuses):
            if last.ns - first.ns >= seconds * 1e9:
                return (last.dirtied - first.dirtied) * 1e9 / (last.ns - first.ns)
        first = statuses[0]
        return (last.dirtied - first.dirtied) * 1e9 / max(1, last.ns - first.ns)
