#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Either end of a tunnel is told to end while a real migration passes: test-tunnel-end.py VERSION.
While memory is copied the guest stays on the source; while it changes hosts it arrives, whole, and
what was told to end ends then. And a destination that cannot be reached beyond the tunnel.
"""
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import lib
from lib import check

VERSION = sys.argv[1]
WORKLOAD = {"ws": "16M", "rate": 3000}
SLOW = 8 << 20
PKI = tempfile.TemporaryDirectory(prefix="qmig-end-")


class Tunnel:
    """Both ends, with keys, as processes of their own."""

    def __init__(self, p, *options):
        self.log = pathlib.Path(p.dir) / "far.log"
        keys = ("--tls-psk", "--tls-dir", PKI.name)
        with open(self.log, "w", encoding="utf-8") as file:
            self.far = subprocess.Popen(
                [lib.QMIG, "proxy", "--tunnel", "tcp:127.0.0.1:0", "--connect",
                 f"unix:{p.dir}/destination.sock", *keys], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=file, env=lib.ENVIRONMENT)
        self.near = lib.start("proxy", "--listen", f"unix:{p.dir}/source.sock", "--via",
                              f"127.0.0.1:{self.port()}", *keys, *options)
        check("listening" in self.near.stderr.readline(), "the near end listens")

    def port(self):
        """Where the far end listens."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = re.search(r"listening on tcp:127.0.0.1:(\d+)\n", self.log.read_text("utf-8"))
            if found:
                return int(found[1])
            time.sleep(0.05)
        raise AssertionError(f"the far end listens: {self.log.read_text('utf-8')}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.near, self.far):
            if process.poll() is None:
                process.kill()
            process.wait()


def status_of(side):
    """QEMU's word."""
    return side.cmd("query-migrate").get("status")


def wait(condition, what, timeout=60, told=str):
    """Until that is so. @told: what to say if it is not."""
    deadline = time.monotonic() + timeout
    while not condition():
        check(time.monotonic() < deadline, f"{what} within {timeout} s: {told()}")
        time.sleep(0.005)


def begin(p, bandwidth, return_path=True):
    """Until a part of it has gone over."""
    p.wait_ticking(p.src)
    p.dst.cmd("migrate-incoming", uri=f"unix:{p.dir}/destination.sock")
    for side in (p.src, p.dst):
        side.cmd("migrate-set-capabilities",
                 capabilities=[{"capability": "return-path", "state": return_path}])
    p.src.cmd("migrate-set-parameters", **{"max-bandwidth": bandwidth})
    p.src.cmd("migrate", uri=f"unix:{p.dir}/source.sock")
    wait(lambda: p.src.cmd("query-migrate").get("ram", {}).get("transferred", 0) > 16 << 20 or
         status_of(p.src) in ("completed", "failed"), "it gets under way")


def pair():
    """A guest that dirties more than SLOW carries."""
    binary = lib.qemu(VERSION)
    return lib.vm.Pair(src=binary, dst=binary, accel=lib.accel(binary), mem_mib=128, fill=0.5,
                       workload=WORKLOAD)


def while_memory_is_copied(which, codes):
    """A test: that end is told to end in precopy; both end, in these codes (near, far)."""
    def test():
        with pair() as p, Tunnel(p) as tunnel:
            begin(p, SLOW)
            getattr(tunnel, which).send_signal(signal.SIGTERM)
            wait(lambda: status_of(p.src) == "failed", "the source sees it",
                 told=lambda: p.src.cmd("query-migrate"))
            done = lib.finish(tunnel.near)
            check(done.code == codes[0], f"near: exit {codes[0]}, got {done.code}: {done.err}")
            if which == "far":
                code = tunnel.far.wait(20)
                check(code == codes[1], f"far: exit {codes[1]}, got {code}")
            p.wait_ticking(p.src)
            check(p.running() == ["src"], f"the source's guest alone runs: {p.running()}")
            check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
    return test


def while_the_guest_changes_hosts():
    """
    Both are told to end when the source is done and the tunnel is not: it carries on slowly. Without
    return path the source does not wait for the destination.
    """
    with pair() as p, Tunnel(p, "--rate=8MB/s", "--codec=none", "--cache=0") as tunnel:
        begin(p, 0, return_path=False)
        # Its own estimate knows nothing of the tunnel.
        p.src.cmd("migrate-set-parameters", **{"downtime-limit": 30000})
        wait(lambda: status_of(p.src) == "completed", "the source is done", 90)
        told, since = status_of(p.dst), time.monotonic()
        tunnel.near.send_signal(signal.SIGTERM)
        tunnel.far.send_signal(signal.SIGTERM)
        wait(lambda: status_of(p.dst) == "completed", "it arrives")
        print(f"# {VERSION}: at the signal the destination was \"{told}\", and done "
              f"{time.monotonic() - since:.1f} s later", flush=True)
        check(told == "active", "something was in the tunnel at the signal")
        done = lib.finish(tunnel.near)
        check(done.code == 0, f"near: exit 0, got {done.code}: {done.err}")
        code = tunnel.far.wait(30)
        check(code == 0, f"far: exit 0, got {code}: {tunnel.log.read_text('utf-8')}")
        differing = p.compare_ram()
        check(not differing, f"RAM equal; {len(differing)} pages differ: {differing[:5]}")
        check(p.running() == [], f"nobody runs before cont: {p.running()}")
        p.dst.cmd("cont")
        p.wait_ticking(p.dst)
        check(p.running() == ["dst"], f"one guest runs: {p.running()}")
        check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def beyond(words, *options):
    """A test: the far end cannot connect on; the near end says so, and the guest stays."""
    def test():
        with pair() as p, Tunnel(p, *options) as tunnel:
            p.wait_ticking(p.src)
            p.src.cmd("migrate", uri=f"unix:{p.dir}/source.sock")
            wait(lambda: status_of(p.src) == "failed", "the source sees it")
            done = lib.finish(tunnel.near)
            check(done.code == 3, f"near: exit 3, got {done.code}: {done.err}")
            check("broke off: " in done.err and words in done.err, f"why: {done.err}")
            p.wait_ticking(p.src)
            check(p.running() == ["src"], f"the source's guest alone runs: {p.running()}")
    return test


def main():
    """All of them."""
    done = lib.run("pki", "psk", PKI.name)
    check(done.code == 0, done.err)
    lib.run_tests([
        ("precopy: the far end ends, the guest stays", while_memory_is_copied("far", (3, 0))),
        ("precopy: the near end ends, the guest stays", while_memory_is_copied("near", (4, None))),
        ("nobody listens over there: exit 3, and why", beyond("/destination.sock")),
        ("it may not connect there: exit 3, and why",
         beyond("may not connect to", "--connect=unix:/no/such.sock")),
        ("switchover: both end when the guest is there", while_the_guest_changes_hosts),
    ])


main()
