# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ends of a tunnel as programs."""
import subprocess
import threading

import lib


class End:
    """A running `qmig proxy`. text: what it said so far; address: where it listens."""

    def __init__(self, options, prefix=()):
        self.text, self.address = "", None
        self._prefix, self._options = prefix, options
        self._heard = threading.Condition()
        self.process = None
        self._start()

    def _start(self):
        self.process = subprocess.Popen(
            [*self._prefix, lib.QMIG, "proxy", *self._options], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=lib.ENVIRONMENT)
        with self._heard:
            self.address = None
            threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
            self._heard.wait_for(lambda: self.address or self.process.poll() is not None, 10)
            lib.check(self.address, f"it says where it listens: {self.text}")

    def _read(self, process):
        for line in process.stderr:
            with self._heard:
                self.text += line
                if "listening on " in line:
                    self.address = line.split("listening on ")[1].split()[0].rstrip(",;")
                self._heard.notify_all()
        process.stderr.close()
        with self._heard:
            self._heard.notify_all()

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def close(self):
        """Whatever it does, it ends."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Far(End):
    """`qmig proxy --tunnel`. port: where it listens."""

    def __init__(self, address="127.0.0.1:0", prefix=(), options=("--insecure", "--allow=*")):
        super().__init__((f"--tunnel=tcp:{address}", *options), prefix)
        self.port = int(self.address.rpartition(":")[2])

    def again(self):
        """A fresh one at the same place."""
        host = self.address.split(":", 1)[1].rpartition(":")[0]
        self._options = (f"--tunnel=tcp:{host}:{self.port}", *self._options[1:])
        self._start()


class Near(End):
    """`qmig proxy --listen --via`: the end beside a source that somebody else drives."""

    def __init__(self, entry, via, prefix=(), options=("--insecure",)):
        super().__init__((f"--listen={entry}", f"--via={via}", *options), prefix)
