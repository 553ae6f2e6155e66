#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What selftest.py leaves open: every QEMU version, prefilled memory, the exactness of the
blackout, the Linux guest, and that nothing stays however a launcher ends. Prints TAP.

    selftest-launcher.py [WORD…]   only the points whose names contain one of the words
"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zlib

import vm
from vmkit import cleanup

BASE = 16 << 20     # of the working set, DEFAULT_BASE of guest/layout.h


class Skip(Exception):
    """The machine lacks something; the text says what."""


def check(condition, claim):
    if not condition:
        raise AssertionError(claim)


def note(text):
    print(f"# {text}", flush=True)


def any_qemu(version=None):
    """That QEMU, or the oldest, with the accelerator that works here."""
    found = vm.find_qemus()
    if version is None:
        version = next(iter(found), None)
    if version not in found:
        raise Skip(f"QEMU {version or ''} is not here (./dev qemu fetches it)")
    return found[version]


def accel(qemu):
    return "kvm" if vm.kvm_works(qemu) else "tcg"


def small_pair(qemu=None, **options):
    qemu = qemu or any_qemu()
    options = {"mem_mib": 128, "accel": accel(qemu), "workload": {"ws": "8M", "rate": 500},
               **options}
    return vm.Pair(qemu, **options)


def begin(pair):
    """Wait until the guest is through with filling its memory."""
    pair.wait_ticking("src")
    check(pair.src.ticks.wait(lambda log: log.status, 20), "a T line comes")


# ---- the guest ---------------------------------------------------------------------------------

def plant(side, page, offset):
    """Change a byte of the working set behind the guest's back."""
    with open(side.ram_path, "r+b", buffering=0) as memory:
        at = BASE + page * 4096 + offset
        byte = os.pread(memory.fileno(), 1, at)
        os.pwrite(memory.fileno(), bytes([byte[0] ^ 0x40]), at)


def every_body():
    """Pages of every residue: a walk that leaves some out would pass a test of one page."""
    planted = [776, 777, 778, 779]
    with small_pair(workload={"ws": "4M", "rate": 0}) as p:
        begin(p)
        for page in planted:
            plant(p.src, page, 2000)
        start = time.monotonic()
        found = p.src.ticks.wait(lambda log: len(log.corrupt) == len(planted), 40)
        note(f"after {(time.monotonic() - start) * 1000:.0f} ms: {p.guest_errors()}")
        check(found, f"all of pages {planted} are reported")


def prefill():
    """Real content put below the guest is there when it runs, and none of it is the guest's."""
    with small_pair(fill=0.5) as p:
        begin(p)
        start = BASE + (8 << 20)
        with open(p.src.ram_path, "rb") as memory:
            memory.seek(start)
            data = memory.read()
        used = sum(1 for at in range(0, len(data), 4096) if data.count(0, at, at + 4096) < 4096)
        part = used * 4096 / len(data)
        note(f"{part:.0%} of the pages beyond the working set are not zero")
        check(0.3 < part < 0.6, f"half is filled, {part:.0%} seen")
        check(p.guest_errors() == [], "the guest does not mind")


def pages_of(path, start):
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read()
    return [data[at:at + 4096] for at in range(0, len(data), 4096)]


def contents():
    """Each kind of content is what it is called, and the same every time."""
    start, size = 1 << 20, 33 << 20
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        one, two = os.path.join(folder, "one"), os.path.join(folder, "two")
        for kind in ("files", "text", "random", "used"):
            vm.template(one, size, start, kind)
            vm.template(two, size, start, kind)
            pages = pages_of(one, start)
            check(pages == pages_of(two, start), f"{kind}: the same twice")
            check(not any(map(any, pages_of(one, 0)[:start >> 12])), f"{kind}: zero before")
            n = len(pages)
            zero = sum(not any(page) for page in pages) / n
            twice = 1 - zero - len(set(pages) - {bytes(4096)}) / n
            packed = len(zlib.compress(b"".join(pages[::8]), 1)) / (n / 8 * 4096)
            note(f"{kind}: zero {zero:.0%}, twice {twice:.0%}, zlib makes it {packed:.0%}")
            check(kind != "used" or (0.15 < zero < 0.4 and 0.04 < twice < 0.2), "used: as told")
            check(kind != "used" or 0.1 < packed < 0.6, "used: compressible")
            check(kind != "random" or (packed > 0.99 and twice == 0), "random: incompressible")
            check(kind != "text" or all(page.isascii() for page in pages), "text is text")


def templates():
    """A guest that begins with a template changes nothing in it, and has all of it."""
    start, size = BASE + (8 << 20), 64 << 20
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = os.path.join(folder, "template")
        vm.template(path, size, start, "files")
        before = pages_of(path, 0)
        with small_pair(mem_mib=64, share=False, memory=path) as p:
            begin(p)
            vm.migrate(p, cont=True)
            p.wait_ticking("dst")
            there = os.path.join(folder, "there")
            p.dst.cmd("stop")
            p.dst.cmd("pmemsave", val=start, size=size - start, filename=there)
            check(pages_of(there, 0) == before[start >> 12:], "the guest has it")
        check(pages_of(path, 0) == before, "the file is as it was")
        try:
            small_pair(memory=path).close()
        except vm.VmError:
            return
        raise AssertionError("a shared template is refused")


# ---- migration ---------------------------------------------------------------------------------

def migration(version):
    """Plain QMP: memory equal, a planted difference found, one guest, a blackout measured."""
    def test():
        qemu = any_qemu(version)
        with small_pair(qemu, mem_mib=256, workload={"ws": "32M", "rate": 1000}) as p:
            begin(p)
            info = vm.migrate(p)
            start = time.monotonic()
            check(p.compare_ram() == [], "RAM is equal")
            note(f"compared in {(time.monotonic() - start) * 1000:.0f} ms")
            plant(p.dst, 100, 4000)
            check(p.compare_ram() == [(BASE >> 12) + 100], "the planted difference is found")
            plant(p.dst, 100, 4000)
            check(p.compare_ram() == [] and p.running() == [], "equal again, none runs")
            p.dst.cmd("cont")
            p.wait_ticking("dst")
            check(p.running() == ["dst"], f"one guest runs: {p.running()}")
            check(p.src.ticks.wait(lambda log: log.status, 5), "status lines go on")
            check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
            note(f"{qemu.full_version}, {accel(qemu)}: stood still {p.blackout_ms():.0f} ms with "
                 f"the comparisons; downtime by QEMU {info['downtime']} ms")
    return test


def blackout():
    """The blackout by ticks agrees with the time between stop and cont."""
    with small_pair() as p:
        begin(p)
        info = vm.migrate(p, cont=True)
        p.wait_ticking("dst")
        seen = p.blackout_ms()
        note(f"blackout {seen:.1f} ms, downtime by QEMU {info['downtime']} ms")
        check(info["downtime"] - 5 <= seen <= info["downtime"] + 500, f"plausible: {seen:.1f} ms")
    with small_pair() as p:
        begin(p)
        vm.migrate(p)
        last = p.src.ticks.last_ns
        time.sleep(0.7)
        p.dst.cmd("cont")
        until = (time.monotonic_ns() - last) / 1e6
        p.wait_ticking("dst")
        note(f"held for {until:.0f} ms, seen {p.blackout_ms():.0f} ms")
        check(until - 50 <= p.blackout_ms() <= until + 250, "a held guest shows its pause")


def linux_guest():
    """The Linux guest under TCG ticks, and finds its files whole after a migration."""
    with small_pair(guest="linux", accel="tcg", mem_mib=192,
                    workload={"ws": 2, "rate": 1}, fill=0.3) as p:
        p.wait_ticking("src", 60)
        vm.migrate(p, cont=True)
        p.wait_ticking("dst", 20)
        status = p.dst.ticks
        check(status.wait(lambda log: log.status and log.status.checked > 0, 30), "it verifies")
        check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
        check(p.running() == ["dst"], "one guest runs")


# ---- the link ----------------------------------------------------------------------------------

def need_links():
    reason = vm.Link.why_not()
    if reason:
        raise Skip(reason)


def link_migration():
    """A pair over a link: the data goes there and nowhere else, the monitors need it not."""
    need_links()
    with vm.Link("400mbit") as link, small_pair(link=link) as p:
        begin(p)
        sent = link.bytes_sent()[0]
        info = vm.migrate(p)
        sent = link.bytes_sent()[0] - sent
        note(f"{info['ram']['transferred'] >> 20} MiB by QEMU, {sent >> 20} MiB on the wire, "
             f"{info['total-time']} ms")
        check(1.0 < sent / info["ram"]["transferred"] < 1.15, "all of it went over the link")
        check(p.compare_ram() == [], "RAM is equal")


def loopback():
    """Both in one namespace: all of it is counted, and goes fast."""
    need_links()
    with vm.Loopback() as link, small_pair(link=link) as p:
        begin(p)
        sent = link.bytes_sent()[0]
        info = vm.migrate(p, cont=True)
        sent = link.bytes_sent()[0] - sent
        p.wait_ticking("dst")
        note(f"{info['ram']['transferred'] >> 20} MiB by QEMU, {sent >> 20} MiB counted, "
             f"{info['ram']['mbps']:.0f} Mbit/s")
        check(1.0 < sent / info["ram"]["transferred"] < 1.15, "all of it is counted")


# ---- cleaning up -------------------------------------------------------------------------------

CHILD = """
import json, os, sys, time
import vm
qemu = vm.Qemu("", json.loads(sys.argv[2]))
link = vm.Link("1gbit") if vm.Link.why_not() is None else None
pair = vm.Pair(qemu, mem_mib=128, accel=sys.argv[3], workload={"ws": "4M"}, fill=0.1, link=link)
pair.wait_ticking("src")
print(json.dumps({"pids": [pair.src.pid, pair.dst.pid],
                  "paths": [pair.dir, os.path.dirname(pair.src.ram_path)],
                  "netns": [link.src_ns, link.dst_ns] if link else []}), flush=True)
if sys.argv[1] == "raise":
    raise RuntimeError("as a test that fails")
time.sleep(60)
"""


def leftovers(made):
    pids = [pid for pid in made["pids"] if os.path.exists(f"/proc/{pid}")]
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True,
                           check=False).stdout.split()
    return pids + [path for path in made["paths"] if os.path.exists(path)] + \
        [name for name in made["netns"] if name in names]


def cleaned_up(how):
    """No process, file or namespace stays when the launcher ends so."""
    def test():
        qemu = any_qemu()
        with subprocess.Popen([sys.executable, "-c", CHILD, str(how), json.dumps(qemu.argv),
                               accel(qemu)], text=True,
                              cwd=os.path.dirname(os.path.abspath(__file__)),
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            made = json.loads(child.stdout.readline())
            check(len(leftovers(made)) >= 4, "all is there before")
            if how != "raise":
                child.send_signal(how)
            child.wait(20)
        if how == signal.SIGKILL:
            cleanup.sweep(min_age_s=0)      # what the next launcher does
        deadline = time.monotonic() + 5
        while leftovers(made) and time.monotonic() < deadline:
            time.sleep(0.05)
        check(not leftovers(made), f"left: {leftovers(made)}")
    return test


def deaf():
    """close() ends a stopped QEMU too."""
    with small_pair() as p:
        made = {"pids": [p.src.pid, p.dst.pid], "netns": [],
                "paths": [p.dir, os.path.dirname(p.src.ram_path)]}
        os.kill(p.dst.pid, signal.SIGSTOP)
    check(not leftovers(made), f"left: {leftovers(made)}")


POINTS = [
    ("guest: a changed body is found in every page", every_body),
    ("guest: memory beyond its own is prefilled", prefill),
    ("guest: contents are what they are called", contents),
    ("guest: it begins with a template", templates),
    *((f"migration {version}: equal, alone, measured", migration(version))
      for version in ("7.2", "10.0", "11.1")),
    ("migration: blackout by ticks", blackout),
    ("linux: ticks and verifies", linux_guest),
    ("link: a migration goes over it", link_migration),
    ("link: loopback", loopback),
    ("cleanup: a QEMU that does not hear SIGTERM", deaf),
    ("cleanup: a test that fails", cleaned_up("raise")),
    ("cleanup: SIGINT", cleaned_up(signal.SIGINT)),
    ("cleanup: SIGTERM", cleaned_up(signal.SIGTERM)),
    ("cleanup: SIGKILL", cleaned_up(signal.SIGKILL)),
]


def main():
    words = sys.argv[1:]
    points = [p for p in POINTS if not words or any(word in p[0] for word in words)]
    failed = False
    print(f"1..{len(points)}", flush=True)
    for number, (name, function) in enumerate(points, 1):
        try:
            function()
        except Skip as skip:
            print(f"ok {number} - {name} # SKIP {skip}", flush=True)
        except Exception:
            failed = True
            note(traceback.format_exc().rstrip().replace("\n", "\n# "))
            print(f"not ok {number} - {name}", flush=True)
        else:
            print(f"ok {number} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
