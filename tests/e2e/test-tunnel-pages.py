#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What becomes of the pages of real guests in the tunnel: test-tunnel-pages.py VERSION. Pages sent
again are deltas, equal ones references, pages that the destination waits for in post-copy go
first; and the guest arrives whole.
"""
import pathlib
import re
import subprocess
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]


class Tunnel:
    """Both ends, as processes of their own."""

    def __init__(self, p, rate):
        self.log = pathlib.Path(p.dir) / "far.log"
        with open(self.log, "w", encoding="utf-8") as file:
            self.far = subprocess.Popen(
                [lib.QMIG, "proxy", "--tunnel", "tcp:127.0.0.1:0", "--insecure", "--connect",
                 f"unix:{p.dir}/destination.sock"], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=file, env=lib.ENVIRONMENT)
        self.near = lib.start("proxy", "--listen", f"unix:{p.dir}/source.sock", "--via",
                              f"127.0.0.1:{self.port()}", "--insecure", "--json",
                              f"--rate={rate}")
        wait(lambda: (pathlib.Path(p.dir) / "source.sock").exists(), "the near end listens", 10)

    def port(self):
        """Where the far end listens."""
        listening = re.compile(r"listening on tcp:127.0.0.1:(\d+)\n")
        wait(lambda: listening.search(self.log.read_text("utf-8")), "the far end listens", 10)
        return int(listening.search(self.log.read_text("utf-8"))[1])

    def session(self):
        """What the near end tells when it is through."""
        done = lib.finish(self.near)
        check(done.code == 0, f"near: exit 0, got {done.code}: {done.err}")
        return done.report()["sessions"][0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.near, self.far):
            if process.poll() is None:
                process.kill()
            process.wait()


def wait(condition, what, timeout=60):
    """Until that is so."""
    deadline = time.monotonic() + timeout
    while not condition():
        check(time.monotonic() < deadline, f"{what} within {timeout} s")
        time.sleep(0.005)


def status_of(side):
    """QEMU's word."""
    return side.cmd("query-migrate").get("status")


def begin(p, *capabilities):
    """The migration, through the tunnel."""
    on = [{"capability": name, "state": True} for name in ("return-path", *capabilities)]
    p.wait_ticking(p.src)
    for side in (p.src, p.dst):
        side.cmd("migrate-set-capabilities", capabilities=on)
    p.dst.cmd("migrate-incoming", uri=f"unix:{p.dir}/destination.sock")
    p.src.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
    p.src.cmd("migrate", uri=f"unix:{p.dir}/source.sock")


def end(p):
    """Both QEMUs say that it is complete."""
    for side in (p.src, p.dst):
        wait(lambda s=side: status_of(s) in ("completed", "failed"), "it ends", 120)
        check(status_of(side) == "completed", f"{side.name}: {side.cmd('query-migrate')}")


def alone(p):
    """One guest, which has seen nothing wrong."""
    p.wait_ticking(p.dst)
    check(p.running() == ["dst"], f"the destination's guest alone runs: {p.running()}")
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def pair(**workload):
    """Half of its memory filled."""
    binary = lib.qemu(VERSION)
    return lib.vm.Pair(src=binary, dst=binary, accel=lib.accel(binary), mem_mib=128, fill=0.5,
                       workload=workload)


def precopy(least, *capabilities):
    """A test: memory equal; what was sent again, so many pages at least, was small."""
    def test():
        with pair(ws="16M", rate=3000) as p, Tunnel(p, "20MB/s") as tunnel:
            begin(p, *capabilities)
            end(p)
            differing = p.compare_ram()
            check(not differing, f"RAM equal; {len(differing)} pages differ: {differing[:5]}")
            check(p.running() == [], f"nobody runs before cont: {p.running()}")
            p.dst.cmd("cont")
            alone(p)
            session = tunnel.session()
        pack = session["pack"]
        ops = pack["ops"]
        again = ops.get("delta", {"n": 0, "out": 0})
        print(f"# {VERSION}: {pack['bytes_in'] >> 10} KiB became {pack['bytes_out'] >> 10}, and "
              f"{session['wire_bytes'] >> 10} on the wire; {again['n']} deltas of "
              f"{again['out'] / max(1, again['n']):.0f} bytes, {ops['reference']['n']} "
              f"references, {pack['replaced']} replaced", flush=True)
        check(again["n"] >= least, f"pages were sent again: {ops}")
        check(again["out"] <= again["n"] * 100, f"deltas are small: {again}")
        passed = ops.get("literal", {"n": 0})["n"]
        check(ops["page"]["n"] > passed, f"what is new is kept for the next time: {ops}")
        codecs = {row["codec"]: row["frames"] for row in session["codecs"]}
        check(codecs.get("zstd-history", 0) > 10, f"frames build on those before: {codecs}")
    return test


def postcopy():
    """Pages that are asked for go before those that are not."""
    with pair(ws="64M", rate=4000, order="random") as p, Tunnel(p, "4MB/s") as tunnel:
        begin(p, "postcopy-ram")
        time.sleep(0.5)
        p.src.cmd("migrate-start-postcopy")
        wait(lambda: status_of(p.dst) == "postcopy-active", "the destination takes over")
        p.dst.cmd("cont")
        end(p)
        alone(p)
        pack = tunnel.session()["pack"]
        requests = p.src.cmd("query-migrate")["ram"]["postcopy-requests"]
    print(f"# {VERSION}: {requests} requests, {pack['overtook']} pages overtook", flush=True)
    check(requests > 0, "the guest waited for pages")
    check(pack["overtook"] > requests / 4, f"they overtake: {pack['overtook']} of {requests}")
    check(pack["overtook"] <= requests, f"and no others: {pack['overtook']} of {requests}")


lib.run_tests([
    (f"{VERSION}: pages sent again are deltas; memory equal, one guest", precopy(100)),
    (f"{VERSION}: what QEMU's own xbzrle wrote passes between them", precopy(0, "xbzrle")),
    (f"{VERSION}: in post-copy pages that were asked for overtake", postcopy),
])
