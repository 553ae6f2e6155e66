#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Guests go through the tunnel while their link breaks: test-link-breaks.py VERSION [WORD…]. The link
is cut, swallows everything, or is slow, at every boundary of a migration and at random moments, in
every mode; the far end is killed. A WORD selects the cases whose name has it, ^WORD those whose
name has it not. Without either, and without QMIG_TEST_FULL, a sample runs.

After each: the guest has arrived, alone, its memory is equal byte for byte (where it ran on: all
that it does not write, and it verifies the rest), no two guests ever executed at once, and the
source's settings are as before where it keeps the guest.
"""
import os
import random
import shutil
import signal
import sys
import time

import lib
import standalone
from lib import check
from breaks import CableLink, RelayLink
from gate import Gate
from places import PLACES
from tunnel import Far
from witness import Witness

VERSION = sys.argv[1]
WORDS = sys.argv[2:]
PORT = 7117
DIRECT_PORT = 4711
N_RANDOM = 50
LONGEST_S = 60          # the shortest break is of a second
SLOW_RATE = 500_000     # bytes/s, where a link is slow
SLOW_VIA = ("--via-bandwidth=30MiB/s",)
END_S = 150             # no undisturbed migration takes so long, nor any wait of qmig's
BANDWIDTH = ("--bandwidth=15MiB/s", "--set=max-postcopy-bandwidth=2M")


class Mode:
    """A way of migrating: its options, the places where its link breaks."""

    def __init__(self, name, options=(), places=(), disk=False):
        self.name, self.options, self.disk = name, options, disk
        self.postcopy = "--postcopy-after-precopy" in options
        self.places = ("prepare", *places, "first pages", "second pass", "switchover",
                       "last state", *(("postcopy", "pages") if self.postcopy else ("handover",)),
                       "finish")


MULTIFD = "--parallel-connections=2"
MODES = {mode.name: mode for mode in (
    Mode("plain"),
    Mode("xbzrle", ("--compressed",)),
    Mode("multifd none", (MULTIFD,)),
    Mode("multifd zlib", (MULTIFD, "--compressed", "--comp-methods=zlib")),
    Mode("multifd zstd", (MULTIFD, "--compressed", "--comp-methods=zstd")),
    Mode("postcopy", ("--postcopy-after-precopy",)),
    Mode("preempt", ("--postcopy-after-precopy", "--postcopy-preempt")),
    Mode("storage", ("--copy-storage-all",), ("mirrors",), disk=True),
)}


def make_pair(mode, link=None):
    """Small, so that a case takes seconds; post-copy shall have something to do."""
    qemu = lib.qemu(VERSION)
    workload = {"ws": "16M", "rate": 1500 if mode.postcopy else 400, "content": "random"}
    more = {}
    if mode.disk:
        if not shutil.which("qemu-img"):
            raise lib.Skip("qemu-img is not here (package qemu-utils)")
        workload.update(disk="8M", drate=50)
        more["disks"] = [lib.vm.Disk("32M")]
    return lib.vm.Pair(qemu, accel=lib.accel(qemu), mem_mib=96, fill=0.4, content="used",
                       link=link, workload=workload, **more)


# ---- how it breaks -----------------------------------------------------------------------------

class Cut:
    """Connections are reset, and refused until it is over."""
    relay = True

    @staticmethod
    def strike(world):
        world.link.cut()


class Hole:
    """Everything is swallowed."""
    relay = True

    @staticmethod
    def strike(world):
        world.link.black_hole()


class Slow:
    """It carries next to nothing."""
    relay = True

    @staticmethod
    def strike(world):
        world.link.slow(SLOW_RATE)


class One:
    """One connection of several is reset, again and again."""
    relay = True

    @staticmethod
    def strike(world):
        world.link.cut_one()
        world.link.cut_one()


KINDS = {"cut": Cut, "black hole": Hole, "slow": Slow, "one connection": One}


class World:
    """The link, the pair, the tunnel's far end; direct: without the tunnel, on a cable."""

    def __init__(self, mode, cable=False, direct=False):
        self.pair = self.far = self.link = None
        self._direct = direct
        if cable:
            reason = lib.vm.Link.why_not()
            if reason:
                raise lib.Skip(reason)
        self.link = CableLink(lib.vm) if cable else RelayLink()
        try:
            self.pair = make_pair(mode, self.link.link if cable else None)
            if direct:
                return
            self.far = Far(f"{self.link.dst_addr}:{PORT if cable else 0}",
                           self.link.dst_exec_prefix)
            self.via = f"{self.link.dst_addr}:{self.far.port}"
            if not cable:
                self.link.target = ("127.0.0.1", self.far.port)
                self.via = self.link.address
        except BaseException:
            self.close()
            raise

    def options(self):
        """qmig's, that lead it over this link."""
        if self._direct:
            return (f"--migrateuri=tcp:{self.link.dst_addr}:{DIRECT_PORT}",)
        return (f"--via={self.via}", "--via-insecure")

    def close(self):
        """End all."""
        for thing in (self.pair, self.far, self.link):
            if thing is not None:
                thing.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- a case ------------------------------------------------------------------------------------

_references = {}


def reference(mode):
    """Seconds from the first event to the last of a migration that nothing disturbs."""
    if mode.name not in _references:
        with World(mode) as world:
            world.pair.wait_ticking(world.pair.src)
            with Gate(world.pair.dir, *lib.migrate_args(world.pair), *mode.options, *BANDWIDTH,
                      *world.options()) as gate:
                gate.wait_event(lambda e: e.get("event") == "begin")
                begin = time.monotonic()
                done = gate.finish(END_S)
                check(done.code == 0, f"undisturbed: exit {done.code}: {done.err}")
            _references[mode.name] = time.monotonic() - begin
    return _references[mode.name]


class Case:
    """
    One break. where: a place's name, or the part of the migration's time that has passed;
    suspend: the guest does not run on, and all of its memory is compared.
    """

    def __init__(self, mode, where, kind, seconds, cable=False, suspend=None):
        self.mode, self.where, self.kind, self.seconds = MODES[mode], where, kind, seconds
        self.cable = cable
        at = where if isinstance(where, str) else f"at {where:.0%}"
        self.name = f"{mode}, {at}: {kind} {seconds:.0f} s{', cable' if cable else ''}"
        # Every other one so slow that frames are compressed with their stream's past.
        self.slow = SLOW_VIA if sum(self.name.encode()) % 2 else ()
        self.suspend = suspend if suspend is not None else len(self.name) % 2 == 0
        self.result = "?"

    def run(self):
        """The test."""
        wait = None if isinstance(self.where, str) else self.where * reference(self.mode)
        with World(self.mode, self.cable) as world:
            p = world.pair
            p.wait_ticking(p.src)
            witness, settings = Witness(p), lib.settings(p.src)
            begin = time.monotonic()
            try:
                done = self._migrate(world, wait)
            finally:
                witness.stop()
            self.result += f"exit {done.code} after {time.monotonic() - begin:.1f} s"
            if done.code == 2 and '"phase":"begin","guest":"source"' in done.err:
                self.result += ", before there was a session"
                stayed(p, settings, witness, done.err)
                return
            self._judge(p, done, witness)

    def _migrate(self, world, wait):
        p = world.pair
        place = PLACES[self.where] if wait is None else None
        args = [*lib.migrate_args(p), *self.mode.options, *BANDWIDTH, *world.options(),
                *self.slow, "--keep-source", *(["--suspend"] if self.suspend else [])]
        with Gate(p.dir, *args, hold=place.hold if place else None,
                  prefix=world.link.exec_prefix) as gate:
            if place:
                place.reach(gate)
            else:
                gate.wait_event(lambda e: e.get("event") == "begin")
                time.sleep(wait)
            ended = gate.process.poll() is not None
            self.result = "over before it broke: " if ended else ""
            KINDS[self.kind].strike(world)
            gate.release()
            self._last(world, gate)
            world.link.mend()
            return gate.finish(END_S)

    def _last(self, world, gate):
        """The time that it stays broken; what is not only once strikes again."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and gate.process.poll() is None:
            time.sleep(0.1)
            if self.kind == "one connection":
                KINDS[self.kind].strike(world)

    def _judge(self, p, done, witness):
        told = f"exit {done.code}:\n{done.err}"
        check(done.code == 0, f"the guest arrives: {told}")
        if self.suspend:
            equal_disks(p, told)
        standalone.arrived(p, self.suspend, witness, told)
        self.result += f", blackout {p.blackout_ms():.0f} ms"


def equal_disks(p, told):
    """Byte for byte, with nobody writing."""
    for number, disk in enumerate(p.disks):
        check(lib.vm.disks.equal(p.src.disks[number], p.dst.disks[number], disk.format,
                                 disk.format), f"disk {number} is equal: {told}")


def stayed(p, settings, witness, told):
    """On the source alone, as if nothing had been."""
    p.wait_ticking(p.src)
    check(p.running() == ["src"], f"one guest runs: {p.running()}: {told}")
    check(lib.settings(p.src) == settings, f"the source's settings are as before: {told}")
    standalone.alone(p, witness, told)


class ByQmp:
    """The same with both ends as programs of their own, driven by plain QMP."""

    def __init__(self, mode, where, kind, seconds, suspend=None):
        at = where if isinstance(where, str) else f"at {where:.0%}"
        self.name = f"{mode}, by QMP, {at}: {kind} {seconds:.0f} s"
        suspend = suspend if suspend is not None else len(self.name) % 2 == 0
        self._words = (mode, where, kind, seconds, suspend)
        self.result = "?"

    def run(self):
        """The test."""
        self.result = standalone.migrate(VERSION, *self._words)


# ---- ends that are killed, and time that runs out ----------------------------------------------

class Special:
    """A test with a name, as Case has."""

    def __init__(self, name, test):
        self.name, self._test, self.result = name, test, "?"

    def run(self):
        """The test."""
        self.result = self._test() or "as told"


class Struck:
    """A migration to which something happens at a place: enter with the world, then judge()."""

    def __init__(self, world, mode, place, *options, monitor=False):
        self.world, self.pair = world, world.pair
        self.pair.wait_ticking(self.pair.src)
        self.settings, self.witness = lib.settings(self.pair.src), Witness(self.pair)
        self.journal = os.path.join(self.pair.dir, "journal")
        where = PLACES[place]
        args = lib.migrate_args(self.pair)
        if monitor:
            args[2] = f"via:{args[2]}"
        self.gate = Gate(self.pair.dir, *args, *MODES[mode].options,
                         *BANDWIDTH, *world.options(), "--keep-source",
                         f"--journal={self.journal}", *options,
                         *(["--recover-timeout=10s"] if MODES[mode].postcopy else []),
                         hold=where.hold,
                         prefix=world.link.exec_prefix)
        try:
            where.reach(self.gate)
        except BaseException:
            self.close()
            raise

    def close(self):
        """Nothing of it goes on."""
        self.gate.close()
        self.witness.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def recover(self, done, *options):
        """What its user would do next."""
        again = lib.run("recover", self.journal, "--progress=plain", *options, timeout=END_S,
                        prefix=self.world.link.exec_prefix)
        again.err = f"exit {done.code}: {done.err}\n---- recover: {again.out}{again.err}"
        return again

    def judge(self, done, codes):
        """By the exit code: where the guest is, and that it is there alone and whole."""
        told = f"exit {done.code}, one of {codes} wanted:\n{done.err}"
        check(done.code in codes, told)
        self.witness.stop()
        if self.pair.running() == ["src"]:
            stayed(self.pair, self.settings, self.witness, told)
        else:
            standalone.arrived(self.pair, False, self.witness, told)
        check((done.code == 0) == (self.pair.running() == ["dst"]) or "recover" in done.err,
              f"what it said is true: runs on {self.pair.running()}: {told}")
        return f"exit {done.code}, {self.pair.running()[0]}"


def far_killed(mode, place, codes, again=True, monitor=False):
    """A test: kill -9 of the far end; there is a new one at once, or none ever. @monitor: the
    destination's goes through it."""
    def test():
        with World(MODES[mode]) as world, \
                Struck(world, mode, place, "--via-deadline=5s", monitor=monitor) as struck:
            world.far.kill()
            if again:
                world.far.again()
            struck.gate.release()
            return struck.judge(struck.gate.finish(END_S), codes)
    return test


def near_killed(mode, place):
    """A test: kill -9 of qmig, which is the near end; `qmig recover` finds the guest."""
    def test():
        with World(MODES[mode]) as world, Struck(world, mode, place) as struck:
            struck.gate.process.kill()
            done = struck.gate.finish(END_S)
            more = [f"--via={world.via}"] if MODES[mode].postcopy else []
            return struck.judge(struck.recover(done, *more), (0, 3, 4, 5))
    return test


def both_killed(place, monitor):
    """A test: kill -9 of both ends; without a far end `qmig recover` undoes what it can."""
    def test():
        with World(MODES["plain"]) as world, \
                Struck(world, "plain", place, monitor=monitor) as struck:
            struck.gate.process.kill()
            world.far.kill()
            return struck.judge(struck.recover(struck.gate.finish(END_S)), (3,))
    return test


def cancelled_in_the_dark():
    """Disks are connected in the dark, and somebody has waited for long enough."""
    mode = "storage"
    with World(MODES[mode]) as world, Struck(world, mode, "prepare") as struck:
        world.link.black_hole()
        struck.gate.release()
        check(struck.gate.wait_event(lambda e: e.get("event") == "tunnel" and
                                     e["state"] == "dark"), "it is dark")
        struck.gate.process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        done = struck.gate.finish(END_S)
        took = time.monotonic() - begin
        check(took < 60, f"it ends at once, not after {took:.0f} s")
        world.link.mend()
        return f"{struck.judge(done, (4,))}, after {took:.0f} s"


def too_long(mode, place, codes, then=None, option="--via-deadline=3s"):
    """A test: dark for longer than was allowed; @then(struck, done): what its user does."""
    def test():
        with World(MODES[mode]) as world, Struck(world, mode, place, option) as struck:
            world.link.black_hole()
            struck.gate.release()
            begin = time.monotonic()
            done = struck.gate.finish(END_S)
            check(time.monotonic() - begin < 30, f"it waits no longer than {option}")
            world.link.mend()
            return struck.judge(then(struck, done) if then else done, codes)
    return test


def await_stop(side, timeout=40):
    """Until its QEMU has told the witness that it stopped the guest."""
    end = time.monotonic() + timeout
    while not any(event["event"] == "STOP" for event in tuple(side.events)):
        check(time.monotonic() < end, "the source comes to its last state")
        time.sleep(0.01)


def still_unasked():
    """
    Nobody had told the source to wait before its last state: it hangs in writing that, and cannot be
    asked. Much of it is left when the link breaks: more than the tunnel holds. Only where an answer
    slipped through before is the phase switchover already.
    """
    with World(MODES["plain"]) as world, \
            Struck(world, "plain", "perform", "--via-standstill=2s", "--downtime=2s",
                   "--via-bandwidth=6MiB/s") as struck:
        await_stop(world.pair.src)
        world.link.black_hole()
        begin = time.monotonic()
        done = struck.gate.finish(END_S)
        took = time.monotonic() - begin
        check("the guest stood still for 2" in done.err, f"it says why: {done.err}")
        check(took < 60, f"it waits no longer than for an answer of the source: {took:.0f} s")
        world.link.mend()
        return struck.judge(done, (5,)) + f" after {took:.0f} s"


def resumed(struck, done):
    """Post-copy stands still on both sides: it is taken up again."""
    check(done.code == 6, f"exit 6, paused; got {done.code}: {done.err}")
    return struck.recover(done, f"--via={struck.world.via}")


def without_tunnel():
    """The same break with QEMU's own connection ends the migration: else all this proves nothing."""
    mode = "plain"
    with World(MODES[mode], cable=True, direct=True) as world, \
            Struck(world, mode, "perform") as struck:
        world.link.cut()
        time.sleep(1)
        world.link.mend()
        return struck.judge(struck.gate.finish(END_S), (3, 5))


SPECIALS = [
    *(Special(f"{mode}, by QMP: {who} end killed",
              lambda who=who, mode=mode: standalone.killed(VERSION, who, mode))
      for mode in ("plain", "multifd zstd", "postcopy", "preempt") for who in ("near", "far")),
    Special("without the tunnel, perform: cut 1 s, cable", without_tunnel),
    *(Special(f"{mode}, {place}: far end killed", far_killed(mode, place, codes))
      for mode, place, codes in (
          ("plain", "perform", (3, 5)), ("plain", "switchover", (3, 5)),
          ("plain", "handover", (0,)), ("multifd zstd", "perform", (3, 5)),
          ("storage", "mirrors", (3, 5)), ("postcopy", "perform", (0, 3, 5)),
          ("postcopy", "pages", (0,)), ("preempt", "pages", (0,)))),
    Special("plain, perform: far end killed for good",
            far_killed("plain", "perform", (3, 5), again=False)),
    Special("plain, confirm: far end killed, with the monitor",
            far_killed("plain", "confirm", (0,), monitor=True)),
    *(Special(f"plain, perform: both ends killed{', with the monitor' if monitor else ''}",
              both_killed("perform", monitor)) for monitor in (False, True)),
    Special("storage, prepare: cancelled in the dark", cancelled_in_the_dark),
    *(Special(f"{mode}, {place}: near end killed", near_killed(mode, place))
      for mode, place in (("plain", "perform"), ("plain", "switchover"), ("plain", "handover"),
                          ("postcopy", "perform"), ("postcopy", "pages"))),
    Special("plain, perform: too long", too_long("plain", "perform", (3, 5))),
    Special("plain, switchover: too long", too_long("plain", "switchover", (3, 5))),
    Special("plain, switchover: stands still too long",
            too_long("plain", "switchover", (5,), option="--via-standstill=2s")),
    Special("plain, perform: stands still too long, unasked", still_unasked),
    Special("postcopy, pages: too long", too_long("postcopy", "pages", (0,), resumed)),
]


# ---- which -------------------------------------------------------------------------------------

def matrix():
    """Every kind at every place of every mode, for 1 to 60 s; and random moments."""
    for mode in MODES.values():
        for place in mode.places:
            for kind in KINDS:
                dice = random.Random(f"{VERSION} {mode.name} {place} {kind}")
                yield Case(mode.name, place, kind, LONGEST_S ** dice.random(),
                           cable=kind in ("cut", "black hole") and dice.random() < 0.3)
        for place in ("second pass", "switchover", mode.places[-2]):
            yield Case(mode.name, place, "black hole", LONGEST_S)
        for number in range(N_RANDOM):
            dice = random.Random(f"{VERSION} {mode.name} {number}")
            kind = dice.choice(list(KINDS))
            if mode.name in standalone.MODES and number % 2:
                yield ByQmp(mode.name, dice.random(), kind, LONGEST_S ** dice.random())
                continue
            yield Case(mode.name, dice.random(), kind, LONGEST_S ** dice.random(),
                       cable=kind in ("cut", "black hole") and dice.random() < 0.3)


SAMPLES = {
    "7.2": [("plain", "first pages", "cut", 1), ("xbzrle", "second pass", "slow", 2),
            ("postcopy", "pages", "cut", 2), ("preempt", "postcopy", "black hole", 2),
            ("storage", "mirrors", "cut", 1)],
    "10.0": [("plain", 0.2, "cut", 3), ("postcopy", "last state", "cut", 1)],
    "11.1": [("plain", "last state", "black hole", 12), ("multifd none", "switchover", "cut", 2),
             ("storage", "handover", "black hole", 2)],
}
CABLED = {"7.2": [("plain", "second pass", "black hole", 3)]}
BY_QMP = {"7.2": [("multifd zstd", 0.5, "black hole", 2)],
          "11.1": [("multifd zlib", 0.3, "one connection", 2), ("postcopy", 0.9, "slow", 2)]}
SPECIAL = {"7.2": ("without the tunnel, perform: cut 1 s, cable",
                   "plain, perform: far end killed", "postcopy, by QMP: near end killed",
                   "plain, perform: stands still too long, unasked"),
           "11.1": ("plain, switchover: stands still too long", "plain, perform: near end killed",
                    "postcopy, by QMP: far end killed")}


def sample():
    """What runs every time."""
    return [*(Case(*row) for row in SAMPLES[VERSION]),
            *(Case(*row, cable=True) for row in CABLED.get(VERSION, ())),
            *(ByQmp(*row) for row in BY_QMP.get(VERSION, ())),
            *(case for case in SPECIALS if case.name in SPECIAL.get(VERSION, ()))]


def main():
    """Select, run, print."""
    cases = [*matrix(), *SPECIALS] if WORDS or lib.FULL else sample()
    for word in WORDS:
        cases = [case for case in cases if (
            word[1:] not in case.name if word.startswith("^") else word in case.name)]
    try:
        lib.run_tests([(f"{VERSION}: {case.name}", case.run) for case in cases])
    finally:
        for case in cases:
            print(f"# {case.name}: {case.result}")


if __name__ == "__main__":
    main()
