#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A guest that dirties memory faster than its link carries it away: test-busy.py VERSION. What gets
it through, and what that costs it: the longest silence between its ticks.
"""
import json
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]
LINK = "1gbit"
HOT_MIB = 100
RATE = 80000            # pages a second: 312 MiB/s
PORT = 4711


def busy_pair(link):
    """It touches every page of its hot set several times a second."""
    binary = lib.qemu(VERSION)
    return lib.vm.Pair(src=binary, dst=binary, accel=lib.accel(binary), mem_mib=256, fill=0.5,
                       link=link, workload={"ws": f"{HOT_MIB}M", "rate": RATE,
                                            "pattern": "touch"})


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
    return p.src.ticks.dirty_rate()


def longest(gaps):
    """The length of the longest gap, in ms."""
    return max((length for _, length in gaps), default=0.0)


def costs(p, begin_ns, what):
    """Say what it cost the guest."""
    before = longest(p.src.ticks.gaps(1, begin_ns - 2_000_000_000))
    there = longest(p.dst.ticks.gaps(1, p.dst.ticks.first_ns))
    print(f"# {VERSION}: {what}: the guest's longest silence: {before:.0f} ms on the source, "
          f"{p.blackout_ms():.0f} ms between, {there:.0f} ms on the destination", flush=True)


def over_link(p, *options, timeout=120):
    """qmig migrate on the source's host, through the link."""
    return lib.run(*lib.migrate_args(p), f"--migrateuri=tcp:{p.link.dst_addr}:{PORT}", *options,
                   prefix=p.link.exec_prefix, timeout=timeout)


def on_a_link(test):
    """A test of a busy pair with a link of its own."""
    def run():
        reason = lib.vm.Link.why_not()
        if reason:
            raise lib.Skip(reason)
        with lib.vm.Link(LINK) as link, busy_pair(link) as p:
            rate = too_fast(p)
            print(f"# {VERSION}: it dirties {rate * 4096 / 2**20:.0f} MiB/s of {HOT_MIB} MiB; "
                  f"the link carries {link.rate_bps / 8 / 2**20:.0f} MiB/s", flush=True)
            test(p)
    return run


def dirtied(done):
    """What QEMU measured while it migrated, pages a second, and all events but progress."""
    rates, text = [], []
    for line in done.err.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            event = {}
        if event.get("event") == "iteration":
            rates.append(event["dirty_rate"] / 4096)
        elif event.get("event") != "progress":
            text.append(line)
    return rates, "\n".join(text)


def arrived(p, done):
    """It runs there and nowhere else, and has seen nothing wrong."""
    check(done.code == 0, f"exit 0, got {done.code}: {dirtied(done)[1]}")
    p.wait_ticking(p.dst)
    time.sleep(2)       # its background walk sees a good part of its memory
    check(p.running() == ["dst"], f"the destination alone runs it: {p.running()}")
    check(p.guest_errors() == [], f"the guest sees no corruption: {p.guest_errors()[:5]}")


@on_a_link
def precopy_alone(p):
    """It never ends: else the tests below would prove nothing."""
    done = over_link(p, "--timeout=8s")
    rates, text = dirtied(done)
    if done.code == 0 and min(rates[1:], default=0) < p.link.rate_bps / 8 / 4096:
        raise lib.Skip(f"while it migrated the machine let the guest dirty only "
                       f"{min(rates[1:], default=0):.0f} pages/s, which fits through")
    check(done.code == 5, f"exit 5, got {done.code}; dirtied {rates} pages/s: {text}")
    lib.stayed_whole(p, done, 5)
    check("--timeout" in done.err, done.err)


@on_a_link
def timeout_postcopy(p):
    """Precopy has its time, then the guest goes over and its memory follows."""
    begin = time.monotonic_ns()
    done = over_link(p, "--postcopy", "--timeout=4s", "--timeout-postcopy")
    arrived(p, done)
    check('"what":"post-copy"' in done.err, "post-copy was decided on")
    costs(p, begin, "--timeout-postcopy")


@on_a_link
def auto_converge(p):
    """QEMU slows the guest down until its memory fits through."""
    begin = time.monotonic_ns()
    done = over_link(p, "--auto-converge", "--set=cpu-throttle-initial=40",
                     "--set=cpu-throttle-increment=20", "--timeout=60s")
    if done.code == 5:
        lib.stayed_whole(p, done, 5)
        raise lib.Skip("QEMU's throttle does not slow this guest enough on this machine: still "
                       "too fast after 60 s at its most")
    arrived(p, done)
    costs(p, begin, "--auto-converge")


lib.run_tests([
    (f"{VERSION}: precopy alone does not end", precopy_alone),
    (f"{VERSION}: --timeout-postcopy gets it through", timeout_postcopy),
    (f"{VERSION}: --auto-converge gets it through", auto_converge),
])
