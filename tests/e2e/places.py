# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where in a migration something shall happen to it."""
import time

from lib import check


class Place:
    """A hook holds qmig there, or an event tells of it."""

    def __init__(self, hold=None, event=None, go_on_s=0):
        self.hold, self.event, self.go_on_s = hold, event, go_on_s

    def reach(self, gate):
        """Wait until qmig is there."""
        there = gate.wait_hook() if self.hold else gate.wait_event(self.event)
        check(there, f"it ended early:\n{gate.text}")
        time.sleep(self.go_on_s)


PLACES = {
    "begin": Place(event=lambda e: e.get("phase") == "begin"),
    **{name: Place(hold=name) for name in ("check", "prepare", "storage", "confirm")},
    # Disks are under way.
    "mirrors": Place(event=lambda e: e.get("phase") == "storage", go_on_s=0.4),
    # Nothing of memory has left, or hardly anything.
    "first pages": Place(event=lambda e: e.get("status") == "active"),
    # Memory is under way.
    "perform": Place(event=lambda e: e.get("status") == "active", go_on_s=0.3),
    # What was written meanwhile is sent again.
    "second pass": Place(event=lambda e: e.get("event") == "iteration" and e["iteration"] > 1),
    # The source's guest stands still, the last state is not sent.
    "switchover": Place(hold="switchover"),
    # The same, but the last state is being sent.
    "last state": Place(event=lambda e: e.get("phase") == "switchover"),
    # The source is completed, the destination has it all, and nobody runs the guest.
    "handover": Place(hold="finish"),
    # The destination is told to run it.
    "finish": Place(event=lambda e: e.get("phase") == "finish"),
    # The guest goes on on the destination, and much of its memory is still on the source.
    "postcopy": Place(event=lambda e: e.get("phase") == "postcopy"),
    "pages": Place(event=lambda e: e.get("phase") == "postcopy", go_on_s=0.4),
}
