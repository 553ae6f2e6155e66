#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Every option of `qmig migrate`, row by row of its table, with real guests of one QEMU version:
test-flags.py VERSION. Memory is compared byte for byte; what an option asks of QEMU is read back
from both QEMUs while it migrates, and afterwards all is as before. Where this QEMU has not got
it, it must be refused, and nothing touched. A row without a test fails.

test-flags.py --list: OPTION <tab> where it is tested, for docs/flags.md.
"""
import os
import pathlib
import re
import struct
import sys
import time

import lib
from fake_agent import Agent
from flagkit import (VERSION, expected, has_all, moved, now, pair, plain, refused, refuses, sets,
                     table)
from lib import check

HERE = pathlib.Path(__file__).resolve().parent
TCP = ["--listen=tcp:127.0.0.1:0"]
UUID = "11223344-5566-7788-99aa-bbccddeeff00"

# Options whose tests are in other files: the name of the test as it stands there.
ELSEWHERE = {
    "timeout-suspend": ("test-postcopy.py", "--timeout-suspend ends what would not end"),
    "timeout-postcopy": ("test-postcopy.py", "--timeout-postcopy ends what would not end"),
    "recover-timeout": ("test-postcopy.py", "given up: exit 6"),
    "record": ("test-capture.py", "qmig migrate --record"),
    "copy-storage-all": ("test-storage.py", "two disks, whole: RAM and images equal, sparse kept"),
    "copy-storage-inc": ("test-storage.py", "--copy-storage-inc copies what is above the base"),
    "copy-storage-synchronous-writes": ("test-storage.py", "over tcp, synchronous writes"),
    "migrate-disks": ("test-storage.py", "--migrate-disks copies only those"),
    "disks-uri": ("test-storage.py", "over tcp, synchronous writes"),
    "dirty-bitmaps": ("test-storage.py", "--dirty-bitmaps"),
    "abort-on-error": ("test-storage.py", "--abort-on-error"),
    "change-protection": ("test-storage.py", "--change-protection"),
    "tls": ("test-tls.py", "certificates, through the proxy, RAM equal"),
    "tls-destination": ("test-tls.py", "another name is told first, through the proxy and direct"),
    "tls-dir": ("test-tls.py", "certificates, through the proxy, RAM equal"),
    "tls-source-dir": ("test-tls.py", "an expired certificate of the source is told first"),
    "tls-destination-dir":
        ("test-tls.py", "an expired certificate of the destination is told first"),
    "tls-proxy-dir":
        ("test-tls.py", "a missing client certificate of the proxy is told first"),
    "tls-creds": ("test-tls.py", "objects of the user's, used and kept"),
    "tls-psk": ("test-tls.py", "pre-shared keys, through the proxy, RAM equal"),
    "tls-user": ("test-tls.py", "pre-shared keys, direct, RAM equal"),
    "tls-authz":
        ("test-tls.py", "a name that tls-authz does not allow is told first, through the proxy"),
    "via": ("test-tunnel.py", "over TLS, RAM equal"),
    "via-connections":
        ("test-tunnel.py", "by a pre-shared key, no codec, no cache, four connections"),
    "via-compression":
        ("test-tunnel.py", "by a pre-shared key, no codec, no cache, four connections"),
    "via-cache": ("test-tunnel.py", "by a pre-shared key, no codec, no cache, four connections"),
    "via-bandwidth": ("test-tunnel.py", "dark for seconds, and it goes on"),
    "via-deadline": ("test-tunnel.py", "dark for too long: exit 5"),
    "via-standstill": ("test-link-breaks.py", "plain, switchover: stands still too long"),
    "via-tls-dir": ("test-tunnel.py", "over TLS, RAM equal"),
    "via-tls-psk": ("test-tunnel.py", "by a pre-shared key, no codec, no cache, four connections"),
    "via-tls-user": ("test-tunnel.py", "by a pre-shared key, no codec, no cache, four connections"),
    "via-tls-destination": ("test-tunnel.py", "another name is told before anything is touched"),
    "via-insecure": ("test-tunnel.py", "in the clear, the monitor through it, RAM equal"),
    "fence": ("test-recover.py", "a hung source needs the fence"),
    "events": ("test-control.py", "every phase is told, the report is the last line"),
    "control": ("test-control.py", "status by any name, list, and as documented"),
}


# ---- claims --------------------------------------------------------------------------------------

def pages(kind):
    """The proxy saw such pages."""
    def claim(_p, report):
        seen = report["proxy"]["plugins"]["stats"]["pages"]
        check(seen.get(kind, 0) > 0, f"{kind} pages travelled: {seen}")
    return claim


def channels(count):
    """So many connections of multifd carried bytes."""
    def claim(_p, report):
        kinds = [c["kind"] for c in report["proxy"]["channels"] if c["bytes_forward"] > 0]
        check(kinds.count("multifd") == count, f"{count} multifd channels: {kinds}")
    return claim


def smaller(_p, report):
    """What travelled is less than the memory that was not zero."""
    sent = sum(c["bytes_forward"] for c in report["proxy"]["channels"])
    full = report["ram"]["total"] - report["ram"]["pages_zero"] * 4096
    check(sent < full * 0.8, f"compressed: {sent} bytes of {full}")


def said(text, where="messages"):
    """A message says so."""
    def claim(_p, report):
        check(any(text in str(entry) for entry in report[where]), f"{text}: {report[where]}")
    return claim


def direct(_p, report):
    """No proxy."""
    check(report["path"] == "direct" and report["proxy"] is None, report["path"])


def zerocopied(_p, report):
    """By multifd, over tcp."""
    check(any(c["kind"] == "multifd" for c in report["proxy"]["channels"]), "multifd was used")


# ---- options with tests of their own ---------------------------------------------------------------

POSTCOPY = ["--postcopy-after-precopy", "--downtime=1ms", "--bandwidth=80MiB/s"]
BUSY = {"ws": "16M", "rate": "max"}


def in_postcopy(*words, value=None, claim=None, source_has_memory=True):
    """It came to post-copy, and arrived whole."""
    def test(row):
        with pair(workload=BUSY, mem_mib=128) as p:
            wanted = expected(row, value)
            for side in ("src", "dst"):
                wanted[side]["postcopy-ram"] = True
            report = moved(p, [*POSTCOPY, *words], wanted, source_has_memory)
            check("post-copy" in [d["what"] for d in report["decisions"]], report["decisions"])
            if claim:
                claim(p, report)
    return test


def resumed(_row):
    """Paused for good, exit 6; resumed, and the guest is whole on the destination."""
    with lib.vm.Link("1gbit") as link, pair(workload=BUSY, mem_mib=128, link=link) as p:
        p.wait_ticking(p.src)
        process = lib.start(*lib.migrate_args(p), "--direct", "--recover-timeout=1s",
                            f"--migrateuri=tcp:{link.dst_addr}:0", *POSTCOPY,
                            "--postcopy-bandwidth=10MiB/s")
        deadline = time.monotonic() + 20
        while any(side.cmd("query-migrate").get("status") != "postcopy-active"
                  for side in (p.src, p.dst)):
            check(time.monotonic() < deadline, "it comes to post-copy")
            time.sleep(0.01)
        link.set_up(False)
        p.src.cmd("migrate-pause")
        done = lib.finish(process, 90)
        check(done.code == 6, f"exit 6, got {done.code}: {done.err}")
        link.set_up(True)
        done = lib.run("migrate", f"unix:{p.src.qmp}", f"unix:{p.dst.qmp}", "--postcopy-resume",
                       timeout=90)
        check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
        p.wait_ticking(p.dst)
        check(p.running() == ["dst"] and not p.guest_errors(), f"{p.guest_errors()}")


def blocktime_told(_p, report):
    """QEMU's figures are in the report."""
    told = report["blocktime"]
    check(told and "blocktime" in told and "vcpu-blocktime" in told, f"blocktime: {told}")


class OneMemory(lib.vm.Pair):
    """Both sides have the same file as memory."""

    def _new_ram(self, name):
        return self.src.ram_path if self.src is not None else super()._new_ram(name)


def ignore_shared(_row):
    """Nothing of the shared memory travels; two files are refused, and with --unsafe believed."""
    with pair(OneMemory) as p:
        report = moved(p, ["--ignore-shared"],
                       {"src": {"x-ignore-shared": True}, "dst": {"x-ignore-shared": True}})
        check(report["ram"]["pages_normal"] * 4096 < 8 << 20,
              f"the guest's 64 MiB did not travel: {report['ram']}")
    with pair() as p:
        refused(p, ["--ignore-shared"], "memory \"pc.ram\"", "two files", "--unsafe")
    with pair(share=False, dirty_extra_args=[]) as p:
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), "--ignore-shared")
        check(done.code == 2 and "has no shared memory" in done.err, done.err)


def validate_uuid(row):
    """The same -uuid passes, another is refused by qmig before QEMU could."""
    sets("--validate-uuid", dirty_extra_args=["-uuid", UUID])(row)
    with pair() as p:
        new_destination(p, ["-uuid", UUID])
        refused(p, ["--validate-uuid"], "UUID", UUID)


def new_destination(p, words):
    """A destination with more words on its command line."""
    p.config["extra_args"] += words
    p.new_destination()


def rdma(row):
    """QEMU itself says that this host has no RDMA; over tcp it is refused."""
    refuses("--rdma-pin-all", texts=["--rdma-pin-all needs --migrateuri"])(row)
    with pair() as p:
        p.wait_ticking(p.src)
        before = lib.settings(p.src)
        done = lib.run(*lib.migrate_args(p), "--rdma-pin-all", "--direct",
                       "--migrateuri=rdma:127.0.0.1:4444")
        if done.code == 0:
            check(p.running() == ["dst"], "it moved by RDMA")
            return
        check(re.search("rdma", done.err, re.IGNORECASE), f"QEMU's reason: {done.err}")
        lib.stayed_whole(p, done, 3, before)


def dirty_limit(*words, name, value):
    """With a dirty ring it works; without one QEMU says why not."""
    def test(row):
        sets_or_ring = sets(*words, value=value)
        with pair() as p:
            if not has_all(p.src, ["dirty-limit"]):
                lacks = True
            else:
                lacks = False
                refused(p, words, "dirty-ring-size")
        if lacks:
            sets_or_ring(row)
    return test


def zerocopy(row):
    """Over tcp; a unix socket is refused with what to add."""
    sets("--zerocopy", also=TCP, claim=zerocopied)(row)
    with pair() as p:
        refused(p, ["--zerocopy"], "--listen=tcp:127.0.0.1:0")


def zero_pages(row):
    """Legacy everywhere it exists; to itself multifd too."""
    sets("--zero-page-detection=legacy", value="legacy")(row)
    sets("--zero-page-detection=none", value="none")(row)


def comp_methods(_row):
    """Each method where QEMU has it; those that do not go together are refused."""
    with pair() as p:
        has_mt = has_all(p.src, ["compress"])
    plain("--comp-methods=xbzrle", *SLOW, claim=pages("xbzrle"), workload=HOT)(_row)
    plain("--comp-methods=zlib", claim=smaller)(_row)
    plain("--comp-methods=zstd", claim=smaller)(_row)
    if has_mt:
        plain("--comp-methods=mt,xbzrle", claim=smaller)(_row)
    else:
        refuses("--comp-methods=mt", code=2,
                texts=["compress: this QEMU lacks it", "--comp-methods zstd or zlib"])(_row)
    refuses("--comp-methods=qpl", code=2, texts=["\"qpl\" is none of: none, zlib, zstd"])(_row)
    refuses("--comp-methods=xbzrle,zstd", texts=["does not go with multifd"])(_row)


# Several passes: deltas are of pages that were sent twice.
HOT = {"ws": "8M", "rate": 4000, "pattern": "word", "order": "hot", "content": "text"}
SLOW = ["--bandwidth=25MiB/s", "--downtime=1ms"]


def qatzip(row):
    """QEMU's own refusal, where it was built without."""
    with pair() as p:
        text = ("multifd-qatzip-level: this QEMU lacks it"
                if not has_all(p.src, ["multifd-qatzip-level"])
                else "\"qatzip\" is none of: none, zlib, zstd")
        refused(p, ["--comp-qatzip-level=3"], text)
    check(row["qemu"][1]["value"] == "qatzip", "the row sets the method")


def level(method, value):
    """Set, and read back; QEMU 7.2 ignores it, which is told, unless it was started with it."""
    words, name = f"--comp-{method}-level={value}", f"multifd-{method}-level"

    def test(row):
        if VERSION == "7.2":
            with pair() as p:
                refused(p, [words], f"{name}: this QEMU took {value}, and keeps 1",
                        f"-global migration.{name}={value}")
            sets(words, value=value, claim=smaller,
                 dirty_extra_args=["-global", f"migration.{name}={value}"])(row)
        else:
            sets(words, value=value, claim=smaller)(row)
    return test


def count_arps(path):
    """RARP packets in a capture of QEMU's filter-dump."""
    data, at, count = path.read_bytes(), 24, 0
    while at + 16 <= len(data):
        length = struct.unpack_from("=I", data, at + 8)[0]
        count += data[at + 16 + 12:at + 16 + 14] == b"\x80\x35"
        at += 16 + length
    return count


NIC = ["-netdev", "hubport,id=net0,hubid=0", "-device",
       "e1000,netdev=net0,mac=52:54:00:12:34:56,romfile="]


def announces(*words, value, rounds=None):
    """Set where QEMU announces; and so many packets leave the destination's card after `cont`."""
    def test(row):
        sets(*words, value=value)(row)
        if rounds is None:
            return
        with pair(dirty_extra_args=NIC) as p:
            p.wait_ticking(p.src)
            dump = pathlib.Path(p.dir) / "dump"
            p.dst.cmd("object-add", **{"qom-type": "filter-dump", "id": "dump0",
                                       "netdev": "net0", "file": str(dump)})
            done = lib.run(*lib.migrate_args(p), *words, "--announce-initial=20ms",
                           "--announce-step=20ms", "--announce-max=50ms")
            check(done.code == 0, done.err)
            p.wait_ticking(p.dst)
            deadline = time.monotonic() + 5
            while count_arps(dump) < rounds and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.2)
            check(rounds <= count_arps(dump) <= 2 * rounds,
                  f"{rounds} announcements, by QEMU and after cont: {count_arps(dump)}")
    return test


def live(_row):
    """The guest runs meanwhile: it ticked while memory was copied."""
    with pair() as p:
        p.wait_ticking(p.src)
        ticks = p.src.ticks.count
        moved(p, ["--live", "--bandwidth=60MiB/s"])
        check(p.src.ticks.count > ticks + 20, "it ticked on the source meanwhile")


def suspend(_row):
    """It arrives, and does not run there; the source is gone."""
    with pair() as p:
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), "--suspend")
        check(done.code == 0, done.err)
        check(p.dst.status() == "paused" and p.src.wait_exit(), "paused there, gone here")
        p.dst.cmd("cont")
        p.wait_ticking(p.dst)


def keep_source(_row):
    """Its QEMU stays, stopped; the guest runs on the destination."""
    with pair() as p:
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), "--keep-source")
        check(done.code == 0, done.err)
        p.wait_ticking(p.dst)
        check(p.src.alive() and p.running() == ["dst"], f"one runs: {p.running()}")


# ---- the definition ---------------------------------------------------------------------------------

class Files:
    """A definition, and a place for its copy."""

    def __init__(self, p):
        self.old = pathlib.Path(p.dir) / "guest.sh"
        self.new = pathlib.Path(p.dir) / "there" / "guest.sh"
        self.new.parent.mkdir()
        self.old.write_text("#!/bin/sh\nexec qemu\n")
        self.old.chmod(0o750)
        self.words = [f"--definition={self.old}", "--persistent", f"--definition-to={self.new}"]

    def state(self):
        """(old is there, new is there, nothing else is there)"""
        return self.old.exists(), self.new.exists(), not list(self.new.parent.glob("*.qmig*"))


def definition(_row):
    """Copied, with its mode, when the guest has arrived; not when it failed."""
    with pair() as p:
        files = Files(p)
        moved(p, files.words)
        check(files.state() == (True, True, True), f"copied: {files.state()}")
        check(files.new.read_text() == files.old.read_text(), "the same")
        check(os.stat(files.new).st_mode & 0o777 == 0o750, "with its mode")
    with pair(mem_mib=128) as p:
        files = Files(p)
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), *files.words, "--undefinesource",
                       "--bandwidth=1MiB/s", "--timeout=500ms")
        lib.stayed_whole(p, done, 5)
        check(files.state() == (True, False, True), f"all as before: {files.state()}")


def definition_to(_row):
    """Never over something else, and a place that cannot be written is found before."""
    with pair() as p:
        files = Files(p)
        files.new.write_text("another\n")
        refused(p, files.words, "exists, and is another")
        check(files.new.read_text() == "another\n", "it is left alone")
        refused(p, [*files.words[:2], "--definition-to=/nonexistent/x"], "/nonexistent")
        refused(p, [*files.words[:2], f"--definition-to={files.old}"], "are one file")


def undefine(_row):
    """Copied and removed; without a copy only with --unsafe."""
    with pair() as p:
        files = Files(p)
        refused(p, [files.words[0], "--undefinesource"], "--unsafe")
        moved(p, [*files.words, "--undefinesource"])
        check(files.state() == (False, True, True), f"moved: {files.state()}")


def unsafe(_row):
    """What was refused is done."""
    with pair() as p:
        files = Files(p)
        moved(p, [files.words[0], "--undefinesource", "--unsafe"])
        check(files.state() == (False, False, True), f"removed: {files.state()}")


def offline(_row):
    """Refused while the guest runs; moved when it does not."""
    with pair() as p:
        files = Files(p)
        words = [*files.words, "--undefinesource", "--offline"]
        refused(p, words, "a QEMU answers at")
        check(files.state() == (True, False, True), f"all as before: {files.state()}")
        p.src.cmd("quit")
        check(p.src.wait_exit(), "the guest is shut off")
        done = lib.run("migrate", f"unix:{p.src.qmp}", f"unix:{p.dst.qmp}", "--json", *words)
        check(done.code == 0 and done.report()["outcome"] == "done", done.err)
        check(files.state() == (False, True, True), f"moved: {files.state()}")
        check(p.dst.status() == "inmigrate", "the destination was not asked")


# ---- safety ------------------------------------------------------------------------------------------

def timeout(_row):
    """Ended in time, all as before."""
    with pair() as p:
        p.wait_ticking(p.src)
        before, start = lib.settings(p.src), time.monotonic()
        done = lib.run(*lib.migrate_args(p), "--timeout=700ms", "--bandwidth=1MiB/s")
        lib.stayed_whole(p, done, 5, before)
        check(0.6 < time.monotonic() - start < 20, "about when it was told")


def journal(_row):
    """The steps are in the file, in their order, and stay there."""
    with pair() as p:
        path = pathlib.Path(p.dir) / "journal"
        moved(p, [f"--journal={path}"])
        text = path.read_text()
        places = [text.find(f'"step":"{step}"') for step in ("incoming", "migrate", "running")]
        check(-1 < places[0] < places[1] < places[2], f"steps are written: {text}")


def no_journal(_row):
    """Nothing is written, where one would be."""
    with pair() as p:
        state = pathlib.Path(p.dir) / "state"
        state.mkdir()
        p.wait_ticking(p.src)
        for words, wanted in ((["--no-journal"], False), ([], True)):
            hook = f"--hook=perform=find {state} -type f > {p.dir}/found"
            done = lib.run(*lib.migrate_args(p), *words, hook, "--hook=switchover=false",
                           prefix=["env", f"XDG_STATE_HOME={state}"])
            check(done.code == 3, f"the second hook ends it: {done.code} {done.err}")
            found = (pathlib.Path(p.dir) / "found").read_text()
            check(bool(found) == wanted, f"{words}: a journal meanwhile: {found}")
            p.new_destination()


def hook(_row):
    """Called at its phase, with what it is told; one that says no ends the migration."""
    with pair() as p:
        path = pathlib.Path(p.dir) / "said"
        moved(p, [f"--hook=perform=echo $QMIG_PHASE $QMIG_GUEST > {path}"])
        check(path.read_text() == "perform source\n", path.read_text())
    with pair() as p:
        p.wait_ticking(p.src)
        done = lib.run(*lib.migrate_args(p), "--hook=perform=echo not today; exit 3")
        lib.stayed_whole(p, done, 3)
        check("not today" in done.err, done.err)


def hook_timeout(_row):
    """A hook that takes longer is killed, and has failed."""
    with pair() as p:
        p.wait_ticking(p.src)
        start = time.monotonic()
        done = lib.run(*lib.migrate_args(p), "--hook=perform=sleep 60", "--hook-timeout=300ms")
        lib.stayed_whole(p, done, 3)
        check(time.monotonic() - start < 20, "long before it would have ended")


def with_agent(*words, source=(), destination=()):
    """The guest's agents were asked this."""
    def test(_row):
        with pair() as p:
            agents = [Agent(pathlib.Path(p.dir) / name) for name in ("ga-src", "ga-dst")]
            p.wait_ticking(p.src)
            # Several passes: it is frozen when the first is done.
            done = lib.run(*lib.migrate_args(p), "--keep-source", *SLOW,
                           f"--agent=unix:{agents[0].path}",
                           f"--agent-destination=unix:{agents[1].path}", *words)
            check(done.code == 0, f"exit 0: {done.code} {done.err[-2000:]}")
            p.wait_ticking(p.dst)
            check(p.running() == ["dst"], "the guest runs there")
            for agent, wanted in zip(agents, (source, destination)):
                for name in wanted:
                    check(name in agent.asked, f"{name} was asked: {agent.asked}, {done.err}")
                agent.close()
    return test


def dry_run(_row):
    """The plan is printed, and nothing is touched: both can be used afterwards."""
    with pair() as p:
        p.wait_ticking(p.src)
        before = now(p.src), now(p.dst)
        done = lib.run("migrate", f"unix:{p.src.qmp}", f"unix:{p.dst.qmp}", "--dry-run",
                       "--parallel", "--downtime=150ms")
        check(done.code == 0, f"exit 0: {done.code} {done.err}")
        for word in ("migrate-set-capabilities", "multifd", "migrate-incoming", "150"):
            check(word in done.out, f"{word} is in the plan: {done.out}")
        check((now(p.src), now(p.dst)) == before, "nothing was touched")
        moved(p, ["--parallel"])


# ---- rows ----------------------------------------------------------------------------------------------

def plugin(_p, report):
    """The stream went through decoder and encoder."""
    check(report["proxy"]["channels"][0]["mode"] == "rewrite", report["proxy"]["channels"][0])


def on_port(_p, report):
    """Over tcp."""
    check(report["proxy"]["channels"], "channels are told")


ROWS = {
    "live": live,
    "offline": offline,
    "suspend": suspend,
    "keep-source": keep_source,
    "definition": definition,
    "persistent": definition,
    "definition-to": definition_to,
    "undefinesource": undefine,
    "unsafe": unsafe,
    "p2p": refuses("--p2p"),
    "tunnelled": refuses("--tunnelled"),
    "bandwidth": sets("--bandwidth=1Gbit", value=125000000),
    "available-switchover-bandwidth":
        sets("--available-switchover-bandwidth=2Gbit", value=250000000),
    "downtime": sets("--downtime=150ms", value=150),
    "timeout": timeout,
    "parallel": sets("--parallel", claim=channels(2)),
    "parallel-connections": sets("--parallel-connections=5", value=5, claim=channels(5)),
    "zerocopy": zerocopy,
    "zero-page-detection": zero_pages,
    "rdma-pin-all": rdma,
    "ignore-shared": ignore_shared,
    "mapped-ram": refuses("--mapped-ram"),
    "validate-uuid": validate_uuid,
    "switchover-ack": sets("--switchover-ack"),
    "compressed": plain("--compressed", *SLOW, claim=pages("xbzrle"), workload=HOT),
    "comp-methods": comp_methods,
    "comp-mt-level": sets("--comp-mt-level=9", value=9, claim=smaller),
    "comp-mt-threads": sets("--comp-mt-threads=3", value=3, claim=smaller),
    "comp-mt-dthreads": sets("--comp-mt-dthreads=5", value=5, claim=smaller),
    "comp-mt-wait": sets("--comp-mt-wait=off", value=False),
    "comp-xbzrle-cache": sets("--comp-xbzrle-cache=8M", also=SLOW, value=8 << 20, workload=HOT,
                              claim=pages("xbzrle")),
    "comp-zlib-level": level("zlib", 9),
    "comp-zstd-level": level("zstd", 6),
    "comp-qatzip-level": qatzip,
    "auto-converge": sets("--auto-converge"),
    "auto-converge-initial": sets("--auto-converge-initial=35%", value=35),
    "auto-converge-increment": sets("--auto-converge-increment=15", value=15),
    "throttle-threshold": sets("--throttle-threshold=80", also=["--auto-converge"], value=80),
    "throttle-max": sets("--throttle-max=70", value=70),
    "throttle-tailslow": sets("--throttle-tailslow"),
    "dirty-limit": dirty_limit("--dirty-limit", name="dirty-limit", value=True),
    "vcpu-dirty-limit": dirty_limit("--vcpu-dirty-limit=10", name="vcpu-dirty-limit", value=10),
    "vcpu-dirty-limit-period":
        dirty_limit("--vcpu-dirty-limit-period=500ms", name="x-vcpu-dirty-limit-period",
                    value=500),
    "postcopy": sets("--postcopy"),
    "postcopy-after-precopy": in_postcopy(),
    "postcopy-resume": resumed,
    "postcopy-bandwidth": in_postcopy("--postcopy-bandwidth=50MiB/s", value=50 << 20),
    "postcopy-preempt": in_postcopy("--postcopy-preempt"),
    "postcopy-blocktime": in_postcopy("--postcopy-blocktime", claim=blocktime_told),
    # Freed on the source: the guest itself looks at what has arrived.
    "release-ram": in_postcopy("--release-ram", source_has_memory=False),
    "journal": journal,
    "no-journal": no_journal,
    "hook": hook,
    "hook-timeout": hook_timeout,
    "agent": with_agent(source=["guest-sync-delimited"]),
    "agent-destination": with_agent("--set-time", destination=["guest-sync-delimited"]),
    "freeze": with_agent("--freeze", source=["guest-fsfreeze-freeze"],
                         destination=["guest-fsfreeze-thaw"]),
    "set-time": with_agent("--set-time", destination=["guest-set-time"]),
    "life-timeout": plain("--life-timeout=5s"),
    "no-proof-of-life": plain("--no-proof-of-life"),
    "dry-run": dry_run,
    "direct": plain("--direct", claim=direct),
    "plugin": plain("--plugin=null", claim=plugin),
    "migrateuri": plain("--migrateuri=tcp:127.0.0.1:0", claim=on_port),
    "listen": plain(*TCP, claim=on_port),
    "announce-initial": announces("--announce-initial=70ms", value=70),
    "announce-step": announces("--announce-step=30ms", value=30),
    "announce-max": announces("--announce-max=400ms", value=400),
    "announce-rounds": announces("--announce-rounds=7", value=7, rounds=7),
    "set": plain("--set=downtime-limit=200ms", "--set=multifd-channels=3",
                 claim=said("multifd-channels (--set) does nothing without multifd")),
    "cap": plain("--cap=multifd", "--set=multifd-channels=3", claim=channels(3)),
    "progress": plain("--progress=none"),
    "json": plain(),
}


def where_tested(option):
    """("test-flags.py", "7.2: --option"), or where else."""
    return ELSEWHERE.get(option, ("test-flags.py", f"--{option}"))


def every_row():
    """Each option of the table has a test, and each test an option; those elsewhere are there."""
    rows = set(table())
    missing = rows - set(ROWS) - set(ELSEWHERE)
    check(not missing, f"options without a test: {sorted(missing)}")
    unknown = (set(ROWS) | set(ELSEWHERE)) - rows
    check(not unknown, f"tests without an option: {sorted(unknown)}")
    for option, (name, title) in ELSEWHERE.items():
        path = next((p for p in (HERE / name, HERE.parent / "cli" / name) if p.exists()), None)
        check(path is not None, f"--{option}: {name} is there")
        check(title in path.read_text(encoding="utf-8"), f"--{option}: \"{title}\" in {name}")


def row_test(option, function):
    """With its row of the table."""
    return lambda: function(table()[option])


def main():
    """TAP; words after the version select options."""
    if VERSION == "--list":
        for option in table():
            print("\t".join((option, *where_tested(option))))
        return
    chosen = sys.argv[2:]
    tests = [("--rows: every row of the table has a test", every_row)]
    tests += [(f"{VERSION}: --{option}", row_test(option, function))
              for option, function in ROWS.items()]
    lib.run_tests([t for t in tests if not chosen or t[0].split("--")[-1].split(":")[0] in chosen])


main()
