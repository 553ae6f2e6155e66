# SPDX-License-Identifier: LGPL-2.1-or-later
"""qmig under control: it is held where a test wants it, by a hook that waits, or by its events."""
import json
import os
import subprocess
import tempfile
import threading
import time

import lib


class Gate:
    """
    A running qmig.

    text     its stderr so far, without mere progress
    events   the JSON objects in it
    """

    def __init__(self, directory, *args, hold=None, prefix=()):
        """@hold: a phase; a hook stands still there until release()."""
        self._at, self._go = (os.path.join(directory, name) for name in ("hook-at", "hook-go"))
        for path in (self._at, self._go):
            if os.path.exists(path):
                os.unlink(path)
        if hold:
            args = (*args, f"--hook={hold}=touch {self._at}; "
                           f"until [ -e {self._go} ]; do sleep 0.02; done")
        self._out = tempfile.TemporaryFile("w+")
        self.text, self.events = "", []
        self._news = threading.Condition()
        self.process = subprocess.Popen([*prefix, lib.QMIG, *args], stdout=self._out,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        text=True, env=lib.ENVIRONMENT)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            try:
                event = json.loads(line)
            except ValueError:
                event = {}
            with self._news:
                self.events.append(event)
                if event.get("event") not in ("progress", "iteration"):
                    self.text += line
                self._news.notify_all()
        with self._news:
            self.events.append(None)
            self._news.notify_all()

    def wait_event(self, match, timeout=40.0):
        """Wait until an event came for which @match holds; False: qmig ended without one."""
        deadline, seen = time.monotonic() + timeout, 0
        while True:
            with self._news:
                if not self._news.wait_for(lambda n=seen: len(self.events) > n,
                                           deadline - time.monotonic()):
                    raise AssertionError(f"no such event within {timeout} s:\n{self.text}")
                events, seen = self.events[seen:], len(self.events)
            for event in events:
                if event is None:
                    return False
                if match(event):
                    return True

    def wait_hook(self, timeout=40.0):
        """Wait until the hook stands still; False: qmig ended before."""
        deadline = time.monotonic() + timeout
        while not os.path.exists(self._at):
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise AssertionError(f"the hook was not run within {timeout} s:\n{self.text}")
            time.sleep(0.005)
        return True

    def release(self):
        """Let the hook go on."""
        with open(self._go, "wb"):
            pass

    def finish(self, timeout):
        """Wait for its end. Return: lib.Run; its code is -9 for one that was killed."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"qmig did not end within {timeout} s:\n{self.text}") from None
        self._reader.join(5)
        self._out.seek(0)
        return lib.Run(self.process, self._out.read(), self.text)

    def close(self):
        """End it if it still runs."""
        self.release()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        self.process.stderr.close()
        self._out.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
