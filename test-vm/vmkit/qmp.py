# SPDX-License-Identifier: LGPL-2.1-or-later
"""A small synchronous QMP client, independent of the one under test."""
import collections
import json
import socket
import threading
import time

from .cleanup import VmError


class QmpError(VmError):
    """QEMU answered with an error; .error_class as QMP has it."""

    def __init__(self, command, error):
        super().__init__(f"{command}: {error.get('desc')}")
        self.error_class = error.get("class")
        self.desc = error.get("desc")


class QmpTimeout(VmError):
    """QEMU did not answer within the deadline."""


class QmpClosed(VmError):
    """QEMU is gone."""


class Qmp:
    """One connection. Threads: any; commands are serialised."""

    MAX_EVENTS = 10000

    def __init__(self, path, timeout_s=10.0, is_alive=lambda: True):
        self._lock = threading.Lock()
        self._buffer = b""
        self._next_id = 0
        self.events = collections.deque(maxlen=self.MAX_EVENTS)
        self._socket = self._connect(path, time.monotonic() + timeout_s, is_alive)
        try:
            self.greeting = self._receive(time.monotonic() + timeout_s)["QMP"]
            self.command("qmp_capabilities", timeout_s=timeout_s)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _connect(path, deadline, is_alive):
        # QEMU makes the socket some time after its start.
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.settimeout(max(0.1, deadline - time.monotonic()))
                sock.connect(path)
                return sock
            except OSError as error:
                sock.close()
                if not is_alive():
                    raise QmpClosed("QEMU ended before it listened") from error
                if time.monotonic() > deadline:
                    raise QmpTimeout(f"{path}: {error}") from error
                time.sleep(0.01)

    def _receive(self, deadline):
        # Whole lines out of one buffer, which stays in order when a deadline passes.
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise QmpTimeout("no answer from QEMU within the deadline")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except socket.timeout:
                continue
            except OSError as error:
                raise QmpClosed(str(error)) from error
            if not data:
                raise QmpClosed("QEMU closed the connection")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def command(self, name, arguments=None, timeout_s=10.0):
        """The "return" of a command; events met on the way go to .events."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._next_id += 1
            request = {"execute": name, "id": self._next_id}
            if arguments:
                request["arguments"] = arguments
            try:
                self._socket.settimeout(timeout_s)
                self._socket.sendall(json.dumps(request).encode() + b"\n")
            except socket.timeout as error:
                raise QmpTimeout(f"{name}: QEMU does not read") from error
            except OSError as error:
                raise QmpClosed(f"{name}: {error}") from error
            while True:
                reply = self._receive(deadline)
                if "event" in reply:
                    self.events.append(reply)
                elif reply.get("id") == self._next_id:
                    break       # an answer with an older id is to one given up
        if "error" in reply:
            raise QmpError(name, reply["error"])
        return reply["return"]

    def close(self):
        self._socket.close()
