# SPDX-License-Identifier: LGPL-2.1-or-later
"""A `qmig proxy` with plugins between two scripted peers: what a stream becomes on its way."""
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"
SHUT_0 = b"\0\1\0\4\0\0\0\0"
SHUT_1 = b"\0\1\0\4\0\0\0\1"


def golden(name):
    """A recorded stream."""
    return subprocess.run(["zstd", "-dcq", str(GOLDEN / f"{name}.zst")], capture_output=True,
                          timeout=60, check=True).stdout


class Carried:
    """What came of it: .arrived (None: the destination was never contacted), .code, .err, .report."""

    def __init__(self, arrived, code, out, err):
        self.arrived, self.code, self.err = arrived, code, err
        self.report = json.loads(out) if out else {}

    def __str__(self):
        return f"exit {self.code}, {self.arrived and len(self.arrived)} bytes: {self.err} {self.report}"


class _Destination(threading.Thread):
    """Takes one connection; when @until(all so far) says @reply and closes."""

    def __init__(self, path, until, reply):
        super().__init__(daemon=True)
        self.arrived, self.until, self.reply = None, until, reply
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.settimeout(20)

    def run(self):
        try:
            peer, _ = self.listener.accept()
        except OSError:
            return
        self.arrived = bytearray()
        with peer, contextlib.suppress(OSError):
            peer.settimeout(20)
            while piece := peer.recv(1 << 16):
                self.arrived.extend(piece)
                if self.until is not None and self.until(self.arrived):
                    peer.sendall(self.reply)
                    break

    def end(self):
        """No connection will come any more."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(timeout=20)


def carried(qmig, specs, stream, until=None, reply=b"", **env):
    """Send @stream through plugins @specs. With @until, the destination answers then."""
    with tempfile.TemporaryDirectory(prefix="x-") as folder:
        destination = _Destination(f"{folder}/out", until, reply)
        command = [qmig, "proxy", f"--listen=unix:{folder}/in", f"--connect=unix:{folder}/out",
                   "--json", *[f"--plugin={spec}" for spec in specs]]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env={**os.environ, **env}) as proxy:
            line = proxy.stderr.readline()
            if not line.startswith("listening on "):
                out, err = proxy.communicate(timeout=20)
                destination.listener.close()
                return Carried(None, proxy.returncode, out, line + err)
            destination.start()
            with socket.socket(socket.AF_UNIX) as source, contextlib.suppress(OSError):
                source.connect(f"{folder}/in")
                source.settimeout(20)
                source.sendall(stream)
                while until is not None and source.recv(1 << 16):
                    pass
            out, err = proxy.communicate(timeout=30)
        destination.end()
        return Carried(None if destination.arrived is None else bytes(destination.arrived),
                       proxy.returncode, out, line + err)
