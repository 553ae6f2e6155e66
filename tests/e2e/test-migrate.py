#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Real guests migrate, with QEMU of one version on both sides: test-migrate.py VERSION.

Every test compares RAM byte for byte and counts the guests that run.
"""
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]
WORKLOAD = {"ws": "32M", "rate": 3000, "pattern": "part", "order": "hot", "content": "text"}


def pair(**options):
    """A pair with a dirtying guest under KVM."""
    qemu = lib.qemu(VERSION)
    defaults = {"src": qemu, "dst": qemu, "accel": lib.accel(qemu), "mem_mib": 256,
                "workload": WORKLOAD}
    return lib.vm.Pair(**{**defaults, **options})


def with_pair(*options, also=None):
    """A test: migrate with @options; @also(report) checks more."""
    def test():
        with pair() as p:
            p.wait_ticking(p.src)
            report = lib.moved_whole(p, *options)
            if also is not None:
                also(report)
    return test


def counts_agree(report):
    """What the proxy saw on the wire is what QEMU says it sent."""
    stats = report["proxy"]["plugins"]["stats"]
    check(stats["complete"] == 1, "the stream was read to its end")
    check(stats["pages"]["zero"] == report["ram"]["pages_zero"],
          f"zero pages: proxy {stats['pages']['zero']}, QEMU {report['ram']['pages_zero']}")
    check(stats["pages"]["normal"] == report["ram"]["pages_normal"],
          f"normal pages: proxy {stats['pages']['normal']}, QEMU {report['ram']['pages_normal']}")
    check(stats["device_bytes"] > 1000, "device state was split")
    check(report["ms"]["downtime"] >= 0 and report["guest"] == "destination", "the report")


def encoded_anew(report):
    """The bytes came from the encoder."""
    check(report["proxy"]["channels"][0]["mode"] == "rewrite", "the channel was rewritten")
    counts_agree(report)


def channels_counted(report):
    """Main and four multifd channels, all with bytes."""
    kinds = [c["kind"] for c in report["proxy"]["channels"] if c["bytes_forward"] > 0]
    check(kinds.count("main") == 1 and kinds.count("multifd") == 4, f"channels: {kinds}")


def xbzrle_seen(report):
    """Deltas travelled."""
    check(report["proxy"]["plugins"]["stats"]["pages"]["xbzrle"] > 0, "some pages are XBZRLE")


def plain_finish():
    """Without --suspend: the source is gone, the guest runs, and its blackout is short."""
    with pair() as p:
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p))
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        p.wait_ticking(p.dst)
        deadline = time.monotonic() + 5
        while p.src.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        check(not p.src.alive(), "the source QEMU has quit")
        check(p.running() == ["dst"], f"one guest runs: {p.running()}")
        check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
        blackout = p.blackout_ms()
        check(0 < blackout < 5000, f"blackout seen from outside: {blackout} ms")
        print(f"# guest's blackout {blackout:.1f} ms, by its ticks; "
              f"{done.report()['ms']['blackout']} ms by qmig; "
              f"{done.report()['ms']['downtime']} ms by QEMU")


def paused_guest_stays_paused():
    """A guest that was paused is not started by its migration."""
    with pair() as p:
        p.wait_ticking(p.src)
        p.src.cmd("stop")
        done = lib.run(*lib.migrate_args(p), "--keep-source")
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check(p.compare_ram() == [], "RAM equal")
        check(p.running() == [], "nobody runs")


def settings_put_back():
    """A kept source has its settings back, and so has the destination."""
    with pair() as p:
        p.wait_ticking(p.src)
        before, there = lib.settings(p.src), lib.settings(p.dst)
        lib.moved_whole(p, "--bandwidth=5Gbit", "--auto-converge", "--downtime=100ms")
        check(lib.settings(p.src) == before, "the source's settings are put back")
        check(lib.settings(p.dst) == there, "the destination's settings are put back")


TCP = ("--migrateuri=tcp:127.0.0.1:0", "--listen=tcp:127.0.0.1:0")
lib.run_tests([
    (f"{VERSION}: through the proxy, RAM equal, counts agree", with_pair(also=counts_agree)),
    (f"{VERSION}: direct, RAM equal", with_pair("--direct")),
    (f"{VERSION}: through decoder and encoder (null), RAM equal",
     with_pair("--plugin=null", also=encoded_anew)),
    (f"{VERSION}: multifd through the proxy, RAM equal",
     with_pair("--parallel-connections=4", also=channels_counted)),
    (f"{VERSION}: tcp through the proxy, RAM equal", with_pair(*TCP, also=counts_agree)),
    (f"{VERSION}: xbzrle through the proxy, RAM equal",
     with_pair("--compressed", "--bandwidth=100MiB/s", "--downtime=20ms", also=xbzrle_seen)),
    (f"{VERSION}: the source quits, one guest runs, blackout is seen", plain_finish),
    (f"{VERSION}: a paused guest arrives paused", paused_guest_stays_paused),
    (f"{VERSION}: settings are put back on both sides", settings_put_back),
])
