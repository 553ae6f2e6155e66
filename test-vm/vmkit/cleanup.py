# SPDX-License-Identifier: LGPL-2.1-or-later
"""Leave nothing behind: what was started or made is ended and removed, whatever happens.

Three nets, one below the other:
  close() or the end of a `with` block   what that object made
  atexit (SIGINT and SIGTERM lead there) what is still open when Python ends
  PR_SET_PDEATHSIG, and sweep() later    when Python itself was killed
"""
import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PREFIX = "qmig-vm-"
_open = []          # objects with close(), in the order they were made
_prepared = False


class VmError(Exception):
    """What the launcher was asked for cannot be had, and why."""


def _close_all():
    for thing in reversed(list(_open)):
        with contextlib.suppress(Exception):
            thing.close()


def _terminated(signum, _frame):
    sys.exit(128 + signum)


def register(thing):
    """Have thing.close() called at exit, unless forget() comes first."""
    global _prepared
    if not _prepared:
        _prepared = True
        atexit.register(_close_all)
        # SIGTERM kills Python without atexit; a test harness out of patience sends it.
        if (threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL):
            signal.signal(signal.SIGTERM, _terminated)
        sweep()
    _open.append(thing)


def forget(thing):
    if thing in _open:
        _open.remove(thing)


class PrivateDir:
    """A directory that lives as long as this object; a lock in it proves that it is in use."""

    def __init__(self, parent):
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        self._lock = os.open(self.file(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def file(self, name):
        return os.path.join(self.path, name)

    def close(self):
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(min_age_s=60, parents=("/dev/shm", tempfile.gettempdir())):
    """Remove what a killed launcher left: directories whose lock nobody holds.

    A young one may be between being made and being locked.
    """
    for parent in dict.fromkeys(parents):
        with contextlib.suppress(OSError):
            for entry in os.scandir(parent):
                if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                    _sweep_dir(entry, min_age_s)


def _sweep_dir(entry, min_age_s):
    with contextlib.suppress(OSError):
        info = entry.stat(follow_symlinks=False)
        if info.st_uid != os.getuid() or time.time() - info.st_mtime < min_age_s:
            return
        fd = os.open(os.path.join(entry.path, ".lock"), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(OSError), open(os.path.join(entry.path, "netns")) as names:
                for name in names.read().split():
                    subprocess.run(["ip", "netns", "delete", name], check=False,
                                   stderr=subprocess.DEVNULL)
            shutil.rmtree(entry.path, ignore_errors=True)
        finally:
            os.close(fd)


def spawn(argv, **popen):
    """Start a process that dies with this one.

    By setpriv, as Python between fork and exec must not run code when threads exist. The
    kernel ties the signal to the starting *thread*: start from one that stays.
    """
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv],
                            stdin=subprocess.DEVNULL, **popen)


def end(process, patience_s=3.0):
    """SIGTERM, SIGKILL when patience is over; only ever by this one's pid."""
    if process.poll() is None:
        process.terminate()
        # A stopped process acts on SIGTERM only when continued.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
