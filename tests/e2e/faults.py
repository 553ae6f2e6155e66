# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can break while a guest migrates: each fault strikes once, and is over when qmig has ended."""
import os
import signal
import subprocess

import lib


class Fault:
    """
    A fault of one run.

    hits     what it takes away for good: "src", "dst", "qmig"; or stops: "src stopped", …
    link     it needs a link of the pair's own
    options  what qmig has to be told besides
    journal  where its journal shall be
    """
    hits = ""
    link = False
    slow = False    # qmig has to run out of patience

    def __init__(self, pair, scratch):
        self.pair, self.scratch = pair, scratch
        self.options = ()
        self.journal = os.path.join(scratch, "journal")

    def strike(self, process):
        """@process is qmig's."""

    def over(self):
        """The world is as before, but for what was killed. May be called again."""

    def close(self):
        """Leave nothing behind."""


class KillSource(Fault):
    """The source's host is gone."""
    hits = "src"

    def strike(self, process):
        lib.kill(self.pair.src.pid)
        self.pair.src.process.wait()


class KillDestination(Fault):
    """The destination's host is gone."""
    hits = "dst"

    def strike(self, process):
        lib.kill(self.pair.dst.pid)
        self.pair.dst.process.wait()


class KillQmig(Fault):
    """Nobody is left who knows: `qmig recover` must find out."""
    hits = "qmig"

    def strike(self, process):
        process.kill()
        process.wait()


class ProxyFails(Fault):
    """The proxy gives up in the middle of what it carries."""

    def __init__(self, pair, scratch):
        super().__init__(pair, scratch)
        self._path = os.path.join(scratch, "trip")
        self.options = (f"--plugin=fault:at=file:{self._path},do=cut",)

    def strike(self, process):
        with open(self._path, "wb"):
            pass

    def over(self):
        if os.path.exists(self._path):
            os.unlink(self._path)


class _Stop(Fault):
    slow = True

    def strike(self, process):
        self.stopped = self._side()
        os.kill(self.stopped.pid, signal.SIGSTOP)

    def over(self):
        if self.stopped.alive():
            os.kill(self.stopped.pid, signal.SIGCONT)


class StopSource(_Stop):
    """The source hangs, and comes back when all is over."""
    hits = "src stopped"

    def _side(self):
        return self.pair.src


class StopDestination(_Stop):
    """The destination hangs, and comes back when all is over."""
    hits = "dst stopped"

    def _side(self):
        return self.pair.dst


class BlackHole(Fault):
    """The link swallows everything: no end of a connection is seen by anybody."""
    link = True
    slow = True

    def strike(self, process):
        self._cable(False)

    def over(self):
        self._cable(True)

    def _cable(self, up):
        subprocess.run(["ip", "-n", self.pair.link.dst_ns, "link", "set", "veth0",
                        "up" if up else "down"], check=True)


class Reset(Fault):
    """Every connection over the link is reset, and none can be made."""
    link = True

    def strike(self, process):
        link = self.pair.link
        for namespace, peer in ((link.src_ns, link.dst_addr), (link.dst_ns, link.src_addr)):
            subprocess.run(["ip", "-n", namespace, "route", "add", "prohibit", peer + "/32"],
                           check=True)
        for namespace in (link.dst_ns, link.src_ns):
            subprocess.run(["ip", "netns", "exec", namespace, "ss", "-K", "-t", "state",
                            "connected"], check=True, stdout=subprocess.DEVNULL)

    def over(self):
        link = self.pair.link
        for namespace, peer in ((link.src_ns, link.dst_addr), (link.dst_ns, link.src_addr)):
            subprocess.run(["ip", "-n", namespace, "route", "del", "prohibit", peer + "/32"],
                           check=False, stderr=subprocess.DEVNULL)


class JournalFull(Fault):
    """There is no room left where the journal is."""

    def __init__(self, pair, scratch):
        super().__init__(pair, scratch)
        self._dir = os.path.join(scratch, "full")
        os.mkdir(self._dir)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", self._dir],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            os.rmdir(self._dir)
            raise lib.Skip(f"no small file system for the journal: {done.stderr.strip()}")
        self.journal = os.path.join(self._dir, "journal")

    def strike(self, process):
        try:
            with open(os.path.join(self._dir, "filler"), "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        except OSError:
            pass

    def over(self):
        if os.path.exists(os.path.join(self._dir, "filler")):
            os.unlink(os.path.join(self._dir, "filler"))

    def close(self):
        subprocess.run(["umount", "--lazy", self._dir], check=False)


FAULTS = {"kill-source": KillSource, "kill-destination": KillDestination,
          "kill-qmig": KillQmig, "proxy-fails": ProxyFails, "reset": Reset,
          "black-hole": BlackHole, "stop-source": StopSource,
          "stop-destination": StopDestination, "journal-full": JournalFull}
