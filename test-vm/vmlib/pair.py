# SPDX-License-Identifier: LGPL-2.1-or-later
"""A source with a running guest, and a destination that waits for it."""
import atexit
import os
import shutil
import tempfile
import time

from . import ram
from .qemus import guest_elf
from .side import Side

DEFAULT_WORKLOAD = {"ws": "64M", "rate": 2000, "pattern": "word", "order": "seq",
                    "content": "text"}
# A tick counts as ticking when so many came: one could be left in a pipe.
TICKS_WANTED = 10


class Pair:
    """Both QEMUs of a migration, alike but for -incoming; ended with everything they left."""

    def __init__(self, src, dst, mem_mib=512, accel="kvm", machine="pc-i440fx-7.2",
                 workload=None, fill=0.5, share=True, extra=(), link=None, smp=1):
        self.workload = {**DEFAULT_WORKLOAD, **(workload or {})}
        self.link = link
        self.dir = tempfile.mkdtemp(prefix="qmig-vm-", dir="/dev/shm")
        self._qemus = {"src": src, "dst": dst}
        self._options = {"mem_mib": mem_mib, "accel": accel, "machine": machine, "smp": smp}
        self._fill, self._share, self._extra = fill, share, list(extra)
        self._pool = os.path.join(self.dir, "pool")
        self.src = self.dst = None
        atexit.register(self.close)
        try:
            ram.write_pool(self._pool, self.workload["content"])
            self.src = self._start("src")
            self.dst = self._start("dst")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _prefix(self, name):
        if not self.link:
            return []
        return self.link.exec_prefix if name == "src" else self.link.dst_exec_prefix

    def _argv(self, name, memory):
        options = self._options
        workload = ":".join(f"{key}={value}" for key, value in self.workload.items())
        share = "on" if self._share else "off"
        argv = [*self._prefix(name), *self._qemus[name].argv,
                "-name", f"qmig-test-{name}", "-nodefaults", "-no-user-config",
                "-display", "none", "-accel", options["accel"],
                "-machine", f"{options['machine']},memory-backend=mem",
                # kvmclock: the firmware switches it on, and then KVM writes to a page of RAM
                # whenever the guest stops or starts, which no comparison can allow for.
                # pni: promised by the model, not had everywhere, and not used.
                "-cpu", "qemu64,kvmclock=off,pni=off", "-smp", str(options["smp"]),
                "-m", f"{options['mem_mib']}M",
                "-object", f"memory-backend-file,id=mem,size={options['mem_mib']}M,"
                           f"mem-path={memory},share={share},prealloc=off",
                "-kernel", guest_elf(),
                "-fw_cfg", f"name=opt/qmig/workload,string={workload}",
                "-fw_cfg", f"name=opt/qmig/pool,file={self._pool}"]
        if name == "dst":
            argv += ["-S", "-incoming", "defer"]
        return argv + self._extra

    def _start(self, name):
        size = self._options["mem_mib"] * ram.MIB
        memory = os.path.join(self.dir, f"{name}.ram")
        if os.path.exists(memory):
            os.unlink(memory)
        ram.make(memory, size)
        if name == "src":
            start = 64 * ram.MIB + ram.parse_size(self.workload["ws"])
            ram.prefill(memory, start, size, self._fill)
        side = Side(name, self.dir, self._argv(name, memory))
        try:
            side.start()
        except BaseException:
            side.stop()
            raise
        return side

    def wait_ticking(self, side, timeout=20):
        """Wait until the guest ticks there. A source that never did is booted once more, since
        a nested KVM does not always boot; side is then self.src, renewed."""
        was_source = side is self.src
        for may_retry in (True, False):
            if was_source:
                side = self.src
            before, deadline = side.ticks.count, time.monotonic() + timeout
            while side.ticks.count < before + TICKS_WANTED:
                if not side.alive():
                    raise RuntimeError(f"{side.name}: QEMU ended: {side.stderr_text().strip()}")
                if time.monotonic() > deadline:
                    break
                time.sleep(0.005)
            else:
                return
            if not (may_retry and was_source and side.ticks.count == 0):
                break
            side.stop()
            self.src = self._start("src")
        raise TimeoutError(f"{side.name}: the guest does not tick: {side.stderr_text().strip()}")

    def compare_ram(self):
        """Numbers of the pages that differ; both sides must be stopped, and their RAM shared."""
        if not self._share:
            raise RuntimeError("compare_ram() needs share=True")
        for side in (self.src, self.dst):
            assert not side.is_running(), f"{side.name} runs: its memory changes while compared"
        return ram.differing_pages(self.src.ram, self.dst.ram)

    def running(self):
        """The sides whose guest runs: QEMU says so, and ticks arrive within a second."""
        sides = [side for side in (self.src, self.dst) if side.is_running()]
        before = {side.name: side.ticks.count for side in sides}
        deadline = time.monotonic() + 1
        found = []
        while len(found) < len(sides) and time.monotonic() < deadline:
            time.sleep(0.005)
            found = [side.name for side in sides if side.ticks.count > before[side.name]]
        return found

    def guest_errors(self):
        """What the guest found wrong with its memory, on either side."""
        errors = []
        for side in (self.src, self.dst):
            errors += [f"{side.name}: {line}" for line in list(side.ticks.corrupt)]
            count = side.ticks.last_line.get("errors", 0)
            if count:
                errors.append(f"{side.name}: errors={count}")
        return errors

    def blackout_ms(self):
        """From the source's last tick before the destination's first one, to that one."""
        first = self.dst.ticks.first_ns
        last = self.src.ticks.last_before(first) if first else None
        if last is None:
            raise RuntimeError("blackout: no tick on both sides yet")
        return (first - last) / 1e6

    def new_destination(self):
        """End the destination and start a fresh one in its place."""
        self.dst.stop()
        self.dst = self._start("dst")
        return self.dst

    def close(self):
        """End what was started, the link included, and remove every file of it."""
        atexit.unregister(self.close)
        for side in (self.src, self.dst):
            if side:
                side.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
        if self.link:
            self.link.close()
