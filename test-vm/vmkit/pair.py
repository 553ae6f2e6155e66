# SPDX-License-Identifier: LGPL-2.1-or-later
"""A source that runs a guest, and a destination that waits for it."""
import os
import re
import time

from . import cleanup, qemus, ram
from .cleanup import VmError
from .qmp import QmpTimeout
from .side import Side, machine_args

_SHM = "/dev/shm"
_POOL_BYTES = 1 << 20
_BARE_BASE = 16 << 20       # DEFAULT_BASE of guest/layout.h
_BARE_WS = 64 << 20
_LINUX_BASE = 64 << 20      # its kernel and what that needs at boot lie below
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(value):
    """Bytes of 4096, "64M"."""
    match = re.fullmatch(r"(\d+)([KMG]?)", str(value))
    if not match:
        raise VmError(f"size {value!r}: want a number with K, M or G")
    return int(match[1]) * _UNITS[match[2]]


class Pair:
    """Both sides of a migration; the guest runs on the source, the destination is deferred.

    src, dst   Qemu; dst=None: the same
    workload   of the bare guest: ws, rate, pattern, order, content, base (README.md);
               of the Linux guest: ws, rate in MiB (linux/README.md)
    fill       part of the RAM beyond the working set that holds contents
    content    which: "files" (as a page cache), "text", "random", or "used": as after days of use
    memory     instead: a file of vm.template(), which stays as it is; needs share=False
    pool       a file of vm.pool(), of which bodies of pages are slices; absent: 1 MiB of one
    share      memory is one file per side below /dev/shm, so that sides can be compared
    dirty_extra_args   more words for both QEMUs
    disks      disks.Disk of each disk; the images are in .src.disks and .dst.disks
    link       Link: each QEMU runs at its end of it

    Threads: make it in a thread that outlives it (see cleanup.spawn()).
    """

    def __init__(self, src, dst=None, mem_mib=512, accel="kvm", machine="pc-i440fx-7.2",
                 workload=None, guest="bare", fill=0.5, share=True, dirty_extra_args=(),
                 link=None, tmpdir=None, disks=(), content="files", memory=None, pool=None):
        if guest not in ("bare", "linux") or accel not in ("kvm", "tcg"):
            raise VmError(f"guest {guest!r}, accel {accel!r}: want bare or linux, kvm or tcg")
        if content not in ram.CONTENTS:
            raise VmError(f"content {content!r}: want one of {', '.join(ram.CONTENTS)}")
        if memory and share:
            raise VmError("memory: a guest that shares it would change the file (share=False)")
        self.link, self._qemu_dst, self._n_destinations = link, dst or src, 0
        self.src = self.dst = None
        self._shm = self._dir = None
        self.disks = list(disks)
        self._closed = False
        self.config = {"mem_mib": mem_mib, "accel": accel, "machine": machine, "guest": guest,
                       "workload": dict(workload or {}), "share": share, "pool": pool,
                       "extra_args": list(dirty_extra_args)}
        cleanup.register(self)
        try:
            self._shm = cleanup.PrivateDir(_SHM)
            self._dir = cleanup.PrivateDir(tmpdir)
            self._start(src, fill, content, memory)
        except BaseException:
            self.close()
            raise

    @property
    def dir(self):
        """A private directory that goes with the pair."""
        return self._dir.path

    # ---- starting ----------------------------------------------------------------------------

    def _start(self, qemu, fill, content, memory):
        if self.config["guest"] == "bare" and not self.config["pool"]:
            self._make_pool()
        start, size = self._free_memory(), self.config["mem_mib"] << 20
        ram_path = memory or self._new_ram("src.ram")
        if not memory:
            ram.prefill(ram_path, start, size, fill, content)
        images, disk_args = self._new_disks("src")
        self.src = Side("src", qemu, machine_args(self.config, ram_path) + disk_args, self.dir,
                        ram_path, self.link.exec_prefix if self.link else ())
        self.src.disks = images
        self._start_destination()
        self.src.connect()
        self.dst.connect()

    def _make_pool(self):
        """What the bodies of the guest's pages are made of; the guest takes it by DMA."""
        content = self.config["workload"].get("content", "text")
        if content == "zero":
            data = bytes(_POOL_BYTES)
        elif content == "random":
            data = os.urandom(_POOL_BYTES)
        else:
            data = ram.sample(_POOL_BYTES)
        self.config["pool"] = self._dir.file("pool")
        with open(self.config["pool"], "wb") as file:
            file.write(data)

    def _free_memory(self):
        """Where the guest's own memory ends; what follows is ours to fill."""
        workload, size = self.config["workload"], self.config["mem_mib"] << 20
        if self.config["guest"] == "linux":
            return min(_LINUX_BASE, size)
        end = parse_size(workload.get("base", _BARE_BASE)) + parse_size(workload.get("ws", _BARE_WS))
        # The firmware's tables lie at the end of the memory.
        if end > size - (1 << 20):
            raise VmError(f"workload {workload}: does not fit into {size >> 20} MiB")
        return end

    def _new_ram(self, name):
        path = self._shm.file(name)
        with open(path, "wb") as file:
            os.truncate(file.fileno(), self.config["mem_mib"] << 20)
        return path

    def _new_disks(self, name):
        """A fresh image of each disk: their paths, and QEMU's words for them."""
        paths, args = [], []
        for number, disk in enumerate(self.disks):
            path = self._dir.file(f"{name}-disk{number}")
            disk.make(path)
            paths.append(path)
            args += disk.args(number, path)
        return paths, args

    def _start_destination(self):
        self._n_destinations += 1
        # What need not be compared is anonymous memory, as guests have it.
        ram_path = (self._new_ram(f"dst{self._n_destinations}.ram") if self.config["share"]
                    else None)
        images, disk_args = self._new_disks(f"dst{self._n_destinations}")
        args = machine_args(self.config, ram_path) + disk_args + ["-S", "-incoming", "defer"]
        self.dst = Side("dst", self._qemu_dst, args, self.dir, ram_path,
                        self.link.dst_exec_prefix if self.link else ())
        self.dst.disks = images

    def new_destination(self, qemu=None):
        """Kill the destination and start a fresh one, of another QEMU if given."""
        self._end_destination()
        self._qemu_dst = qemu or self._qemu_dst
        self._start_destination()
        self.dst.connect()

    def swap(self):
        """The destination, which has the guest, is the source of the next migration."""
        self.src.close()
        for name in ("qmp", "qmp2"):
            path = getattr(self.src, name)
            os.replace(getattr(self.dst, name), path)
            setattr(self.dst, name, path)
        if self.src.ram_path:
            os.unlink(self.src.ram_path)
        self.src, self.src.name = self.dst, "src"
        self._start_destination()
        self.dst.connect()

    def _end_destination(self):
        self.dst.close()
        for path in (self.dst.ram_path, self.dst.qmp, self.dst.qmp2):
            if path and os.path.exists(path):
                os.unlink(path)

    # ---- asking ------------------------------------------------------------------------------

    def _side(self, side):
        return {"src": self.src, "dst": self.dst}[side] if isinstance(side, str) else side

    def wait_ticking(self, side, timeout=30.0):
        """Wait until the guest ticks there (from now on); VmError if it does not."""
        side = self._side(side)
        # More than one: the first may have been under way when it was stopped.
        if not side.ticks.wait_ticks(3, timeout):
            raise VmError(f"{side.name}: no ticks within {timeout} s; status {side.status()}; "
                          f"said {list(side.ticks.notes)[-5:]}; {side.stderr_text().strip()}")

    def running(self, window_s=0.25):
        """The names of the sides whose guest runs: by query-status, and by its ticks.

        A QEMU that does not answer counts by its ticks alone: a guest that ticks runs.
        """
        sides = [side for side in (self.src, self.dst) if side.alive()]
        before = [side.ticks.count for side in sides]
        time.sleep(window_s)
        running = []
        for side, count in zip(sides, before):
            try:
                status = side.status(2.0)
            except QmpTimeout:
                status = "running"
            if status == "running" and side.ticks.count == count:
                # Emulated, or short of processor time: it gets more patience.
                side.ticks.wait(lambda log, n=count: log.count > n, 5.0)
            if status == "running" and side.ticks.count > count:
                running.append(side.name)
        return running

    def compare_ram(self):
        """The numbers of the pages that differ; neither guest may run."""
        if not self.config["share"]:
            raise VmError("compare_ram: memory is not shared (share=False)")
        for side in (self.src, self.dst):
            status = side.status()
            if status == "running":
                raise VmError(f"compare_ram: the guest runs on {side.name}")
        return ram.differing_pages(self.src.ram_path, self.dst.ram_path)

    def compare_unwritten(self):
        """The numbers of the pages that differ where the guest does not write; the source must
        stand still, the destination need not. What it writes, the guest verifies itself."""
        if not self.config["share"]:
            raise VmError("compare_unwritten: memory is not shared (share=False)")
        if self.src.alive() and self.src.status() == "running":
            raise VmError("compare_unwritten: the guest runs on the source")
        first = self._free_memory() // ram.PAGE
        return [page for page in ram.differing_pages(self.src.ram_path, self.dst.ram_path)
                if page >= first]

    def guest_errors(self):
        """Corruption that the guest found, on either side."""
        return [f"{side.name}: {line}" for side in (self.src, self.dst)
                for line in side.ticks.errors()]

    def blackout_ms(self):
        """From the last sign of life on the source to the first on the destination."""
        last, first = self.src.ticks.last_ns, self.dst.ticks.first_ns
        if last is None or first is None:
            raise VmError("blackout: the guest has not ticked on both sides")
        return (first - last) / 1e6

    # ---- ending ------------------------------------------------------------------------------

    def close(self):
        """End both QEMUs and remove every file. The link stays: it is its maker's."""
        if self._closed:
            return
        self._closed = True
        for thing in (self.src, self.dst, self._shm, self._dir):
            if thing is not None:
                thing.close()
        cleanup.forget(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


_kvm = {}


def kvm_works(qemu):
    """Whether the bare-metal guest really ticks under KVM with this QEMU; asked once."""
    key = tuple(qemu.argv)
    if key not in _kvm:
        _kvm[key] = os.access("/dev/kvm", os.R_OK | os.W_OK) and _ticks_under_kvm(qemu)
    return _kvm[key]


def _ticks_under_kvm(qemu):
    directory = cleanup.PrivateDir(None)
    side = None
    try:
        memory = directory.file("ram")
        with open(memory, "wb") as file:
            os.truncate(file.fileno(), 64 << 20)
        config = {"mem_mib": 64, "accel": "kvm", "machine": "pc-i440fx-7.2", "guest": "bare",
                  "workload": {"ws": "64K"}, "share": False, "pool": None, "extra_args": []}
        side = Side("probe", qemu, machine_args(config, memory), directory.path, memory)
        return side.ticks.wait_ticks(10, 10.0)
    except VmError:
        return False
    finally:
        if side is not None:
            side.close()
        directory.close()
