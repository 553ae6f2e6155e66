#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The far end of a tunnel, while a real migration passes through it and others do what they can to get
in: test-garbage.py VERSION [ATTEMPTS]. Its memory stays flat, the migration is not disturbed, and
each attempt is in the log, as a line or counted in one. 500 attempts; with QMIG_TEST_FULL 10 000.
"""
import json
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time

import lib
from attack import Attack
from lib import check

VERSION = sys.argv[1]
ATTEMPTS = int(sys.argv[2]) if len(sys.argv) > 2 else 10000 if lib.FULL else 500
# The guest dirties three times what goes over at first: it does not end before it is let.
SLOW, FAST = 4 << 20, 0
WORKLOAD = {"ws": "16M", "rate": 3000}
# Strangers at the door: 80 at a time with their TLS; arenas of a few threads.
GROWTH_MIB = 24
PKI = tempfile.TemporaryDirectory(prefix="qmig-garbage-")
TOP = pathlib.Path(PKI.name)


def memory_mib(pid):
    """Resident memory of a process."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no VmRSS")


class Watch(threading.Thread):
    """The most memory a process had since."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.begin = pid, memory_mib(pid)
        self.most, self.ended = self.begin, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.05):
            self.most = max(self.most, memory_mib(self.pid))


def far_end(p):
    """Start the listening side. Return: process, its log, its port."""
    log = TOP / "far.log"
    with open(log, "w", encoding="utf-8") as file:
        process = lib.subprocess.Popen(
            [lib.QMIG, "proxy", "--tunnel", "tcp:127.0.0.1:0", "--connect",
             f"unix:{p.dir}/destination.sock", "--tls-dir", str(TOP / "good"), "--cache", "1M"],
            stdin=lib.subprocess.DEVNULL, stdout=lib.subprocess.DEVNULL, stderr=file,
            env=lib.ENVIRONMENT)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = re.search(r"listening on tcp:127.0.0.1:(\d+)\n", log.read_text("utf-8"))
        if found:
            return process, log, int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"the far end listens: {log.read_text('utf-8')}")


def near_end(path, port, *options):
    """Start a near end that listens there. Return: process, seconds until it was let in."""
    begin = time.monotonic()
    near = lib.start("proxy", "--listen", f"unix:{path}", "--via", f"127.0.0.1:{port}",
                     "--tls-dir", str(TOP / "good"), "--cache", "1M", "--json", *options)
    line = near.stderr.readline()
    check("listening" in line, f"the near end listens: {line}")
    return near, time.monotonic() - begin


def refusals(log):
    """Lines that tell of one, how many the others tell of, and how many lines in all."""
    lines = [line for line in log.read_text("utf-8").splitlines() if line.startswith("refused ")]
    more = [int(found[1]) for line in lines
            if (found := re.match(r"refused (\d+) more in \d+ s: ", line))]
    return len(lines) - len(more), sum(more), len(lines)


def wait_logged(log, wanted):
    """What is counted is told a second later at the latest."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and sum(refusals(log)[:2]) < wanted:
        time.sleep(0.1)
    return refusals(log)


def wait_status(side, wanted, timeout=120):
    """Until query-migrate of @side says that."""
    deadline = time.monotonic() + timeout
    info = {}
    while time.monotonic() < deadline:
        info = side.cmd("query-migrate")
        if info.get("status") == wanted:
            return
        check(info.get("status") not in ("failed", "cancelled"), f"{side.name}: {info}")
        time.sleep(0.02)
    raise AssertionError(f"{side.name}: {wanted} within {timeout} s: {info}")


def begin_migration(p, entry):
    """Slowly, so that it lasts. Until a part of it has gone over."""
    p.dst.cmd("migrate-incoming", uri=f"unix:{p.dir}/destination.sock")
    for side in (p.src, p.dst):
        side.cmd("migrate-set-capabilities",
                 capabilities=[{"capability": "return-path", "state": True}])
    p.src.cmd("migrate-set-parameters", **{"max-bandwidth": SLOW})
    p.src.cmd("migrate", uri=f"unix:{entry}")
    deadline = time.monotonic() + 30
    while p.src.cmd("query-migrate").get("ram", {}).get("transferred", 0) < 12 << 20:
        check(time.monotonic() < deadline, "it gets under way")
        time.sleep(0.05)


def attack(p, far, port):
    """All attempts, while it goes on; in their midst somebody comes who may."""
    attempts = Attack(port, ATTEMPTS, TOP / "good", TOP / "other")
    watch = Watch(far.pid)
    thread = threading.Thread(target=attempts.run)
    thread.start()
    time.sleep(1)
    # One connection: a second one that is broken off when it ends would count as refused.
    other, seconds = near_end(f"{p.dir}/other.sock", port, "--connections=1")
    other.terminate()
    lib.finish(other)
    thread.join()
    status = p.src.cmd("query-migrate")
    check(status["status"] == "active", f"it went on all the time: {status}")
    watch.ended.set()
    watch.join()
    return attempts, watch, seconds


def is_undisturbed(p, near):
    """It ends as if nobody had come."""
    p.src.cmd("migrate-set-parameters", **{"max-bandwidth": FAST})
    wait_status(p.src, "completed")
    done = lib.finish(near)
    check(done.code == 0, f"near end: exit 0, got {done.code}: {done.err}")
    wait_status(p.dst, "completed")
    differing = p.compare_ram()
    check(not differing, f"RAM equal; {len(differing)} pages differ: {differing[:5]}")
    check(p.running() == [], f"nobody runs before cont: {p.running()}")
    p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    check(p.running() == ["dst"], f"one guest runs: {p.running()}")
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
    session = done.report()["sessions"][0]
    check(session["breaks"] == 0 and session["dark_ms"] == 0, f"no connection broke: {session}")


def everybody_is_refused():
    """What came, what was told of it, what it cost."""
    binary = lib.qemu(VERSION)
    with lib.vm.Pair(src=binary, dst=binary, accel=lib.accel(binary), mem_mib=256, fill=0.5,
                     workload=WORKLOAD) as p:
        p.wait_ticking(p.src)
        far, log, port = far_end(p)
        try:
            near, _ = near_end(f"{p.dir}/source.sock", port)
            begin_migration(p, f"{p.dir}/source.sock")
            attempts, watch, seconds = attack(p, far, port)
            check(not attempts.failed, f"all could connect: {attempts.failed[:3]}")
            check(sum(attempts.kinds.values()) == ATTEMPTS, f"all came: {attempts.kinds}")
            one_each, counted, lines = wait_logged(log, ATTEMPTS)
            after = memory_mib(far.pid)
            print(f"# {VERSION}: {ATTEMPTS} attempts in {attempts.seconds:.1f} s: "
                  f"{dict(attempts.kinds)}; told one by one {one_each}, counted {counted}, "
                  f"{lines} lines; who may was let in after {seconds * 1000:.0f} ms; far end's "
                  f"memory {watch.begin:.1f} MiB, at most {watch.most:.1f}, then {after:.1f}",
                  flush=True)
            check(one_each + counted == ATTEMPTS,
                  f"each is told once: {one_each} + {counted}, {ATTEMPTS} came")
            check(lines <= 21 * (attempts.seconds + 3), f"no flood: {lines} lines")
            check(watch.most - watch.begin < GROWTH_MIB,
                  f"memory is flat: {watch.begin:.1f} MiB, then {watch.most:.1f}")
            is_undisturbed(p, near)
            status = json.loads(lib.run("status", "--json", str(far.pid)).out)
            gate = status["qmig"]["status"]["gate"]
            check(gate["refused"] == ATTEMPTS, f"qmig status counts them: {gate}")
            far.terminate()
            check(far.wait(30) == 0, f"the far end ends in order: {log.read_text('utf-8')[-500:]}")
        finally:
            if far.poll() is None:
                far.kill()
                far.wait()


def main():
    """One test."""
    for name in ("good", "other"):
        done = lib.run("pki", "all", str(TOP / name), "--host", "127.0.0.1")
        check(done.code == 0, done.err)
    try:
        lib.run_tests([(f"{ATTEMPTS} attempts at a tunnel in use", everybody_is_refused)])
    finally:
        shutil.rmtree(TOP, ignore_errors=True)


main()
