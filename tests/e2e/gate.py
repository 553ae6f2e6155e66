# SPDX-License-Identifier: LGPL-2.1-or-later
"""
qmig under control: its events pass a gate one by one, so that a test can act at a known place.

The gate is a pipe with room for one packet. While an event lies in it, looked at and not taken
out, qmig gets as far as its next event and no further.
"""
import ctypes
import fcntl
import json
import os
import select
import subprocess
import tempfile
import threading
import time

import lib

_PACKET = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


def _packet_pipe():
    ends = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    return ends


class Gate:
    """
    A running qmig.

    text     its stderr, as far as it was let through, without mere progress
    """

    def __init__(self, *args, prefix=()):
        self._read_end, write_end = _packet_pipe()
        self._look_read, self._look_write = _packet_pipe()
        self._out = tempfile.TemporaryFile("w+")
        self.text = ""
        self._drain = None
        try:
            self.process = subprocess.Popen([*prefix, lib.QMIG, *args], stdout=self._out,
                                            stderr=write_end, stdin=subprocess.DEVNULL,
                                            env=lib.ENVIRONMENT)
        finally:
            os.close(write_end)

    def _look(self, timeout):
        """The packet in the gate, left there; b"" at the end; None: none came in time."""
        if not select.select([self._read_end], [], [], max(0, timeout))[0]:
            return None
        n = _libc.tee(self._read_end, self._look_write, _PACKET, 0)
        return os.read(self._look_read, _PACKET) if n > 0 else b""

    def _take(self):
        packet = os.read(self._read_end, _PACKET)
        text = packet.decode(errors="replace")
        try:
            event = json.loads(text)
        except ValueError:
            event = {}
        if event.get("event") not in ("progress", "iteration"):
            self.text += text
        return bool(packet)

    def hold_at(self, match, timeout=30.0):
        """
        Let events through until one for which @match(event) holds, which stays in the gate.
        Return: that event; None: qmig ended without one.
        """
        deadline = time.monotonic() + timeout
        while True:
            packet = self._look(deadline - time.monotonic())
            if packet is None:
                raise AssertionError(f"the event did not come within {timeout} s:\n{self.text}")
            if not packet:
                return None
            try:
                event = json.loads(packet)
            except ValueError:
                event = {}
            if match(event):
                return event
            self._take()

    def wait_stuck(self, timeout=3.0):
        """Wait until qmig stands before the gate with its next event, or is gone."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(f"/proc/{self.process.pid}/wchan", encoding="ascii") as file:
                if "pipe_write" in file.read():
                    return True
            time.sleep(0.002)
        return False

    def release(self):
        """Let everything through from now on."""
        def drain():
            while self._take():
                pass
        if self._drain is None:
            self._drain = threading.Thread(target=drain, daemon=True)
            self._drain.start()

    def finish(self, timeout):
        """Wait for its end. Return: lib.Run; its code is -9 for one that was killed."""
        self.release()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._drain.join(5)
            raise AssertionError(f"qmig did not end within {timeout} s:\n{self.text}") from None
        self._drain.join(5)
        self._out.seek(0)
        return lib.Run(self.process, self._out.read(), self.text)

    def close(self):
        """End it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.release()
        self._drain.join(5)
        self._out.close()
        for fd in (self._read_end, self._look_read, self._look_write):
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
