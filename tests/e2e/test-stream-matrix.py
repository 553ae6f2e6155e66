#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Streams of real QEMUs, recorded with the memory that the QEMU itself dumps at that instant:
test-stream-matrix.py VERSION of the source; a sample, with QMIG_TEST_FULL=1 all scenarios.

Each is what its scenario promises; is read to the last byte and written back identically, whole
and in random pieces; `qmig stream check` finds nothing wrong; `qmig stream extract` gives every
RAM block byte for byte; and `qmig stream convert` makes of it a stream and a mapped-ram file that
a real QEMU loads, and then has that memory.
QMIG_TEST_ONLY=WORD…: those whose names hold a word. QMIG_TEST_SEED=N: other random pieces.
"""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import lib
import recorder
import scenarios
from lib import check

VERSION = sys.argv[1]
REENCODE = os.environ.get("QMIG_TEST_REENCODE", str(lib.TOP / "build/tests/e2e/reencode"))
SEED = int(os.environ.get("QMIG_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
SPLITS = 20 if lib.FULL else 5
ATTEMPTS = 3
HUGE_PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
# What travels beside guest memory and device state does not go into a plain stream.
NOT_CONVERTED = {"x-ignore-shared", "block"}


class Recorded:
    """A scenario and the directory that holds its recording."""

    def __init__(self, scenario, directory):
        self.scenario, self.directory = scenario, directory
        self.meta = json.loads((directory / "meta.json").read_text())
        self.input = directory / self.meta["input"]
        self.caps = {*scenario.source_caps, *scenario.both_caps}

    def files(self, kind):
        """The forward bytes of the connections of a kind."""
        return [path.read_bytes() for path in sorted(self.directory.glob(f"*-{kind}.forward"))]

    def truths(self, block):
        """[bytes] of a RAM block: one of these is it."""
        name = recorder.block_file(block)
        exact = self.directory / "truth" / f"{name}.ram"
        paths = [exact] if exact.exists() else \
            [p for p in (self.directory / "truth").iterdir() if p.name.startswith(f"{name}.ram.")]
        return [path.read_bytes() for path in paths]


def qmig(*args, code=0):
    """Run `qmig stream`; its output."""
    done = lib.run("stream", *map(str, args), timeout=120)
    check(done.code == code, f"stream {args[0]}: exit {code}, got {done.code}: "
                             f"{done.err}{done.out[-500:] if done.code else ''}")
    return done


# ---- what the scenario promises is there ----------------------------------------------------------

def is_what_it_promises(r):
    """A scenario whose stream lacks what it is named for proves nothing."""
    stat = qmig("stat", "--json", r.input).report()
    lines = [json.loads(line) for line in qmig("show", "--json", r.input).out.splitlines()]
    sections = {line.get("name") for line in lines if line["what"] == "section"}
    s, how = r.scenario, r.scenario.how
    check(stat["bytes"] > 0 and stat["complete"], f"complete: {stat['reason']}")
    promises = {
        "deltas": ("xbzrle" in r.caps, stat["pages"]["xbzrle"]),
        "compressed pages": ("compress" in r.caps, stat["pages"]["zlib"]),
        "a package of postcopy": (how in ("postcopy", "recovery"), stat["packaged_bytes"]),
        "a preempt channel": ("postcopy-preempt" in r.caps, r.files("preempt")),
        "all recoveries": (how == "recovery", len(r.files("recovery")) == s.cuts),
        "checkpoints": (how == "colo", len([1 for x in lines if x["what"] == "checkpoint"]) > 4),
        "bitmaps": ("dirty-bitmaps" in r.caps, "dirty-bitmap" in sections),
        "disk contents": ("block" in r.caps, "block" in sections),
        "all multifd channels": (
            "multifd" in r.caps and how != "file",
            len(r.files("multifd")) == s.parameters.get("multifd-channels", 2)),
        "a guest that went on": (how == "snapshot", r.meta.get("guest_went_on")),
        "huge pages in the list of blocks": (
            s.memory == "huge", b"".join([b"\x06pc.ram", (s.mem_mib << 20).to_bytes(8, "big"),
                                          (2 << 20).to_bytes(8, "big")])
            in b"".join(r.files("main"))),
        "a destination with the same memory": (
            "destination_equal" in r.meta and not s.unsent, r.meta.get("destination_equal")),
    }
    for promise, (made, kept) in promises.items():
        check(kept or not made, f"the recording has {promise}")


# ---- what qmig makes of it -------------------------------------------------------------------------

def is_written_back(r):
    """encode(decode(x)) == x, every channel and direction; nothing is left unread."""
    done = subprocess.run([REENCODE, f"--splits={SPLITS}", f"--seed={SEED}", str(r.input)],
                          capture_output=True, text=True, check=False, timeout=300)
    check(done.returncode == 0, f"written back identically: {done.stderr}")
    lines = done.stdout.splitlines()
    check(lines, "channels were read")
    broken = 0
    for line in lines:
        check(" raw " not in line, f"nothing is unknown: {line}")
        broken += " incomplete " in line
    check(broken <= (r.scenario.cuts if r.scenario.how == "recovery" else 0),
          f"each channel is whole, but for those that were cut: {lines}")


def is_found_whole(r):
    """`qmig stream check`: whole, and nothing to complain of."""
    report = qmig("check", "--json", r.input).report()
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    check(report["complete"] and not errors, f"whole: {report['findings']}")
    for finding in report["findings"]:
        print(f"# {r.scenario.name}: {finding['severity']}: {finding['where']}: {finding['text']}")


def is_extracted(r):
    """Every RAM block is what the QEMU itself dumped."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        out = pathlib.Path(scratch) / "out"
        report = qmig("extract", "--json", r.input, out).report()
        got = {block["name"]: out / block["file"] for block in report["blocks"]}
        check(set(got) == set(r.meta["truth"]), f"all blocks: {sorted(got)}")
        for name, path in got.items():
            if name not in r.scenario.unsent:
                same_memory(name, path.read_bytes(), r.truths(name))
        check(report["devices"], "device sections")


def same_memory(name, data, truths):
    """@data is one of @truths."""
    check(truths, f"{name}: its memory was dumped")
    if data not in truths:
        pages = [at for at in range(0, max(len(data), len(truths[0])), recorder.PAGE)
                 if data[at:at + recorder.PAGE] != truths[0][at:at + recorder.PAGE]]
        check(False, f"{name}: {len(pages)} pages differ, first {[hex(at) for at in pages[:5]]}")


def is_loaded_when_converted(r, qemus):
    """As a plain stream, and as a mapped-ram file where the QEMU knows those."""
    if r.caps & NOT_CONVERTED:
        return
    qemu = qemus[r.scenario.destination or r.scenario.source]
    words = " ".join(r.scenario.devices)
    # Without a configuration section nothing in the stream says that it is mapped-ram; memory
    # that never came (unplugged, of virtio-mem) is refused there.
    can_map = (qemu.at_least("9.0") and "send-configuration=off" not in words
               and "virtio-mem" not in words)
    forms = ["stream", *(["mapped-ram"] if can_map else [])]
    for form in forms:
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="qmig-load-") as scratch:
            work = pathlib.Path(scratch)
            qmig("convert", f"--to={form}", r.input, work / "converted")
            load(r, qemu, work, form)


def load(r, qemu, work, form):
    """Have a QEMU load @work/converted; its memory is what was recorded."""
    recorder.images(work)
    guest = recorder.Guest(r.scenario, qemu, work, "destination", "-S", "-incoming", "defer")
    try:
        guest.capabilities(["mapped-ram"] if form == "mapped-ram" else [])
        guest.cmd("migrate-incoming", uri=f"file:{work}/converted" if form == "mapped-ram"
                  else f"exec:cat {work}/converted")
        guest.wait(["completed"])
        guest.truth(work / "truth")
        for name in r.meta["truth"]:
            loaded = work / "truth" / f"{recorder.block_file(name)}.ram"
            if loaded.exists():
                same_memory(f"loaded from {form}: {name}", loaded.read_bytes(), r.truths(name))
    finally:
        guest.end()


# ---- the tests -------------------------------------------------------------------------------------

def what_is_missing(s, qemus):
    """Skip where this machine lacks something."""
    for version in filter(None, (s.source, s.destination)):
        lib.qemu(version)
    lib.accel(qemus[s.source])
    if s.memory == "huge" and int(HUGE_PAGES.read_text()) < s.mem_mib:
        raise lib.Skip(f"needs {s.mem_mib} huge pages of 2 MiB (sysctl vm.nr_hugepages)")
    if "postcopy-ram" in s.both_caps and os.geteuid() != 0:
        raise lib.Skip("postcopy needs userfaultfd, here only for root")


def record(s, qemus, directory):
    """
    Record @s. On a busy machine the guest may write too little for a moment, and the migration
    is over before there was a delta or a postcopy: then again.
    """
    for attempt in range(ATTEMPTS):
        try:
            recorder.record(s, qemus, directory)
        except recorder.Unsupported as reason:
            raise lib.Skip(f"QEMU {qemus[s.source].full_version} {reason}") from None
        r = Recorded(s, directory)
        try:
            is_what_it_promises(r)
            return r
        except AssertionError as lacking:
            if attempt + 1 == ATTEMPTS:
                raise
            print(f"# {s.name}: recorded anew: {lacking}", flush=True)
            shutil.rmtree(directory)
    return None


def scenario_test(s):
    """The test of a scenario."""
    def test():
        qemus = lib.vm.find_qemus()
        what_is_missing(s, qemus)
        directory = pathlib.Path(lib.SCRATCH.name) / s.name
        r = record(s, qemus, directory)
        is_written_back(r)
        is_found_whole(r)
        is_extracted(r)
        is_loaded_when_converted(r, qemus)
        shutil.rmtree(directory)
    return test


def main():
    """All of them, or the sample."""
    words = os.environ.get("QMIG_TEST_ONLY", "").split()
    chosen = [s for s in scenarios.ALL
              if s.source == VERSION and (any(w in s.name for w in words) if words
                                          else s.quick or lib.FULL)]
    print(f"# {len(chosen)} scenarios, seed {SEED}")
    lib.run_tests([(f"{s.name}: {s.how} on {s.machine}, every byte and every page",
                    scenario_test(s)) for s in chosen])


main()
