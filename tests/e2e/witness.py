# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Who executes? A witness asks both QEMUs all the time, and knows when each guest ticked.

Two guests execute when both tick within the same moments, or when the one says "running" between
two answers of the other that say so too.
"""
import threading
import time

import lib

_PERIOD_S = 0.03
_BIN_NS = 20_000_000    # a guest that runs ticks several times within it


class Witness:
    """Watches a pair until stop()."""

    def __init__(self, pair):
        self.sides = (pair.src, pair.dst)
        self.seen = {side.name: [] for side in self.sides}  # (asked, answered, running)
        self.ran = set()    # names of the sides seen running
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._end.wait(_PERIOD_S):
            for side in self.sides:
                asked = time.monotonic_ns()
                try:
                    running = side.status(0.5) == "running"
                except lib.vm.VmError:
                    continue
                self.seen[side.name].append((asked, time.monotonic_ns(), running))
                if running:
                    self.ran.add(side.name)

    def stop(self):
        """No more questions."""
        self._end.set()
        self._thread.join(5)

    def doubled(self):
        """How two guests were caught executing at once; None: they were not."""
        return self._by_status() or self._by_ticks()

    def _by_status(self):
        for name, other in (("src", "dst"), ("dst", "src")):
            mine = self.seen[name]
            for before, after in zip(mine, mine[1:]):
                if not (before[2] and after[2]):
                    continue
                for asked, answered, running in self.seen[other]:
                    if running and before[1] < asked and answered < after[0]:
                        return (f"{name} said running, {other} said running, {name} said "
                                f"running, within {(after[1] - before[0]) / 1e6:.0f} ms")
        return None

    def _by_ticks(self):
        src, dst = (side.ticks for side in self.sides)
        if dst.first_ns is None or src.last_ns is None:
            return None
        together = 0
        for at in range(dst.first_ns, min(src.last_ns, dst.last_ns) + 1, _BIN_NS):
            together += bool(src.ticks_between(at, at + _BIN_NS) and
                             dst.ticks_between(at, at + _BIN_NS))
        if together >= 2:
            return f"both guests ticked within {together} moments of {_BIN_NS // 1000000} ms"
        return None

    def went_back(self):
        """The source's guest told what the destination's had told before: its time is lost."""
        src, dst = (side.ticks.statuses for side in self.sides)
        return bool(src and dst and src[-1].seq >= dst[0].seq)
