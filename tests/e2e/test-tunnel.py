#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Real guests migrate through the tunnel, with one command: test-tunnel.py VERSION [WORD...]; words
select tests. The far end is a `qmig proxy --tunnel` of its own.

After each: RAM equal byte for byte, one guest runs, settings put back on both sides.
"""
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

import lib
from lib import FULL, check, vm

sys.path.insert(0, str(lib.TOP / "tests/lib"))
import events  # noqa: E402  (the contract lives with what all tests share)

VERSION = sys.argv[1]
WORKLOAD = {"ws": "16M", "rate": 2000, "pattern": "part", "order": "hot", "content": "text"}
BUSY_LINK = "100mbit"

PKI = tempfile.TemporaryDirectory(prefix="qmig-tunnel-")
TOP = pathlib.Path(PKI.name)
GOOD, OTHER, PSK = TOP / "good", TOP / "other", TOP / "psk"
CERTIFICATES = (f"--tls-dir={GOOD}",)


def make_pki():
    """The credentials of all tests."""
    for args in (("all", GOOD, "--host", "127.0.0.1", "--host", "far.example"),
                 ("all", OTHER, "--host", "127.0.0.1"), ("psk", PSK)):
        done = lib.run("pki", *map(str, args))
        check(done.code == 0, done.err)


class Far:
    """The far end, while a test runs."""

    def __init__(self, *options, prefix=(), host="127.0.0.1", allow=("unix:*", "tcp:*")):
        if "--tunnel" not in lib.run("proxy", "--help").out:
            raise lib.Skip("this qmig has no `qmig proxy --tunnel`")
        self.process = lib.start("proxy", f"--tunnel=tcp:{host}:0",
                                 *(f"--allow={where}" for where in allow), *options,
                                 prefix=list(prefix))
        self.said = ""
        self.at = self.await_address()

    def await_address(self):
        """HOST:PORT it says it listens on."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            if select.select([self.process.stderr], [], [], 0.2)[0]:
                self.said += os.read(self.process.stderr.fileno(), 4096).decode()
            found = re.search(r"listening on tcp:(\S+)", self.said)
            if found and self.said.endswith("\n"):
                return found[1]
        self.process.kill()
        raise AssertionError(f"the far end does not listen: {self.said}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            self.said += self.process.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def pair(**options):
    """A pair with a dirtying guest."""
    qemu = lib.qemu(VERSION)
    return vm.Pair(**{"src": qemu, "dst": qemu, "accel": lib.accel(qemu), "mem_mib": 96,
                      "workload": WORKLOAD, **options})


def monitor_through(p):
    """The arguments of a migration whose destination's monitor is reached through the tunnel."""
    return ["migrate", f"unix:{p.src.qmp}", f"via:unix:{p.dst.qmp}", "--json",
            "--progress=json"]


def secret(path=GOOD):
    """The near end's options for certificates."""
    return (f"--via-tls-dir={path}",)


def moved(p, far, *options, through=False):
    """Migrate through @far; return the report."""
    usual = lib.migrate_args
    before = lib.settings(p.src), lib.settings(p.dst)
    if through:
        lib.migrate_args = monitor_through
    try:
        report = lib.moved_whole(p, f"--via={far.at}", *options)
    finally:
        lib.migrate_args = usual
    check(lib.settings(p.src) == before[0], "the source's settings are put back")
    check(lib.settings(p.dst) == before[1], "the destination's settings are put back")
    tunnel = report["tunnel"]
    check(tunnel["state"] == "closed" and tunnel["plain_bytes"] > 1 << 20,
          f"it went through the tunnel: {tunnel}")
    check(tunnel["backlog"] == 0, f"nothing is left in it: {tunnel['backlog']} bytes")
    print(f"# {VERSION}: {' '.join(options)}: {report['ms']['migrate']} ms, downtime "
          f"{report['ms']['downtime']} ms, {tunnel['plain_bytes'] >> 20} MiB as "
          f"{tunnel['wire_bytes'] >> 20} MiB", flush=True)
    return report


def through(*options, far=CERTIFICATES, near=None, monitor=False, also=None, **pair_options):
    """A test: migrate with @options; @also(report) checks more."""
    def test():
        with Far(*far) as end, pair(**pair_options) as p:
            p.wait_ticking(p.src)
            report = moved(p, end, *(secret() if near is None else near), *options,
                           through=monitor)
            if also is not None:
                also(report)
    return test


def several_channels(report):
    """Each of multifd's connections is a stream of its own."""
    kinds = [c["kind"] for c in report["proxy"]["channels"] if c["bytes_forward"] > 0]
    check(kinds.count("multifd") == 4, f"channels: {kinds}")


def in_postcopy(report):
    """It was post-copy."""
    check(any(d["what"] == "post-copy" for d in report["decisions"]), "post-copy was decided on")


def bare(report):
    """Nothing was made smaller."""
    tunnel = report["tunnel"]
    check(tunnel["wire_bytes"] >= tunnel["plain_bytes"], f"no codec, no cache: {tunnel}")


def disks_too():
    """NBD goes the same way; both images are equal."""
    with Far(*CERTIFICATES) as far, \
            pair(disks=[vm.Disk("64M")],
                 workload={**WORKLOAD, "disk": "4M", "drate": 200}) as p:
        p.wait_ticking(p.src)
        moved(p, far, *secret(), "--copy-storage-all")
        check(vm.disks.equal(p.src.disks[0], p.dst.disks[0], p.disks[0].format,
                             p.disks[0].format) or p.running() == ["dst"], "the disk went along")


def refused(at, *options, wanted):
    """Exit 2 with @wanted, and nothing is touched: the same pair migrates afterwards."""
    def test():
        with Far(*CERTIFICATES) as far, pair() as p:
            p.wait_ticking(p.src)
            before = lib.settings(p.src), lib.settings(p.dst)
            done = lib.run(*lib.migrate_args(p), f"--via={at or far.at}", *options)
            lib.stayed_whole(p, done, 2, before[0])
            check(lib.settings(p.dst) == before[1], "the destination is as it was")
            check(wanted in done.err, f"it says \"{wanted}\": {done.err}")
            if FULL:
                moved(p, far, *secret())
    return test


def turned_down(code, wanted, allow=None, mistyped=""):
    """The far end will not connect there: both ends say why, and the guest stays."""
    def test():
        with pair() as p:
            p.wait_ticking(p.src)
            before = lib.settings(p.src)
            args = monitor_through(p)
            args[2] += mistyped
            allowed = (allow or "unix:*").replace("MONITOR", str(p.dst.qmp))
            with Far(*CERTIFICATES, allow=(allowed,)) as far:
                done = lib.run(*args, f"--via={far.at}", *secret(), timeout=60)
            lib.stayed_whole(p, done, code, before)
            check(re.search(f"; tunnel: {wanted}", done.err), f"it says \"{wanted}\": {done.err}")
            check(re.search(f"refused \\w+ of .*: {wanted}", far.said),
                  f"so does the far end: {far.said}")
    return test


def tunnel_states(process, state):
    """Read events until the tunnel is so."""
    lib.interrupt_when(process, lambda e: e.get("event") == "tunnel" and e["state"] == state)


def darkness():
    """The far end stands still for some seconds: both QEMUs see a pause."""
    with Far(*CERTIFICATES) as far, pair() as p:
        p.wait_ticking(p.src)
        process = lib.start(*monitor_through(p), f"--via={far.at}", *secret(),
                            "--via-bandwidth=8MiB/s")
        lib.interrupt_when(process, lambda e: e.get("event") == "progress" and
                           e["transferred"] > 4 << 20)
        far.process.send_signal(signal.SIGSTOP)
        tunnel_states(process, "dark")
        time.sleep(6)
        far.process.send_signal(signal.SIGCONT)
        tunnel_states(process, "up")
        done = lib.finish(process, timeout=90)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        p.wait_ticking(p.dst)
        check(p.running() == ["dst"], f"one guest runs: {p.running()}")
        check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
        dark = done.report()["tunnel"]["dark_ms"]
        check(5000 < dark < 30000, f"it was dark for {dark} ms")


def told_to_people():
    """The two lines of a terminal say why nothing moves."""
    with Far(*CERTIFICATES) as far, pair() as p:
        p.wait_ticking(p.src)
        timers = [threading.Timer(at, far.process.send_signal, (number,))
                  for at, number in ((2, signal.SIGSTOP), (10, signal.SIGCONT))]
        for timer in timers:
            timer.start()
        try:
            done = lib.run(*monitor_through(p), f"--via={far.at}", *secret(), "--bandwidth=6MiB/s",
                           "--progress=tty", timeout=90)
        finally:
            for timer in timers:
                timer.cancel()
                timer.join()
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check("link down for 2" in done.err, f"it says so: {done.err}")
        check(p.running() == ["dst"], f"one guest runs: {p.running()}")
        check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def given_up():
    """Dark for longer than --via-deadline: exit 5, and the guest is on the source."""
    with Far(*CERTIFICATES) as far, pair() as p:
        p.wait_ticking(p.src)
        before = lib.settings(p.src)
        process = lib.start(*monitor_through(p), f"--via={far.at}", *secret(),
                            "--via-bandwidth=8MiB/s", "--via-deadline=3s")
        text = lib.interrupt_when(process, lambda e: e.get("event") == "progress" and
                                  e["transferred"] > 4 << 20)
        far.process.send_signal(signal.SIGSTOP)
        done = lib.finish(process, timeout=90)
        told = [json.loads(line) for line in (text + done.err).splitlines()
                if line.startswith("{")]
        wrong = [problem for event in told for problem in events.problems_of_event(event)]
        check(not wrong, f"as docs/events.md says: {wrong}")
        check([e["state"] for e in told if e["event"] == "tunnel"] == ["dark", "failed"],
              "that the tunnel was dark, and given up, is told")
        lib.stayed_whole(p, done, 5, before)
        check(done.report()["tunnel"]["state"] == "failed", "the tunnel had been given up")


def too_fast(p):
    """Wait until the guest outruns the link; Skip where the machine does not let it."""
    p.wait_ticking(p.src, timeout=90)
    wanted = p.link.rate_bps / 8 / 4096
    deadline = time.monotonic() + 20
    while p.src.ticks.dirty_rate() < wanted * 1.2:
        if time.monotonic() > deadline:
            raise lib.Skip(f"the guest dirties {p.src.ticks.dirty_rate():.0f} pages/s here, the "
                           f"link carries {wanted:.0f}: it is not too busy for it")
        time.sleep(0.5)


def busy():
    """It rewrites little in each of many pages: more than the link carries, but not through this."""
    reason = vm.Link.why_not()
    if reason:
        raise lib.Skip(reason)
    qemu = lib.qemu(VERSION)
    workload = {"ws": "24M", "rate": 80000, "pattern": "touch"}
    with vm.Link(BUSY_LINK) as link, \
            vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=64, link=link,
                    workload=workload) as p:
        too_fast(p)
        alone = lib.run(*lib.migrate_args(p), f"--migrateuri=tcp:{link.dst_addr}:4711",
                        "--timeout=12s", prefix=link.exec_prefix, timeout=60)
        lib.stayed_whole(p, alone, 5)
    with vm.Link(BUSY_LINK) as link, \
            Far(f"--tls-dir={GOOD}", prefix=link.dst_exec_prefix, host=link.dst_addr) as far, \
            vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=64, link=link,
                    workload=workload) as p:
        too_fast(p)
        done = lib.run(*lib.migrate_args(p), f"--via={far.at}", *secret(),
                       "--via-tls-destination=far.example", "--timeout=60s",
                       prefix=link.exec_prefix, timeout=120)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err[-3000:]}")
        p.wait_ticking(p.dst)
        time.sleep(1)
        check(p.running() == ["dst"], f"one guest runs: {p.running()}")
        check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
        report = done.report()
        print(f"# {VERSION}: {BUSY_LINK}: {report['ms']['migrate']} ms, blackout "
              f"{p.blackout_ms():.0f} ms; {json.dumps(report['tunnel']['held_ms'])} ms held",
              flush=True)
        check(p.blackout_ms() < 3000, f"the backlog was waited for: {p.blackout_ms():.0f} ms")


INSECURE = ("--insecure",)
# So slow that precopy does not end before somebody has looked.
POSTCOPY = ("--postcopy-after-precopy", "--bandwidth=20MiB/s", "--downtime=1ms")
TESTS = [
    ("over TLS, RAM equal", through()),
    ("in the clear, the monitor through it, RAM equal",
     through(far=INSECURE, near=("--via-insecure",), monitor=True)),
    ("multifd, RAM equal", through("--parallel-connections=4", also=several_channels)),
    ("multifd zstd, RAM equal", through("--parallel", "--comp-methods=zstd")),
    ("xbzrle, RAM equal", through("--compressed", "--downtime=50ms")),
    ("post-copy, the monitor through it, RAM equal",
     through(*POSTCOPY, monitor=True, also=in_postcopy)),
    ("post-copy with preempt, RAM equal",
     through(*POSTCOPY, "--postcopy-preempt", also=in_postcopy)),
    ("its disks too", disks_too),
    ("by a pre-shared key, no codec, no cache, four connections",
     through("--via-compression=none", "--via-cache=0", "--via-connections=4",
             far=(f"--tls-dir={PSK}", "--tls-psk"),
             near=(f"--via-tls-dir={PSK}", "--via-tls-psk", "--via-tls-user=qemu"), also=bare)),
    ("nobody there is told before anything is touched",
     refused("127.0.0.1:9", *secret(), wanted="qmig proxy --tunnel")),
    ("a stranger's certificate is told before anything is touched",
     refused(None, *secret(OTHER), wanted="tunnel:")),
    ("another name is told before anything is touched",
     refused(None, *secret(), "--via-tls-destination=near.example", wanted="near.example")),
    ("a monitor that is not allowed is told",
     turned_down(2, "the far end may not connect to unix:", allow="unix:/elsewhere/*")),
    ("a monitor that is not there is told",
     turned_down(2, "unix:.*: No such file", mistyped=".not")),
    ("a socket of the migration's that is not allowed is told",
     turned_down(3, "the far end may not connect to unix:", allow="unix:MONITOR")),
    ("dark for seconds, and it goes on", darkness),
    ("dark, as a terminal shows it", told_to_people),
    ("dark for too long: exit 5", given_up),
    ("a guest too busy for its link", busy),
]
LONG = [
    ("multifd zlib, RAM equal", through("--parallel", "--comp-methods=zlib")),
    ("direct, RAM equal", through("--direct")),
    ("direct multifd, the monitor through it, RAM equal",
     through("--direct", "--parallel", monitor=True)),
    ("QEMU's own TLS inside, RAM equal",
     through("--tls", f"--tls-dir={GOOD}", "--tls-destination=far.example")),
    ("zstd of level 9, RAM equal", through("--via-compression=zstd:9")),
    ("lz4, RAM equal", through("--via-compression=lz4")),
    ("the plugin xbzrle before it, RAM equal", through("--plugin=xbzrle")),
]

make_pki()
chosen = [(f"{VERSION}: {name}", test) for name, test in TESTS + (LONG if FULL else [])
          if not sys.argv[2:] or any(word in name for word in sys.argv[2:])]
lib.run_tests(chosen)
