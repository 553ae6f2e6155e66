# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Copying a disk while its guest writes to it: qmig beside nbdcopy, over the same link, in turn.

The disk has 4 GiB, a quarter of them allocated (random data). nbdcopy copies an image with the same
contents, which nobody writes, between two qemu-nbd, told that the destination is zero.
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import vm

RATE = os.environ.get("QMIG_BENCH_LINK", "1gbit")
SIZE_MIB = int(os.environ.get("QMIG_BENCH_DISK", "4096"))
PORT = 10809


class Quarter(vm.Disk):
    """A disk whose source image is a copy of one that is a quarter full."""

    def __init__(self, template):
        super().__init__(f"{SIZE_MIB}M", "raw")
        self.template = template

    def make(self, path):
        if "src" in os.path.basename(path):
            subprocess.run(["cp", "--sparse=always", self.template, path], check=True)
        else:
            super().make(path)


def make_template(path):
    """Runs of 16 MiB of random data, evenly over the disk."""
    with open(path, "wb") as file:
        os.truncate(file.fileno(), SIZE_MIB << 20)
        for start in range(0, SIZE_MIB, 64):
            file.seek(start << 20)
            file.write(os.urandom(16 << 20))


def by_qmig(qemu, qmig, template, link):
    """Seconds of the copy; the images must be equal, and sparse."""
    workload = {"ws": "8M", "rate": 500, "disk": "16M", "drate": 100}
    with vm.Pair(qemu, mem_mib=128, workload=workload, disks=[Quarter(template)],
                 link=link) as pair:
        pair.wait_ticking(pair.src)
        done = subprocess.run(
            [*link.exec_prefix, qmig, "migrate", f"unix:{pair.src.qmp}", f"unix:{pair.dst.qmp}",
             "--copy-storage-all", f"--migrateuri=tcp:{link.dst_addr}:4711",
             "--listen=tcp:127.0.0.1:0", f"--disks-uri=tcp:{link.dst_addr}:{PORT}",
             "--suspend", "--keep-source", "--json", "--progress=none"],
            capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            sys.exit(f"bench: qmig ended with {done.returncode}: {done.stderr}")
        src, dst = pair.src.disks[0], pair.dst.disks[0]
        if not vm.disks.equal(src, dst, "raw", "raw"):
            sys.exit("bench: the images differ")
        grown = vm.disks.allocated(dst) - vm.disks.allocated(src)
        if grown > 4 << 20:
            sys.exit(f"bench: the copy is not sparse: {grown >> 20} MiB more")
        pair.dst.cmd("cont")
        pair.wait_ticking(pair.dst)
        time.sleep(1)
        if pair.guest_errors():
            sys.exit(f"bench: {pair.guest_errors()}")
    return json.loads(done.stdout)["storage"]["copy_ms"] / 1000


def serve(prefix, *words):
    """A qemu-nbd; it listens when this returns."""
    process = subprocess.Popen([*prefix, "qemu-nbd", "--persistent", "-f", "raw",
                                "--discard=unmap", *words])
    time.sleep(0.5)
    return process


def by_nbdcopy(template, folder, link):
    """Seconds of nbdcopy for the same data over the same link."""
    target, socket = folder / "target.img", folder / "source.sock"
    with open(target, "wb") as file:
        os.truncate(file.fileno(), SIZE_MIB << 20)
    servers = [serve(link.exec_prefix, "-r", "-k", str(socket), str(template)),
               serve(link.dst_exec_prefix, "-b", link.dst_addr, "-p", str(PORT), str(target))]
    try:
        begin = time.monotonic()
        subprocess.run([*link.exec_prefix, "nbdcopy", "--flush", "--destination-is-zero",
                        f"nbd+unix:///?socket={socket}", f"nbd://{link.dst_addr}:{PORT}"],
                       check=True, timeout=300)
        return time.monotonic() - begin
    finally:
        for server in servers:
            server.terminate()
            server.wait()
        socket.unlink(missing_ok=True)


def bench(qemu, qmig, rounds, folder):
    """Print and return the figures of one QEMU."""
    if not shutil.which("nbdcopy"):
        sys.exit("bench: nbdcopy is not here (package libnbd-bin)")
    folder = pathlib.Path(folder)
    template = folder / "template.img"
    runs = {"nbdcopy": [], "qmig": []}
    make_template(template)
    with vm.Link(RATE) as link:
        for _ in range(rounds):
            runs["nbdcopy"].append(by_nbdcopy(template, folder, link))
            runs["qmig"].append(by_qmig(qemu, qmig, template, link))
    ratio = statistics.median(runs["qmig"]) / statistics.median(runs["nbdcopy"])
    print(f"\nstorage: a disk of {SIZE_MIB} MiB, a quarter allocated, its guest writing; QEMU "
          f"{qemu.version}, {RATE} link; seconds, {rounds} interleaved")
    for name, values in runs.items():
        print(f"  {name:8} {min(values):6.2f} / {statistics.median(values):6.2f} / "
              f"{max(values):6.2f}")
    print(f"  qmig takes {ratio:.2f} x the time of nbdcopy")
    return {"runs": runs, "ratio": ratio}
