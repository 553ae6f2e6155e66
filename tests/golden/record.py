#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Record the golden streams anew: the main channel of small real migrations, one file for each way
of migrating, and all connections of others, one folder each in captures/, a file for each
connection and direction. The guest is a few instructions in a BIOS of its own that keep writing
to 16 pages, so that a stream stays small and still has passes, deltas and resent pages. In
captures the second MiB holds a pattern that the tests know.

The .events files are written by the tests: QMIG_TEST_REGENERATE=1 meson test golden
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

# Whole connections. name: (QEMU, machine, capabilities of the source, of both, parameters of
# both, how)
CAPTURES = {
    f"{version}-multifd-{method}": (
        version, f"pc-i440fx-{version}", ["return-path"], ["multifd"],
        {"multifd-compression": method}, "precopy")
    for version in ("7.2", "10.0", "11.1") for method in ("none", "zlib", "zstd")
}
CAPTURES |= {
    # A source of today with a machine of 7.2: its zero pages travel on main.
    "11.1-multifd-legacy": ("11.1", "pc-i440fx-7.2", ["return-path"], ["multifd"],
                            {"multifd-compression": "zstd"}, "precopy"),
    "7.2-recovery": ("7.2", "pc-i440fx-7.2", [], ["postcopy-ram"], {}, "recovery"),
    "11.1-recovery": ("11.1", "pc-i440fx-11.1", [], ["postcopy-ram"], {}, "recovery"),
    "11.1-switchover-ack": ("11.1", "pc-i440fx-10.0", [], ["return-path", "switchover-ack"], {},
                            "precopy"),
    "7.2-colo": ("7.2", "pc-i440fx-7.2", [], ["x-colo"], {}, "colo"),
    "11.1-colo": ("11.1", "pc-i440fx-11.1", [], ["x-colo", "return-path"], {}, "colo"),
}
PATTERN = range(256, 512)  # pages


def pattern_page(number):
    """4 KiB that pack well, but for every 64th page."""
    if number % 64:
        return bytes((number + at // 64) & 0xff for at in range(4096))
    out, state = bytearray(), number
    for _ in range(4096):
        state = (state * 1103515245 + 12345) & 0xffffffff
        out.append(state >> 24)
    return bytes(out)


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


class Connection:
    """One connection and what went through it, each direction."""

    def __init__(self, source, destination):
        self.ends = source, destination
        self.forward, self.reverse = [], []
        for a, b, log in ((source, destination, self.forward), (destination, source, self.reverse)):
            threading.Thread(target=self.pump, args=(a, b, log), daemon=True).start()

    @staticmethod
    def pump(source, destination, log):
        """One direction; appends to @log."""
        try:
            while data := source.recv(65536):
                log.append(data)
                destination.sendall(data)
            destination.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        """As when the network breaks."""
        for end in self.ends:
            end.shutdown(socket.SHUT_RDWR)

    def kind(self):
        """What the first bytes say."""
        return {b"QEVM": "main", b"\x11\x22\x33\x44": "multifd"}.get(
            b"".join(self.forward)[:4], "recovery")


class Relay:
    """Stands between the two QEMUs; remembers each connection, in order."""

    def __init__(self, directory):
        self.path = f"{directory}/relay.sock"
        self.target = f"{directory}/destination.sock"
        self.connections = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        """Accept connections until the listener is closed."""
        while True:
            try:
                source, _ = self.listener.accept()
            except OSError:
                return
            # The destination must not be reached before there are bytes for it.
            source.recv(4, socket.MSG_PEEK)
            destination = socket.socket(socket.AF_UNIX)
            destination.connect(self.target)
            self.connections.append(Connection(source, destination))

    def close(self):
        """No more connections."""
        self.listener.close()


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


def wait(side, states, seconds=20):
    """Until query-migrate says one of @states. Return: the answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = side.cmd("query-migrate")
        if answer.get("status") in states:
            return answer
        time.sleep(0.02)
    raise RuntimeError(f"waited for {states}: {answer}")


def begin(source, relay):
    """Migrate slowly, let some passes go by, then let it end."""
    source.cmd("migrate-set-parameters", **{"max-bandwidth": 400 << 10, "downtime-limit": 1})
    source.cmd("migrate", uri=f"unix:{relay.path}")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = source.cmd("query-migrate")
        if (state["status"] == "completed"  # multifd of 7.2 is not held back
                or state.get("ram", {}).get("dirty-sync-count", 0) >= 7):
            return
        if state["status"] == "failed":
            raise RuntimeError(str(state))
        time.sleep(0.02)
    raise RuntimeError(f"too slow: {state}")


def migrate(source, relay, postcopy):
    """A migration to its end."""
    begin(source, relay)
    if postcopy:
        source.cmd("migrate-start-postcopy")
    source.cmd("migrate-set-parameters", **{"downtime-limit": 2000})
    wait(source, ["completed"])


def recover(source, destination, relay, directory):
    """Postcopy from the first pass on; the connection breaks; a second one ends it."""
    source.cmd("migrate-set-parameters", **{"max-bandwidth": 200 << 10,
                                            "max-postcopy-bandwidth": 100 << 10})
    source.cmd("migrate", uri=f"unix:{relay.path}")
    wait(source, ["active"])
    source.cmd("migrate-start-postcopy")
    wait(source, ["postcopy-active"])
    time.sleep(0.3)
    relay.connections[0].cut()
    wait(source, ["postcopy-paused"])
    wait(destination, ["postcopy-paused"])
    relay.target = f"{directory}/again.sock"
    destination.cmd("migrate-recover", uri=f"unix:{relay.target}")
    source.cmd("migrate", uri=f"unix:{relay.path}", resume=True)
    wait(source, ["postcopy-active"])
    source.cmd("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
    wait(source, ["completed"])


def colo(source, relay):
    """Some checkpoints."""
    source.cmd("migrate-set-parameters", **{"x-checkpoint-delay": 500})
    source.cmd("migrate", uri=f"unix:{relay.path}")
    wait(source, ["colo"])
    deadline = time.monotonic() + 20
    # The destination's messages are be32, three for each checkpoint.
    while sum(map(len, relay.connections[0].reverse)) < 60 and time.monotonic() < deadline:
        time.sleep(0.1)


def record(qemu, machine, source_caps, both_caps, parameters, how, directory):
    """One migration: its connections."""
    relay = Relay(directory)
    source = start(qemu, machine, directory, "source")
    stopped = [] if how == "recovery" else ["-S"]
    destination = start(qemu, machine, directory, "destination", *stopped, "-incoming", "defer")
    try:
        set_capabilities(source, source_caps + both_caps)
        set_capabilities(destination, both_caps)
        for side in (source, destination) if parameters else ():
            side.cmd("migrate-set-parameters", **parameters)
        destination.cmd("migrate-incoming", uri=f"unix:{relay.target}")
        if how == "recovery":
            recover(source, destination, relay, directory)
        elif how == "colo":
            colo(source, relay)
        else:
            migrate(source, relay, how == "postcopy")
        time.sleep(0.3)
    finally:
        source.end()
        destination.end()
        relay.close()
    return relay.connections


def pack(path, chunks):
    """Write @chunks to @path, compressed. Return: a text about it."""
    data = b"".join(chunks)
    subprocess.run(["zstd", "-19", "-q", "-f", "-o", path], input=data, check=True)
    return f"{path.relative_to(HERE)}: {len(data)} bytes, {os.path.getsize(path)} in the repository"


def record_stream(name, qemu, directory):
    """The main channel."""
    _, machine, source_caps, both_caps, parameters = STREAMS[name]
    how = "postcopy" if "postcopy-ram" in both_caps else "precopy"
    main_channels = [c for c in record(qemu, machine, source_caps, both_caps, parameters, how,
                                       directory) if c.kind() == "main"]
    if len(main_channels) != 1:
        raise RuntimeError(f"{name}: {len(main_channels)} main channels")
    print(pack(HERE / f"{name}.zst", main_channels[0].forward))


def record_capture(name, qemu, directory):
    """All connections, both directions."""
    (directory / "source.mem").write_bytes(
        bytes(PATTERN.start * 4096) + b"".join(map(pattern_page, PATTERN)) + bytes(2 << 20))
    connections = record(qemu, *CAPTURES[name][1:], directory)
    folder = HERE / "captures" / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.zst"):
        old.unlink()
    for number, connection in enumerate(connections):
        for direction in ("forward", "reverse"):
            if chunks := getattr(connection, direction):
                print(pack(folder / f"{number}-{connection.kind()}.{direction}.zst", chunks))


def main():
    """Record those named, or all."""
    for name in sys.argv[1:] or [*STREAMS, *CAPTURES]:
        version = (STREAMS.get(name) or CAPTURES[name])[0]
        qemu = vm.find_qemus().get(version)
        if qemu is None:
            print(f"skipped: {name}: QEMU {version} is not here")
            continue
        with tempfile.TemporaryDirectory(prefix="qmig-golden-", dir="/dev/shm") as directory:
            recorder = record_stream if name in STREAMS else record_capture
            recorder(name, qemu, pathlib.Path(directory))


if __name__ == "__main__":
    main()
