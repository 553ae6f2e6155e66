# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the rows of test-flags.py migrate: what they expect of the table, and look at meanwhile."""
import json
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1] if len(sys.argv) > 1 else ""
WORKLOAD = {"ws": "8M", "rate": 1000, "pattern": "part", "order": "hot", "content": "text"}


def pair(pair_class=lib.vm.Pair, **options):
    """A pair with a small guest that dirties some memory, under KVM."""
    qemu = lib.qemu(VERSION)
    defaults = {"src": qemu, "dst": qemu, "accel": lib.accel(qemu), "mem_mib": 64,
                "workload": WORKLOAD}
    return pair_class(**{**defaults, **options})


# ---- the table ---------------------------------------------------------------------------------

def table():
    """{option: row} of `qmig options --json`."""
    done = lib.run("options", "--json")
    check(done.code == 0, f"qmig options: {done.err}")
    return {row["option"]: row for row in json.loads(done.out)["options"]}


def value_of(knob, asked):
    """What QEMU shall have of it: the knob's fixed word, the option's value, or "on"."""
    if knob["kind"] == "capability":
        return True
    if knob["value"] is not None:
        return {"on": True, "off": False}.get(knob["value"], knob["value"])
    return asked


def expected(row, asked):
    """{side: {name: value}} that the row's table says."""
    wanted = {"src": {}, "dst": {}}
    for knob in row["qemu"]:
        for name, side in (("source", "src"), ("destination", "dst")):
            if knob["side"] in (name, "both"):
                wanted[side][knob["name"]] = value_of(knob, asked)
    return wanted


# ---- running ---------------------------------------------------------------------------------

def now(side):
    """Capabilities and parameters of a QEMU in one dict."""
    capabilities, parameters = lib.settings(side)
    return {**capabilities, **parameters}


def has_all(side, names):
    """Does this QEMU have these?"""
    there = now(side)
    return all(name in there for name in names)


class Seen:
    """What both QEMUs had, each at its best moment."""

    def __init__(self, wanted):
        self.wanted, self.best = wanted, {"src": {}, "dst": {}}

    def look(self, p):
        """Once."""
        for name, wanted in self.wanted.items():
            if wanted and not self.complete(name):
                try:
                    there = now(getattr(p, name))
                except lib.vm.VmError:
                    continue
                self.best[name] = {**self.best[name],
                                   **{k: v for k, v in there.items() if wanted.get(k) == v}}

    def complete(self, name):
        """All of a side has been seen."""
        return self.best[name] == self.wanted[name]

    def verify(self):
        """All was seen on both."""
        for name, wanted in self.wanted.items():
            missing = {k: v for k, v in wanted.items() if k not in self.best[name]}
            check(not missing, f"{name} has while it migrates: {missing}")


def migrate(p, words, wanted):
    """Run it to its end, looking at both sides meanwhile; return the finished qmig."""
    seen = Seen(wanted)
    process = lib.start(*lib.migrate_args(p), "--suspend", "--keep-source", *words)
    while process.poll() is None:
        seen.look(p)
        time.sleep(0.002)
    return lib.finish(process), seen


def moved(p, words, wanted=None, source_has_memory=True):
    """It arrives whole, the settings were there, and are put back; return the report."""
    p.wait_ticking(p.src)
    before = now(p.src), now(p.dst)
    done, seen = migrate(p, words, wanted or {})
    check(done.code == 0, f"{words}: exit 0, got {done.code}: {done.err[-2000:]}")
    differing = p.compare_ram() if source_has_memory else []
    check(not differing, f"RAM equal byte for byte; {len(differing)} pages differ")
    stopped = {p.src.status(), p.dst.status()}
    check(stopped == {"postmigrate", "paused"}, f"nobody runs before cont: {stopped}")
    check((now(p.src), now(p.dst)) == before, "the settings of both sides are put back")
    seen.verify()
    p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    check(p.guest_errors() == [], f"the guest sees no corruption: {p.guest_errors()}")
    return done.report()


def refused(p, words, *texts, code=2):
    """Refused before anything is touched; the guest runs on, and both can be used again."""
    p.wait_ticking(p.src)
    before = now(p.src), now(p.dst)
    done = lib.run(*lib.migrate_args(p), "--suspend", "--keep-source", *words)
    lib.stayed_whole(p, done, code)
    for text in texts:
        check(text in done.err, f"{words}: \"{text}\" in: {done.err[-2000:]}")
    check((now(p.src), now(p.dst)) == before, "nothing was touched")
    check(p.dst.status() == "inmigrate", f"the destination still waits: {p.dst.status()}")


# ---- kinds of tests ----------------------------------------------------------------------------

def sets(*words, value=None, claim=None, also=(), **options):
    """It sets what its row says, where this QEMU has it; else it is refused."""
    def test(row):
        with pair(**options) as p:
            names = {knob["name"] for knob in row["qemu"]}
            lacking = [n for n in names if not has_all(p.src, [n])]
            if lacking:
                knob = next(k for k in row["qemu"] if k["name"] in lacking)
                check(knob["since"] or knob["removed"], f"the table knows: {knob}")
                refused(p, [*words, *also], f"{knob['name']}: this QEMU lacks it",
                        *([knob["instead"]] if knob["instead"] else []))
                return
            report = moved(p, [*words, *also], expected(row, value))
            if claim:
                claim(p, report)
    return test


def plain(*words, claim=None, **options):
    """It migrates whole, and @claim holds."""
    def test(_row):
        with pair(**options) as p:
            report = moved(p, words)
            if claim:
                claim(p, report)
    return test


def refuses(*words, texts=(), code=1, **options):
    """It is refused whatever the QEMU."""
    def test(row):
        with pair(**options) as p:
            refused(p, words, *texts, *([row["refused"]] if row["refused"] else []), code=code)
    return test
