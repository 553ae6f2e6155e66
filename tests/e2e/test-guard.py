#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The plugin `guard` between real QEMUs: test-guard.py VERSION. What the destination would not take is
refused while it stands, and it takes the right guest afterwards; a load that fails leaves a flight
recording that `qmig stream` reads, and the section's name.
"""
import json
import os
import pathlib
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]
MACHINE = "pc-i440fx-7.2"
RNG = ("-device", "virtio-rng-pci,id=rng0,addr=7")
NIC = ("-device", "virtio-net-pci,id=net0,addr=6")
COMPANY = ("-device", "virtio-rng-pci,id=rng1,addr=8")


def pair(*extra, machine=MACHINE, mem_mib=64):
    """A guest that dirties a little, and its destination."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(src=qemu, accel=lib.accel(qemu), machine=machine, mem_mib=mem_mib,
                       workload={"ws": "1M", "rate": 200}, dirty_extra_args=extra)


def scratch(name):
    """A path of this test's."""
    return f"{lib.SCRATCH.name}/{name}"


def accepts(side, name="accepts.json"):
    """What @side takes, as a file."""
    done = lib.run("stream", "accepts", f"--qmp=unix:{side.qmp}")
    check(done.code == 0, f"stream accepts: {done.code} {done.err}")
    pathlib.Path(scratch(name)).write_text(done.out, encoding="utf-8")
    return scratch(name)


def wait_final(side, timeout=60):
    """query-migrate of a source, once it has ended."""
    deadline = time.monotonic() + timeout
    while (info := side.cmd("query-migrate")).get("status") not in ("completed", "failed"):
        check(time.monotonic() < deadline, f"it ends within {timeout} s: {info}")
        time.sleep(0.02)
    return info["status"]


def prepare(source, destination, return_path=True):
    """The destination waits. Return: where."""
    where = f"unix:{scratch('destination.sock')}"
    if not os.path.exists(where[5:]):
        destination.cmd("migrate-incoming", uri=where)
    source.cmd("migrate-set-capabilities",
               capabilities=[{"capability": "return-path", "state": return_path}])
    source.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
    return where


def through(source, destination, *specs, return_path=True):
    """Migrate through a proxy with @specs. Return: (source's status, the proxy's end)."""
    where = prepare(source, destination, return_path)
    here = f"unix:{scratch('proxy.sock')}"
    plugins = [f"--plugin={spec}" for spec in specs]
    proxy = lib.start("proxy", f"--listen={here}", f"--connect={where}", "--json", *plugins)
    check("listening" in proxy.stderr.readline(), "the proxy listens")
    source.cmd("migrate", uri=here)
    status = wait_final(source)
    return status, lib.finish(proxy)


def gone(side, timeout=20):
    """Until the process has ended."""
    deadline = time.monotonic() + timeout
    while side.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not side.alive()


def fresh():
    """Nothing of the test before."""
    for name in ("destination.sock", "flight", "flight.json"):
        pathlib.Path(scratch(name)).unlink(missing_ok=True)


def stays(p, status):
    """The source's guest alone runs on, whole."""
    check(status == "failed", f"the source says failed: {status}")
    p.wait_ticking(p.src)
    check(p.running() == ["src"], f"the guest runs on the source alone: {p.running()}")
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def arrives(p, *specs, **options):
    """The right guest, into the same destination: equal byte for byte, and it alone runs."""
    status, done = through(p.src, p.dst, *specs, **options)
    check(status == "completed" and done.code == 0, f"it arrives: {status} {done.err} {done.out}")
    check(p.compare_ram() == [], "RAM equal byte for byte")
    check(p.running() == [], "nobody runs")
    p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    check(p.running() == ["dst"], f"one guest runs: {p.running()}")
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
    return done.report()["plugins"]["guard"]


def refused_in_the_head(text, *extra, **options):
    """Before anything of it is touched: the destination takes the right guest afterwards."""
    def test():
        fresh()
        with pair() as right, pair(*extra, **options) as wrong:
            right.wait_ticking(right.src)
            wrong.wait_ticking(wrong.src)
            spec = f"guard:accepts={accepts(right.dst)},flight={scratch('flight')}"
            status, done = through(wrong.src, right.dst, spec)
            stays(wrong, status)
            check(done.code == 3 and text in done.err, f"refused: {done.code} {done.err}")
            check("the destination was not touched" in done.err, f"and why that is no harm: {done.err}")
            said = done.report()["plugins"]["guard"]
            check(text in said["refused"]["text"], f"also in the report: {said}")
            check(right.dst.alive() and right.dst.status() == "inmigrate",
                  f"the destination waits: {right.dst.status()}")
            wrong.close()
            report = arrives(right, spec)
            check(report["sections"] > 10 and report["late"] == 0 and "failure" not in report,
                  f"the right one is taken: {report}")
    return test


def refused_in_the_tail():
    """A device that has no memory of its own is known from its state alone."""
    fresh()
    with pair() as right, pair(*RNG, *COMPANY) as wrong:
        wrong.wait_ticking(wrong.src)
        spec = (f"guard:accepts={accepts(right.dst)},hold-tail=yes,flight={scratch('flight')}")
        status, done = through(wrong.src, right.dst, spec)
        stays(wrong, status)
        check(done.code == 3 and "0000:00:07.0/virtio-rng: the QEMU has no PCI device at 07.0"
              in done.err, f"refused: {done.code} {done.err}")
        check("no device state" not in right.dst.stderr_text()
              and "virtio-rng" not in right.dst.stderr_text(),
              f"it was never sent: {right.dst.stderr_text()}")
        check(json.loads(pathlib.Path(scratch("flight.json")).read_text(encoding="utf-8"))
              ["section"]["name"] == "0000:00:07.0/virtio-rng", "it is named in the file, too")
        wrong.close()


def taken_with_hold():
    """The right guest, its device state held back until it is known to be taken; and probed."""
    fresh()
    with pair(*RNG) as p:
        p.wait_ticking(p.src)
        binary = lib.qemu(VERSION).argv[0]
        specs = f"accepts={accepts(p.dst)}"
        if binary.startswith("/usr/"):
            done = lib.run("stream", "accepts", f"--qemu={binary}", f"--machine={MACHINE}")
            check(done.code == 0, f"stream accepts --qemu: {done.err}")
            pathlib.Path(scratch("versions.json")).write_text(done.out, encoding="utf-8")
            specs += f",accepts={scratch('versions.json')}"
        report = arrives(p, f"guard:{specs},hold-tail=yes,probe=yes,flight={scratch('flight')}")
        check(report["probes"] > 10 and report["late"] == 0 and "unchecked" not in report,
              f"every section was probed: {report}")
        check(not os.path.exists(scratch("flight")), "nothing failed, nothing is written")


def without_description():
    """A source that describes nothing: what is held goes on after a second, unchecked."""
    fresh()
    with pair("-machine", "suppress-vmdesc=on") as p:
        p.wait_ticking(p.src)
        report = arrives(p, f"guard:accepts={accepts(p.dst)},hold-tail=yes")
        check("no description" in report["unchecked"], f"it is said: {report}")


def section_named(probe):
    """A device the destination lacks makes its load fail: it is named, and the end is kept."""
    def test():
        fresh()
        with pair() as right, pair(*RNG) as wrong:
            wrong.wait_ticking(wrong.src)
            status, done = through(wrong.src, right.dst, "stats",
                                   f"guard:flight={scratch('flight')},keep=1M,probe={probe}")
            stays(wrong, status)
            check(done.code == 3, f"it failed: {done.code} {done.err}")
            check(gone(right.dst) and "0000:00:07.0/virtio-rng" in right.dst.stderr_text(),
                  f"at the destination: {right.dst.stderr_text()}")
            flight_tells(done.report(), probe == "yes")
    return test


def flight_tells(report, proven):
    """Report, notice, summary and recording of the failed load."""
    said = report["plugins"]["guard"]
    summary = json.loads(pathlib.Path(scratch("flight.json")).read_text(encoding="utf-8"))
    check(said["section"]["name"] == summary["section"]["name"]
          and said["flight"] == scratch("flight"), f"{said} {summary}")
    check(any(said["section"]["name"] in notice for notice in report["notices"]),
          f"a notice names it: {report['notices']}")
    if proven:
        check(said["section"]["name"] == "0000:00:07.0/virtio-rng" and "proven" in said["how"],
              f"it is the one that failed: {said}")
    check(oct(os.stat(scratch("flight")).st_mode & 0o777) == "0o600", "the owner's alone")
    check(256 << 10 < os.path.getsize(scratch("flight")) < 2 << 20,
          f"about a megabyte: {os.path.getsize(scratch('flight'))}")
    check(summary["file"]["readable"] and not summary["file"]["whole"], f"{summary['file']}")
    done = lib.run("stream", "show", "--json", scratch("flight"))
    check("0000:00:07.0/virtio-rng" in done.out, f"qmig stream reads it: {done.code} {done.err}")


def every_mode():
    """qmig migrate with all of it: plain, multifd, and post-copy, whose preempt channel comes later."""
    for options in ((), ("--parallel", "--parallel-connections=2"),
                    ("--postcopy", "--postcopy-preempt", "--postcopy-after-precopy")):
        fresh()
        with pair(*NIC, mem_mib=128) as p:
            p.wait_ticking(p.src)
            spec = (f"guard:accepts={accepts(p.dst)},hold-tail=yes,probe=yes,"
                    f"flight={scratch('flight')}")
            report = lib.moved_whole(p, f"--plugin={spec}", *options)
            said = report["proxy"]["plugins"]["guard"]
            check(said["late"] == 0 and "failure" not in said, f"{options}: {said}")
            check(not os.path.exists(scratch("flight")), f"{options}: nothing failed")


TESTS = [
    (f"{VERSION}: another machine is refused, the destination as it was",
     refused_in_the_head("the stream is of a pc-q35-7.2", machine="pc-q35-7.2")),
    (f"{VERSION}: a device with memory of its own is refused, the destination as it was",
     refused_in_the_head("RAM block", *NIC)),
    (f"{VERSION}: more memory is refused, the destination as it was",
     refused_in_the_head("RAM block", mem_mib=96)),
    (f"{VERSION}: a device is refused before its state leaves", refused_in_the_tail),
    (f"{VERSION}: held back, probed, and taken", taken_with_hold),
    (f"{VERSION}: no description: nothing waits for ever", without_description),
    (f"{VERSION}: every mode, by qmig migrate", every_mode),
    (f"{VERSION}: a load that fails is kept, its section proven", section_named("yes")),
    (f"{VERSION}: a load that fails is kept, its section as far as known", section_named("no")),
]
lib.run_tests(TESTS)
