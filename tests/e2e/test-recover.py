#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
qmig is killed while a real guest migrates: test-recover.py VERSION. `qmig recover` finishes or
undoes it; the guest is never lost and never runs twice. A hook kills qmig exactly where it shall.
"""
import json
import os
import signal
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]
SLOW = ("--bandwidth=20MiB/s",)
# The hook's parent is qmig.
SUICIDE = "kill -9 $PPID"


def pair(workload=None):
    """A pair whose migration takes seconds when it is slowed."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=256,
                       workload=workload or {"ws": "32M", "rate": 2000, "content": "random"})


def journal(p):
    """A journal beside the pair's sockets."""
    return os.path.join(p.dir, "journal")


def steps(path):
    """The names of the steps in a journal."""
    with open(path, "rb") as file:
        text = file.read().split(b"\0")[0]
    return [json.loads(line)["step"] for line in text.splitlines()]


def killed(p, *options):
    """Start a migration that does not survive; wait for its end."""
    process = lib.start(*lib.migrate_args(p), f"--journal={journal(p)}", *options)
    done = lib.finish(process)
    check(done.code == -signal.SIGKILL, f"qmig was killed, got {done.code}: {done.err}")
    check("end" not in steps(journal(p)), f"the journal has no end: {steps(journal(p))}")


def recover(p, *options, target=None):
    """Run qmig recover."""
    return lib.run("recover", target or journal(p), "--progress=plain", *options)


def stays(p, done, before):
    """The source has it again, and it moves at the next try."""
    lib.stayed_whole(p, done, 3, before)
    check("runs on the source" in done.err, done.err)
    check(not p.dst.alive() or p.dst.cmd("query-status")["status"] == "inmigrate",
          "the destination runs nothing")
    again = recover(p)
    check(again.code == 0 and "nothing to recover" in again.out,
          f"once more: nothing to do: {again.code} {again.out}{again.err}")
    p.new_destination()
    lib.moved_whole(p, f"--journal={journal(p)}")


def moves(p, done):
    """The destination has it, alone; the source is gone."""
    check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
    p.wait_ticking("dst")
    check(p.running() == ["dst"], f"the destination's guest alone runs: {p.running()}")
    check(p.src.wait_exit(5), "the source was let go")
    check(p.guest_errors() == [], f"the guest sees no corruption: {p.guest_errors()}")
    again = recover(p)
    check(again.code == 0, f"once more: nothing to do: {again.code} {again.err}")


def killed_at(phase, where, *options):
    """A test: qmig dies as @phase begins; recovery brings the guest to @where."""
    def test():
        with pair() as p:
            p.wait_ticking("src")
            before, dirs = lib.settings(p.src), lib.leftovers()
            killed(p, f"--hook={phase}={SUICIDE}", *options)
            done = recover(p)
            if where == "src":
                stays(p, done, before)
            else:
                moves(p, done)
            check(lib.leftovers() <= dirs, f"nothing is left: {lib.leftovers() - dirs}")
    return test


def killed_mid_stream(*options, wait=1.0):
    """A test: kill -9 while memory is copied."""
    def test():
        with pair() as p:
            p.wait_ticking("src")
            before, dirs = lib.settings(p.src), lib.leftovers()
            process = lib.start(*lib.migrate_args(p), f"--journal={journal(p)}", *SLOW,
                                *options)
            lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
            time.sleep(wait)
            process.kill()
            lib.finish(process)
            stays(p, recover(p), before)
            check(lib.leftovers() <= dirs, f"nothing is left: {lib.leftovers() - dirs}")
    return test


def nothing_touched():
    """Before the first step there is nothing to recover, and no journal."""
    with pair() as p:
        p.wait_ticking("src")
        before, there = lib.settings(p.src), lib.settings(p.dst)
        done = lib.run(*lib.migrate_args(p), f"--journal={journal(p)}",
                       f"--hook=prepare={SUICIDE}")
        check(done.code == -signal.SIGKILL, done.err)
        check(not os.path.exists(journal(p)), "no journal yet")
        check(lib.settings(p.src) == before, "the source is untouched")
        check(lib.settings(p.dst) == there, "the destination is untouched")
        lib.moved_whole(p)


def direct_completes_meanwhile():
    """Without the proxy QEMU goes on without qmig: recovery finds it done, and finishes."""
    with pair() as p:
        p.wait_ticking("src")
        process = lib.start(*lib.migrate_args(p), f"--journal={journal(p)}", *SLOW, "--direct")
        lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
        time.sleep(0.5)
        process.kill()
        lib.finish(process)
        p.src.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
        deadline = time.monotonic() + 20
        while p.src.cmd("query-migrate")["status"] != "completed":
            check(time.monotonic() < deadline, "QEMU completes by itself")
            time.sleep(0.05)
        check(p.running() == [], "nobody runs it before recovery")
        moves(p, recover(p))


def destination_dies_too(phase, code):
    """qmig dies at @phase, then the destination."""
    def test():
        with pair() as p:
            p.wait_ticking("src")
            before = lib.settings(p.src)
            killed(p, f"--hook={phase}={SUICIDE}")
            lib.kill(p.dst.pid)
            p.dst.wait_exit()
            done = recover(p)
            check(done.code == code, f"exit {code}, got {done.code}: {done.err}")
            if code == 3:
                stays(p, done, before)
            else:
                check(p.running() == [], f"nobody runs what nobody can prove: {p.running()}")
                check("may have run" in done.err, done.err)
    return test


def source_dies_too(phase, code):
    """qmig dies at @phase, then the source."""
    def test():
        with pair() as p:
            p.wait_ticking("src")
            killed(p, f"--hook={phase}={SUICIDE}")
            lib.kill(p.src.pid)
            p.src.wait_exit()
            done = recover(p)
            if code == 0:
                moves(p, done)
            else:
                check(done.code == code, f"exit {code}, got {done.code}: {done.err}")
                check("lost" in done.err or "gone" in done.err, done.err)
                check(p.running() == [], "half a guest does not run")
    return test


def disks_killed_at(phase):
    """Killed while a disk is copied: mirrors, nodes and exports go; the guest never notices."""
    def test():
        qemu = lib.qemu(VERSION)
        with lib.vm.Pair(qemu, accel=lib.accel(qemu), mem_mib=128, disks=[lib.vm.Disk()],
                         workload={"ws": "32M", "rate": 500}) as p:
            p.wait_ticking("src")
            before = lib.settings(p.src)
            killed(p, "--copy-storage-all", f"--hook={phase}={SUICIDE}")
            done = recover(p)
            lib.stayed_whole(p, done, 3, before)
            left = p.src.cmd("query-jobs") + [n["node-name"] for n in
                                              p.src.cmd("query-named-block-nodes")
                                              if n["node-name"].startswith("qmig-")]
            check(left == [], f"nothing of the copy is left: {left}")
            check(p.src.cmd("query-block-exports") == [], "no export either")
            p.new_destination()
            again = lib.run(*lib.migrate_args(p), "--copy-storage-all")
            check(again.code == 0, f"it moves at the next try: {again.err}")
            p.wait_ticking("dst")
    return test


def by_qmp_address():
    """Found in the default directory by the address of either side; removed at the end."""
    with pair() as p:
        p.wait_ticking("src")
        process = lib.start(*lib.migrate_args(p), f"--hook=finish={SUICIDE}")
        lib.finish(process)
        directory = os.path.join(lib.STATE.name, "qmig")
        check(os.listdir(directory), "the journal is there")
        done = recover(p, target=f"unix:{p.dst.qmp}")
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        p.wait_ticking("dst")
        check(os.listdir(directory) == [], f"it is removed: {os.listdir(directory)}")


def running_qmig_is_let_be():
    """While qmig runs there is nothing to recover."""
    with pair() as p:
        p.wait_ticking("src")
        process = lib.start(*lib.migrate_args(p), f"--journal={journal(p)}", *SLOW)
        lib.interrupt_when(process, lambda e: e.get("phase") == "perform")
        done = recover(p)
        check(done.code == 2 and "still runs" in done.err, f"{done.code}: {done.err}")
        process.send_signal(signal.SIGINT)
        check(lib.finish(process).code == 4, "the migration was not disturbed")
        check(steps(journal(p))[-1] == "end", f"it has ended: {steps(journal(p))}")


def stopped_source_needs_the_fence():
    """A source that hangs, after the destination has it all: only the fence decides."""
    with pair() as p:
        p.wait_ticking("src")
        killed(p, f"--hook=finish={SUICIDE}")
        os.kill(p.src.pid, signal.SIGSTOP)
        try:
            done = recover(p)
            check(done.code == 7, f"exit 7, got {done.code}: {done.err}")
            check(p.running() == [], "nobody runs")
            done = recover(p, "--fence=exit 1")
            check(done.code == 7 and "counts as running" in done.err, done.err)
            done = recover(p, "--fence=true")
            check(done.code == 7 and "goes on" in done.err, "a fence that lies: " + done.err)
            done = recover(p, f"--fence=kill -9 {p.src.pid}")
        finally:
            if p.src.alive():
                os.kill(p.src.pid, signal.SIGCONT)
        moves(p, done)


def postcopy_killed(when):
    """qmig and its proxy die in post-copy: both sides pause; recovery resumes them."""
    def test():
        with pair({"ws": "64M", "rate": "max"}) as p:
            p.wait_ticking("src")
            options = ("--postcopy-after-precopy", "--downtime=5ms", "--bandwidth=60MiB/s",
                       "--set", "max-postcopy-bandwidth=30MiB/s")
            if when == "hook":
                # Through the proxy, which dies too, the devices may not all have gone over:
                # with QEMU 7.2 that is the end of the guest.
                process = lib.start(*lib.migrate_args(p), f"--journal={journal(p)}", "--direct",
                                    f"--hook=postcopy={SUICIDE}", *options)
                check(lib.finish(process).code != 0, "it was killed in post-copy")
            else:
                process = lib.start(*lib.migrate_args(p), f"--journal={journal(p)}", *options)
                lib.interrupt_when(process, lambda e: e.get("phase") == "postcopy")
                time.sleep(1)
                process.kill()
                lib.finish(process)
                check("cont" in steps(journal(p)), steps(journal(p)))
            done = recover(p)
            moves(p, done)
    return test


TESTS = [
    (f"{VERSION}: killed in {phase}", killed_at(phase, where, *options))
    for phase, where, options in (
        ("storage", "src", ()), ("perform", "src", ()),
        ("switchover", "src", ()), ("finish", "dst", ()), ("confirm", "dst", ()),
        ("switchover", "src", ("--direct",)), ("finish", "dst", ("--direct",)))
] + [
    (f"{VERSION}: killed before anything was touched", nothing_touched),
    (f"{VERSION}: killed mid-stream", killed_mid_stream()),
    (f"{VERSION}: killed mid-stream, without proxy", killed_mid_stream("--direct")),
    (f"{VERSION}: completed without qmig", direct_completes_meanwhile),
    (f"{VERSION}: qmig and destination die before cont", destination_dies_too("finish", 3)),
    (f"{VERSION}: qmig and destination die after cont", destination_dies_too("confirm", 7)),
    (f"{VERSION}: qmig and source die mid-stream", source_dies_too("perform", 7)),
    (f"{VERSION}: qmig and source die before cont", source_dies_too("finish", 0)),
    (f"{VERSION}: killed as disks are about to be copied", disks_killed_at("storage")),
    (f"{VERSION}: killed while disks are mirrored", disks_killed_at("perform")),
    (f"{VERSION}: killed with disks, standing still", disks_killed_at("switchover")),
    (f"{VERSION}: found by QMP address", by_qmp_address),
    (f"{VERSION}: a running qmig is let be", running_qmig_is_let_be),
    (f"{VERSION}: a hung source needs the fence", stopped_source_needs_the_fence),
    (f"{VERSION}: killed as post-copy begins", postcopy_killed("hook")),
    (f"{VERSION}: killed in post-copy", postcopy_killed("middle")),
]
if len(sys.argv) > 2:
    TESTS = [(name, test) for name, test in TESTS if sys.argv[2] in name]
lib.run_tests(TESTS)
