#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Drills: test-drill.py VERSION [WORD…]; words select tests. The plugin fault does its harm at one place of a real migration each,
and the guest is where the outcome says, whole, and runs once.
"""
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]
MULTIFD = ("--parallel", "--parallel-connections=2")


# Post-copy begins in the middle, and most of memory comes in it.
POSTCOPY = ("--timeout=700ms", "--timeout-postcopy", "--downtime=5ms", "--bandwidth=100MiB/s")


def pair(**workload):
    """A guest with enough to send."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=256, fill=0.6,
                       workload={"ws": "16M", "rate": 1000, **workload})


def fault(text):
    """The option that asks for it."""
    return f"--plugin=fault:{text}"


def struck(done, number=0):
    """What the report tells of a fault."""
    return done["proxy"]["plugins"]["fault"]["faults"][number]


def stays(code, *options, says, **workload):
    """The migration ends with @code and these words, and the guest has stayed."""
    def test():
        with pair(**workload) as p:
            p.wait_ticking(p.src)
            before = lib.settings(p.src)
            done = lib.run(*lib.migrate_args(p), *options, timeout=60)
            lib.stayed_whole(p, done, code, before)
            for text in says:
                check(text in done.err, f"\"{text}\" is in: {done.err}")
            # The source is as good as before.
            p.new_destination()
            lib.moved_whole(p)
    return test


def arrives(*options, blackout_ms):
    """Late, but whole."""
    def test():
        with pair() as p:
            p.wait_ticking(p.src)
            report = lib.moved_whole(p, *options)
            check(struck(report)["state"] == "done", f"it struck: {struck(report)}")
            check(p.src.cmd("query-migrate")["downtime"] >= blackout_ms,
                  f"{p.src.cmd('query-migrate')}")
    return test


def wait_for_standstill(p, timeout_s=30):
    """Until `qmig status` tells that memory is copied no more. Return: the bytes."""
    deadline, seen = time.monotonic() + timeout_s, -1
    while time.monotonic() < deadline:
        done = lib.run("status", "--json", f"unix:{p.src.qmp}")
        qmig = done.report()["qmig"] if done.code == 0 else None
        if qmig and qmig["status"]["phase"] == "perform":
            now = qmig["status"]["memory"]["transferred"]
            if now == seen and now > 0:
                return now
            seen = now
        time.sleep(1)
    raise AssertionError(f"it goes on for {timeout_s} s")


def stalls_until_told():
    """A channel stands still, and everything goes on when somebody says so."""
    with pair() as p:
        p.wait_ticking(p.src)
        process = lib.start(*lib.migrate_args(p), *MULTIFD, fault("at=multifd-1@4M,do=stall"))
        try:
            wait_for_standstill(p)
            told = lib.run("set", f"unix:{p.src.qmp}", "fault.over=on")
        finally:
            done = lib.finish(process)
        check(told.code == 0, f"qmig set: {told.err}")
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check(struck(done.report())["byte"] == 4 << 20, f"at its byte: {struck(done.report())}")
        p.wait_ticking(p.dst)
        check(p.running() == ["dst"], f"the destination's guest alone runs: {p.running()}")
        check(p.guest_errors() == [], f"the guest sees no corruption: {p.guest_errors()}")


def chained():
    """Several plugins in the order that was given; the wrong order is refused, nothing touched."""
    with pair() as p:
        p.wait_ticking(p.src)
        before = lib.settings(p.src)
        late = fault("at=page#9000,do=delay:300ms")
        done = lib.run(*lib.migrate_args(p), "--plugin=xbzrle", "--plugin=zero", late)
        check("plugin zero" in done.err and "xbzrle" in done.err, done.err)
        lib.stayed_whole(p, done, 2, before)
        report = lib.moved_whole(p, "--plugin=zero", "--plugin=xbzrle",
                                 "--plugin=throttle:rate=80MB/s", late)
        check(list(report["proxy"]["plugins"]) == ["stats", "zero", "xbzrle", "throttle", "fault"],
              f"in their order: {list(report['proxy']['plugins'])}")
        check(struck(report)["state"] == "done", f"it struck: {struck(report)}")
        sent = sum(c["bytes_forward"] for c in report["proxy"]["channels"])
        check(report["proxy"]["plugins"]["throttle"]["bytes"] == sent, f"{report['proxy']}")


TESTS = [
    (f"{VERSION}: main is cut at a byte: exit 3",
     stays(3, fault("at=main@50M,do=cut"), says=["the main channel is cut at byte 52428800"])),
    (f"{VERSION}: a multifd channel is cut: exit 3",
     stays(3, *MULTIFD, fault("at=multifd@10M,do=cut"), says=["channel is cut at byte 10485760", "plugin fault"])),
    (f"{VERSION}: cut before the device state: exit 3",
     stays(3, fault("at=tail,do=cut"), says=["the main channel is cut at byte", "at=tail"])),
    (f"{VERSION}: main stalls for good: the deadline, exit 5",
     stays(5, "--timeout=4s", fault("at=main@20M,do=stall"), says=["--timeout"])),
    (f"{VERSION}: a page's head is corrupted: the destination refuses it, exit 3",
     stays(3, fault("at=page#2000,do=corrupt"), says=["destination"])),
    (f"{VERSION}: cut just before the guest runs over there in post-copy: exit 3",
     stays(3, *POSTCOPY, fault("at=command:postcopy-run,do=cut"),
           says=["The guest runs on the source"], ws="64M", rate="max")),
    (f"{VERSION}: the device state is late",
     arrives(fault("at=tail,do=delay:1500ms"), blackout_ms=1400)),
    (f"{VERSION}: five plugins in a chain; the wrong order is refused", chained),
    (f"{VERSION}: a multifd channel stalls until told otherwise", stalls_until_told),
]
WORDS = sys.argv[2:]
lib.run_tests([t for t in TESTS if not WORDS or any(w in t[0] for w in WORDS)])
