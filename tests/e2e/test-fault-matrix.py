#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The fault matrix: test-fault-matrix.py VERSION [WORD…]. Every fault at every phase, in every mode
of migrating; a WORD selects the cases whose name has it, ^WORD those whose name has it not.
Without either, and without QMIG_TEST_FULL, a sample runs.

After each: two guests never executed at once; one executes whenever a QEMU with the state
survives; what qmig said is true; settings, block jobs, exports, objects and files are as before;
and the guest then migrates, whole.
"""
import os
import shutil
import sys
import time

import lib
from lib import check
from faults import FAULTS
from gate import Gate
from places import PLACES
from witness import Witness

VERSION = sys.argv[1]
WORDS = sys.argv[2:]
END_S = 100     # no wait of qmig's is longer
HEALED_S = 3    # a fault that qmig is to outlast


class Mode:
    """A way of migrating: the options, the places it passes."""

    def __init__(self, name, places, options=(), slow=("perform",), heals=(), disk=False):
        self.name, self.places, self.options = name, places.split(","), options
        self.disk = disk        # the guest has one, which goes along
        self.slow = slow        # places for which memory goes slowly
        self.heals = heals      # places at which qmig waits for the end of a fault


SLOW_POSTCOPY = ("perform", "switchover", "last state", "postcopy", "pages")
MODES = [
    Mode("precopy", "begin,check,prepare,perform,switchover,last state,handover,finish,confirm"),
    Mode("postcopy", "begin,check,prepare,perform,switchover,last state,postcopy,pages,finish,"
         "confirm", ("--postcopy-after-precopy",),
         slow=SLOW_POSTCOPY, heals=("postcopy", "pages")),
    Mode("storage", "begin,check,prepare,storage,mirrors,perform,switchover,last state,handover,"
         "finish,confirm", ("--copy-storage-all",), slow=("mirrors", "perform"), disk=True),
    Mode("storage and postcopy", "begin,check,prepare,storage,mirrors,perform,switchover,"
         "last state,postcopy,pages,finish,confirm",
         ("--copy-storage-all", "--postcopy-after-precopy"),
         slow=("mirrors", *SLOW_POSTCOPY), heals=("postcopy", "pages"), disk=True),
]


def traces(side):
    """What a migration could leave in a QEMU."""
    return {"settings": lib.settings(side),
            "objects": sorted(o["name"] for o in side.cmd("qom-list", path="/objects")),
            "jobs": side.cmd("query-jobs"), "block jobs": side.cmd("query-block-jobs"),
            "exports": side.cmd("query-block-exports"),
            "nodes": sorted(n["node-name"] for n in side.cmd("query-named-block-nodes"))}


def differences(before, now):
    """Of two values of traces(), only what differs."""
    if isinstance(before, tuple):
        return ", ".join(filter(None, map(differences, before, now)))
    if isinstance(before, dict):
        return ", ".join(f"{k}: {v} -> {now.get(k)}" for k, v in before.items()
                         if now.get(k) != v)
    return f"{before} -> {now}"


class Case:
    """One fault at one place in one mode."""

    def __init__(self, mode, place, fault):
        self.mode, self.place, self.fault = mode, place, fault
        self.name = f"{mode.name}, {place}: {fault}"
        self.result = "?"

    # ---- what happens ------------------------------------------------------------------------

    def pair(self, link):
        """Small, so that a case takes a second or two."""
        qemu = lib.qemu(VERSION)
        workload = {"ws": "16M", "rate": 1000, "content": "random"}
        more = {}
        if self.mode.disk:
            if not shutil.which("qemu-img"):
                raise lib.Skip("qemu-img is not here (package qemu-utils)")
            workload.update(disk="8M", drate=50)
            more["disks"] = [lib.vm.Disk("32M")]
        return lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=96, fill=0.3,
                           link=link, workload=workload, **more)

    def run(self):
        """The test."""
        if not FAULTS[self.fault].link:
            with self.pair(None) as p:
                self._break(p)
            return
        reason = lib.vm.Link.why_not()
        if reason:
            raise lib.Skip(reason)
        with lib.vm.Link("1gbit") as link, self.pair(link) as p:
            self._break(p)

    def options(self, fault, p):
        """qmig's, besides the addresses."""
        options = [*self.mode.options, *fault.options, f"--journal={fault.journal}"]
        if self.place in self.mode.slow:
            options.append("--bandwidth=15MiB/s")
        if self.place == "pages":
            options.append("--set=max-postcopy-bandwidth=10M")
        if fault.slow:
            options.append("--timeout=6s")
        if "postcopy" in self.mode.name:
            options.append("--recover-timeout=12s")
        if fault.link:
            options.append(f"--migrateuri=tcp:{p.link.dst_addr}:4711")
            if self.mode.disk:
                options.append(f"--disks-uri=tcp:{p.link.dst_addr}:4712")
        return options

    def _break(self, p):
        p.wait_ticking(p.src)
        fault = FAULTS[self.fault](p, p.dir)
        witness = Witness(p)
        try:
            before, dirs = traces(p.src), lib.leftovers()
            args = [*lib.migrate_args(p), *self.options(fault, p)]
            place = PLACES[self.place]
            with Gate(p.dir, *args, hold=place.hold,
                      prefix=p.link.exec_prefix if fault.link else ()) as gate:
                place.reach(gate)
                fault.strike(gate.process)
                gate.release()
                try:
                    if self.place in self.mode.heals:
                        time.sleep(HEALED_S)
                        fault.over()
                    done = gate.finish(END_S)
                finally:
                    fault.over()
            done = self._recover(p, fault, done)
            time.sleep(0.3)
        finally:
            witness.stop()
            fault.close()
        self._judge(p, fault, witness, done)
        self._nothing_left(p, before, dirs)
        self._again(p)

    def _recover(self, p, fault, done):
        """What its user would do next: `qmig recover`, when all is well again."""
        self.result = str(done.code)
        if done.code not in (-9, 6, 7) or not os.path.exists(fault.journal):
            return done
        again = lib.run("recover", fault.journal, "--progress=plain", timeout=END_S,
                        prefix=p.link.exec_prefix if fault.link else ())
        self.result += f">{again.code}"
        again.recovered = True
        again.err = f"{done.err}\n---- recover: {again.out}{again.err}"
        return again

    # ---- what must hold ----------------------------------------------------------------------

    def _judge(self, p, fault, witness, done):
        running = p.running()
        self.result += f" {running[0] if running else '-'}"
        told = f"exit {done.code}, runs: {running}\n{done.err}"
        check(len(running) < 2, f"two guests run: {told}")
        double = witness.doubled()
        check(double is None, f"two guests executed: {double}; {told}")
        check(not witness.went_back(), f"the guest went back in time: {told}")
        check(p.guest_errors() == [], f"the guest sees corruption: {p.guest_errors()}; {told}")
        self._truth(p, done.code, running, told)
        ran_there = self._ran_there(p, witness, done)
        if not running:
            check(self._may_be_lost(p, fault, done, ran_there), f"nobody runs the guest: {told}")
        if done.code not in (0, -9) and not hasattr(done, "recovered"):
            # What failed; where the guest is; what to do.
            said = done.err[done.err.find("\nqmig migrate: "):].strip().splitlines()
            check(len(said) >= 3, f"three lines: {told}")

    def _truth(self, p, code, running, told):
        """The exit code is what it is documented to be."""
        check(code in (0, 2, 3, 4, 5, 6, 7, -9), f"an exit code of qmig: {told}")
        if code == 0 and p.dst.alive():
            check(running == ["dst"], f"exit 0: it runs on the destination: {told}")
        if code in (3, 4, 5) or (code == 2 and p.src.alive()):
            check(running == ["src"], f"exit {code}: it runs on the source: {told}")
        if code == 2 and p.dst.alive():
            check(p.dst.status() == "inmigrate", f"exit 2: nothing was touched: {told}")

    def _ran_there(self, p, witness, done):
        """The destination has run the guest, or qmig had told it to."""
        return (bool(p.dst.ticks.count) or "dst" in witness.ran or
                "it ran on the destination" in done.err or "may have done so" in done.err)

    def _is_split(self, p, ran_there):
        """Post-copy began and did not end: what is left of the guest is in two QEMUs."""
        if "postcopy" not in self.mode.name:
            return False
        if p.dst.alive() and self._migration(p.dst) == "completed":
            return False
        return not p.src.alive() or (ran_there and self._migration(p.src) != "completed")

    @staticmethod
    def _migration(side):
        """A QEMU that needs memory that will never come does not answer."""
        try:
            return side.cmd("query-migrate").get("status", "none")
        except lib.vm.VmError:
            return "no answer"

    def _may_be_lost(self, p, fault, done, ran_there):
        """Whether no host with the whole state is left, or a person has to look, for a reason."""
        if not fault.hits:
            # Neither QEMU can send or ask for again what a link loses at its very end.
            return ("pages that were lost at the end" in done.err and
                    self._migration(p.src) not in ("postcopy-paused", "postcopy-recover"))
        if self._is_split(p, ran_there):
            return True
        if fault.hits == "src":
            # The destination has it all as soon as it left "inmigrate".
            return not p.dst.alive() or p.dst.status() == "inmigrate"
        # It ran there: what the source has is older.
        return fault.hits == "dst" and ran_there

    def _nothing_left(self, p, before, dirs):
        """Where the guest is now, all is as before it was touched."""
        left = lib.leftovers() - dirs
        if p.running() == ["src"]:
            now = traces(p.src)
            for what, value in before.items():
                check(now[what] == value, f"the source's {what} are as before: "
                                          f"{differences(value, now[what])}")
        check(not left, f"no file is left: {left}")

    def _again(self, p):
        """A second migration, from where the guest is, moves it whole."""
        running = p.running()
        if not running or (running == ["dst"] and self._is_split(p, True)):
            return
        if running == ["dst"]:
            p.swap()
        else:
            p.new_destination()
        lib.moved_whole(p, *(["--copy-storage-all"] if self.mode.disk else []))


def all_cases():
    """The whole matrix."""
    return [Case(mode, place, fault) for mode in MODES for place in mode.places
            for fault in FAULTS]


def sampled(cases):
    """What runs every time: all faults and all places, each a few times."""
    quick = [case for case in cases if not FAULTS[case.fault].slow]
    # Other ones for each version; a step that has no divisor in common with the columns.
    return quick[["7.2", "10.0", "11.1"].index(VERSION) * 4::11]


def print_matrix(cases):
    """Exit code of qmig, and where the guest runs."""
    rows = {}
    for case in cases:
        rows.setdefault(f"{case.mode.name}, {case.place}", {})[case.fault] = case.result
    print(f"# {'exit code, runs on':24}" + "".join(f"{fault:>17}" for fault in FAULTS))
    for name, row in rows.items():
        print(f"# {name:24}" + "".join(f"{row.get(fault, ''):>17}" for fault in FAULTS))


def main():
    """Select, run, print."""
    cases = all_cases()
    if WORDS:
        cases = [case for case in cases if all(
            word[1:] not in case.name if word.startswith("^") else word in case.name
            for word in WORDS)]
    elif not lib.FULL:
        cases = sampled(cases)
    try:
        lib.run_tests([(f"{VERSION}: {case.name}", case.run) for case in cases])
    finally:
        print_matrix(cases)


main()
