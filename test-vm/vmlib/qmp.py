# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tiny synchronous QMP client: one connection per command."""
import json
import socket
import time


class QmpError(Exception):
    """The command was refused, or there was no answer in time."""


class Connection:
    """One QMP connection, made and negotiated within the deadline."""

    def __init__(self, path, timeout=10.0):
        self.deadline = time.monotonic() + timeout
        self.buffer = b""
        self.events = []
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self._connect(path)
            self._read()  # greeting; waits while another client holds the monitor
            self.command("qmp_capabilities")
        except BaseException:
            self.socket.close()
            raise

    def _remaining(self):
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise QmpError("no answer in time")
        return left

    def _connect(self, path):
        self.socket.settimeout(self._remaining())
        self.socket.connect(path)

    def _read(self):
        while b"\n" not in self.buffer:
            self.socket.settimeout(self._remaining())
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                raise QmpError("no answer in time") from None
            if not more:
                raise QmpError("monitor closed")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def command(self, name, **arguments):
        message = {"execute": name}
        if arguments:
            message["arguments"] = arguments
        self.socket.settimeout(self._remaining())
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise QmpError(f"{name}: {answer['error']['desc']}")
            self.events.append(answer)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def command(path, name, arguments=None, timeout=10.0):
    """Connect, run one command, disconnect: leaves the monitor free for others."""
    try:
        with Connection(path, timeout) as connection:
            return connection.command(name, **(arguments or {}))
    except OSError as error:
        raise QmpError(f"{name}: {error}") from error
