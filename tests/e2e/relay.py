# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A relay between two QEMUs that keeps what passes: every connection of a migration, both
directions, in the format of captures (inspect/capture.h).
"""
import json
import pathlib
import select
import socket
import threading
import time

MAGICS = {b"QEVM": "main", b"\x11\x22\x33\x44": "multifd"}
SILENCE_S = 0.4     # who says nothing for so long beside a living main is a preempt channel
INIT_BYTES = 64     # what a multifd channel begins with


class Timeline:
    """timeline.jsonl, written at the end. Threads: any."""

    def __init__(self):
        self._lock = threading.Lock()
        self._lines = []
        self._begin = None

    def add(self, channel, **what):
        """One line, stamped."""
        with self._lock:
            now = time.monotonic_ns()
            self._begin = self._begin or now
            self._lines.append({"t": (now - self._begin) // 1000, "channel": channel, **what})

    def write(self, path):
        """All there is so far."""
        head = {"format": "qmig-capture", "version": 1,
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with self._lock:
            path.write_text("".join(json.dumps(line) + "\n" for line in [head, *self._lines]))


class Connection:
    """One connection. kind: as in a capture; forward, reverse: the bytes so far."""

    def __init__(self, number, source, timeline):
        self.number, self.source, self.timeline = number, source, timeline
        self.destination = None
        self.kind = "unknown"
        self.forward, self.reverse = bytearray(), bytearray()
        self.begun = threading.Event()      # its first bytes were handed on
        self.pumps = []

    def classify(self, main_is_there):
        """By the first bytes, or their absence beside @main_is_there(); None: it ended."""
        deadline = time.monotonic() + SILENCE_S
        while True:
            readable, _, _ = select.select([self.source], [], [], 0.05)
            if readable:
                head = self.source.recv(INIT_BYTES, socket.MSG_PEEK)
                if not head:
                    return None
                if len(head) >= 4 or head[:1] == b"\x08":
                    kind = MAGICS.get(head[:4]) or ("recovery" if head[0] == 8 else "unknown")
                    if kind != "multifd" or len(head) == INIT_BYTES:
                        return kind
                time.sleep(0.005)
            elif time.monotonic() > deadline and main_is_there():
                return "preempt"

    def start(self, kind, target):
        """Connect it to the destination and let bytes through."""
        self.kind = kind
        more = {"id": self.source.recv(25, socket.MSG_PEEK)[24]} if kind == "multifd" else {}
        self.timeline.add(self.number, open=kind, **more)
        self.destination = socket.socket(socket.AF_UNIX)
        self.destination.connect(target)
        if kind == "preempt":
            self.begun.set()
        for a, b, direction in ((self.source, self.destination, "forward"),
                                (self.destination, self.source, "reverse")):
            pump = threading.Thread(target=self._pump, args=(a, b, direction), daemon=True)
            self.pumps.append(pump)
            pump.start()

    def _pump(self, a, b, direction):
        log = getattr(self, direction)
        try:
            while data := a.recv(65536):
                log += data
                self.timeline.add(self.number, **{direction: len(data)})
                b.sendall(data)
                self.begun.set()
            self.timeline.add(self.number, eof=direction)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            self.timeline.add(self.number, reset=direction)

    def cut(self):
        """As when the network breaks."""
        for end in filter(None, (self.source, self.destination)):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Relay:
    """
    Listens at .path and connects to .target, which may change meanwhile. The destination is
    reached only when there are bytes for it (a QEMU waiting for them does not answer), and by
    main first (QEMU < 8.0 goes by the order).
    """

    def __init__(self, directory):
        self.path = f"{directory}/relay.sock"
        self.target = f"{directory}/destination.sock"
        self.connections = []
        self.timeline = Timeline()
        self._main = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                source, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(len(self.connections), source, self.timeline)
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        kind = connection.classify(lambda: self._main and self._main.begun.is_set())
        if kind is None:
            connection.cut()
            return
        if kind in ("main", "recovery"):
            self._main = connection
        else:
            while not (self._main and self._main.begun.wait(0.01)):
                time.sleep(0.005)
        try:
            connection.start(kind, self.target)
        except OSError:
            connection.cut()

    def of_kind(self, kind):
        """The connections of a kind."""
        return [c for c in self.connections if c.kind == kind]

    def cut(self):
        """Break every connection."""
        for connection in self.connections:
            connection.cut()

    def close(self):
        """Break what is left, wait for the last bytes."""
        self._listener.close()
        self.cut()
        for connection in self.connections:
            for pump in connection.pumps:
                pump.join(5)

    def write(self, directory):
        """The capture. Call close() before."""
        directory = pathlib.Path(directory)
        for c in self.connections:
            if c.pumps:
                (directory / f"{c.number}-{c.kind}.forward").write_bytes(c.forward)
                if c.reverse:
                    (directory / f"{c.number}-{c.kind}.reverse").write_bytes(c.reverse)
        self.timeline.write(directory / "timeline.jsonl")
