#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
qmig stream pipe under QEMU's own exec:, with one version of QEMU: test-pipe.py VERSION.

Every test compares the memory byte for byte and counts the guests that run.
"""
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import sys
import tempfile
import time

import lib
from lib import check

VERSION = sys.argv[1]
WORKLOAD = {"ws": "32M", "rate": 500, "pattern": "part", "order": "hot", "content": "text"}
PIPE = f"{shlex.quote(lib.QMIG)} stream pipe"
NO_ANSWER_S = 60


class Place:
    """A private directory with keys, and a port."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(dir=lib.SCRATCH.name))
        self.key, self.other = self.path / "key", self.path / "other"
        self.key.write_bytes(os.urandom(32))
        self.other.write_bytes(os.urandom(32))
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.port = unused.getsockname()[1]

    def __truediv__(self, name):
        return self.path / name

    def report(self, name):
        """The report that a pipe leaves at its end."""
        deadline = time.monotonic() + 20
        while not (self.path / name).exists():
            check(time.monotonic() < deadline, f"the report {name} appears")
            time.sleep(0.02)
        return json.loads((self.path / name).read_text())


def pair(**options):
    """A guest that writes its memory, and a QEMU that waits for one."""
    qemu = lib.qemu(VERSION)
    defaults = {"src": qemu, "dst": qemu, "accel": lib.accel(qemu), "mem_mib": 160,
                "workload": WORKLOAD}
    return lib.vm.Pair(**{**defaults, **options})


def wait_status(side, *wanted, timeout=60):
    """Wait until the side's migration is in one of these states."""
    deadline = time.monotonic() + timeout
    while (status := side.cmd("query-migrate", timeout=NO_ANSWER_S).get("status")) not in wanted:
        check(status not in ("completed", "failed", "cancelled"),
              f"{side}: {status}, wanted {wanted}: {side.stderr_text()}")
        check(time.monotonic() < deadline, f"{side}: {status}, wanted {wanted}")
        time.sleep(0.02)


def fast(p, answers=True):
    """As fast as the pipe takes it; with answers from the destination, where there is one."""
    p.src.cmd("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 300})
    for side in (p.src, p.dst) if answers else ():
        side.cmd("migrate-set-capabilities",
                 capabilities=[{"capability": "return-path", "state": True}])


def same_guest(p):
    """Memory is the source's; then the guest runs, and only on the destination."""
    differing = p.compare_ram()
    check(not differing, f"RAM equal byte for byte; {len(differing)} pages differ, first "
                         f"{differing[:5]}")
    check(p.running() == [], f"nobody runs: {p.running()}")
    p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    check(p.running() == ["dst"], f"the destination's guest alone runs: {p.running()}")
    time.sleep(0.3)
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def stays(p):
    """The migration failed: the guest runs on the source, and only there."""
    wait_status(p.src, "failed")
    p.wait_ticking(p.src)
    check(p.running() == ["src"], f"the source's guest alone runs: {p.running()}")
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def example(place, number):
    """The QEMU argument of an example of qmig-stream(1), as it stands there but for what it means
    on this machine: keys, directories, host; ssh is left out."""
    page = (lib.TOP / "docs/man/qmig-stream.pod").read_text(encoding="utf-8")
    found = re.findall(r'^ (?:migrate|-incoming) "(exec:.*)"$', page, re.MULTILINE)
    check(len(found) == 5, f"the page has five of them: {found}")
    text = found[number]
    for old, new in (("ssh host2 ", ""), ("qmig stream", f"{shlex.quote(lib.QMIG)} stream"),
                     ("/etc/vm.key", place.key), ("/srv", place.path), ("/run/vm1", place.path),
                     ("tcp:[::]:7118", f"tcp:127.0.0.1:{place.port}"),
                     ("tcp:host2:7118", f"tcp:127.0.0.1:{place.port}")):
        text = text.replace(old, str(new))
    return text


def to_a_file():
    """Compressed, encrypted and throttled into a file by exec:, and out of it by exec:."""
    with pair() as p:
        place = Place()
        p.wait_ticking(p.src)
        fast(p, answers=False)
        file, began = place / "vm1.pipe", time.monotonic()
        p.src.cmd("migrate", uri=example(place, 0))
        wait_status(p.src, "completed")
        report = place.report("vm1.json")
        took, size = time.monotonic() - began, file.stat().st_size
        check(report["outcome"] == "done" and report["cipher"] == "aes-256-gcm", report)
        check(report["encoded"]["bytes_out"] == size, f"{size}: {report}")
        check(report["encoded"]["ratio"] > 1.5, f"it is smaller: {report}")
        check(report["encoded"]["stream"]["complete"] == 1, f"it is whole: {report}")
        check(size / took < 300e6 / 8 * 1.03, f"the rate: {size} bytes in {took} s")
        p.dst.cmd("migrate-incoming", uri=example(place, 1))
        wait_status(p.dst, "completed")
        same_guest(p)


def two_pipes():
    """Live from QEMU to QEMU, one way, through two programs and what lies between them."""
    with pair() as p:
        place = Place()
        p.wait_ticking(p.src)
        fast(p, answers=False)
        os.mkfifo(place / "between")
        p.dst.cmd("migrate-incoming", uri=f"exec:{PIPE} --decode --key={place.key} "
                                          f"< {place / 'between'}")
        p.src.cmd("migrate", uri=f"exec:{PIPE} --codec=lz4 --threads=2 --key={place.key} "
                                 f"--rate=100MiB/s > {place / 'between'}")
        wait_status(p.src, "completed")
        wait_status(p.dst, "completed")
        same_guest(p)


def listening(p, place):
    """The destination waits behind a pipe that listens, or will in a moment."""
    p.dst.cmd("migrate-incoming", uri=f"exec:{PIPE} --listen=unix:{place / 'socket'} "
                                      f"--key={place.key} --report={place / 'in'}")


def both_ways():
    """Two ways: the return path works, so the source knows that the guest is loaded."""
    with pair() as p:
        place = Place()
        p.wait_ticking(p.src)
        fast(p)
        report = f"stream pipe --report={place.path}"
        p.dst.cmd("migrate-incoming",
                  uri=example(place, 3).replace("stream pipe", f"{report}/in"))
        p.src.cmd("migrate", uri=example(place, 4).replace("stream pipe", f"{report}/out"))
        wait_status(p.src, "completed")
        wait_status(p.dst, "completed")
        sent, taken = place.report("out"), place.report("in")
        check(sent["outcome"] == taken["outcome"] == "done", f"{sent} {taken}")
        check(sent["decoded"]["bytes_out"] == taken["encoded"]["bytes_in"] > 0,
              f"the destination answered: {sent['decoded']} {taken['encoded']}")
        same_guest(p)


def command():
    """The way over ssh, without it: two ways by a command."""
    with pair() as p:
        place = Place()
        p.wait_ticking(p.src)
        fast(p)
        p.dst.cmd("migrate-incoming", uri=f"unix:{place / 'in.sock'}")
        p.src.cmd("migrate", uri=example(place, 2))
        wait_status(p.src, "completed")
        wait_status(p.dst, "completed")
        same_guest(p)


def post_copy():
    """Post-copy through exec: both ways."""
    with pair() as p:
        place = Place()
        p.wait_ticking(p.src)
        fast(p)
        for side in (p.src, p.dst):
            side.cmd("migrate-set-capabilities",
                     capabilities=[{"capability": "postcopy-ram", "state": True}])
        listening(p, place)
        p.src.cmd("migrate", uri=f"exec:{PIPE} --connect=unix:{place / 'socket'} "
                                 f"--key={place.key} --rate=50MiB/s")
        time.sleep(0.5)
        p.src.cmd("migrate-start-postcopy")
        wait_status(p.src, "completed")
        wait_status(p.dst, "completed")
        same_guest(p)


def wrong_key():
    """Another key: neither side gives anything to its QEMU; the guest stays."""
    with pair() as p:
        place = Place()
        p.wait_ticking(p.src)
        fast(p)
        listening(p, place)
        p.src.cmd("migrate", uri=f"exec:{PIPE} --connect=unix:{place / 'socket'} "
                                 f"--key={place.other} 2> {place / 'words'}")
        stays(p)
        check("another key" in (place / "words").read_text() or
              "closed at the start" in (place / "words").read_text(),
              (place / "words").read_text())


def pids(place, option):
    """Of the pipes with this option and this directory."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if words[0] == lib.QMIG.encode() and f"{option}=unix:{place / 'socket'}".encode() in words:
            found.append(int(entry.name))
    return found


def killed(option):
    """One of the two programs is killed half way: the source sees it, the guest stays."""
    def test():
        with pair() as p:
            place = Place()
            p.wait_ticking(p.src)
            fast(p)
            listening(p, place)
            p.src.cmd("migrate", uri=f"exec:{PIPE} --connect=unix:{place / 'socket'} "
                                     f"--key={place.key} --rate=20MiB/s")
            time.sleep(1)
            victims = pids(place, option)
            check(len(victims) == 1, f"one runs: {victims}")
            lib.kill(victims[0], signal.SIGKILL)
            stays(p)
    return test


def damaged_file():
    """A flipped byte in the file: the destination gets nothing behind it, and no guest runs."""
    with pair() as p:
        place = Place()
        p.wait_ticking(p.src)
        fast(p, answers=False)
        p.src.cmd("migrate", uri=f"exec:{PIPE} --report={place / 'out'} > {place / 'guest'}")
        wait_status(p.src, "completed")
        check(place.report("out")["outcome"] == "done", "it is written")
        with open(place / "guest", "r+b") as file:
            file.seek((place / "guest").stat().st_size * 2 // 3)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        p.dst.cmd("migrate-incoming", uri=f"exec:{PIPE} --decode --report={place / 'in'} "
                                          f"< {place / 'guest'} 2> {place / 'words'}")
        report = place.report("in")
        check(report["outcome"] == "failed" and "damaged" in report["error"]["message"], report)
        check(p.running() == [], f"nobody runs: {p.running()}")
        p.src.cmd("cont")
        p.wait_ticking(p.src)
        check(p.running() == ["src"], f"the source's guest alone runs: {p.running()}")


TESTS = [
    ("a file: compressed, encrypted, throttled", to_a_file),
    ("live through two pipes, one way", two_pipes),
    ("live, both ways: the return path works", both_ways),
    ("live, both ways, by a command", command),
    ("kill -9 at the destination: the guest stays", killed("--listen")),
]
if lib.FULL:
    TESTS += [
        ("post-copy, both ways", post_copy),
        ("another key: refused, the guest stays", wrong_key),
        ("kill -9 at the source: the guest stays", killed("--connect")),
        ("a damaged file is not loaded", damaged_file),
    ]
lib.run_tests(TESTS)
