# SPDX-License-Identifier: LGPL-2.1-or-later
"""One QEMU process of a pair: started, asked, ended by its pid."""
import ctypes
import os
import signal
import subprocess
import time

from . import qmp
from .ticks import Ticks

PR_SET_PDEATHSIG = 1
START_TIMEOUT = 15.0

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    # A test that is killed must not leave guests behind. (The kernel means the thread that
    # started the process: make pairs in a thread that lives as long as they do.)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Side:
    """The source or the destination."""

    def __init__(self, name, folder, argv):
        """argv: everything but the monitors and the serial port, which belong to the side."""
        self.name = name
        self.qmp = os.path.join(folder, f"{name}.qmp")
        self.qmp2 = os.path.join(folder, f"{name}.qmp2")
        self.ram = os.path.join(folder, f"{name}.ram")
        self.argv = argv + self._own_arguments()
        self.ticks = None
        self._stderr = os.path.join(folder, f"{name}.stderr")
        self._process = None

    def _own_arguments(self):
        words = ["-chardev", "stdio,id=tick,signal=off",
                 "-device", "isa-serial,id=com1,index=0,chardev=tick"]
        for number, path in enumerate((self.qmp, self.qmp2)):
            words += ["-chardev", f"socket,id=qmp{number},path={path},server=on,wait=off",
                      "-mon", f"chardev=qmp{number},id=mon{number},mode=control"]
        return words

    def start(self):
        for path in (self.qmp, self.qmp2):
            if os.path.exists(path):
                os.unlink(path)
        with open(self._stderr, "wb") as errors:
            self._process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                bufsize=0, preexec_fn=_die_with_parent)
        self.ticks = Ticks(self._process.stdout)
        deadline = time.monotonic() + START_TIMEOUT
        while not os.path.exists(self.qmp2):
            if not self.alive():
                raise RuntimeError(f"{self.name}: QEMU ended: {self.stderr_text().strip()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name}: QEMU made no monitor socket")
            time.sleep(0.01)
        self.cmd("query-status")

    @property
    def pid(self):
        return self._process.pid

    def alive(self):
        return self._process is not None and self._process.poll() is None

    def wait_exit(self, timeout=10.0):
        """The exit status, once the process has ended by itself."""
        return self._process.wait(timeout)

    def stderr_text(self):
        try:
            with open(self._stderr, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def cmd(self, name, **arguments):
        """Run one QMP command over the second monitor; a trailing _ of a key is dropped, and
        _ within it becomes -, as QMP's names are no Python names."""
        arguments = {key.rstrip("_").replace("_", "-"): value for key, value in arguments.items()}
        return qmp.command(self.qmp2, name, arguments)

    def is_running(self):
        """Does query-status say running? A dead process does not."""
        if not self.alive():
            return False
        try:
            return self.cmd("query-status")["running"]
        except qmp.QmpError:
            if self.alive():
                raise
            return False

    def stop(self):
        """End the process; what it said stays readable."""
        if self._process is None:
            return
        if self.alive():
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self.ticks:
            self.ticks.join()
