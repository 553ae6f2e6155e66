# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of both sides of a pair: an image each, and what QEMU is told of it."""
import os
import shutil
import subprocess

from .cleanup import VmError


class Disk:
    """What a disk is like; Pair(disks=[Disk(…)]).

    size     "64M"
    format   "qcow2", "raw"
    nodes    by -blockdev, with named nodes, instead of -drive
    discard  of those nodes
    backing  a file below each side's image (its format: backing_format)
    cache    of -drive: "none", "writeback", …; more: anything else of it
    """

    def __init__(self, size="64M", format="qcow2", nodes=False, discard="unmap", backing=None,
                 backing_format="raw", cache=None, more=""):
        # pylint: disable=redefined-builtin
        self.size, self.format, self.nodes, self.discard = size, format, nodes, discard
        self.backing, self.backing_format = backing, backing_format
        self.cache, self.more = cache, more

    def make(self, path):
        """A fresh image."""
        words = ["qemu-img", "create", "-q", "-f", self.format]
        if self.backing:
            words += ["-b", self.backing, "-F", self.backing_format]
        run(*words, path, self.size)

    def args(self, number, path):
        """The words for QEMU; device diskN, drive or top node driveN."""
        device = ["-device", f"virtio-blk-pci,id=disk{number},drive=drive{number}"]
        if self.nodes:
            return ["-blockdev", f"file,node-name=file{number},filename={path},"
                                 f"discard={self.discard}",
                    "-blockdev", f"{self.format},node-name=drive{number},file=file{number},"
                                 f"discard={self.discard}", *device]
        cache = f",cache={self.cache}" if self.cache else ""
        return ["-drive", f"if=none,id=drive{number},file={path},format={self.format}{cache}"
                          f"{self.more}", *device]


def run(*words):
    """One of QEMU's tools; its output."""
    if not shutil.which(words[0]):
        raise VmError(f"{words[0]} is not here (package qemu-utils)")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VmError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def write(path, pattern, offset, length, image_format="qcow2"):
    """Fill a part of an image that no QEMU has open."""
    run("qemu-io", "-f", image_format, "-c", f"write -P {pattern} {offset} {length}", path)


def equal(a, b, format_a="qcow2", format_b="qcow2"):
    """Whether two images hold the same; QEMUs may have them open, standing still."""
    done = subprocess.run(["qemu-img", "compare", "-U", "-f", format_a, "-F", format_b, a, b],
                          capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise VmError(f"qemu-img compare {a} {b}: {done.stderr.strip()}")
    return done.returncode == 0


def allocated(path):
    """Bytes that a file takes of its file system."""
    return os.stat(path).st_blocks * 512
