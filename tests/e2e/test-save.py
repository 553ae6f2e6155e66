#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Real guests are saved and restored, with one version of QEMU: test-save.py VERSION.

Every test compares the memory byte for byte and counts the guests that run.
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import lib
from lib import check

VERSION = sys.argv[1]
WORKLOAD = {"ws": "32M", "rate": 3000, "pattern": "part", "order": "hot", "content": "text"}
MAPPED = VERSION != "7.2"       # QEMU 9.0 has mapped-ram
SCRATCH = pathlib.Path(lib.SCRATCH.name)


def pair(**options):
    """A guest that writes its memory, and a QEMU that waits for one."""
    qemu = lib.qemu(VERSION)
    defaults = {"src": qemu, "dst": qemu, "accel": lib.accel(qemu), "mem_mib": 256,
                "workload": WORKLOAD}
    return lib.vm.Pair(**{**defaults, **options})


def fresh(name):
    """A path of its own; what a test leaves there is removed with the scratch directory."""
    return str(pathlib.Path(tempfile.mkdtemp(dir=SCRATCH)) / name)


def alone(path):
    """The file is there, and nothing else beside it."""
    folder = pathlib.Path(path).parent
    names = sorted(entry.name for entry in folder.iterdir())
    check(names == [pathlib.Path(path).name], f"nothing is left beside the file: {names}")


def save(p, path, *options, **kwargs):
    """Save the source's guest; the report."""
    done = lib.run("save", "--json", f"unix:{p.src.qmp}", path, *options, **kwargs)
    check(done.code == 0, f"save: exit 0, got {done.code}: {done.err}")
    return done.report()


def restore(p, path, *options):
    """Restore into the destination; the report."""
    done = lib.run("restore", "--json", path, f"unix:{p.dst.qmp}", *options)
    check(done.code == 0, f"restore: exit 0, got {done.code}: {done.err}")
    return done.report()


def same_guest(p, path, *options, guest="paused"):
    """Restored but not run, memory is the source's; then it runs, and only it."""
    report = restore(p, path, "--paused", *options)
    check(report["guest"] == guest, f"the guest waits: {report}")
    differing = p.compare_ram()
    check(not differing, f"RAM equal byte for byte; {len(differing)} pages differ, first "
                         f"{differing[:5]}")
    check(p.running() == [], f"nobody runs: {p.running()}")
    p.dst.cmd("cont")
    goes_on(p)
    return report


def goes_on(p):
    """The guest runs on the destination alone, and finds its memory whole."""
    p.wait_ticking(p.dst)
    check(p.running() == ["dst"], f"the destination's guest alone runs: {p.running()}")
    time.sleep(0.3)
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")


def round_trip(*options):
    """A test: save with @options, restore, compare."""
    def test():
        with pair() as p:
            p.wait_ticking(p.src)
            before, path = lib.settings(p.src), fresh("guest.qmig")
            report = save(p, path, *options)
            check(report["guest"] in ("paused", "postmigrate"), report)
            check(report["proof"] == "decoded", report)
            check(report["file_bytes"] == os.path.getsize(path), report)
            check(report["pages"]["normal"] > 1000 and report["pages"]["zero"] > 1000, report)
            check(lib.settings(p.src) == before, "the source's settings are put back")
            check(p.running() == [], f"nobody runs: {p.running()}")
            check(os.stat(path).st_mode & 0o777 == 0o600, "only the owner reads the file")
            alone(path)
            same_guest(p, path)
    return test


def large():
    """2 GiB with realistic contents; the long runs only."""
    if not lib.FULL:
        raise lib.Skip("./dev check --full runs it")
    with pair(mem_mib=2048, fill=0.75) as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        report = save(p, path)
        check(report["stream_bytes"] > 1500 << 20, report)
        check(report["file_bytes"] < report["stream_bytes"] // 2, report)
        same_guest(p, path)


def empty_memory_costs_nothing():
    """Zero pages take next to nothing in the file: 4 GiB of them less than 1 MiB."""
    with pair(mem_mib=4096, fill=0, workload={"ws": "64K", "rate": 100}) as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        report = save(p, path)
        check(report["pages"]["zero"] > 1000000, report)
        check(report["file_bytes"] < report["pages"]["normal"] * 4096 + (1 << 20), report)
        same_guest(p, path)


def goes_on_by_itself():
    """What ran when it was saved runs when it is restored; a QEMU told to quit is gone."""
    with pair() as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        report = save(p, path, "--quit")
        check(report["guest"] == "quit" and p.src.wait_exit(), f"the source is gone: {report}")
        check(restore(p, path)["guest"] == "running", "it runs")
        goes_on(p)


def paused_stays_paused():
    """A guest that was paused is not started by its restoration."""
    with pair() as p:
        p.wait_ticking(p.src)
        p.src.cmd("stop")
        path = fresh("guest.qmig")
        save(p, path)
        check(restore(p, path)["guest"] == "paused", "it is paused")
        check(p.compare_ram() == [], "RAM equal")
        check(p.running() == [], "nobody runs")


def source_goes_on():
    """--continue: the source runs on; a second save of it is whole too."""
    with pair() as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        for _ in range(2):
            report = save(p, path, "--continue")
            check(report["guest"] == "running", report)
            p.wait_ticking(p.src)
            check(p.running() == ["src"], "the source runs")
        p.src.cmd("stop")
        save(p, path)
        same_guest(p, path)


def live():
    """--live: the guest runs while it is saved, and its last state is in the file."""
    with pair(workload={**WORKLOAD, "rate": 500}) as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        save(p, path, "--live")
        same_guest(p, path)


def mapped(*options):
    """A test: QEMU's own file, from both sides."""
    def test():
        if not MAPPED:
            raise lib.Skip("QEMU 7.2 has no mapped-ram")
        with pair() as p:
            p.wait_ticking(p.src)
            path = fresh("guest.mapped")
            report = save(p, path, "--format=mapped-ram", *options)
            check(report["proof"] == "decoded" and report["format"] == "mapped-ram", report)
            alone(path)
            with open(path, "rb") as stream:
                done = lib.run("save", "-", fresh("x"), stdin=stream)
            check(done.code == 3 and "qmig stream convert" in done.err, done.err)
            same_guest(p, path, *options)
    return test


def mapped_is_refused():
    """A QEMU without mapped-ram: exit 2, the guest untouched."""
    if MAPPED:
        raise lib.Skip("this QEMU has mapped-ram")
    with pair() as p:
        p.wait_ticking(p.src)
        before = lib.settings(p.src)
        done = lib.run("save", f"unix:{p.src.qmp}", fresh("x"), "--format=mapped-ram")
        check("mapped-ram" in done.err, done.err)
        lib.stayed_whole(p, done, 2, before)


# ---- exec: ----------------------------------------------------------------------------------

def wait_status(side, *wanted):
    """Wait until the side's migration has ended so."""
    deadline = time.monotonic() + 30
    while (status := side.cmd("query-migrate").get("status")) not in wanted:
        check(status not in ("failed", "cancelled"), f"{side}: {side.stderr_text()}")
        check(time.monotonic() < deadline, f"{status}, wanted {wanted}")
        time.sleep(0.02)


def wait_file(path):
    """Wait until the file has appeared under its name."""
    deadline = time.monotonic() + 10
    while not os.path.exists(path):
        check(time.monotonic() < deadline, f"{path} appears")
        time.sleep(0.02)


def under_exec():
    """QEMU's own migrate exec: and -incoming exec: with qmig as the program."""
    with pair() as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        p.src.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
        p.src.cmd("migrate", uri=f"exec:{lib.QMIG} save - {path}")
        wait_status(p.src, "completed")
        wait_file(path)
        alone(path)
        p.dst.cmd("migrate-incoming", uri=f"exec:{lib.QMIG} restore {path} -")
        wait_status(p.dst, "completed")
        check(p.compare_ram() == [], "RAM equal")
        p.dst.cmd("cont")
        goes_on(p)


def from_a_pipe():
    """A save file that comes through a pipe, as from another host, and goes out through one."""
    with pair() as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        with open(path, "wb") as file:
            done = subprocess.run(f"{lib.QMIG} save unix:{p.src.qmp} - | cat", shell=True, check=True,
                                  stdout=file, stderr=subprocess.PIPE, text=True, timeout=60)
        check("saved" in done.stderr, done.stderr)
        done = subprocess.run(f"cat {path} | {lib.QMIG} restore --paused - unix:{p.dst.qmp}",
                              shell=True, check=True, capture_output=True, text=True, timeout=60)
        check("paused" in done.stdout, done.stdout)
        check(p.compare_ram() == [], "RAM equal")
        p.dst.cmd("cont")
        goes_on(p)


def plain_stream():
    """What QEMU wrote by exec:cat is restored as it is, and a guest that ran runs."""
    with pair() as p:
        p.wait_ticking(p.src)
        path = fresh("plain.stream")
        p.src.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
        p.src.cmd("migrate", uri=f"exec:cat > {path}")
        wait_status(p.src, "completed")
        packed = fresh("packed.qmig")
        with open(path, "rb") as stream:
            done = lib.run("save", "-", packed, stdin=stream)
        check(done.code == 0, done.err)
        check(os.path.getsize(packed) < os.path.getsize(path) / 2, "it is packed")
        report = restore(p, path)
        check(report["guest"] == "running", report)
        goes_on(p)
        p.new_destination()
        same_guest(p, packed)


def resumed():
    """--offset: the plain stream in two parts is the whole one, from any byte."""
    with pair(mem_mib=128) as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        save(p, path, "--continue")
        whole = subprocess.run([lib.QMIG, "restore", path, "-"], capture_output=True, check=True,
                               timeout=60).stdout
        check(whole[:4] == b"QEVM", whole[:4])
        for offset in (1, len(whole) // 3, (1 << 20) - 1, 1 << 20, len(whole) - 1, len(whole)):
            rest = subprocess.run([lib.QMIG, "restore", path, "-", f"--offset={offset}"],
                                  capture_output=True, check=True, timeout=60).stdout
            check(rest == whole[offset:], f"from byte {offset} on")


# ---- failures -------------------------------------------------------------------------------

def small_disk(path):
    """A tmpfs of a few MiB; Skip where that is not allowed."""
    os.mkdir(path)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "qmig-test", path],
                          capture_output=True, check=False, text=True)
    if done.returncode != 0:
        raise lib.Skip(f"no tmpfs can be mounted: {done.stderr.strip()}")


def full_disk():
    """The disk is full half way: exit 3, the guest runs on, nothing is left."""
    for live_option in ((), ("--live",)):
        folder = fresh("small")
        small_disk(folder)
        try:
            with pair() as p:
                p.wait_ticking(p.src)
                before = lib.settings(p.src)
                done = lib.run("save", f"unix:{p.src.qmp}", f"{folder}/guest.qmig",
                               "--codec=none", *live_option)
                check("No space left on device" in done.err, done.err)
                lib.stayed_whole(p, done, 3, before)
                check(os.listdir(folder) == [], f"nothing is left: {os.listdir(folder)}")
        finally:
            subprocess.run(["umount", folder], check=True)


def name_is_taken():
    """The file cannot get its name when QEMU has finished: exit 3, the guest runs on."""
    with pair(fill=0.9) as p:
        p.wait_ticking(p.src)
        before, path = lib.settings(p.src), fresh("guest.qmig")
        process = lib.start("save", f"unix:{p.src.qmp}", path, "--level=9")
        begun(path)
        os.mkdir(path)
        done = lib.finish(process)
        check("rename to" in done.err, done.err)
        lib.stayed_whole(p, done, 3, before)
        alone(path)


def begun(path):
    """Wait until a partial file beside @path has some bytes; its name."""
    folder, deadline = pathlib.Path(path).parent, time.monotonic() + 20
    while True:
        for entry in folder.iterdir():
            if entry.name.startswith(".") and entry.stat().st_size > 1 << 20:
                return entry
        check(time.monotonic() < deadline, "a partial file grows")
        time.sleep(0.005)


def cancelled():
    """SIGINT and SIGTERM half way: exit 4, the guest runs on, nothing is left."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with pair(fill=0.9) as p:
            p.wait_ticking(p.src)
            before, path = lib.settings(p.src), fresh("guest.qmig")
            process = lib.start("save", f"unix:{p.src.qmp}", path, "--level=19")
            begun(path)
            process.send_signal(number)
            lib.stayed_whole(p, lib.finish(process), 4, before)
            check(os.listdir(pathlib.Path(path).parent) == [], "nothing is left")


def killed():
    """SIGKILL half way: no file of that name; the guest, paused, is unharmed; what is left of
    the file is refused."""
    with pair(fill=0.9) as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        process = lib.start("save", f"unix:{p.src.qmp}", path, "--level=19")
        partial = begun(path)
        lib.kill(process.pid)
        process.communicate()
        check(not os.path.exists(path), "the file has not appeared")
        done = lib.run("restore", str(partial), f"unix:{p.dst.qmp}")
        check(done.code == 2 and "never completed" in done.err, f"{done.code}: {done.err}")
        check(p.dst.status() == "inmigrate", "the QEMU that waits was not touched")
        deadline = time.monotonic() + 10
        while p.src.cmd("query-migrate")["status"] not in ("failed", "cancelled"):
            check(time.monotonic() < deadline, "QEMU's migration has failed")
            time.sleep(0.02)
        p.src.cmd("cont")
        p.wait_ticking(p.src)
        check(p.running() == ["src"] and p.guest_errors() == [], "the guest goes on")


def damaged():
    """Bytes of a chunk are wrong (one alone may not matter: another match of the same content, say): the
    place is told, no guest runs there, and the file's own is not harmed by it."""
    with pair() as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        save(p, path, "--continue")
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            file.seek(size // 2)
            piece = file.read(16)
            file.seek(size // 2)
            file.write(bytes(byte ^ 0xff for byte in piece))
        done = lib.run("restore", path, f"unix:{p.dst.qmp}")
        check(done.code == 3, f"exit 3, got {done.code}: {done.err}")
        for text in ("chunk ", "file offset ", "stream offset ", "This QEMU has ended"):
            check(text in done.err, f"\"{text}\": {done.err}")
        check(p.dst.wait_exit(), "QEMU has ended")
        check(p.running() == ["src"], f"the source's guest alone runs: {p.running()}")
        p.new_destination()
        with open(path, "r+b") as file:
            file.truncate(size - 1)
        done = lib.run("restore", path, f"unix:{p.dst.qmp}")
        check(done.code == 2 and "trailer at file offset" in done.err, done.err)
        check(p.dst.status() == "inmigrate", "QEMU was not touched")


def source_dies():
    """QEMU is killed while it is saved: exit 7, no file."""
    with pair(fill=0.9) as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        process = lib.start("save", f"unix:{p.src.qmp}", path, "--level=19")
        begun(path)
        lib.kill(p.src.pid)
        done = lib.finish(process)
        check(done.code == 7, f"exit 7, got {done.code}: {done.err}")
        check(os.listdir(pathlib.Path(path).parent) == [], "nothing is left")


def other_machine():
    """A QEMU of another machine: exit 2, both named, nothing touched."""
    with pair() as p:
        p.wait_ticking(p.src)
        path = fresh("guest.qmig")
        save(p, path, "--continue")
        with pair(machine="pc-q35-7.2") as q:
            done = lib.run("restore", path, f"unix:{q.dst.qmp}")
            check(done.code == 2, f"exit 2, got {done.code}: {done.err}")
            check("pc-q35-7.2" in done.err and "pc-i440fx-7.2" in done.err, done.err)
            check(q.dst.status() == "inmigrate", "QEMU was not touched")


lib.run_tests([
    (f"{VERSION}: saved and restored, RAM equal", round_trip()),
    (f"{VERSION}: with lz4 and one thread, RAM equal", round_trip("--codec=lz4", "--threads=1")),
    (f"{VERSION}: without compression, RAM equal", round_trip("--codec=none")),
    (f"{VERSION}: zero pages cost nothing, RAM equal", empty_memory_costs_nothing),
    (f"{VERSION}: 2 GiB of realistic memory, RAM equal", large),
    (f"{VERSION}: the guest goes on by itself, its old QEMU quits", goes_on_by_itself),
    (f"{VERSION}: a paused guest stays paused", paused_stays_paused),
    (f"{VERSION}: --continue lets the source run on, twice", source_goes_on),
    (f"{VERSION}: --live, RAM equal", live),
    (f"{VERSION}: mapped-ram, RAM equal", mapped()),
    (f"{VERSION}: mapped-ram with four connections, RAM equal",
     mapped("--parallel-connections=4")),
    (f"{VERSION}: mapped-ram is refused where QEMU lacks it", mapped_is_refused),
    (f"{VERSION}: under exec:, RAM equal", under_exec),
    (f"{VERSION}: through pipes, RAM equal", from_a_pipe),
    (f"{VERSION}: a plain stream is restored as it is, and packed", plain_stream),
    (f"{VERSION}: reading goes on at any offset", resumed),
    (f"{VERSION}: a full disk leaves guest and disk as they were", full_disk),
    (f"{VERSION}: a name that is taken meanwhile leaves the guest running", name_is_taken),
    (f"{VERSION}: signals leave guest and disk as they were", cancelled),
    (f"{VERSION}: killed half way, no file, guest unharmed", killed),
    (f"{VERSION}: damage is told with its place", damaged),
    (f"{VERSION}: a QEMU that dies leaves no file", source_dies),
    (f"{VERSION}: another machine is refused", other_machine),
])
