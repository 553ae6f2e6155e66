# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stand-in for qemu-ga: answers on a unix socket, and remembers what it was asked."""
import json
import socket
import threading


class Agent:
    """The agent of a guest, at one end of its channel."""

    def __init__(self, path):
        self.path, self.asked = str(path), []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(4)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._serve(connection)
                except OSError:
                    pass

    def _serve(self, connection):
        buffer = b""
        while data := connection.recv(65536):
            buffer += data.replace(b"\xff", b"")
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                if line.strip():
                    connection.sendall(self._answer(json.loads(line)))

    def _answer(self, request):
        name = request["execute"]
        self.asked.append(name)
        mark = b""
        if name.startswith("guest-sync"):
            mark = b"\xff" if name.endswith("delimited") else b""
            result = request["arguments"]["id"]
        elif name.startswith("guest-fsfreeze"):
            result = 1
        else:
            result = {}
        return mark + json.dumps({"return": result}).encode() + b"\n"

    def close(self):
        """Nobody is there any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
