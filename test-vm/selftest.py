#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is the test equipment itself right? Prints TAP."""
import mmap
import os
import subprocess
import sys
import threading
import time
import traceback

from vm import Link, Pair, find_qemus, kvm_works, migrate

PAGE = 4096
BASE = 16 << 20
LIMIT_S = 60
SEND = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7777), timeout=10)
data, end = bytes(65536), time.monotonic() + 2
while time.monotonic() < end:
    s.sendall(data)
"""
COUNT = """
import socket, time
server = socket.create_server(("", 7777))
server.settimeout(10)
print("ready", flush=True)
s, _ = server.accept()
n, begin = 0, time.monotonic()
while data := s.recv(1 << 20):
    n += len(data)
print(n * 8 / (time.monotonic() - begin))
"""


class Skip(Exception):
    """The test cannot run here; says why."""


def need_kvm():
    qemu = find_qemus().get("7.2")
    if not qemu:
        raise Skip("no QEMU 7.2")
    if not kvm_works(qemu):
        raise Skip("the bare guest does not tick under KVM here")
    return qemu


def need_link():
    why = Link.why_not()
    if why:
        raise Skip(f"no network namespaces: {why}")


def until(condition, what, timeout=LIMIT_S):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)


def plant(side, offset, data):
    with open(side.ram_path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[offset:offset + len(data)] = data


def test_ticks(qemu):
    with Pair(qemu, qemu, mem_mib=128, fill=0, workload={"ws": "4M", "rate": 100}) as pair:
        pair.wait_ticking(pair.src)
        before, begin = pair.src.ticks.count, time.monotonic()
        time.sleep(2)
        per_s = (pair.src.ticks.count - before) / (time.monotonic() - begin)
        print(f"# {per_s:.0f} ticks/s, gaps over 20 ms: {len(pair.src.ticks.gaps(20))}")
        assert 300 < per_s < 1100, f"{per_s} ticks/s"
        assert pair.running() == ["src"]
        assert not pair.guest_errors()


def test_corruption(qemu):
    workload = {"ws": "4M", "rate": 0}
    with Pair(qemu, qemu, mem_mib=128, fill=0, workload=workload) as pair:
        pair.wait_ticking(pair.src)
        for page, offset, what in ((7, 4, "header"), (300, 2000, "body")):
            plant(pair.src, BASE + page * PAGE + offset, b"\xde\xad\xbe\xef")
            until(lambda n=page: any(f"page={n} " in line for line in pair.src.ticks.corrupt),
                  f"a report of the planted {what}")
        until(lambda: pair.src.ticks.status.errors == 2, "the counter")
        print(f"# {pair.src.ticks.corrupt}")


def test_rewritten(qemu):
    """Pages rewritten whole, many at once: a header gone wrong is told before it is gone."""
    workload = {"ws": "4M", "rate": 500, "pattern": "page"}
    with Pair(qemu, qemu, mem_mib=128, fill=0, workload=workload) as pair:
        pair.wait_ticking(pair.src)
        until(lambda: pair.src.ticks.status and pair.src.ticks.status.dirtied > 1024,
              "a round of the working set")
        assert not pair.guest_errors(), pair.guest_errors()
        plant(pair.src, BASE + 700 * PAGE, b"\xde\xad\xbe\xef")
        until(lambda: any("page=700 " in line for line in pair.src.ticks.corrupt), "a report")
        migrate(pair)
        assert pair.compare_ram() == []


def rate_seen(qemu, rate, pattern, order):
    workload = {"ws": "16M", "rate": rate, "pattern": pattern, "order": order}
    with Pair(qemu, qemu, mem_mib=128, fill=0, workload=workload) as pair:
        pair.wait_ticking(pair.src)
        time.sleep(3)
        assert not pair.guest_errors(), pair.guest_errors()
        return pair.src.ticks.dirty_rate(2)


def test_rate(qemu):
    for rate, pattern, order in ((500, "word", "random"), (2000, "word", "random"),
                                 (500, "page", "random"), (2000, "page", "seq")):
        seen = rate_seen(qemu, rate, pattern, order)
        print(f"# asked {rate} pages/s ({pattern}, {order}), got {seen:.0f}")
        assert rate / 2 < seen < rate * 2, f"asked {rate}, got {seen}"


def test_migration(qemu):
    with Pair(qemu, qemu, mem_mib=256, workload={"ws": "16M", "rate": 1000}) as pair:
        pair.wait_ticking(pair.src)
        migrate(pair)
        assert pair.compare_ram() == [], "memory differs after a plain migration"
        plant(pair.dst, 200 << 20, b"not what it was")
        assert pair.compare_ram() == [(200 << 20) // PAGE], "the planted difference"
        pair.dst.cmd("cont")
        pair.wait_ticking(pair.dst)
        assert pair.running() == ["dst"]
        print(f"# blackout {pair.blackout_ms():.0f} ms")
        assert 0 < pair.blackout_ms() < 30000
        assert not pair.guest_errors(), pair.guest_errors()
        old = pair.dst.pid
        pair.new_destination()
        assert pair.dst.pid != old and pair.dst.cmd("query-status")["status"] == "inmigrate"


def bits_sent(link):
    def start(prefix, code, *args):
        return subprocess.Popen([*prefix, sys.executable, "-c", code, *args], text=True,
                                stdout=subprocess.PIPE)
    with start(link.dst_exec_prefix, COUNT) as counter:
        assert counter.stdout.readline() == "ready\n"
        with start(link.exec_prefix, SEND, link.dst_addr) as sender:
            sender.wait(20)
        return float(counter.stdout.read())


def test_link():
    with Link("100mbit") as link:
        slow = bits_sent(link)
        link.set_rate("400mbit")
        fast = bits_sent(link)
    print(f"# 100mbit: {slow / 1e6:.0f} Mbit/s, 400mbit: {fast / 1e6:.0f} Mbit/s")
    assert 70e6 < slow < 110e6 and 280e6 < fast < 440e6


def test_link_migration(qemu):
    with Link("400mbit") as link, Pair(qemu, qemu, mem_mib=128, workload={"ws": "4M", "rate": 100},
                                        link=link) as pair:
        pair.wait_ticking(pair.src)
        mbps = migrate(pair)["ram"]["mbps"]
        assert pair.compare_ram() == []
        print(f"# {mbps:.0f} Mbit/s through 400mbit")
        assert mbps < 500


def test_cleanup(qemu):
    link = Link("1gbit") if Link.why_not() is None else None
    namespaces = [link.src_ns, link.dst_ns] if link else []
    threads = threading.active_count()
    with Pair(qemu, qemu, mem_mib=128, fill=0, link=link) as pair:
        pids, folder = [pair.src.pid, pair.dst.pid], pair.dir
        pair.new_destination()
        pids.append(pair.dst.pid)
    if link:
        link.close()
    assert not os.path.exists(folder)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    assert not [name for name in namespaces if os.path.exists(f"/run/netns/{name}")]
    assert threading.active_count() == threads


def test_killed_parent(qemu):
    """A launcher that is killed takes its guests along."""
    code = (f"import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})\n"
            "from vm import *\n"
            f"q = Qemu('7.2', {qemu.argv!r})\n"
            "p = Pair(q, q, mem_mib=128, fill=0)\n"
            "print(p.src.pid, p.dst.pid, p.dir, flush=True); import time; time.sleep(60)\n")
    with subprocess.Popen([sys.executable, "-c", code], text=True,
                          stdout=subprocess.PIPE) as child:
        src, dst, folder = child.stdout.readline().split()
        child.kill()
    try:
        until(lambda: not os.path.exists(f"/proc/{src}") and not os.path.exists(f"/proc/{dst}"),
              "both QEMUs to end", 5)
    finally:
        subprocess.run(["rm", "-rf", "--", folder], check=True)


TESTS = (
    ("the guest ticks under KVM", test_ticks, need_kvm),
    ("corruption planted in the working set is reported", test_corruption, need_kvm),
    ("the rate is obeyed within a factor of 2", test_rate, need_kvm),
    ("corruption of pages that are rewritten whole is reported", test_rewritten, need_kvm),
    ("a plain migration keeps RAM equal, a planted difference is found", test_migration,
     need_kvm),
    ("a link limits the rate", test_link, need_link),
    ("a migration through a link", test_link_migration, lambda: need_link() or need_kvm()),
    ("closing leaves no process, file, namespace", test_cleanup, need_kvm),
    ("guests end with a launcher that is killed", test_killed_parent, need_kvm),
)


def main():
    failed = 0
    wanted = [test for test in TESTS if not sys.argv[1:] or sys.argv[1] in test[0]]
    print(f"1..{len(wanted)}", flush=True)
    for number, (name, test, need) in enumerate(wanted, 1):
        try:
            have = need()
            test(*([have] if have else []))
            print(f"ok {number} - {name}", flush=True)
        except Skip as why:
            print(f"ok {number} - {name} # SKIP {why}", flush=True)
        except Exception:  # whatever it is, the other tests still have something to say
            failed += 1
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="")
            print(f"not ok {number} - {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
