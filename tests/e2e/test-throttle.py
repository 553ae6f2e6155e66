#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The plugin throttle on real migrations: test-throttle.py VERSION [WORD…]; words select tests. The
limit is kept over every second, by all channels together, and can be changed on the way; the guest
arrives whole.

What is measured is what the interface towards the destination sends. Nothing may go too fast,
whatever else the machine does. That it goes as fast as was said takes a machine that lets qmig
run: such a measurement is repeated.
"""
import os
import signal
import sys
import time

import lib
import rates
from lib import check

VERSION = sys.argv[1]
PORT = 4711
MARGIN = 0.03
HEADS = 0.003           # TCP's and IP's, with segments of up to 64 KiB; acknowledgements
TRIES = 3
# As given, and in bytes per second.
FIRST, SECOND = ("50MB/s", 50e6), ("640Mbit", 80e6)
FIRST_S = 2.5
SETTLE_NS = 300_000_000     # a change takes effect within a tenth of a second


def pair(link):
    """Of 384 MiB, most of it filled: seven seconds at these rates."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=384, fill=0.9,
                       link=link, workload={"ws": "16M", "rate": 1000})


def migrate(p, sampler, *options):
    """With one limit, and after some seconds another. Return: when it was changed, ns."""
    target = f"unix:{p.src.qmp}"
    process = lib.start(*lib.migrate_args(p), f"--migrateuri=tcp:{p.link.dst_addr}:{PORT}",
                        f"--plugin=throttle:rate={FIRST[0]}", "--suspend", "--keep-source",
                        *options, prefix=p.link.exec_prefix)
    try:
        sampler.wait_for(10_000_000)
        begin = time.monotonic_ns()
        time.sleep(FIRST_S)
        change = time.monotonic_ns()
        done = lib.run("set", target, f"throttle={SECOND[0]}")
        check(done.code == 0, f"qmig set: {done.err}")
        settled = time.monotonic_ns() + SETTLE_NS
        refused = lib.run("set", target, "throttle=fast")
        check(refused.code == 1 and "rate=fast" in refused.err, f"refused: {refused.err}")
    finally:
        done = lib.finish(process, timeout=90)
    check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
    return done, begin, change, settled


def judge(samples, rate, what):
    """Never faster. Return: as fast as was said."""
    limit = rate * (1 + MARGIN + HEADS)
    fastest, whole = rates.fastest(samples), rates.whole(samples)
    print(f"# {VERSION}: {what}: set {rate / 1e6:.0f} MB/s, whole {whole / 1e6:.2f}, fastest "
          f"second {fastest / 1e6:.2f}, of {len(rates.windows(samples))}", flush=True)
    check(rates.windows(samples), "it took long enough to be measured")
    check(fastest <= limit, f"{what}: {fastest / 1e6:.2f} MB/s in a second, set {rate / 1e6}")
    return whole >= rate * (1 - MARGIN)


def last_bulk(samples):
    """When the last large piece had gone: what follows is the end of a migration, ns."""
    end = samples[0][2]
    for before, after in zip(samples, samples[1:]):
        if after[1] - before[1] > 100_000:
            end = before[2]
    return end


def arrived(p):
    """All memory equal, one guest, which has seen nothing wrong."""
    differing = p.compare_ram()
    check(not differing, f"RAM equal byte for byte; {len(differing)} pages differ")
    check(p.running() == [], "nobody runs before cont")
    p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    check(p.running() == ["dst"], f"the destination's guest alone runs: {p.running()}")
    check(p.guest_errors() == [], f"the guest sees no corruption: {p.guest_errors()}")


def once(*options):
    """One migration. Return: it was as fast as was said, in both parts."""
    with lib.vm.Link(rate=None) as link, pair(link) as p:
        p.wait_ticking(p.src)
        with rates.Sampler(link.exec_prefix) as sampler:
            done, begin, change, settled = migrate(p, sampler, *options)
        arrived(p)
        report = done.report()["proxy"]["plugins"]["throttle"]
        check(report["rate"] == SECOND[1] and report["changes"] == 1, f"{report}")
        sent = sum(c["bytes_forward"] for c in done.report()["proxy"]["channels"])
        check(report["bytes"] == sent, f"all was counted: {report['bytes']} of {sent}")
        first = rates.between(sampler.samples, begin, change)
        second = rates.between(sampler.samples, settled, last_bulk(sampler.samples))
        kept = [judge(first, FIRST[1], "first"), judge(second, SECOND[1], "changed")]
        return all(kept)


def limited(*options):
    """Until the machine lets it run as fast as it may."""
    def run():
        reason = lib.vm.Link.why_not()
        if reason:
            raise lib.Skip(reason)
        for _ in range(TRIES):
            if once(*options):
                return
        load = os.getloadavg()[0]
        check(load > os.cpu_count(), f"the rate is reached; nothing else keeps this machine busy "
                                     f"(load {load:.1f})")
        print(f"# {VERSION}: the machine is too busy (load {load:.1f}) to reach the rate",
              flush=True)
    return run


def in_postcopy():
    """Pages that are asked for have a channel of their own, and the limit is for that, too."""
    qemu = lib.qemu(VERSION)
    with lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=256, fill=0.6,
                     workload={"ws": "64M", "rate": "max"}) as p:
        p.wait_ticking(p.src)
        done = lib.moved_whole(p, "--plugin=throttle:rate=40MB/s", "--timeout=1s",
                               "--timeout-postcopy", "--postcopy-preempt", "--downtime=5ms")
        channels = {c["kind"]: c["bytes_forward"] for c in done["proxy"]["channels"]}
        check(channels.get("preempt", 0) > 0, f"it was used: {channels}")
        check(done["proxy"]["plugins"]["throttle"]["bytes"] == sum(channels.values()),
              f"all was counted: {done['proxy']}")


def reload_limits(proxy, path, text):
    """Write the file of limits, tell the proxy. Return: what it says."""
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    proxy.send_signal(signal.SIGHUP)
    return proxy.stderr.readline()


def wait_completed(side, timeout=60):
    """Until its migration is."""
    deadline = time.monotonic() + timeout
    while (status := side.cmd("query-migrate")["status"]) != "completed":
        check(status != "failed" and time.monotonic() < deadline, f"{side}: {status}")
        time.sleep(0.05)


def reloaded():
    """A proxy alone: SIGHUP changes its limit, a bad file does not, the session goes on."""
    with pair(None) as p:
        p.wait_ticking(p.src)
        limits, there = f"{p.dir}/limits", f"unix:{p.dir}/in.sock"
        with open(limits, "w", encoding="ascii") as file:
            file.write("throttle.rate = 10MB\n")
        p.dst.cmd("migrate-incoming", uri=there)
        proxy = lib.start("proxy", f"--listen=unix:{p.dir}/proxy.sock", f"--connect={there}",
                          "--plugin=throttle", f"--limits={limits}", "--json")
        check("listening" in proxy.stderr.readline(), "the proxy listens")
        p.src.cmd("migrate-set-capabilities",
                  capabilities=[{"capability": "return-path", "state": True}])
        p.src.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
        p.src.cmd("migrate", uri=f"unix:{p.dir}/proxy.sock")
        time.sleep(2)
        said = reload_limits(proxy, limits, "throttle.rate = fast\n")
        check("the old limits stay" in said, said)
        time.sleep(1)
        info = p.src.cmd("query-migrate")
        check(info["status"] == "active" and info["ram"]["transferred"] < 10e6 * 8, f"{info}")
        said = reload_limits(proxy, limits, "throttle.rate = none\n")
        check(said == "limits read anew: 1\n", said)
        wait_completed(p.src)
        done = lib.finish(proxy)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check(done.report()["plugins"]["throttle"]["changes"] == 2, done.out)
        wait_completed(p.dst)
        arrived(p)


TESTS = [
    (f"{VERSION}: plain: no second above the limit, changed on the way, RAM equal", limited()),
    (f"{VERSION}: four multifd channels share the limit",
     limited("--parallel", "--parallel-connections=4")),
    (f"{VERSION}: a proxy alone reads its limits again on SIGHUP", reloaded),
    (f"{VERSION}: post-copy, with a channel for what is asked for: RAM equal", in_postcopy),
]
WORDS = sys.argv[2:]
lib.run_tests([t for t in TESTS if not WORDS or any(w in t[0] for w in WORDS)])
