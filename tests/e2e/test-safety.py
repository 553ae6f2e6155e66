#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Hooks, the guest's agent, and proof of life, on real guests: test-safety.py VERSION. The agent is
one of this script's; a destination whose guest "runs" and does nothing is made by a monitor in
between that keeps `cont` to itself.
"""
import json
import os
import socket
import sys
import threading
import time

import lib
from lib import check

VERSION = sys.argv[1]
SLOW = ("--bandwidth=60MiB/s",)
PHASES = ["begin", "check", "prepare", "storage", "perform", "switchover", "finish", "confirm"]


def pair():
    """A busy guest."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=128,
                       workload={"ws": "32M", "rate": 2000, "content": "random"})


class Agent:
    """qemu-ga, as far as it is asked; notes what it hears and when."""

    def __init__(self, path, deaf=False):
        self.heard, self._deaf = [], deaf
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(4)
        self.address = f"unix:{path}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as lines:
                for line in lines:
                    self._answer(peer, json.loads(line.replace(b"\xff", b"")))

    def _answer(self, peer, request):
        command = request["execute"]
        if command == "guest-sync-delimited":
            if not self._deaf:
                answer = json.dumps({"return": request["arguments"]["id"]})
                peer.sendall(b"\xff" + answer.encode() + b"\n")
            return
        self.heard.append((command, request.get("arguments")))
        peer.sendall(b'{"return": 1}\n')

    def commands(self):
        """The names of what it heard."""
        return [command for command, _ in self.heard]

    def close(self):
        """No more agent."""
        self._listener.close()


class Liar:
    """A monitor in front of the destination's: it keeps `cont` to itself, and says "running"."""

    def __init__(self, path, target):
        self.path, self._target, self._lies = path, target, False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        peer, _ = self._listener.accept()
        qemu = socket.socket(socket.AF_UNIX)
        qemu.connect(self._target)
        self._asked = {}
        threading.Thread(target=self._back, args=(qemu, peer), daemon=True).start()
        for line in peer.makefile("rb"):
            request = json.loads(line)
            command = request.get("execute")
            self._asked[request.get("id")] = command
            if command == "cont":
                self._lies = True
                peer.sendall(json.dumps({"return": {}, "id": request["id"]}).encode() + b"\r\n")
                continue
            if command == "stop":
                self._lies = False
            qemu.sendall(line)
        qemu.shutdown(socket.SHUT_RDWR)

    def _back(self, qemu, peer):
        for line in qemu.makefile("rb"):
            answer = json.loads(line)
            if self._lies and self._asked.get(answer.get("id")) == "query-status":
                answer["return"].update(running=True, status="running")
            peer.sendall(json.dumps(answer).encode() + b"\r\n")
        peer.shutdown(socket.SHUT_RDWR)

    def close(self):
        """No new connections."""
        self._listener.close()


def hooks_in_order():
    """Each phase's hook, once, in order; then "done"; with what they are told."""
    with pair() as p:
        p.wait_ticking("src")
        log = os.path.join(p.dir, "hooks")
        note = f'echo "$QMIG_HOOK $QMIG_PHASE $QMIG_GUEST $QMIG_GUEST_NAME" >>{log}'
        words = [f"--hook={phase}={note}" for phase in [*PHASES, "postcopy", "done", "failed"]]
        lib.moved_whole(p, *words)
        with open(log, encoding="utf-8") as file:
            lines = [line.split() for line in file]
        check([line[0] for line in lines] == [*PHASES, "done"], f"each once: {lines}")
        check(all(line[1] == line[0] for line in lines[:-1]), f"in its phase: {lines}")
        guests = [line[2] for line in lines]
        check(guests == ["source"] * 7 + ["destination"] * 2, f"where the guest is: {guests}")
        check(lines[2][3] == "qmig-src", f"the guest's name: {lines}")


def hook_says_no(phase):
    """A hook ends the migration; its last words are told; all is as before."""
    def test():
        with pair() as p:
            p.wait_ticking("src")
            before = lib.settings(p.src)
            ended = os.path.join(p.dir, "ended")
            done = lib.run(*lib.migrate_args(p), f"--hook={phase}=echo no such switch; exit 4",
                           f"--hook=failed=echo $QMIG_OUTCOME $QMIG_EXIT_CODE >{ended}")
            lib.stayed_whole(p, done, 3, before)
            check("exit code 4" in done.err and "no such switch" in done.err, done.err)
            with open(ended, encoding="utf-8") as file:
                check(file.read().split() == ["failed", "3"], "the hook `failed` ran")
            p.new_destination()
            lib.moved_whole(p)
    return test


def hook_too_long():
    """--hook-timeout kills it."""
    with pair() as p:
        p.wait_ticking("src")
        begin = time.monotonic()
        done = lib.run(*lib.migrate_args(p), "--hook=perform=sleep 60", "--hook-timeout=500ms")
        check(time.monotonic() - begin < 20, "it was not waited for")
        lib.stayed_whole(p, done, 3)
        check("not done within 500 ms" in done.err, done.err)


def hook_when_it_is_too_late():
    """From finish on a hook's no is only told."""
    with pair() as p:
        p.wait_ticking("src")
        report = lib.moved_whole(p, "--hook=finish=exit 1")
        check(any("hook of finish" in m for m in report["messages"]), report["messages"])


def agent_freezes():
    """Frozen on the source before the switchover, thawed and its clock set on the destination."""
    with pair() as p:
        here, there = (Agent(os.path.join(p.dir, name)) for name in ("ga-src", "ga-dst"))
        p.wait_ticking("src")
        done = lib.run(*lib.migrate_args(p), *SLOW, "--downtime=5ms", "--freeze", "--set-time",
                       f"--agent={here.address}", f"--agent-destination={there.address}",
                       "--timeout=6s", "--timeout-suspend")
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check(here.commands()[:1] == ["guest-fsfreeze-freeze"], here.commands())
        check(there.commands() == ["guest-fsfreeze-thaw", "guest-set-time"], there.commands())
        clock = there.heard[1][1]["time"] / 1e9
        check(abs(clock - time.time()) < 60, f"nanoseconds since 1970: {clock}")
        p.wait_ticking("dst")


def agent_thaws_after_a_failure():
    """A cancelled migration leaves nothing frozen."""
    with pair() as p:
        here, there = (Agent(os.path.join(p.dir, name)) for name in ("ga-src", "ga-dst"))
        p.wait_ticking("src")
        process = lib.start(*lib.migrate_args(p), *SLOW, "--downtime=1ms", "--freeze",
                            f"--agent={here.address}", f"--agent-destination={there.address}",
                            "--hook=switchover=exit 1")
        done = lib.finish(process)
        lib.stayed_whole(p, done, 3)
        check(here.commands()[0] == "guest-fsfreeze-freeze", here.commands())
        check(here.commands()[-1] == "guest-fsfreeze-thaw", here.commands())
        check(there.commands() == [], there.commands())


def agent_is_not_there():
    """What was asked for and cannot be had is found before anything is touched."""
    with pair() as p:
        deaf = Agent(os.path.join(p.dir, "ga-src"), deaf=True)
        p.wait_ticking("src")
        before = lib.settings(p.src)
        done = lib.run(*lib.migrate_args(p), "--freeze", f"--agent={deaf.address}",
                       f"--agent-destination={deaf.address}")
        lib.stayed_whole(p, done, 2, before)
        check("guest agent" in done.err, done.err)
        lib.moved_whole(p)


def lifeless_comes_back():
    """It "runs" there and does nothing: it runs on the source again."""
    with pair() as p:
        p.wait_ticking("src")
        before = lib.settings(p.src)
        liar = Liar(os.path.join(p.dir, "liar"), p.dst.qmp)
        done = lib.run("migrate", f"unix:{p.src.qmp}", f"unix:{liar.path}", "--json",
                       "--progress=json", *SLOW, "--life-timeout=4s")
        lib.stayed_whole(p, done, 3, before)
        check("executes nothing" in done.err, done.err)
        check(p.dst.wait_exit(5), "the destination is gone")
        p.new_destination()
        lib.moved_whole(p)


def lifeless_is_believed():
    """--no-proof-of-life: QEMU's word is taken, and the guest is on the destination, lifeless."""
    with pair() as p:
        p.wait_ticking("src")
        liar = Liar(os.path.join(p.dir, "liar"), p.dst.qmp)
        done = lib.run("migrate", f"unix:{p.src.qmp}", f"unix:{liar.path}", "--json",
                       "--progress=json", "--no-proof-of-life")
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check(p.running() == [], "what proof of life is for")


def no_journal():
    """--no-journal writes none; the default one is removed at a clear end."""
    with pair() as p:
        p.wait_ticking("src")
        seen = os.path.join(p.dir, "seen")
        directory = os.path.join(lib.STATE.name, "qmig")
        look = f"--hook=perform=ls {directory} >{seen} 2>/dev/null; true"
        done = lib.run(*lib.migrate_args(p), "--no-journal", look)
        check(done.code == 0, done.err)
        with open(seen, encoding="utf-8") as file:
            check(file.read() == "", "there is none")
    with pair() as p:
        p.wait_ticking("src")
        seen = os.path.join(p.dir, "seen")
        done = lib.run(*lib.migrate_args(p), f"--hook=perform=ls {directory} >{seen}")
        check(done.code == 0, done.err)
        with open(seen, encoding="utf-8") as file:
            check(".journal" in file.read(), "there was one")
        check(os.listdir(directory) == [], "it is removed")


TESTS = [
    ("hooks in order", hooks_in_order),
    ("a hook of perform says no", hook_says_no("perform")),
    ("a hook of switchover says no", hook_says_no("switchover")),
    ("a hook takes too long", hook_too_long),
    ("a hook says no when it is too late", hook_when_it_is_too_late),
    ("the agent freezes, thaws, sets the time", agent_freezes),
    ("the agent thaws after a failure", agent_thaws_after_a_failure),
    ("the agent is not there", agent_is_not_there),
    ("a lifeless guest comes back", lifeless_comes_back),
    ("without proof of life QEMU is believed", lifeless_is_believed),
    ("--no-journal, and the default one", no_journal),
]
if len(sys.argv) > 2:
    TESTS = [(name, test) for name, test in TESTS if sys.argv[2] in name]
lib.run_tests([(f"{VERSION}: {name}", test) for name, test in TESTS])
