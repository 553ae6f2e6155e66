#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
`qmig stream check` against real QEMUs: the one that waits for the guest takes it, and does;
another one is told all its differences at once, and does refuse it: test-stream-check.py
"""
import pathlib
import tempfile
import time

import lib
from lib import check

VERSIONS = ("7.2", "10.0", "11.1")


def saved(pair, path):
    """The paused guest as a plain stream, by QEMU's own means."""
    pair.src.cmd("stop")
    pair.src.cmd("migrate", uri=f"exec:cat > {path}")
    deadline = time.monotonic() + 60
    while (state := pair.src.cmd("query-migrate")["status"]) != "completed":
        check(state != "failed" and time.monotonic() < deadline, f"QEMU writes it: {state}")
        time.sleep(0.05)


def pair(version, machine, mem_mib, *more):
    """A guest, and a QEMU that waits for one."""
    qemu = lib.qemu(version)
    return lib.vm.Pair(src=qemu, dst=qemu, accel="tcg", machine=machine, mem_mib=mem_mib,
                       workload={"ws": "1M", "rate": 100}, dirty_extra_args=more)


def stream_check(*args):
    """(exit code, texts of what is refused, the report)."""
    done = lib.run("stream", "check", "--json", *map(str, args))
    check(done.code in (0, 2, 3), f"exit {done.code}: {done.err}")
    report = done.report()
    return done.code, {f["where"]: f["text"] for f in report["findings"]}, report


def taken(version):
    """What check finds in order is loaded, equal byte for byte."""
    def test():
        with pair(version, f"pc-i440fx-{version}", 64, "-device", "virtio-rng-pci,id=rng0") as p, \
                tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "stream"
            p.wait_ticking(p.src)
            saved(p, path)
            code, findings, _ = stream_check(f"--qmp=unix:{p.dst.qmp}", path)
            check(code == 0 and not findings, f"in order: {code} {findings}")
            # A QEMU out of another release's tree looks for modules where this one's are, and
            # aborts in -dump-vmstate.
            binary = lib.qemu(version).argv[0]
            if binary.startswith("/usr/"):
                code, findings, _ = stream_check(f"--qemu={binary}", path)
                check(code == 0 and not findings, f"its devices take it: {findings}")
            p.dst.cmd("migrate-incoming", uri=f"exec:cat {path}")
            deadline = time.monotonic() + 30
            while p.dst.status() == "inmigrate" and time.monotonic() < deadline:
                time.sleep(0.05)
            check(p.dst.status() in ("paused", "prelaunch"), f"loaded: {p.dst.status()}")
            check(p.compare_ram() == [], "RAM equal byte for byte")
            check(p.running() == [], "nobody runs")
    return test


def refused(version):
    """Another machine, less memory, no such device: all said at once, and QEMU refuses it, too."""
    def test():
        with pair(version, "pc-i440fx-7.2", 64, "-device", "virtio-rng-pci,id=rng0") as p, \
                pair(version, "pc-q35-7.2", 32) as other, \
                tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "stream"
            p.wait_ticking(p.src)
            saved(p, path)
            code, findings, report = stream_check(f"--qmp=unix:{other.dst.qmp}", path)
            check(code == 2, f"exit 2, got {code}: {findings}")
            check("pc-i440fx-7.2" in findings["machine"], f"machine: {findings}")
            ram = max(report["needs"]["blocks"], key=lambda b: b["length"])["name"]
            check(ram in findings, f"the smaller memory {ram}: {findings}")
            check(any(where.endswith("virtio-rng") for where in findings), f"device: {findings}")
            other.dst.cmd("migrate-incoming", uri=f"exec:cat {path}")
            deadline = time.monotonic() + 30
            while other.dst.alive() and time.monotonic() < deadline:
                time.sleep(0.05)
            check(not other.dst.alive(), "QEMU refuses it, too")
            check(p.running() == [] and other.running() == ["src"], "one guest runs, the other's")
    return test


lib.run_tests([(f"{v}: what is in order is loaded", taken(v)) for v in VERSIONS]
              + [(f"{v}: what would be refused is refused", refused(v)) for v in VERSIONS])
