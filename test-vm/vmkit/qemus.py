# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which QEMUs there are, and the images of the guests."""
import fcntl
import os
import pathlib
import re
import shutil
import subprocess

from .cleanup import VmError

HERE = pathlib.Path(__file__).resolve().parent.parent
TOP = HERE.parent
CACHE = TOP / ".cache"


class Qemu:
    """One QEMU: .version ("7.2"), .full_version ("7.2.22"), .argv (the words that run it)."""

    def __init__(self, version, argv, full_version=""):
        self.version, self.argv = version, list(argv)
        self.full_version = full_version or version

    def __repr__(self):
        return f"Qemu({self.full_version}, {self.argv})"

    def at_least(self, version):
        return tuple(map(int, self.version.split("."))) >= tuple(map(int, version.split(".")))


def _probe(binary):
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30,
                              check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"version (\d+\.\d+)(\.\d+)?", text)
    if not match:
        return None
    return Qemu(match[1], [str(binary)], match[1] + (match[2] or ""))


def find_qemus():
    """{"7.2": Qemu, …}: the host's own, and those that `./dev qemu` fetched."""
    found = {}
    candidates = [shutil.which("qemu-system-x86_64")]
    candidates += sorted((CACHE / "qemu").glob("*/qemu-system-x86_64"))
    for binary in filter(None, candidates):
        qemu = _probe(binary)
        if qemu:
            found.setdefault(qemu.version, qemu)
    return dict(sorted(found.items(), key=lambda item: [int(n) for n in item[0].split(".")]))


# ---- images ------------------------------------------------------------------------------------

def _newest(folder):
    return max(path.stat().st_mtime for path in folder.iterdir())


def _run_build(script, *words):
    done = subprocess.run([str(script), *map(str, words)], capture_output=True, text=True,
                          check=False)
    if done.returncode:
        what = (done.stdout + done.stderr).strip() or f"exit status {done.returncode}"
        raise VmError(f"{script.relative_to(TOP)}: {what}")


def bare_image():
    """The bare-metal guest: $QMIG_GUEST, the build's, or one made into .cache/."""
    if os.path.exists(os.environ.get("QMIG_GUEST", "")):
        return os.environ["QMIG_GUEST"]
    sources = HERE / "guest"
    built = TOP / "build" / "test-vm" / "bare.elf"
    if built.exists() and built.stat().st_mtime >= _newest(sources):
        return str(built)
    image = CACHE / "guest" / "bare.elf"
    image.parent.mkdir(parents=True, exist_ok=True)
    with open(image.parent / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.exists() or image.stat().st_mtime < _newest(sources):
            fresh = image.with_suffix(".new")
            _run_build(sources / "build", fresh)
            fresh.replace(image)    # whoever runs the old one keeps it
    return str(image)


def linux_images():
    """(kernel, initrd) of the Linux guest, made into .cache/ where needed."""
    out = CACHE / "linux" / "guest"
    _run_build(HERE / "linux" / "build", out)
    return str(out / "vmlinuz"), str(out / "initrd.gz")
