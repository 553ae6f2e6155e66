#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Things break while a real guest migrates: test-faults.py VERSION. The guest is never lost, never
runs twice, and the error says what happened.
"""
import json
import os
import re
import signal
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]
PLUGINS = os.environ.get("QMIG_TEST_PLUGINS", str(lib.TOP / "build/tests/e2e"))
SLOW = ("--bandwidth=20MiB/s",)


def pair():
    """A pair whose migration takes seconds when it is slowed."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=256,
                       workload={"ws": "32M", "rate": 2000, "content": "random"})


def broken(breaks, code, *options, expect=()):
    """A test: start a migration, @breaks(pair, process), and the source has the guest."""
    def test():
        with pair() as p:
            p.wait_ticking(p.src)
            before, dirs = lib.settings(p.src), lib.leftovers()
            process = lib.start(*lib.migrate_args(p), *options)
            seen = breaks(p, process) or ""
            done = lib.finish(process)
            done.err = seen + done.err
            lib.stayed_whole(p, done, code, before)
            for text in expect:
                check(text in done.err, f"\"{text}\" is in: {done.err}")
            check(not p.dst.alive() or p.dst.cmd("query-status")["status"] == "inmigrate",
                  "the destination runs nothing")
            check(lib.leftovers() <= dirs, "no private directory is left")
            # The source is as good as before: it migrates to a fresh destination.
            p.new_destination()
            lib.moved_whole(p)
    return test


def kill_in(phase):
    """kill -9 of the destination as soon as @phase begins."""
    def breaks(p, process):
        seen = lib.interrupt_when(process, lambda e: e.get("phase") == phase)
        lib.kill(p.dst.pid)
        return seen
    return breaks


def kill_mid_stream(p, process):
    """kill -9 of the destination when a second of memory has gone by."""
    seen = lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
    time.sleep(1)
    lib.kill(p.dst.pid)
    return seen


def signal_mid_stream(number):
    """Ctrl-C or its like while memory is copied."""
    def breaks(p, process):
        seen = lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
        time.sleep(1)
        process.send_signal(number)
        return seen
    return breaks


def cancel_elsewhere(p, process):
    """`qmig status` and `qmig cancel` from another terminal, on the source's second monitor."""
    seen = lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
    time.sleep(1)
    with p.src.monitor_free():
        status = lib.run("status", f"unix:{p.src.qmp2}", "--json")
        check(json.loads(status.out)["migration"]["status"] == "active", status.out)
        changed = lib.run("set", f"unix:{p.src.qmp2}", "downtime-limit=200ms")
        check(changed.code == 0, f"qmig set: {changed.code}: {changed.err}")
        done = lib.run("cancel", "--qmp", f"unix:{p.src.qmp2}")
        check(done.code == 0, f"qmig cancel: {done.code}: {done.err}")
    p.src.cmd("migrate-set-parameters", **{"downtime-limit": 300})
    return seen


def nothing(p, process):
    """The options alone break it."""


def kill_in_finish():
    """
    The destination dies when it has the guest: either it is proven that it never ran it, and
    the source runs it again, or nothing is touched and a person is asked.
    """
    with pair() as p:
        p.wait_ticking(p.src)
        process = lib.start(*lib.migrate_args(p))
        seen = lib.interrupt_when(process, lambda e: e.get("phase") == "finish")
        lib.kill(p.dst.pid)
        done = lib.finish(process)
        check(done.code in (0, 3, 7), f"exit 0, 3 or 7, got {done.code}: {seen}{done.err}")
        if done.code == 3:
            lib.stayed_whole(p, done, 3)
        if done.code == 7:
            check(p.running() == [], "nobody runs what nobody can prove")
            check("not proven" in done.err, done.err)
        print(f"# exit {done.code}")


def source_killed():
    """The source dies: the destination must not run half a guest."""
    with pair() as p:
        p.wait_ticking(p.src)
        process = lib.start(*lib.migrate_args(p), *SLOW)
        lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
        time.sleep(0.5)
        lib.kill(p.src.pid)
        done = lib.finish(process)
        check(done.code == 7, f"exit 7, got {done.code}: {done.err}")
        # Perhaps while it was asked something, which is told then.
        check(re.search(r"source: (\S+: )?QEMU closed its QMP connection", done.err), done.err)
        check(p.running() == [], "no half guest runs")


def source_stopped():
    """The source's process hangs: qmig ends within its deadlines and says what it knows."""
    with pair() as p:
        p.wait_ticking(p.src)
        process = lib.start(*lib.migrate_args(p), *SLOW)
        lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
        time.sleep(0.5)
        os.kill(p.src.pid, signal.SIGSTOP)
        try:
            done = lib.finish(process, timeout=90)
        finally:
            os.kill(p.src.pid, signal.SIGCONT)
        check(done.code == 7, f"exit 7, got {done.code}: {done.err}")
        check("source: no reply" in done.err, done.err)


def refused_untouched():
    """A destination that does not fit: exit 2, every difference told, nothing touched."""
    with pair() as p:
        p.wait_ticking(p.src)
        before, there = lib.settings(p.src), lib.settings(p.dst)
        done = lib.run(*lib.migrate_args(p), "--cap=no-such-thing", "--set=nor-this=1")
        lib.stayed_whole(p, done, 2, before)
        check("no-such-thing" in done.err and "nor-this" in done.err, done.err)
        check(lib.settings(p.dst) == there, "the destination is untouched")
        lib.moved_whole(p)


def plugin(name):
    """A test plugin built beside the tests."""
    return f"--plugin={PLUGINS}/{name}.so"


TESTS = [
    (f"{VERSION}: destination killed mid-stream", broken(kill_mid_stream, 3, *SLOW,
     expect=["destination: QEMU closed"])),
    (f"{VERSION}: Ctrl-C leaves the guest on the source",
     broken(signal_mid_stream(signal.SIGINT), 4, *SLOW, expect=["cancelled"])),
    (f"{VERSION}: qmig cancel from elsewhere", broken(cancel_elsewhere, 4, *SLOW)),
    (f"{VERSION}: --timeout", broken(nothing, 5, *SLOW, "--timeout=1s", expect=["--timeout"])),
    (f"{VERSION}: a corrupted stream", broken(nothing, 3, plugin("corrupt"),
     expect=["perform"])),
    (f"{VERSION}: a truncated stream", broken(nothing, 3, plugin("truncate"),
     expect=["truncate", "enough"])),
    (f"{VERSION}: what does not fit is refused, untouched", refused_untouched),
    (f"{VERSION}: destination killed in finish", kill_in_finish),
    (f"{VERSION}: source killed", source_killed),
]
if lib.FULL:
    TESTS += [
        (f"{VERSION}: destination killed in {phase}", broken(kill_in(phase), 3))
        for phase in ("prepare", "perform")
    ]
    TESTS += [
        (f"{VERSION}: SIGTERM", broken(signal_mid_stream(signal.SIGTERM), 4, *SLOW)),
        (f"{VERSION}: direct, destination killed mid-stream",
         broken(kill_mid_stream, 3, *SLOW, "--direct")),
        (f"{VERSION}: source process stopped", source_stopped),
    ]
lib.run_tests(TESTS)
