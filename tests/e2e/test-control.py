#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A migration of a real guest, looked at and steered from other processes: test-control.py VERSION.
What is told is held against docs/events.md.
"""
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import lib
from lib import check

sys.path.insert(0, str(lib.TOP / "tests/lib"))
import events  # noqa: E402  (the contract lives with what all tests share)

VERSION = sys.argv[1]
SLOW = "--bandwidth=20MiB/s"
NAME = "qmig-src"       # the launcher's -name of a source
F_SETPIPE_SZ = 1031


def pair(**options):
    """A pair whose migration takes seconds when it is slowed."""
    qemu = lib.qemu(VERSION)
    return lib.vm.Pair(src=qemu, dst=qemu, accel=lib.accel(qemu), mem_mib=256,
                       workload={"ws": "32M", "rate": 2000, "content": "random"}, **options)


def migrate(p, *options, **popen):
    """A migration that writes its events to stdout."""
    p.wait_ticking(p.src)
    return lib.start("migrate", f"unix:{p.src.qmp}", f"unix:{p.dst.qmp}", "--events",
                     "--progress=none", *options, **popen)


def await_phase(target, wanted, timeout=20):
    """`qmig status` until the phase is reached; the JSON object of the running qmig."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done = lib.run("status", "--json", target)
        if done.code == 0:
            qmig = done.report()["qmig"]
            if qmig is not None and wanted in (qmig["status"]["phase"],
                                               qmig["status"]["status"]):
                return qmig
        time.sleep(0.05)
    raise AssertionError(f"{wanted} was not reached within {timeout} s: {done.out}{done.err}")


def valid_events(text):
    """The events of a stream, all as documented, from begin to end."""
    seen = [json.loads(line) for line in text.splitlines()]
    wrong = [problem for event in seen for problem in events.problems_of_event(event)]
    check(not wrong, f"as docs/events.md says: {wrong}")
    kinds = [event["event"] for event in seen]
    check(kinds[0] == "begin" and kinds[-1] in ("end", "report"), f"from begin to end: {kinds}")
    return seen


def only(seen, kind):
    """The events of a kind."""
    return [event for event in seen if event["event"] == kind]


def sockets():
    """The control sockets that are there."""
    return [name for name in os.listdir(lib.RUNTIME.name) if name.endswith(".sock")]


def ended(p, process, code):
    """A migration's end, and its events."""
    done = lib.finish(process)
    check(done.code == code, f"exit {code}, got {done.code}: {done.out}{done.err}")
    seen = valid_events(done.out)
    check(only(seen, "end")[0]["exit_code"] == code, seen[-1])
    check(sockets() == [], f"no socket is left: {sockets()}")
    check(p.guest_errors() == [], f"no corruption: {p.guest_errors()}")
    return seen


# ---- looking ----------------------------------------------------------------------------------

def status_by_any_name():
    """Name, UUID, process, both QMP addresses, a second QMP socket, the socket: all lead there."""
    with pair() as p:
        process = migrate(p, SLOW, "--keep-source")
        qmig = await_phase(NAME, "perform")
        check(not events.problems({k: qmig[k] for k in ("qmig", "job")},
                                  events.TABLES["Greeting"], "greeting"), qmig)
        wrong = events.problems(qmig["status"], events.TABLES["Status"], "status")
        check(not wrong, wrong)
        check(qmig["job"]["source"]["pid"] == p.src.pid, "the source's process")
        for target in (str(process.pid), str(p.src.qmp), f"unix:{p.dst.qmp}", qmig["control"],
                       qmig["job"]["uuid"]):
            text = lib.run("status", target)
            check(text.code == 0 and "phase      perform" in text.out,
                  f"{target}: {text.out}{text.err}")
        with p.src.monitor_free():
            both = lib.run("status", "--json", str(p.src.qmp2)).report()
            check(both["migration"]["status"] == "active" and both["running"] and
                  both["qmig"]["qmig"]["pid"] == process.pid, both)
            alone = lib.run("status", "--json", "--qmp", str(p.src.qmp2)).report()
            check(alone["qmig"] is None and alone["migration"]["status"] == "active", alone)
        listed = lib.run("status")
        check(listed.out.count("perform") == 1 and NAME in listed.out, listed.out)
        check(len(json.loads(lib.run("status", "--json").out)) == 1, "one is listed")
        unknown = lib.run("status", "no-such-guest")
        check(unknown.code == 1 and NAME in unknown.err, f"those there are named: {unknown.err}")
        lib.run("set", NAME, "bandwidth=0")
        ended(p, process, 0)
        none = lib.run("status")
        check("no qmig migrate" in none.out, none.out)


def watched_to_the_end():
    """Two watchers, one for programs and one for people, end with the migration's exit code."""
    with pair() as p:
        process = migrate(p, SLOW)
        await_phase(NAME, "perform")
        watchers = [lib.start("watch", "--json", NAME), lib.start("watch", NAME)]
        time.sleep(0.7)
        lib.run("set", NAME, "bandwidth=0")
        own = ended(p, process, 0)
        program, people = [lib.finish(watcher) for watcher in watchers]
        check(program.code == 0 and people.code == 0, f"{program.err}{people.err}")
        seen = valid_events(program.out)
        check(only(seen, "progress"), "progress was told")
        # The same but for what is transient.
        for kind in events.EVENTS:
            if kind != "progress":
                check(only(seen, kind) == only(own, kind), f"{kind}: {seen} {own}")
        check(only(seen, "owner")[-1]["guest"] == "destination", seen)
        check("done: the guest is on the destination" in people.out, people.out)
        p.wait_ticking(p.dst)


def every_phase_is_told():
    """The order of the phases, and --json with --events: the report is the last line."""
    with pair() as p:
        process = migrate(p, "--json")
        seen = ended(p, process, 0)
        phases = [event["phase"] for event in only(seen, "phase")]
        check(phases == ["begin", "check", "prepare", "storage", "perform", "switchover",
                         "postcopy", "finish", "confirm"], phases)
        check(seen[-1]["report"]["outcome"] == "done" and seen[-2]["event"] == "end", seen[-1])


def answers_while_the_source_hangs():
    """A source that does not answer: status does, within a second, and set waits for its turn."""
    with pair() as p:
        process = migrate(p, SLOW)
        await_phase(NAME, "perform")
        os.kill(p.src.pid, signal.SIGSTOP)
        try:
            time.sleep(0.5)
            begin = time.monotonic()
            status = lib.run("status", NAME)
            check(status.code == 0 and time.monotonic() - begin < 1, f"{status.out}{status.err}")
        finally:
            os.kill(p.src.pid, signal.SIGCONT)
        check(lib.run("set", NAME, "bandwidth=0").code == 0, "set, once it goes on")
        ended(p, process, 0)


def stopped_reader(stream, *options):
    """Who does not read what is told does not hold up the guest: a pipe of one page."""
    def test():
        with pair() as p:
            read_end, write_end = os.pipe()
            fcntl.fcntl(write_end, F_SETPIPE_SZ, 4096)
            p.wait_ticking(p.src)
            other = "stderr" if stream == "stdout" else "stdout"
            with subprocess.Popen([lib.QMIG, "migrate", f"unix:{p.src.qmp}",
                                   f"unix:{p.dst.qmp}", *options],
                                  **{stream: write_end, other: subprocess.PIPE},
                                  env=lib.ENVIRONMENT) as process:
                os.close(write_end)
                try:
                    check(process.wait(30) == 0, "it is done")
                finally:
                    if process.poll() is None:
                        process.kill()
            unread = len(os.read(read_end, 65536))
            check(unread > 3500, f"the pipe was full: {unread} bytes")
            os.close(read_end)
            p.wait_ticking(p.dst)
            blackout = p.blackout_ms()
            check(blackout < 3000, f"the guest did not wait for the reader: {blackout} ms")
    return test


# ---- steering -----------------------------------------------------------------------------------

def set_while_running():
    """What is set is set in QEMU, takes effect, and is put back at the end."""
    with pair() as p:
        before = lib.settings(p.src)
        process = migrate(p, "--bandwidth=2MiB/s", "--keep-source", "--compressed",
                          "--auto-converge")
        await_phase(NAME, "perform")
        done = lib.run("set", NAME, "downtime=150ms", "comp-xbzrle-cache=16MiB",
                       "max-cpu-throttle=60", "timeout=5m")
        check(done.code == 0, f"{done.out}{done.err}")
        now = p.src.cmd("query-migrate-parameters")
        check((now["downtime-limit"], now["xbzrle-cache-size"], now["max-cpu-throttle"]) ==
              (150, 16 << 20, 60), now)
        for wrong, text in (("multifd-channels=4", "when a migration begins"),
                            ("tls-creds=x", "when a migration begins"),
                            ("xbzrle=on", "is a capability"), ("no-such=1", "no-such")):
            refused = lib.run("set", NAME, "downtime=7ms", wrong)
            check(refused.code == 1 and text in refused.err, f"{wrong}: {refused.err}")
        check(p.src.cmd("query-migrate-parameters")["downtime-limit"] == 150, "nothing of it")
        sent = await_phase(NAME, "perform")["status"]["memory"]["transferred"]
        check(lib.run("set", NAME, "bandwidth=0").code == 0, "faster")
        seen = ended(p, process, 0)
        check(only(seen, "end")[0]["ms"] < 20000 and sent < 64 << 20, f"it took effect: {sent}")
        check(len(only(seen, "request")) == 6 and len(only(seen, "refused")) == 4, seen)
        check(any("xbzrle-cache-size" in event["what"] for event in only(seen, "decision")), seen)
        check(lib.settings(p.src) == before, "the source's settings are put back")


class Filled(lib.vm.Disk):
    """A disk whose image on the source holds 24 MiB."""

    def make(self, path):
        super().make(path)
        if "src" in os.path.basename(path):
            lib.vm.disks.write(path, 0x5a, "8M", "24M", self.format)


def set_while_disks_are_copied():
    """The limit is that of the disks' copy too; how far it is, is told."""
    qemu = lib.qemu(VERSION)
    with lib.vm.Pair(qemu, accel=lib.accel(qemu), mem_mib=128, disks=[Filled("64M")],
                     workload={"ws": "16M", "rate": 1000}) as p:
        process = migrate(p, "--copy-storage-all", "--bandwidth=1MiB/s")
        await_phase(NAME, "storage")
        time.sleep(1)
        status = await_phase(NAME, "storage")["status"]
        check(status["storage"]["disks"] and status["memory"]["storage_total"] > 0, status)
        wrong = events.problems(status, events.TABLES["Status"], "status")
        check(not wrong, wrong)
        check(lib.run("set", NAME, "bandwidth=0").code == 0, "set")
        seen = ended(p, process, 0)
        check(only(seen, "end")[0]["ms"] < 15000, "it took effect")
        last = only(seen, "progress")[-1]
        check(last["storage_done"] == last["storage_total"] > 0, last)


def deadline_set_while_running():
    """A --timeout given afterwards ends it: exit 5."""
    with pair() as p:
        before = lib.settings(p.src)
        process = migrate(p, "--bandwidth=2MiB/s")
        await_phase(NAME, "perform")
        check(lib.run("set", NAME, "timeout=1s").code == 0, "set timeout")
        done = lib.finish(process)
        lib.stayed_whole(p, done, 5, before)


def cancelled_by_name():
    """`qmig cancel` returns when all is undone; the source is as before, and migrates again."""
    with pair() as p:
        before = lib.settings(p.src)
        process = migrate(p, SLOW)
        await_phase(NAME, "perform")
        watcher = lib.start("watch", NAME)
        cancel = lib.run("cancel", NAME)
        check(cancel.code == 0 and "stays on the source" in cancel.out, cancel.err)
        check(lib.settings(p.src) == before, "put back when cancel returns")
        seen = ended(p, process, 4)
        check(only(seen, "undo")[0]["phase"] == "perform", seen)
        watched = lib.finish(watcher)
        check(watched.code == 4, f"watch ends with 4: {watched.code} {watched.out}")
        check(p.running() == ["src"], p.running())
        p.new_destination()
        lib.moved_whole(p)


def needs_postcopy(p):
    """Skip where this host lets no QEMU use userfaultfd."""
    try:
        p.dst.cmd("migrate-set-capabilities",
                  capabilities=[{"capability": "postcopy-ram", "state": True}])
    except lib.vm.VmError as error:
        raise lib.Skip(f"no post-copy here: {error}") from None
    p.dst.cmd("migrate-set-capabilities",
              capabilities=[{"capability": "postcopy-ram", "state": False}])


def postcopy_on_command():
    """`qmig postcopy`: the guest runs over there at once, its memory follows."""
    with pair() as p:
        needs_postcopy(p)
        process = migrate(p, "--postcopy", "--bandwidth=4MiB/s",
                          "--set=max-postcopy-bandwidth=20MiB/s")
        await_phase(NAME, "active")
        refused = lib.run("pause", NAME)
        check(refused.code == 1 and "only post-copy can be paused" in refused.err, refused.err)
        asked = lib.run("postcopy", NAME)
        check(asked.code == 0, asked.err)
        await_phase(NAME, "postcopy-active")
        p.wait_ticking(p.dst)
        late = lib.run("cancel", NAME)
        check(late.code == 1 and "too late to cancel" in late.err, late.err)
        check(lib.run("set", NAME, "postcopy-bandwidth=0").code == 0, "faster")
        seen = ended(p, process, 0)
        states = [event["status"] for event in only(seen, "state")]
        check("postcopy-active" in states and states[-1] == "completed", states)
        check(p.running() == ["dst"], p.running())


def postcopy_paused_on_command():
    """`qmig pause`: exit 6, both paused, the guest over there; nothing is quit."""
    with pair() as p:
        needs_postcopy(p)
        process = migrate(p, "--postcopy", "--bandwidth=4MiB/s",
                          "--set=max-postcopy-bandwidth=4MiB/s")
        await_phase(NAME, "active")
        check(lib.run("postcopy", NAME).code == 0, "asked for")
        await_phase(NAME, "postcopy-active")
        paused = lib.run("pause", NAME)
        check(paused.code == 0, paused.err)
        done = lib.finish(process)
        check(done.code == 6, f"exit 6, got {done.code}: {done.out}{done.err}")
        check(p.src.cmd("query-migrate")["status"] == "postcopy-paused", "the source is paused")
        check(p.src.cmd("query-status")["running"] is False, "and runs nothing")
        check(p.dst.alive(), "the destination lives")


def recover_on_command():
    """A broken post-copy that a running qmig cannot resume yet: `qmig recover` has it try anew."""
    why = lib.vm.Link.why_not()
    if why:
        raise lib.Skip(why)
    with lib.vm.Link("1gbit") as link, pair(link=link) as p:
        needs_postcopy(p)
        process = migrate(p, "--postcopy", "--bandwidth=4MiB/s", "--direct",
                          f"--migrateuri=tcp:{link.dst_addr}:0",
                          "--set=max-postcopy-bandwidth=4MiB/s")
        await_phase(NAME, "active")
        check(lib.run("postcopy", NAME).code == 0, "asked for")
        await_phase(NAME, "postcopy-active")
        whole = lib.run("recover", NAME)
        check(whole.code == 1 and "its link is whole" in whole.err, f"{whole.code} {whole.err}")
        link.set_up(False)
        p.src.cmd("migrate-pause")
        await_phase(NAME, "postcopy-paused")
        postcopy = await_phase(NAME, "postcopy")["status"]["postcopy"]
        check(postcopy["broken_ms"] is not None and postcopy["breaks"] == 1, postcopy)
        check("broken for" in lib.run("status", NAME).out, "people are told too")
        check(lib.run("recover", NAME).code == 0, "it tries")
        link.set_up(True)
        check(lib.run("set", NAME, "postcopy-bandwidth=0").code == 0, "set, while it is broken")
        done = lib.finish(process, 90)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        check([event["command"] for event in only(valid_events(done.out), "request")] ==
              ["postcopy", "recover", "recover", "set"], done.out)
        p.wait_ticking(p.dst)
        check(p.running() == ["dst"] and p.guest_errors() == [], "one guest, whole")


def postcopy_without_qmig():
    """Of a migration that plain QMP drives: the source is stopped, the destination told to run."""
    with pair() as p:
        needs_postcopy(p)
        p.wait_ticking(p.src)
        on = [{"capability": "postcopy-ram", "state": True}]
        for side in (p.src, p.dst):
            side.cmd("migrate-set-capabilities", capabilities=on)
        p.src.cmd("migrate-set-parameters", **{"max-bandwidth": 4 << 20})
        path = f"{lib.SCRATCH.name}/plain.sock"
        p.dst.cmd("migrate-incoming", uri=f"unix:{path}")
        p.src.cmd("migrate", uri=f"unix:{path}")
        p.src.wait_migration("active") if hasattr(p.src, "wait_migration") else time.sleep(1)
        alone = lib.run("postcopy", f"unix:{p.src.qmp}")
        check(alone.code == 1 and "give the destination's" in alone.err, alone.err)
        done = lib.run("postcopy", f"unix:{p.src.qmp}", f"unix:{p.dst.qmp}")
        check(done.code == 0, f"{done.out}{done.err}")
        p.wait_ticking(p.dst)
        check(p.running() == ["dst"], p.running())
        with contextlib.suppress(OSError):
            os.unlink(path)


# ---- when qmig dies -----------------------------------------------------------------------------

def killed():
    """kill -9: who watches is told what to do; QEMU is asked itself; the socket is swept away."""
    with pair() as p:
        process = migrate(p, SLOW, "--direct")
        await_phase(NAME, "perform")
        watcher = lib.start("watch", NAME)
        time.sleep(0.3)
        lib.kill(process.pid)
        process.communicate()
        watched = lib.finish(watcher)
        check(watched.code == 7 and "was killed" in watched.err and
              f"qmig recover unix:{p.src.qmp}" in watched.err, f"{watched.code}: {watched.err}")
        gone = lib.run("status", NAME)
        check(gone.code == 1 and "no running qmig migrate" in gone.err, gone.err)
        check(sockets() == [], f"its socket is swept away: {sockets()}")
        status = lib.run("status", f"unix:{p.src.qmp}")
        check("migration  active" in status.out, status.out)
        check(lib.run("set", f"unix:{p.src.qmp}", "bandwidth=10MiB/s").code == 0, "set")
        refused = lib.run("set", f"unix:{p.src.qmp}", "multifd-channels=4")
        check(refused.code == 1 and "when a migration begins" in refused.err, refused.err)
        cancel = lib.run("cancel", f"unix:{p.src.qmp}")
        check(cancel.code == 0, cancel.err)
        p.wait_ticking(p.src)
        check(p.running() == ["src"], p.running())


def rude_clients():
    """Clients that send rubbish, half a line, nothing, or too many requests harm nobody."""
    with pair() as p:
        process = migrate(p, SLOW)
        path = await_phase(NAME, "perform")["control"]
        held = []
        for text in (b"", b"hello\n", b"{" * 70000, b'{"command":"set"', b"\0\n",
                     b'{"command":"status"}\n' * 2000):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(0.5)
            client.connect(path)
            with contextlib.suppress(OSError):
                client.sendall(text)
            held.append(client)
        check(lib.run("status", NAME).code == 0, "status works beside them")
        check(lib.run("set", NAME, "bandwidth=0").code == 0, "and set")
        ended(p, process, 0)
        for client in held:
            client.close()


# Which QEMU proves it in an ordinary run; all do it all in a full one ("long": only then).
TESTS = [
    ("7.2", "status by any name, list, and as documented", status_by_any_name),
    ("11.1", "watched to the end by two", watched_to_the_end),
    ("7.2", "every phase is told, the report is the last line", every_phase_is_told),
    ("11.1", "status answers while the source hangs", answers_while_the_source_hangs),
    ("long", "who does not read the events holds nobody up",
     stopped_reader("stdout", "--events", "--progress=none", "--bandwidth=60MiB/s")),
    ("long", "nor does a stopped terminal",
     stopped_reader("stderr", "--progress=tty", "--bandwidth=30MiB/s")),
    ("7.2", "set takes effect while it runs and is put back", set_while_running),
    ("long", "set while disks are copied", set_while_disks_are_copied),
    ("long", "a deadline set while it runs ends it", deadline_set_while_running),
    ("11.1", "cancelled by name, all undone", cancelled_by_name),
    ("7.2", "post-copy on command", postcopy_on_command),
    ("11.1", "post-copy paused on command", postcopy_paused_on_command),
    ("long", "a broken post-copy recovered on command", recover_on_command),
    ("11.1", "post-copy on command without a qmig", postcopy_without_qmig),
    ("7.2", "qmig is killed", killed),
    ("11.1", "rude clients harm nobody", rude_clients),
]
# A word as second argument selects.
lib.run_tests([(f"{VERSION}: {claim}", test) for version, claim, test in TESTS
               if (sys.argv[2] in claim if len(sys.argv) > 2 else
                   lib.FULL or version == VERSION)])
