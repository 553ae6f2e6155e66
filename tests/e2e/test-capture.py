#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Real migrations are recorded by `qmig proxy --record`, or its plugin `record`, and replayed into a fresh QEMU of the same
version: test-capture.py VERSION. Both times the memory that arrives is the source's, byte for
byte, and never does more than one guest run.
"""
import json
import os
import pathlib
import shutil
import sys
import time

import lib
from lib import check

VERSION = sys.argv[1]
WORKLOAD = {"ws": "16M", "rate": 3000, "pattern": "part", "order": "hot", "content": "text"}


def pair(**options):
    """A pair with a dirtying guest under KVM."""
    qemu = lib.qemu(VERSION)
    defaults = {"src": qemu, "accel": lib.accel(qemu), "mem_mib": 128, "workload": WORKLOAD}
    return lib.vm.Pair(**{**defaults, **options})


def prepare(side, capabilities, parameters):
    """What both sides, or one of them, are told before a migration."""
    side.cmd("migrate-set-capabilities",
             capabilities=[{"capability": c, "state": True} for c in capabilities])
    if parameters:
        side.cmd("migrate-set-parameters", **parameters)


def listen(p, capabilities, parameters):
    """The destination waits. Return: its address."""
    address = f"unix:{p.dir}/destination.sock"
    prepare(p.dst, capabilities, parameters)
    p.dst.cmd("migrate-incoming", uri=address)
    return address


def wait_status(side, wanted, what, timeout=60):
    """Until query-migrate of @side says @wanted."""
    deadline = time.monotonic() + timeout
    info = {}
    while time.monotonic() < deadline:
        info = side.cmd("query-migrate")
        if info.get("status") == wanted:
            return
        check(info.get("status") not in ("failed", "cancelled"), f"{what}: {info}")
        time.sleep(0.01)
    raise AssertionError(f"{what}: {wanted} within {timeout} s: {info}")


def start_postcopy(side):
    """Once some memory has gone over."""
    deadline = time.monotonic() + 30
    while side.cmd("query-migrate").get("ram", {}).get("transferred", 0) < 4 << 20:
        check(time.monotonic() < deadline, "precopy gets under way")
        time.sleep(0.01)
    side.cmd("migrate-start-postcopy")


def proxy_between(address, destination, capture, plugin=False):
    """Start a proxy that records."""
    how = [f"--plugin=record:directory={capture}"] if plugin else ["--record", capture]
    proxy = lib.start("proxy", "--listen", address, "--connect", destination, *how, "--json")
    check("listening" in proxy.stderr.readline(), "the proxy listens")
    return proxy


def record(p, capabilities, parameters, return_path=True, plugin=False):
    """Migrate through a recording proxy. Return: the capture, the proxy's report."""
    capture, address = f"{lib.SCRATCH.name}/capture", f"unix:{p.dir}/proxy.sock"
    shutil.rmtree(capture, ignore_errors=True)
    postcopy = "postcopy-ram" in capabilities
    destination = listen(p, capabilities, parameters)
    prepare(p.src, [*capabilities, *(["return-path"] if return_path else [])],
            {**parameters, "max-bandwidth": (20 << 20) if postcopy else 0})
    proxy = proxy_between(address, destination, capture, plugin)
    p.src.cmd("migrate", uri=address)
    if postcopy:
        start_postcopy(p.src)
    wait_status(p.src, "completed", "source")
    done = lib.finish(proxy)
    check(done.code == 0, f"proxy: exit 0, got {done.code}: {done.err}")
    wait_status(p.dst, "completed", "destination")
    return capture, done.report()


def whole(p, what):
    """The destination's memory is the source's; nobody runs."""
    differing = p.compare_ram()
    check(not differing, f"{what}: RAM equal; {len(differing)} pages differ: {differing[:5]}")
    check(p.running() == [], f"{what}: nobody runs: {p.running()}")


def recorded_exactly(capture, report, kinds):
    """Files are as long as what was forwarded; the timeline accounts for every byte."""
    channels = report["channels"]
    check(sorted(c["kind"] for c in channels) == sorted(kinds), f"channels: {channels}")
    check(report["notices"] == [], f"no notices: {report['notices']}")
    with open(f"{capture}/timeline.jsonl", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file][1:]
    for number, channel in enumerate(channels):
        for way in ("forward", "reverse"):
            path = f"{capture}/{number}-{channel['kind']}.{way}"
            size = os.path.getsize(path) if os.path.exists(path) else 0
            told = sum(line.get(way, 0) for line in lines if line["channel"] == number)
            check(size == channel[f"bytes_{way}"] == told,
                  f"{path}: {size} bytes, timeline {told}, forwarded {channel}")


def replay(p, source, capabilities, parameters, *options, **more):
    """Replay @source into a fresh destination. Return: the report."""
    p.new_destination()
    address = listen(p, capabilities, parameters)
    done = lib.run("stream", "replay", source, "--to", address, "--json", *options, **more)
    check(done.code == 0, f"replay: exit 0, got {done.code}: {done.err} {done.out} "
                          f"{p.dst.stderr_text()}")
    wait_status(p.dst, "completed", "replayed destination")
    return done.report()


def runs_alone(p):
    """The replayed guest can be continued, and has seen no corruption."""
    p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    check(p.running() == ["dst"], f"one guest runs: {p.running()}")
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def both_ways(kinds, capabilities=(), parameters=None, machine=None, plugin=False):
    """A test: record, replay as fast as possible, replay at the recorded times."""
    def test():
        options = {"machine": machine} if machine else {}
        with pair(**options) as p:
            p.wait_ticking(p.src)
            capture, report = record(p, capabilities, parameters or {}, plugin=plugin)
            whole(p, "migrated")
            recorded_exactly(capture, report, kinds)
            slow = replay(p, capture, capabilities, parameters or {}, "--timing")
            whole(p, "replayed with timing")
            fast = replay(p, capture, capabilities, parameters or {})
            whole(p, "replayed")
            for again in (fast, slow):
                check(again["loaded"] is True and again["return_path"]["shut"] == 0
                      and again["recorded"]["shut"] == 0, f"the verdict: {again}")
                check(again["return_path"]["pongs"] == again["recorded"]["pongs"],
                      f"as many answers as recorded: {again}")
                check([c["bytes_forward"] for c in again["channels"]]
                      == [c["bytes_forward"] for c in report["channels"]], f"bytes: {again}")
            print(f"# {fast['bytes_forward'] >> 20} MiB: replayed in {fast['ms']['total']} ms, "
                  f"with timing {slow['ms']['total']} ms")
            runs_alone(p)
    return test


def no_return_path():
    """Nobody says whether the guest is loaded; it is."""
    with pair() as p:
        p.wait_ticking(p.src)
        capture, report = record(p, [], {}, return_path=False)
        whole(p, "migrated")
        recorded_exactly(capture, report, ["main"])
        again = replay(p, capture, [], {})
        check(again["loaded"] is None, f"no verdict: {again}")
        whole(p, "replayed")
        runs_alone(p)


def single_streams():
    """The main channel alone, as a file and from a pipe; a cut one is refused by QEMU."""
    with pair() as p:
        p.wait_ticking(p.src)
        capture, _ = record(p, [], {})
        whole(p, "migrated")
        stream = f"{capture}/0-main.forward"
        check(replay(p, stream, [], {})["loaded"] is True, "loaded from a file")
        whole(p, "from a file")
        p.new_destination()
        address = listen(p, [], {})
        with open(stream, "rb") as data:
            done = lib.run("stream", "replay", "-", "--to", address, "--json", stdin=data)
        check(done.code == 0 and done.report()["loaded"] is True, f"from a pipe: {done.err}")
        wait_status(p.dst, "completed", "destination")
        whole(p, "from a pipe")
        os.truncate(stream, os.path.getsize(stream) // 2)
        p.new_destination()
        done = lib.run("stream", "replay", capture, "--to", listen(p, [], {}), "--json")
        check(done.code == 3, f"a cut capture: exit 3, got {done.code}: {done.err}")
        check("was cut" in done.report()["notices"][0], f"it is told: {done.out}")
        check(p.running() == [], "nobody runs")


def migrate_records():
    """qmig migrate --record: the same, in one command."""
    with pair() as p:
        p.wait_ticking(p.src)
        capture = f"{lib.SCRATCH.name}/migrate-capture"
        done = lib.run(*lib.migrate_args(p), "--suspend", "--keep-source", "--record", capture)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        whole(p, "migrated")
        recorded_exactly(capture, done.report()["proxy"], ["main"])
        check(replay(p, capture, [], {})["loaded"] is True, "replayed")
        whole(p, "replayed")
        p.new_destination()
        done = lib.run(*lib.migrate_args(p), "--record", capture)
        check(done.code == 2 and "empty directory" in done.err + done.out,
              f"a directory in use is refused before: {done.code} {done.err}")


def recovery():
    """A postcopy migration whose link breaks goes on through a second proxy; both are recorded."""
    with pair(workload={**WORKLOAD, "ws": "64M"}) as p:
        p.wait_ticking(p.src)
        captures = [f"{p.dir}/capture{n}" for n in (1, 2)]
        addresses = [(f"unix:{p.dir}/proxy{n}.sock", f"unix:{p.dir}/destination{n}.sock")
                     for n in (1, 2)]
        prepare(p.dst, ["postcopy-ram"], {})
        prepare(p.src, ["postcopy-ram"], {"max-bandwidth": 20 << 20,
                                          "max-postcopy-bandwidth": 4 << 20})
        p.dst.cmd("migrate-incoming", uri=addresses[0][1])
        proxy = proxy_between(*addresses[0], captures[0])
        p.src.cmd("migrate", uri=addresses[0][0])
        start_postcopy(p.src)
        wait_status(p.src, "postcopy-active", "source")
        time.sleep(0.5)
        proxy.terminate()
        check(lib.finish(proxy).code == 4, "the first proxy ends by a signal")
        wait_status(p.src, "postcopy-paused", "source")
        wait_status(p.dst, "postcopy-paused", "destination")
        p.dst.cmd("migrate-recover", uri=addresses[1][1])
        proxy = proxy_between(*addresses[1], captures[1])
        p.src.cmd("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
        p.src.cmd("migrate", uri=addresses[1][0], resume=True)
        wait_status(p.src, "completed", "source")
        done = lib.finish(proxy)
        check(done.code == 0, f"second proxy: exit 0, got {done.code}: {done.err}")
        wait_status(p.dst, "completed", "destination")
        whole(p, "recovered")
        for capture, kind, first in ((captures[0], "main", b"QEVM"),
                                     (captures[1], "recovery", b"\x08")):
            stream = pathlib.Path(f"{capture}/0-{kind}.forward")
            check(stream.read_bytes().startswith(first), f"{stream} begins with {first}")
        sent = done.report()["channels"][0]
        check(stream.stat().st_size == sent["bytes_forward"], f"all of the recovery: {sent}")
        runs_alone(p)


MULTIFD = {"multifd-channels": 2}
TESTS = [
    (f"{VERSION}: plain, recorded and replayed", both_ways(["main"])),
    (f"{VERSION}: multifd, recorded by the plugin and replayed",
     both_ways(["main", "multifd", "multifd"], ["multifd"], MULTIFD, plugin=True)),
    (f"{VERSION}: postcopy, recorded and replayed", both_ways(["main"], ["postcopy-ram"])),
    (f"{VERSION}: postcopy with preempt channel, recorded and replayed",
     both_ways(["main", "preempt"], ["postcopy-ram", "postcopy-preempt"])),
    (f"{VERSION}: without return path", no_return_path),
    (f"{VERSION}: files, pipes, and what was cut", single_streams),
    (f"{VERSION}: qmig migrate --record", migrate_records),
    (f"{VERSION}: a recovery, recorded by a second proxy", recovery),
]
if VERSION != "7.2":
    # Machines of today open the preempt channel late.
    TESTS.append((f"{VERSION}: preempt channel opened late, recorded and replayed",
                  both_ways(["main", "preempt"], ["postcopy-ram", "postcopy-preempt"],
                            machine=f"pc-i440fx-{VERSION}")))
lib.run_tests(TESTS)
