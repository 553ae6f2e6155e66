# SPDX-License-Identifier: LGPL-2.1-or-later
"""One QEMU of a pair: its command line, process, monitors and ticks."""
import fcntl
import contextlib
import os
import time

from . import cleanup, qemus
from .cleanup import VmError
from .qmp import Qmp, QmpClosed
from .ticks import TickLog

_PIPE_BYTES = 1 << 20   # the bare guest does not wait for a full pipe: it would lose ticks


def machine_args(config, memory_path):
    """What both sides have in common: machine, memory, serial line, the guest itself."""
    # pc.ram: the name of the block that QEMU makes when none is given. kvmclock: KVM writes
    # its page on the destination when the state is loaded, so memories would never be equal.
    size, share = f"size={config['mem_mib']}M", "on" if config["share"] else "off"
    memory = (f"memory-backend-file,id=pc.ram,{size},mem-path={memory_path},share={share},"
              "prealloc=off" if memory_path else f"memory-backend-ram,id=pc.ram,{size}")
    args = ["-nodefaults", "-no-user-config", "-display", "none",
            "-machine", f"{config['machine']},memory-backend=pc.ram",
            "-accel", config["accel"], "-cpu", "qemu64,kvmclock=off", "-smp", "1",
            "-m", f"{config['mem_mib']}M",
            "-object", memory,
            "-device", "isa-serial,id=serial0,chardev=serial0"]
    return args + guest_args(config) + config["extra_args"]


def guest_args(config):
    workload = config["workload"]
    if config["guest"] == "linux":
        kernel, initrd = qemus.linux_images()
        words = ["console=ttyS0", "quiet", *(f"qmig.{k}={v}" for k, v in workload.items())]
        return ["-kernel", kernel, "-initrd", initrd, "-append", " ".join(words)]
    # A comma would end the option's value, hence the colons.
    text = ":".join(f"{key}={value}" for key, value in workload.items())
    # qboot: SeaBIOS takes four seconds where KVM is nested.
    args = ["-bios", "qboot.rom", "-kernel", qemus.bare_image()]
    if text:
        args += ["-fw_cfg", f"name=opt/qmig/workload,string={text}"]
    if config["pool"]:
        args += ["-fw_cfg", f"name=opt/qmig/pool,file={config['pool']}"]
    return args


class Side:
    """A running QEMU.

    name        "src" or "dst"
    qmp, qmp2   paths of its two monitors; the launcher itself holds a connection to qmp2
    ram_path    the file that is its memory
    ticks       TickLog of its guest
    """

    def __init__(self, name, qemu, args, directory, ram_path, prefix=()):
        self.name, self.qemu, self.ram_path = name, qemu, ram_path
        self.qmp = os.path.join(directory, f"{name}.qmp")
        self.qmp2 = os.path.join(directory, f"{name}.qmp2")
        self._stderr_path = os.path.join(directory, f"{name}.stderr")
        self._monitor = None
        self.argv = [*prefix, *qemu.argv, "-name", f"qmig-{name}", *args,
                     "-qmp", f"unix:{self.qmp},server=on,wait=off",
                     "-qmp", f"unix:{self.qmp2},server=on,wait=off"]
        self._spawn()

    def _spawn(self):
        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        # Opened anew by its name: a descriptor set does not take a pipe for this chardev.
        self.argv += ["-chardev", f"file,id=serial0,path=/proc/self/fd/{write_end}"]
        try:
            with open(self._stderr_path, "wb") as stderr:
                self.process = cleanup.spawn(self.argv, stdout=stderr, stderr=stderr,
                                             pass_fds=[write_end])
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self.ticks = TickLog(read_end)

    def __repr__(self):
        return f"Side({self.name}, QEMU {self.qemu.full_version}, pid {self.pid})"

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def stderr_text(self):
        with open(self._stderr_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def connect(self, timeout=20.0):
        """Wait until QEMU is up."""
        try:
            self._monitor = Qmp(self.qmp2, timeout, self.alive)
        except VmError as error:
            raise VmError(f"{self.name}: {error}: {self.stderr_text().strip()}") from error

    def qmp_cmd(self, command, timeout=10.0, **arguments):
        """One command by qmp2: its "return", or QmpError, QmpTimeout, QmpClosed."""
        if self._monitor is None:
            raise QmpClosed(f"{self.name}: not connected")
        return self._monitor.command(command, arguments, timeout)

    cmd = qmp_cmd

    @contextlib.contextmanager
    def monitor_free(self):
        """Leave qmp2 to somebody else meanwhile: QEMU serves one client at a time."""
        self._monitor.close()
        self._monitor = None
        yield
        self.connect()

    @property
    def events(self):
        """Events that came with the answers to qmp_cmd()."""
        return self._monitor.events

    def status(self, timeout=10.0):
        """The run state, None if QEMU is gone."""
        try:
            return self.qmp_cmd("query-status", timeout)["status"]
        except QmpClosed:
            return None

    def wait_exit(self, timeout=10.0):
        """Wait until QEMU ends by itself; whether it did."""
        deadline = time.monotonic() + timeout
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.alive()

    def close(self):
        cleanup.end(self.process)
        if self._monitor is not None:
            self._monitor.close()
