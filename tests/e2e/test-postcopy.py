#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Post-copy of real KVM guests with one QEMU version: begun by --postcopy-after-precopy or --timeout,
broken in several ways and resumed, paused for good, objected to. Memory byte for byte; one guest.
"""
import os
import signal
import sys
import time

from lib import (Skip, accel, check, finish, migrate_args, moved_whole, qemu, run_tests, settings,
                 start, vm)

VERSION = sys.argv[1]
WORKLOAD = {"ws": "64M", "rate": "max"}
# Most of memory comes in post-copy, slowly enough for a break in the middle.
SLOW = ["--timeout=700ms", "--timeout-postcopy", "--downtime=5ms", "--bandwidth=100MiB/s", "--set",
        "max-postcopy-bandwidth=30MiB/s"]
AFTER_PRECOPY = ["--postcopy-after-precopy", "--downtime=5ms", "--bandwidth=400MiB/s"]


def pair(**options):
    binary = qemu(VERSION)
    return vm.Pair(binary, mem_mib=options.pop("mem_mib", 256), accel=accel(binary),
                   workload=options.pop("workload", WORKLOAD), **options)


def decisions(report):
    return [d["what"] for d in report["decisions"]]


def wait_status(side, words, timeout=20):
    """Poll until a side's migration is in one of @words."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = side.cmd("query-migrate").get("status")
        if status in words:
            return status
        time.sleep(0.02)
    raise AssertionError(f"{side}: {status}, wanted {words}")


def whole(*options):
    """Arrives paused, memory equal: begun in the first pass, ended in post-copy."""
    def test():
        with pair() as p:
            p.wait_ticking("src")
            report = moved_whole(p, *options)
            check("post-copy" in decisions(report), f"it came to post-copy: {report['decisions']}")
    return test


def at_timeout():
    with pair() as p:
        p.wait_ticking("src")
        done = finish(start(*migrate_args(p), "--timeout=1s", "--timeout-postcopy",
                            "--bandwidth=100MiB/s"))
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        p.wait_ticking("dst")
        check(p.running() == ["dst"], f"one guest runs: {p.running()}")
        check(p.guest_errors() == [], f"it sees no corruption: {p.guest_errors()}")
        check("post-copy" in decisions(done.report()), "by post-copy")


def at_timeout_suspended():
    with pair() as p:
        p.wait_ticking("src")
        done = finish(start(*migrate_args(p), "--timeout=1s", "--timeout-suspend",
                            "--bandwidth=100MiB/s"))
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        p.wait_ticking("dst")
        check(p.running() == ["dst"], f"one guest runs: {p.running()}")
        check(p.guest_errors() == [], f"it sees no corruption: {p.guest_errors()}")


def suspended_and_failed():
    """The guest that was stopped for the deadline runs on the source again."""
    with pair() as p:
        p.wait_ticking("src")
        before = settings(p.src)
        process = start(*migrate_args(p), "--timeout=500ms", "--timeout-suspend",
                        "--bandwidth=10MiB/s")
        deadline = time.monotonic() + 10
        while p.src.status() != "paused" and time.monotonic() < deadline:
            time.sleep(0.02)
        p.dst.process.kill()
        done = finish(process)
        check(done.code == 3, f"exit 3, got {done.code}: {done.err}")
        p.wait_ticking("src")
        check(p.running() == ["src"], f"it runs on the source: {p.running()}")
        check(settings(p.src) == before, "the source's settings are as before")


def broken(side_name, times, *options):
    """migrate-pause on one side, again and again: it resumes, and memory is whole."""
    def test():
        with pair() as p:
            p.wait_ticking("src")
            process = start(*migrate_args(p), "--keep-source", *SLOW, *options)
            side = getattr(p, side_name)
            for _ in range(times):
                wait_status(p.dst, ["postcopy-active"])
                wait_status(p.src, ["postcopy-active"])
                time.sleep(0.15)
                side.cmd("migrate-pause")
                time.sleep(0.3)
            done = finish(process)
            check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
            report = done.report()
            check(decisions(report).count("resume post-copy") == times,
                  f"resumed {times} times: {report['decisions']}")
            p.wait_ticking("dst")
            check(p.running() == ["dst"], f"one guest runs: {p.running()}")
            time.sleep(0.5)
            check(p.guest_errors() == [], f"it sees no corruption: {p.guest_errors()}")
    return test


def cut_cable(p, link, *options, between=None):
    """Three seconds of darkness: nobody closes anything."""
    p.wait_ticking("src")
    process = start(*migrate_args(p), "--keep-source", f"--migrateuri=tcp:{link.dst_addr}:0",
                    *SLOW, *options, prefix=link.exec_prefix)
    wait_status(p.dst, ["postcopy-active"])
    time.sleep(0.3)
    if between:
        between(process)
    link.set_up(False)
    time.sleep(3)
    link.set_up(True)
    done = finish(process, 90)
    check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
    p.wait_ticking("dst")
    check(p.running() == ["dst"], f"one guest runs: {p.running()}")
    check(p.guest_errors() == [], f"it sees no corruption: {p.guest_errors()}")
    return done


def cut_cable_direct():
    """TCP, without proxy."""
    why = vm.Link.why_not()
    check(not why, why)
    with vm.Link("1gbit") as link, pair(link=link) as p:
        cut_cable(p, link, "--direct")


def cut_cable_after_a_signal():
    """A cancel that comes too late is told so, and keeps nobody from resuming."""
    why = vm.Link.why_not()
    check(not why, why)
    with vm.Link("1gbit") as link, pair(link=link) as p:
        def between(process):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            p.src.cmd("migrate-pause")

        done = cut_cable(p, link, between=between)
        check("resume post-copy" in decisions(done.report()), "it was resumed")
        check(done.err.count("too late to cancel") == 1, f"that is told, once: {done.err}")


def given_up():
    """A destination that never gets a new way in: exit 6, both alive, nobody runs twice."""
    with vm.Link("1gbit") as link, pair(link=link) as p:
        p.wait_ticking("src")
        process = start(*migrate_args(p), "--direct", f"--migrateuri=tcp:{link.dst_addr}:0",
                        "--recover-timeout=2s", *SLOW)
        wait_status(p.dst, ["postcopy-active"])
        time.sleep(0.3)
        link.set_up(False)
        p.src.cmd("migrate-pause")
        done = finish(process, 90)
        check(done.code == 6, f"exit 6, got {done.code}: {done.err}")
        check("qmig recover" in done.err, f"it says what to do: {done.err}")
        check(p.src.alive() and p.dst.alive(), "both QEMUs live")
        check("src" not in p.running(), "the source's guest stands still")


def destination_dies():
    """In post-copy that is the guest's end; the source must not run its old memory."""
    with pair() as p:
        p.wait_ticking("src")
        process = start(*migrate_args(p), *SLOW)
        wait_status(p.dst, ["postcopy-active"])
        time.sleep(0.3)
        p.dst.process.kill()
        done = finish(process, 90)
        check(done.code == 7, f"exit 7, got {done.code}: {done.err}")
        check("lost" in done.err, f"it says so: {done.err}")
        check(p.running() == [], f"nobody runs: {p.running()}")


def stop_before_the_last_word(p):
    """Stop the destination when all that remains fits into the socket; False: it was too late."""
    for limit, rate in ((4 << 20, 1 << 20), (150000, None)):
        deadline = time.monotonic() + 60
        while p.src.cmd("query-migrate")["ram"]["remaining"] > limit:
            check(time.monotonic() < deadline, "what remains becomes less")
            time.sleep(0.002)
        if rate is not None:
            p.src.cmd("migrate-set-parameters", **{"max-postcopy-bandwidth": rate})
    os.kill(p.dst.pid, signal.SIGSTOP)
    time.sleep(1.5)
    info = p.src.cmd("query-migrate")
    return info["status"] == "postcopy-active" and info["ram"]["remaining"] == 0


def broken_after_the_last_page():
    """
    The source has sent everything, the destination (stopped) has not said its last word: a source
    from 10.0 on fails there and lets run what ran when post-copy began.
    """
    for _ in range(4):
        with pair() as p:
            p.wait_ticking("src")
            process = start(*migrate_args(p), "--direct", "--keep-source", *SLOW)
            wait_status(p.dst, ["postcopy-active"])
            try:
                in_time = stop_before_the_last_word(p)
                if in_time:
                    p.src.cmd("yank", instances=[{"type": "migration"}])
                    time.sleep(1)
                    state = p.src.status()
            finally:
                os.kill(p.dst.pid, signal.SIGCONT)
            done = finish(process, 120)
            check("src" not in p.running(), "the source's stale guest does not run")
            if in_time:
                check(state != "running", f"and did not, the source being {state}")
                check(done.code in (0, 6, 7), f"exit 0, 6 or 7, got {done.code}: {done.err}")
                print(f"# the source was {state}, qmig exited {done.code}", flush=True)
                return
    raise Skip("the destination was always faster than the test")


TESTS = [
    ("post-copy after the first pass, memory equal", whole(*AFTER_PRECOPY)),
    ("with preempt", whole(*SLOW, "--cap", "postcopy-preempt")),
    ("direct", whole(*SLOW, "--direct")),
    ("--timeout-postcopy ends what would not end", at_timeout),
    ("--timeout-suspend ends what would not end", at_timeout_suspended),
    ("a guest stopped by --timeout-suspend runs again when it failed", suspended_and_failed),
    ("broken on the source twice, resumed", broken("src", 2)),
    ("broken on the destination, resumed", broken("dst", 1)),
    ("broken with preempt, resumed", broken("src", 1, "--cap", "postcopy-preempt")),
    ("cable cut for three seconds, resumed", cut_cable_direct),
    ("cable cut after a signal, resumed", cut_cable_after_a_signal),
    ("given up: exit 6", given_up),
    ("broken after the last page: the stale guest does not run", broken_after_the_last_page),
    ("destination killed: exit 7, and nobody runs", destination_dies),
]

if __name__ == "__main__":
    run_tests([t for t in TESTS if all(word in t[0] for word in sys.argv[2:])])
