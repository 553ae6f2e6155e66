# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which QEMUs there are, and the guest they boot."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
TOP = HERE.parent
HOST_VERSION = "7.2"
FETCHED_VERSIONS = ("10.0", "11.1")


class Qemu:
    """One QEMU: what to call, and which version answers."""

    def __init__(self, version, argv):
        self.version = version
        self.argv = list(argv)

    def __repr__(self):
        return f"Qemu({self.version!r}, {self.argv!r})"

    def __eq__(self, other):
        return isinstance(other, Qemu) and self.argv == other.argv

    def __hash__(self):
        return hash(tuple(self.argv))


def _version_of(program):
    try:
        text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30,
                              stdin=subprocess.DEVNULL, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"QEMU emulator version (\d+\.\d+)", text)
    return match[1] if match else None


def find_qemus():
    """The QEMUs present here, by version."""
    candidates = [(version, str(TOP / ".cache" / "qemu" / version / "qemu-system-x86_64"))
                  for version in FETCHED_VERSIONS]
    host = shutil.which("qemu-system-x86_64")
    if host:
        candidates.insert(0, (HOST_VERSION, host))
    return {version: Qemu(version, [program]) for version, program in candidates
            if os.access(program, os.X_OK) and _version_of(program) == version}


def guest_elf():
    """The bare guest, built anew when a source of it changed."""
    folder = TOP / ".cache" / "guest"
    folder.mkdir(parents=True, exist_ok=True)
    elf = folder / "bare.elf"
    sources = [path for path in (HERE / "guest").iterdir() if path.is_file()]
    with open(folder / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(path.stat().st_mtime_ns for path in sources)
        if not elf.exists() or elf.stat().st_mtime_ns < newest:
            fresh = folder / ".bare.elf"
            done = subprocess.run([HERE / "guest" / "build", fresh], capture_output=True,
                                  text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"guest: does not build: {done.stderr}")
            os.replace(fresh, elf)
    return str(elf)
