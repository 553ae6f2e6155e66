#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
qmig check and --dry-run against real QEMUs: test-preflight.py VERSION.

Pairs that fit, also between versions, are not refused; each difference made here is found, all of
them at once, and QEMU would indeed have failed on some of them; nothing is touched; and what a dry
run plans is what a migration then sends, command by command.
"""
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile

import lib
from lib import check
from vmkit import cleanup
from vmkit.qmp import Qmp

VERSION = sys.argv[1]
DISK = 16 << 20
BASE = {"machine": "pc-i440fx-7.2", "cpu": "qemu64", "smp": "1", "m": "128M"}
DEVICES = ["-device", "pci-bridge,id=br1,chassis_nr=1,addr=8",
           "-device", "virtio-rng-pci,bus=br1,addr=3",
           "-device", "virtio-net-pci,id=net0,addr=4,mac=52:54:00:12:34:56",
           "-device", "piix3-usb-uhci,id=usb,addr=6", "-device", "usb-tablet,bus=usb.0,port=1",
           "-device", "isa-serial,chardev=c0", "-chardev", "null,id=c0"]


def disk(path, *more):
    """A disk of @path behind a virtio device."""
    return ["-blockdev", f"qcow2,node-name=n0,file.driver=file,file.filename={path}",
            "-device", ",".join(["virtio-blk-pci,id=vd0,drive=n0,addr=5", *more])]


class Plain:
    """A QEMU without a guest in it: its firmware at most runs."""

    def __init__(self, directory, name, qemu, *args, **options):
        machine = {**BASE, **options}
        self.qmp = os.path.join(directory, f"{name}.qmp")
        side = ["-S"] if name == "dst" else []
        words = [*qemu.argv, "-nodefaults", "-no-user-config", "-display", "none", *side]
        for key, value in machine.items():
            words += [f"-{key}", value]
        # TCG: what is compared does not hang on the host then.
        self.process = cleanup.spawn([*words, "-accel", machine.get("accel", "tcg"), *args,
                                      "-qmp", f"unix:{self.qmp},server=on,wait=off"],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.connect().close()

    def connect(self):
        """Its monitor; close it before qmig needs it."""
        return Qmp(self.qmp, 20, lambda: self.process.poll() is None)

    def close(self):
        """End it."""
        cleanup.end(self.process)


@contextlib.contextmanager
def two(src=(), dst=(), src_qemu=None, dst_qemu=None, incoming="defer", stopped=True, **options):
    """A source and a destination; @options: those of the destination that differ."""
    both = lib.qemu(VERSION)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="qmig-preflight-"))
        first = Plain(path, "src", src_qemu or both, *(["-S"] if stopped else []), *src)
        stack.callback(first.close)
        second = Plain(path, "dst", dst_qemu or both, "-incoming", incoming, *dst, **options)
        stack.callback(second.close)
        yield first, second


def run_check(pair, *options, code):
    """qmig check --json; the findings as (level, theme, text, advice)."""
    done = lib.run("check", "--json", *options, *(f"unix:{side.qmp}" for side in pair))
    check(done.code == code, f"exit {code}, got {done.code}: {done.out}{done.err}")
    report = done.report()
    check(report["fits"] == (code == 0), "fits, or not")
    return [(f["level"], f["theme"], f["text"], f["advice"] or "")
            for f in report["preflight"]["findings"]]


def wants(findings, level, theme, text, advice=""):
    """One finding of that kind is there."""
    check(any(f[0] == level and f[1] == theme and text in f[2] and advice in f[3]
              for f in findings), f"{level} {theme}: …{text}… -> …{advice}… in {findings}")


def state(side):
    """All that a migration could change in a QEMU."""
    monitor = side.connect()
    try:
        return [monitor.command(name, {}, 10) for name in
                ("query-status", "query-migrate", "query-migrate-capabilities",
                 "query-migrate-parameters", "query-block-exports", "query-block-jobs",
                 "query-named-block-nodes")]
    finally:
        monitor.close()


@contextlib.contextmanager
def images():
    """Two empty images."""
    with tempfile.TemporaryDirectory(prefix="qmig-preflight-") as path:
        names = [os.path.join(path, name) for name in ("a.qcow2", "b.qcow2")]
        for name in names:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", name, str(DISK)],
                           check=True)
        yield names


# ---- check --------------------------------------------------------------------------------------

def equal_pair_fits():
    """Two alike fit, nothing is touched, and the migration is done afterwards."""
    with images() as (image, _), two([*DEVICES, *disk(image)], [*DEVICES, *disk(image)]) as pair:
        before = [state(side) for side in pair]
        findings = run_check(pair, code=0)
        check(not [f for f in findings if f[0] != "note"], f"nothing differs: {findings}")
        check([state(side) for side in pair] == before, "nothing was touched")
        done = lib.run("migrate", "--suspend", "--no-proof-of-life",
                       *(f"unix:{side.qmp}" for side in pair))
        check(done.code == 0, f"it can be migrated all the same: {done.err}")


def versions_fit(other):
    """The same machine in two versions has no difference that would be refused."""
    def test():
        here, there = lib.qemu(VERSION), lib.qemu(other)
        for src, dst in ((here, there), (there, here)):
            with two([*DEVICES], [*DEVICES], src, dst) as pair:
                findings = run_check(pair, code=0)
                bad = [f for f in findings if f[0] != "note" and f[1] != "versions"]
                check(not bad, f"{src.version} to {dst.version}: {bad}")
    return test


def real_guest_fits():
    """A KVM guest that runs, and its destination: nothing is refused."""
    qemu = lib.qemu(VERSION)
    with lib.vm.Pair(qemu, qemu, mem_mib=128, accel=lib.accel(qemu),
                     workload={"ws": "16M", "rate": 500}) as pair:
        pair.wait_ticking("src")
        findings = run_check((pair.src, pair.dst), code=0)
        check(not [f for f in findings if f[0] != "note"], f"nothing differs: {findings}")
        pair.wait_ticking("src")


# name, what the destination has in other words or options, level, theme, text, advice
DIFFERENCES = [
    ("machine type", {"machine": "pc-q35-7.2"}, [], "refused", "machine",
     "type: source \"pc-i440fx-7.2\"", "-machine pc-i440fx-7.2"),
    ("machine option", {"machine": "pc-i440fx-7.2,max-ram-below-4g=1G"}, [], "risky", "machine",
     "option max-ram-below-4g", "max-ram-below-4g=3758096384"),
    ("set of the machine's own devices", {"machine": "pc-i440fx-7.2,hpet=off"}, [], "refused",
     "devices", "no hpet at hpet#0", "the same -machine"),
    ("vCPUs", {"smp": "2"}, [], "refused", "machine", "vCPUs: source 1, destination 2", "-smp"),
    ("topology", {"smp": "1,maxcpus=2,sockets=2,cores=1"}, [], "risky", "machine", "topology",
     "-smp"),
    ("memory", {"m": "256M"}, [], "refused", "memory", "source 128 MiB, destination 256 MiB",
     "-m"),
    ("CPU model", {"cpu": "kvm64"}, [], "risky", "cpu", "type: source qemu64-x86_64-cpu",
     "-cpu qemu64"),
    ("CPU feature", {"cpu": "qemu64,-cx16"}, [], "risky", "cpu",
     "lacks features that the guest has: cx16", "the same -cpu"),
    ("CPU feature more", {"cpu": "qemu64,+popcnt"}, [], "warning", "cpu",
     "adds features in the midst of the guest's life: popcnt", "the same -cpu"),
    ("device missing", {}, ["virtio-net-pci"], "refused", "devices",
     "no virtio-net-pci \"net0\" at pci.0/04.0",
     "-device virtio-net-pci,id=net0,bus=pci.0,addr=04.0"),
    ("device behind a bridge", {}, ["virtio-rng-pci"], "refused", "devices",
     "no virtio-rng-pci at pci.0/08.0/03.0", "bus=br1,addr=03.0"),
    ("device elsewhere", {}, [("addr=4", "addr=9")], "refused", "devices",
     "\"net0\" is at pci.0/04.0 on the source, at pci.0/09.0", "addr=04.0"),
    ("device of another kind", {}, [("virtio-net-pci,id=net0", "e1000,id=net0")], "refused",
     "devices", "at pci.0/04.0: source virtio-net-pci \"net0\", destination e1000",
     "-device virtio-net-pci"),
    ("id", {}, [("id=net0", "id=eth0")], "warning", "devices", "ids at pci.0/04.0", "same id"),
    ("USB port", {}, [("port=1", "port=2")], "refused", "devices", "usb-tablet at", "usb-tablet"),
    ("property", {}, [("addr=4,", "addr=4,packed=on,")], "risky", "devices",
     "packed is false on the source, true", "same packed"),
    ("option ROM", {}, [("addr=4,", "addr=4,romfile=,")], "refused", "memory",
     "RAM block \"0000:00:04.0/virtio-net-pci.rom\"", "same ids"),
]


def changed(changes):
    """DEVICES without a device (its type), or with words replaced."""
    words = list(DEVICES)
    for change in changes:
        if isinstance(change, str):
            at = next(i for i, word in enumerate(words) if word.startswith(change))
            del words[at - 1:at + 1]
        else:
            check(any(change[0] in word for word in words), f"{change[0]} is there")
            words = [word.replace(*change) for word in words]
    return words


def difference(options, changes, *finding):
    """The destination differs in one thing."""
    def test():
        with two(DEVICES, changed(changes), **options) as pair:
            code = 0 if finding[0] == "warning" else 2
            wants(run_check(pair, code=code), *finding)
            if finding[0] == "risky":
                wants(run_check(pair, "--unsafe", code=0), "warning", *finding[1:])
    return test


def all_at_once():
    """Many differences are all told in one run, by migrate as well; nothing is touched."""
    with two(DEVICES, changed(["virtio-net-pci", ("chassis_nr=1", "chassis_nr=7")]),
             m="256M", smp="2", cpu="qemu64,-cx16") as pair:
        before = [state(side) for side in pair]
        done = lib.run("migrate", *(f"unix:{side.qmp}" for side in pair))
        check(done.code == 2, f"exit 2, got {done.code}: {done.err}")
        for text in ("vCPUs: source 1", "128 MiB, destination 256 MiB", "cx16", "\"net0\"",
                     "chassis_nr is 1", "-device virtio-net-pci,id=net0",
                     "Nothing was touched; the guest is on the source."):
            check(text in done.err, f"\"{text}\" in {done.err}")
        check([state(side) for side in pair] == before, "nothing was touched")


def destination_does_not_wait():
    """One that listens, or whose incoming is not deferred, is not told to migrate-incoming."""
    with tempfile.TemporaryDirectory(prefix="qmig-preflight-") as path:
        for incoming in (f"unix:{path}/in", "tcp:127.0.0.1:0", "exec:sleep 60"):
            with two(incoming=incoming) as pair:
                wants(run_check(pair, code=2), "refused", "states", "it listens already",
                      "-S -incoming defer")
                check(pair[1].process.poll() is None, "it lives")


def blockers_are_told():
    """What QEMU itself says that blocks: an image format that cannot be migrated."""
    with tempfile.TemporaryDirectory(prefix="qmig-preflight-") as path:
        image = os.path.join(path, "a.vdi")
        subprocess.run(["qemu-img", "create", "-q", "-f", "vdi", image, str(DISK)], check=True)
        words = ["-blockdev", f"vdi,node-name=n0,file.driver=file,file.filename={image}",
                 "-device", "virtio-blk-pci,id=vd0,drive=n0,addr=5"]
        with two(words, words) as pair:
            wants(run_check(pair, code=2), "refused", "states", "The vdi format used by node",
                  "what blocks")


def emulated_source_of_7_2():
    """QEMU 7.2 without KVM loses writes: a running guest is not let go, a stopped one is."""
    with two(stopped=False) as pair:
        old = VERSION == "7.2"
        findings = run_check(pair, code=2 if old else 0)
        if old:
            wants(findings, "risky", "versions", "loses the last writes", "stop")
    with two() as pair:
        run_check(pair, code=0)


def disks_are_compared():
    """Another image, another size, no medium."""
    with images() as (first, second):
        with two(disk(first), disk(second)) as pair:
            findings = run_check(pair, code=2)
            check(any(second in f[2] for f in findings), f"the other file: {findings}")
            run_check(pair, "--copy-storage-all", code=0)
        subprocess.run(["qemu-img", "resize", "-q", second, str(2 * DISK)], check=True)
        with two(disk(first), disk(second)) as pair:
            wants(run_check(pair, code=2), "risky", "disks", f"{DISK} bytes on the source",
                  "same size")
        cd = ["-device", "ide-cd,id=cd0,bus=ide.0"]
        full = ["-blockdev", f"file,node-name=iso,read-only=on,filename={first}",
                "-device", "ide-cd,id=cd0,bus=ide.0,drive=iso"]
        with two(full, cd) as pair:
            wants(run_check(pair, code=2), "risky", "disks", "the destination has no medium")


# ---- --dry-run ------------------------------------------------------------------------------------

def sent_commands(text):
    """What the QMP client logs that it sends, without questions: (side, command, arguments)."""
    found = []
    for side, line in re.findall(r"qmig-qmp-DEBUG: [^ ]+ (\w+): > (\{.*)$", text, re.MULTILINE):
        request = json.loads(line)
        command = request.get("execute", request.get("exec-oob"))
        if not re.match(r"(x-)?query-|qom-|qmp_capabilities|human-monitor", command):
            found.append((side, command, json.dumps(request.get("arguments", {}),
                                                    sort_keys=True)))
    return found


def comparable(steps):
    """Without what is chosen at random: a directory, ports."""
    return [(side, command, re.sub(r"qmig-\w{6}/", "qmig-XXXXXX/",
                                   re.sub(r"(tcp:[\d.]+|\"port\": \"):?[1-9]\d+", r"\1:PORT", args)))
            for side, command, args in steps]


def plan_is_what_is_sent(*options, storage=False):
    """A dry run changes nothing; then the migration sends what it has planned."""
    def test():
        with images() as (first, second):
            src, dst = (disk(first), disk(second)) if storage else ([], [])
            with two([*DEVICES, *src], [*DEVICES, *dst]) as pair:
                words = ["migrate", "--no-journal", "--no-proof-of-life", *options,
                         *(f"unix:{side.qmp}" for side in pair)]
                before = [state(side) for side in pair]
                dry = lib.run(*words, "--dry-run", "--json")
                check(dry.code == 0, f"the dry run: exit 0, got {dry.code}: {dry.err}")
                check([state(side) for side in pair] == before, "nothing was touched")
                check(not lib.leftovers(), f"nothing is left: {lib.leftovers()}")
                plan = [(step["side"], step["command"],
                         json.dumps(step["arguments"], sort_keys=True))
                        for step in dry.report()["plan"] if "command" in step]
                real = subprocess.run(
                    [lib.QMIG, *words, "--progress=none"], capture_output=True, text=True,
                    check=False, timeout=60,
                    env={**lib.ENVIRONMENT, "G_MESSAGES_DEBUG": "qmig-qmp"})
                check(real.returncode == 0, f"exit 0, got {real.returncode}: {real.stderr}")
                sent = comparable(sent_commands(real.stdout + real.stderr))
                check(sent, "the client's log was understood")
                check(comparable(plan) == sent, f"planned {comparable(plan)}\nsent {sent}")
    return test


def plan_as_text():
    """The plan for people: phases, sides, commands, and what is done besides."""
    with two() as pair:
        done = lib.run("migrate", "--dry-run", "--hook=done=false",
                       *(f"unix:{side.qmp}" for side in pair))
        check(done.code == 0 and done.err == "", f"exit 0, no errors: {done.err}")
        for text in ("\nprepare\n", "  destination  migrate-incoming {\"uri\":\"unix:",
                     "\nperform\n  source       migrate {", "\nconfirm\n",
                     "(the proxy listens on", "(hook: false)"):
            check(text in done.out, f"\"{text}\" in {done.out}")


OTHERS = [version for version in ("7.2", "10.0", "11.1") if version > VERSION or
          (version != "7.2" and VERSION == "7.2")]
lib.run_tests([
    (f"{VERSION}: two alike fit; nothing is touched; the migration is done then",
     equal_pair_fits),
    (f"{VERSION}: a real guest and its destination fit", real_guest_fits),
    *((f"{VERSION} and {other}: the same machine fits, both ways", versions_fit(other))
      for other in sorted(set(OTHERS) - {VERSION})),
    *((f"{VERSION}: another {name} is found", difference(*row)) for name, *row in DIFFERENCES),
    (f"{VERSION}: all differences at once, by migrate too", all_at_once),
    (f"{VERSION}: a destination that does not wait is found", destination_does_not_wait),
    (f"{VERSION}: blockers are told", blockers_are_told),
    (f"{VERSION}: a running guest without KVM", emulated_source_of_7_2),
    (f"{VERSION}: disks are compared", disks_are_compared),
    (f"{VERSION}: the plan is what is sent", plan_is_what_is_sent()),
    (f"{VERSION}: the plan is what is sent, multifd by tcp",
     plan_is_what_is_sent("--parallel-connections=3", "--comp-methods=zlib",
                          "--migrateuri=tcp:127.0.0.1:0", "--listen=tcp:127.0.0.1:0")),
    (f"{VERSION}: the plan is what is sent, direct, suspended, source kept",
     plan_is_what_is_sent("--direct", "--suspend", "--keep-source", "--downtime=50ms")),
    (f"{VERSION}: the plan is what is sent, with a disk",
     plan_is_what_is_sent("--copy-storage-all", storage=True)),
    (f"{VERSION}: the plan as text", plan_as_text),
])
