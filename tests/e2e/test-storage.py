#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Disks go along, while the guest writes one of them and verifies it: test-storage.py VERSION.

After each: both images equal with the guest standing still, RAM equal byte for byte, one guest
that finds its disk as it left it, and on neither side a job, node or export that was not there.
"""
import os
import signal
import sys
import time

import lib
from lib import check, vm

VERSION = sys.argv[1]
DATA = "80M"        # in the second disk, which nobody writes
WORKLOAD = {"ws": "16M", "rate": 1000, "disk": "4M", "drate": 200}
ALL = "--copy-storage-all"
SLOW = "--bandwidth=20MiB/s"


def pair(disks=None, workload=None, **options):
    """A guest that writes its first disk; the second one holds data."""
    qemu = lib.qemu(VERSION)
    disks = disks if disks is not None else [vm.Disk(), vm.Disk("256M")]
    made = vm.Pair(qemu, accel=lib.accel(qemu), mem_mib=128, disks=disks,
                   workload={**WORKLOAD, **(workload or {})}, **options)
    return made


class Filled(vm.Disk):
    """A disk whose image on the source holds data before QEMU opens it."""

    def make(self, path):
        super().make(path)
        if "src" in os.path.basename(path):
            vm.disks.write(path, 0x5a, "8M", DATA, self.format)


def filled(**options):
    """The usual two disks."""
    return [vm.Disk(**options), Filled("256M", **options)]


def block_state(side):
    """What a copy could leave, to compare before and after."""
    return {"jobs": [job["id"] for job in side.cmd("query-jobs")],
            "nodes": sorted(node["node-name"] for node in side.cmd("query-named-block-nodes")
                            if not node["node-name"].startswith("#")),
            "exports": [export["id"] for export in side.cmd("query-block-exports")]}


def wait_disk_writes(side, n, timeout=20):
    """Wait until the guest has written @n more blocks, verifying those it had written before."""
    def count():
        return side.ticks.status.disk_writes if side.ticks.status else 0
    target, deadline = count() + n, time.monotonic() + timeout
    while count() < target:
        check(time.monotonic() < deadline, f"{side.name}: the guest writes its disk")
        time.sleep(0.05)


def equal_disks(p, numbers=(0, 1)):
    """The images of both sides, byte for byte; those that are sparse stay so."""
    for number in numbers:
        src, dst = p.src.disks[number], p.dst.disks[number]
        disk = p.disks[number]
        check(vm.disks.equal(src, dst, disk.format, disk.format), f"disk {number}: images equal")
        a, b = vm.disks.allocated(src), vm.disks.allocated(dst)
        # What the guest writes into holes of its 4 MiB meanwhile is mirrored by 64 KiB.
        check(b <= a + (5 << 20), f"disk {number}: sparse kept: {a} -> {b} bytes")


def moved(p, *options, numbers=(0, 1)):
    """Migrate, everything proven. Return: the report."""
    p.wait_ticking(p.src)
    wait_disk_writes(p.src, 20)
    before = block_state(p.src), block_state(p.dst)
    settings = lib.settings(p.src)
    report = None

    done = lib.run(*lib.migrate_args(p), "--suspend", "--keep-source", *options)
    check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
    report = done.report()
    check(p.compare_ram() == [], "RAM equal byte for byte")
    equal_disks(p, numbers)
    check(block_state(p.src) == before[0], f"source: {block_state(p.src)}, before {before[0]}")
    check(block_state(p.dst) == before[1], f"destination: {block_state(p.dst)}")
    check("dirty-bitmaps" in str(options) or lib.settings(p.src) == settings,
          "the source's settings are put back")
    check(p.running() == [], "nobody runs before cont")
    p.dst.cmd("cont")
    p.wait_ticking(p.dst)
    wait_disk_writes(p.dst, 200)
    check(p.running() == ["dst"], "one guest runs")
    check(p.guest_errors() == [], f"memory and disk are what the guest wrote: {p.guest_errors()}")
    return report


def stayed(p, done, code, before, settings=None):
    """The guest goes on on the source, which nothing is left on."""
    lib.stayed_whole(p, done, code, settings)
    check(block_state(p.src) == before,
          f"source: {block_state(p.src)}, before {before}: {done.err}")
    wait_disk_writes(p.src, 50)
    check(p.guest_errors() == [], f"the disk is what the guest wrote: {p.guest_errors()}")


def refused(p, *options, text):
    """Exit 2 with @text, nothing touched: the destination can be used again."""
    before = block_state(p.src), block_state(p.dst), lib.settings(p.src), lib.settings(p.dst)
    done = lib.run(*lib.migrate_args(p), *options)
    check(done.code == 2, f"exit 2, got {done.code}: {done.err}")
    check(text in done.err, f"says \"{text}\": {done.err}")
    now = block_state(p.src), block_state(p.dst), lib.settings(p.src), lib.settings(p.dst)
    check(now == before, "nothing was touched")


def in_storage(p, *options):
    """A started qmig in its phase storage, with some of a disk copied."""
    process = lib.start(*lib.migrate_args(p), ALL, SLOW, *options)
    lib.interrupt_when(process, lambda event: event.get("phase") == "storage")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if any(job["current-progress"] > 2 << 20 for job in p.src.cmd("query-jobs")):
            return process
        time.sleep(0.02)
    raise AssertionError("the copy does not begin")


# ---- it works ----------------------------------------------------------------------------------

def both_disks():
    """qcow2 by -drive, of nodes nobody named."""
    with pair(filled()) as p:
        report = moved(p, ALL)
        check(report["storage"]["mode"] == "all" and report["storage"]["equal"], "the report")
        names = [disk["name"] for disk in report["storage"]["disks"]]
        check(names == ["drive0", "drive1"], f"the report names the disks: {names}")
        print(f"# copy {report['storage']['copy_ms']} ms, downtime {report['ms']['downtime']} ms")


def raw_nodes():
    """Raw images by -blockdev; a bandwidth for the copy."""
    with pair(filled(format="raw", nodes=True)) as p:
        report = moved(p, ALL, "--bandwidth=60MiB/s")
        took = report["storage"]["copy_ms"]
        check(took > 800, f"80 MiB at 60 MiB/s for both disks take more than 0.8 s: {took} ms")


def over_tcp():
    """A port of its own for the disks; the guest's writes wait for the copy."""
    with pair(filled()) as p:
        moved(p, ALL, "--copy-storage-synchronous-writes", "--migrateuri=tcp:127.0.0.1:0",
              "--listen=tcp:127.0.0.1:0", "--disks-uri=tcp:127.0.0.1:0")


def one_of_two():
    """--migrate-disks leaves the other one as it is there."""
    with pair(filled()) as p:
        moved(p, ALL, "--migrate-disks=disk0", "--unsafe", numbers=[0])
        check(vm.disks.allocated(p.dst.disks[1]) < 1 << 20, "the other disk was not copied")


def above_backing():
    """--copy-storage-inc: the base is there already, and is not copied."""
    with lib.tempfile.TemporaryDirectory() as scratch:
        base = os.path.join(scratch, "base.img")
        vm.disks.run("qemu-img", "create", "-q", "-f", "raw", base, "256M")
        vm.disks.write(base, 0x11, 0, "64M", "raw")
        # The guest writes above the base, without having read it.
        with pair([vm.Disk("256M", backing=base)]) as p:
            moved(p, "--copy-storage-inc", numbers=[0])
            check(vm.disks.allocated(p.dst.disks[0]) < 16 << 20, "the base was not copied")
        with pair([vm.Disk("256M")]) as p:
            p.wait_ticking(p.src)
            refused(p, "--copy-storage-inc", text="no backing file")


class Shared(vm.Disk):
    """One image for both sides."""
    path = None

    def make(self, path):
        Shared.path = Shared.path if Shared.path and os.path.exists(Shared.path) else path
        if Shared.path == path:
            super().make(path)

    def args(self, number, path):
        return super().args(number, Shared.path)


def shared_goes_by_itself():
    """A shared image needs no word; with --copy-storage-all it is left out."""
    with pair([Shared()]) as p:
        p.wait_ticking(p.src)
        wait_disk_writes(p.src, 20)
        done = lib.run(*lib.migrate_args(p), ALL)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check("is shared" in done.err, f"the message: {done.err}")
        wait_disk_writes(p.dst, 200)
        check(p.guest_errors() == [] and p.running() == ["dst"], "the guest finds its disk")


def bitmaps():
    """Dirty bitmaps arrive with what they hold, under nodes with other names."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        node = p.src.cmd("query-block")[0]["inserted"]["node-name"]
        for name in ("backup", "other"):
            p.src.cmd("block-dirty-bitmap-add", node=node, name=name)
        wait_disk_writes(p.src, 50)
        p.src.cmd("stop")
        counts = counts_of(p.src)
        p.src.cmd("cont")
        check(all(counts.values()), f"the bitmaps hold something: {counts}")
        moved(p, ALL, "--dirty-bitmaps")
        arrived = counts_of(p.dst)
        check(arrived.keys() == counts.keys(), f"the bitmaps arrived: {arrived}")
        check(all(arrived[name] >= counts[name] for name in counts),
              f"with what they held: {counts} -> {arrived}")


def counts_of(side):
    """{name: bytes} of the first disk's bitmaps."""
    medium = side.cmd("query-block")[0]["inserted"]
    return {b["name"]: b["count"] for b in medium.get("dirty-bitmaps", []) if b.get("name")}


# ---- it is refused -----------------------------------------------------------------------------

def refusals():
    """What does not fit is told before anything is touched."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        refused(p, text="is not copied")
        refused(p, ALL, "--migrate-disks=drive7", text="no disk \"drive7\"")
        refused(p, ALL, "--migrate-disks=drive0=drive1", "--unsafe", text="bytes")
        p.src.cmd("block-dirty-bitmap-add", name="b",
                  node=p.src.cmd("query-block")[0]["inserted"]["node-name"])
        with p.src.monitor_free():
            refused_while_locked(p)
        moved(p, ALL)


def refused_while_locked(p):
    """A second qmig finds the guest taken."""
    first = lib.start(*lib.migrate_args(p), ALL, "--bandwidth=4MiB/s")
    lib.interrupt_when(first, lambda event: event.get("phase") == "storage")
    second = lib.run("migrate", f"unix:{p.src.qmp2}", f"unix:{p.dst.qmp}", ALL)
    first.send_signal(signal.SIGINT)
    lib.finish(first)
    check(second.code == 2, f"exit 2, got {second.code}: {second.err}")
    p.new_destination()


# ---- it goes wrong -----------------------------------------------------------------------------

def cancelled():
    """Ctrl-C while disks are copied."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        before, settings = block_state(p.src), lib.settings(p.src)
        process = in_storage(p)
        process.send_signal(signal.SIGINT)
        stayed(p, lib.finish(process), 4, before, settings)
        p.new_destination()
        moved(p, ALL)


def destination_dies():
    """kill -9 of the destination while disks are copied."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        before, settings = block_state(p.src), lib.settings(p.src)
        process = in_storage(p, "--copy-storage-synchronous-writes")
        os.kill(p.dst.pid, signal.SIGKILL)
        stayed(p, lib.finish(process), 3, before, settings)


def destination_freezes():
    """SIGSTOP of the destination, then Ctrl-C: the stuck mirror is freed."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        before, settings = block_state(p.src), lib.settings(p.src)
        process = in_storage(p)
        os.kill(p.dst.pid, signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        done = lib.finish(process, timeout=90)
        stayed(p, done, 4, before, settings)
        check(not p.dst.alive(), "the frozen destination is gone")


def qmig_dies():
    """kill -9 of qmig: the next one removes what it left, and succeeds."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        process = in_storage(p)
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        check(p.running() == ["src"], "the guest runs on the source")
        check(block_state(p.src)["jobs"] != [], "the mirrors went on")
        p.new_destination()
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), ALL)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check("is removed" in done.err, f"told: {done.err}")
        wait_disk_writes(p.dst, 100)
        check(p.running() == ["dst"] and p.guest_errors() == [], "the guest goes on")


def recovered():
    """kill -9 of qmig: qmig recover removes what it left; then a rehearsal sends nothing."""
    with pair(filled()) as p, lib.tempfile.TemporaryDirectory() as scratch:
        p.wait_ticking(p.src)
        before, journal = block_state(p.src), os.path.join(scratch, "journal")
        process = in_storage(p, f"--journal={journal}")
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        done = lib.run("recover", journal)
        check(done.code == 3, f"exit 3, got {done.code}: {done.err}")
        check(block_state(p.src) == before, f"the source is clean: {block_state(p.src)}")
        p.new_destination()
        there = block_state(p.dst)
        done = lib.run(*lib.migrate_args(p)[:3], ALL, "--dry-run")
        check(done.code == 0 and "blockdev-mirror" in done.out, f"the plan: {done.err}")
        check((block_state(p.src), block_state(p.dst)) == (before, there), "nothing was sent")
        check(p.running() == ["src"], "the guest runs on the source")


def destination_dies_late():
    """kill -9 of the destination while memory follows, the mirrors going on."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        before, settings = block_state(p.src), lib.settings(p.src)
        process = lib.start(*lib.migrate_args(p), ALL, "--bandwidth=20MiB/s")
        lib.interrupt_when(process, lambda event: event.get("phase") == "perform")
        os.kill(p.dst.pid, signal.SIGKILL)
        stayed(p, lib.finish(process), 3, before, settings)


def with_postcopy():
    """The disks are equal before the guest runs there with its memory still coming."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        wait_disk_writes(p.src, 50)
        done = lib.run(*lib.migrate_args(p), ALL, "--postcopy-after-precopy", "--downtime=5ms",
                       "--bandwidth=100MiB/s")
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check(done.report()["storage"]["equal"], "the images were made equal")
        p.wait_ticking(p.dst)
        wait_disk_writes(p.dst, 200)
        check(p.running() == ["dst"] and p.guest_errors() == [],
              f"the guest finds its disk: {p.guest_errors()}")
        check(block_state(p.dst)["exports"] == [], "no export is left")


def devices_change():
    """A device plugged while disks are copied."""
    with pair(filled()) as p:
        p.wait_ticking(p.src)
        before = block_state(p.src)
        process = in_storage(p, "--change-protection")
        p.src.cmd("device_add", driver="virtio-balloon-pci", id="balloon0")
        done = lib.finish(process)
        stayed(p, done, 3, before)
        check("balloon0" in done.err, f"the device is named: {done.err}")


class Failing(vm.Disk):
    """Writes to one block fail; the guest is told so."""

    def args(self, number, path):
        return ["-blockdev", f"file,node-name=file{number},filename={path}",
                "-blockdev", f"blkdebug,node-name=bad{number},image=file{number},"
                             "inject-error.0.event=pwritev,inject-error.0.sector=64,"
                             "inject-error.0.once=off",
                "-blockdev", f"raw,node-name=drive{number},file=bad{number}",
                "-device", f"virtio-blk-pci,id=disk{number},drive=drive{number},werror=report"]


def io_error():
    """--abort-on-error ends it; without, it is told and goes on until the copy itself fails."""
    with pair([Failing(format="raw"), Filled("256M")], workload={"disk": "512K"}) as p:
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), ALL, "--migrate-disks=drive1", "--unsafe", SLOW,
                       "--abort-on-error")
        check(done.code == 3, f"exit 3, got {done.code}: {done.err}")
        check("I/O error of the guest (--abort-on-error)" in done.err, f"the reason: {done.err}")
        check(p.running() == ["src"], "the guest runs on the source")


def guest_notices():
    """What the tests build on: a block changed behind the guest's back is found."""
    with pair([vm.Disk()], workload={"disk": "256K"}) as p:
        p.wait_ticking(p.src)
        wait_disk_writes(p.src, 200)
        check(p.guest_errors() == [], "no error before")
        p.src.cmd("human-monitor-command", **{"command-line": 'qemu-io drive0 "write 64k 64k"'})
        deadline = time.monotonic() + 10
        while not p.guest_errors() and time.monotonic() < deadline:
            time.sleep(0.1)
        check("CORRUPT disk" in str(p.guest_errors()), "the guest says so")


TESTS = [
    ("the guest notices a changed block", guest_notices),
    ("two disks, whole: RAM and images equal, sparse kept", both_disks),
    ("raw images of named nodes, sparse kept; bandwidth", raw_nodes),
    ("over tcp, synchronous writes", over_tcp),
    ("--migrate-disks copies only those", one_of_two),
    ("--copy-storage-inc copies what is above the base", above_backing),
    ("a shared image goes by itself", shared_goes_by_itself),
    ("--dirty-bitmaps", bitmaps),
    ("what does not fit is refused, nothing touched; one qmig for a guest", refusals),
    ("cancelled while copying; again", cancelled),
    ("the destination dies while copying", destination_dies),
    ("the destination freezes while copying", destination_freezes),
    ("qmig is killed while copying; the next one succeeds", qmig_dies),
    ("qmig is killed while copying; qmig recover, and a rehearsal", recovered),
    ("the destination dies while memory follows", destination_dies_late),
    ("with post-copy", with_postcopy),
    ("--change-protection", devices_change),
    ("--abort-on-error", io_error),
]
# Some twenty seconds each; with QMIG_TEST_FULL, and by name.
LONG = ("the destination freezes while copying", "cancelled while copying; again",
        "qmig is killed while copying; the next one succeeds")
WANTED = sys.argv[2:]
lib.run_tests([(f"{VERSION}: {name}", test) for name, test in TESTS
               if (any(word in name for word in WANTED) if WANTED
                   else lib.FULL or name not in LONG)])
