#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Record the golden streams anew: the main channel of small real migrations, one file for each way
of migrating. The guest is a few instructions in a BIOS of its own that keep writing to 16 pages,
so that a stream stays small and still has passes, deltas and resent pages.

The .events files are written by the test: QMIG_TEST_REGENERATE=1 meson test golden
"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "test-vm"))

import vm  # noqa: E402

# 16-bit code: for (ax = 0x1000; ah < 0x20; ax += 0x100) { ds = ax; inc word [0] } and again: one
# word in each of 16 pages. Reset jumps to F000:0000.
CODE = bytes.fromhex("b80010 8ed8 ff060000 050001 80fc20 72f2 ebed")
RESET = bytes.fromhex("ea000000f0")

# name: (QEMU, machine, capabilities of the source, of both, parameters of the source)
STREAMS = {
    "7.2-return-path": ("7.2", "pc-i440fx-7.2", ["return-path"], [], {}),
    "7.2-q35-no-return-path": ("7.2", "pc-q35-7.2", [], [], {}),
    "7.2-compress": ("7.2", "pc-i440fx-7.2", ["return-path"], ["compress"], {}),
    "11.1-return-path": ("11.1", "pc-i440fx-11.1", ["return-path"], [], {}),
    "11.1-xbzrle": ("11.1", "pc-i440fx-7.2", ["return-path", "xbzrle"], [], {}),
    "11.1-multifd": ("11.1", "pc-i440fx-11.1", ["return-path"], ["multifd"], {}),
    "11.1-postcopy": ("11.1", "pc-i440fx-11.1", [], ["postcopy-ram"], {}),
    "11.1-ignore-shared": ("11.1", "pc-i440fx-11.1", [], ["x-ignore-shared"], {}),
}


class Qmp:
    """One QEMU and its monitor."""

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.process.stdout.readline()
        self.cmd("qmp_capabilities")

    def cmd(self, command, **arguments):
        """Execute, passing over events."""
        request = {"execute": command, "arguments": arguments}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            reply = json.loads(self.process.stdout.readline())
            if "error" in reply:
                raise RuntimeError(f"{command}: {reply['error']}")
            if "return" in reply:
                return reply["return"]

    def end(self):
        """End it."""
        self.process.kill()
        self.process.wait()


def pump(source, destination, log):
    """One direction; appends to @log."""
    try:
        while data := source.recv(65536):
            log.append(data)
            destination.sendall(data)
        destination.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def relay(listener, target, recorded):
    """Accept connections for ever, remember the forward bytes of each, in order."""
    while True:
        source, _ = listener.accept()
        # The destination must not be reached before there are bytes for it.
        source.recv(4, socket.MSG_PEEK)
        destination = socket.socket(socket.AF_UNIX)
        destination.connect(target)
        log = []
        recorded.append(log)
        threading.Thread(target=pump, args=(source, destination, log), daemon=True).start()
        threading.Thread(target=pump, args=(destination, source, []), daemon=True).start()


def start(qemu, machine, directory, side, *more):
    """A small guest with the code above for a BIOS."""
    bios = directory / "bios.bin"
    if not bios.exists():
        image = bytearray(65536)
        image[:len(CODE)] = CODE
        image[0xfff0:0xfff0 + len(RESET)] = RESET
        bios.write_bytes(image)
    memory = f"memory-backend-file,id=mem,size=4M,share=on,mem-path={directory}/{side}.mem"
    return Qmp([*qemu.argv, "-machine", f"{machine},memory-backend=mem", "-object", memory,
                "-accel", "tcg", "-m", "4", "-bios", str(bios), "-nodefaults",
                "-no-user-config", "-display", "none", "-qmp", "stdio", *more])


def set_capabilities(side, names):
    """Switch capabilities on."""
    side.cmd("migrate-set-capabilities",
             capabilities=[{"capability": n, "state": True} for n in names])


def migrate(source, name, directory, postcopy):
    """Migrate slowly, let some passes go by, then let it end."""
    source.cmd("migrate-set-parameters", **{"max-bandwidth": 400 << 10, "downtime-limit": 1})
    source.cmd("migrate", uri=f"unix:{directory}/relay.sock")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = source.cmd("query-migrate")
        if state["status"] in ("completed", "failed"):
            break
        if state.get("ram", {}).get("dirty-sync-count", 0) >= 7:
            if postcopy and state["status"] == "active":
                source.cmd("migrate-start-postcopy")
            source.cmd("migrate-set-parameters", **{"downtime-limit": 2000})
        time.sleep(0.02)
    if state["status"] != "completed":
        raise RuntimeError(f"{name}: {state}")


def record(name, directory):
    """One stream: the bytes of its main channel."""
    version, machine, source_caps, both_caps, parameters = STREAMS[name]
    qemu = vm.find_qemus()[version]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{directory}/relay.sock")
    listener.listen(8)
    recorded = []
    threading.Thread(target=relay, args=(listener, f"{directory}/destination.sock", recorded),
                     daemon=True).start()
    source = start(qemu, machine, directory, "source")
    destination = start(qemu, machine, directory, "destination", "-S", "-incoming", "defer")
    try:
        set_capabilities(source, source_caps + both_caps)
        set_capabilities(destination, both_caps)
        if parameters:
            source.cmd("migrate-set-parameters", **parameters)
        destination.cmd("migrate-incoming", uri=f"unix:{directory}/destination.sock")
        migrate(source, name, directory, "postcopy-ram" in both_caps)
        time.sleep(0.3)
    finally:
        source.end()
        destination.end()
        listener.close()
    main = [b"".join(log) for log in recorded if b"".join(log[:1]).startswith(b"QEVM")]
    if len(main) != 1:
        raise RuntimeError(f"{name}: {len(main)} main channels")
    return main[0]


def main():
    """Record the streams named, or all."""
    for name in sys.argv[1:] or STREAMS:
        if STREAMS[name][0] not in vm.find_qemus():
            print(f"skipped: {name}: QEMU {STREAMS[name][0]} is not here")
            continue
        with tempfile.TemporaryDirectory(prefix="qmig-golden-", dir="/dev/shm") as directory:
            data = record(name, pathlib.Path(directory))
        path = HERE / f"{name}.zst"
        subprocess.run(["zstd", "-19", "-q", "-f", "-o", path], input=data, check=True)
        print(f"{name}: {len(data)} bytes, {os.path.getsize(path)} in the repository")


if __name__ == "__main__":
    main()
