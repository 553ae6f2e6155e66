#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Record real migrations, each with the memory of its guest as the QEMU itself has it at the
instant that the stream stands for.

    recorder.py DIRECTORY [NAME…]       all of scenarios.py, or those whose names hold a NAME

makes DIRECTORY/NAME/ with
    N-KIND.forward, N-KIND.reverse, timeline.jsonl   a capture, or
    stream                      one file, where QEMU wrote a file
    truth/BLOCK.ram             a RAM block; its name as `qmig stream extract` writes it
    truth/BLOCK.ram.N           where QEMU does not tell its address: the block is one of these
    meta.json                   what it is

The guest is a few instructions that keep writing to 113 pages until the host says stop: a word in
a page that both see. Run as a BIOS (4 MiB, no devices needed), or from the boot sector of a disk
after SeaBIOS has set up the devices.
"""
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "test-vm")]

import vm                               # noqa: E402
from relay import Relay                 # noqa: E402
from vmkit import cleanup               # noqa: E402

# 16-bit code, any address:
#       cli
# 1:    for (ax = 0x1000; ah < 0x80; ax += 0x100) {     a page each
#           ds = ax; inc word [0]; inc word [0x3fc]; not word [0xbb8] }
#       ds = 0x0a00; xor word [0], 0x5a5a               zero every other time
#       ds = 0x0b00; if (word [0] == 0) goto 1          what the host writes
#       inc word [2]                                    the answer
# 2:    hlt; goto 2
CODE = bytes.fromhex("fa b80010 8ed8 ff060000 ff06fc03 f716b80b 050001 80fc80 72ea b8000a 8ed8"
                     "813600005a5a b8000b 8ed8 833e000000 74d0 ff060200 f4 ebfd")
RESET = bytes.fromhex("ea000000f0")     # jmp F000:0000
FLAG, ANSWER, COUNTED = 0xb000, 0xb002, 0x10000
PATTERN = 256                           # page where known contents begin
PAGE = 4096
MIB = 1 << 20


def pattern_page(number):
    """4 KiB that pack well, but for every 64th page."""
    if number % 64:
        return bytes((number + at // 64) & 0xff for at in range(PAGE))
    out, state = bytearray(), number
    for _ in range(PAGE):
        state = (state * 1103515245 + 12345) & 0xffffffff
        out.append(state >> 24)
    return bytes(out)


def block_file(name):
    """The file name of a RAM block, as `qmig stream extract` makes it."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-@:" or (c == "." and at))
                   else f"%{ord(c):02X}" for at, c in enumerate(name))


def images(directory):
    """What guests start from, made once for a directory."""
    bios = bytearray(64 << 10)
    bios[:len(CODE)] = CODE
    bios[0xfff0:0xfff0 + len(RESET)] = RESET
    (directory / "bios.bin").write_bytes(bios)
    sector = CODE.ljust(510, b"\0") + b"\x55\xaa"
    for side in ("source", "destination"):
        (directory / f"{side}.disk").write_bytes(sector.ljust(4 * MIB, b"\0"))
        (directory / f"{side}.vars").write_bytes(bytes(64 << 10))


class Unsupported(Exception):
    """This QEMU cannot migrate in that way; the text says what it does instead."""


class Guest:
    """One QEMU of a scenario."""

    def __init__(self, scenario, qemu, directory, side, *more):
        self.directory, self.side, self.qemu = directory, side, qemu
        self.version = tuple(map(int, qemu.version.split(".")))
        self.stderr_path = directory / f"{side}.stderr"
        path = directory / f"{side}.qmp"
        self.argv = [*qemu.argv, *self._arguments(scenario), *more,
                     "-qmp", f"unix:{path},server=on,wait=off"]
        with open(self.stderr_path, "wb") as stderr:
            self.process = cleanup.spawn(self.argv, stdout=stderr, stderr=stderr)
        try:
            self.qmp = vm.Qmp(str(path), 20, lambda: self.process.poll() is None)
        except vm.VmError as error:
            self.end()
            raise vm.VmError(f"{side}: {error}: {self.stderr_text()}") from error

    def _arguments(self, s):
        size = f"size={s.mem_mib}M"
        path = self.directory / f"{self.side}.mem"
        backend = {
            "file": f"memory-backend-file,{size},share=on,mem-path={path}",
            "ram": f"memory-backend-ram,{size}",
            "huge": f"memory-backend-memfd,{size},hugetlb=on,hugetlbsize=2M",
        }[s.memory]
        args = ["-machine", f"{s.machine},memory-backend=pc.ram{s.machine_options}",
                "-object", f"{backend},id=pc.ram", "-m", s.memory_size or f"{s.mem_mib}",
                "-accel", s.accel, "-cpu", "qemu64,kvmclock=off", "-smp", str(s.cpus),
                "-nodefaults", "-no-user-config", "-display", "none"]
        if s.guest == "bios":
            args += ["-bios", str(self.directory / "bios.bin")]
        return args + [word.format(dir=self.directory, side=self.side) for word in s.devices]

    def cmd(self, command, **arguments):
        """A QMP command."""
        try:
            return self.qmp.command(command, arguments, 20)
        except vm.VmError as error:
            raise vm.VmError(f"{self.side}: {command}: {error}\n{self.stderr_text()}") from error

    def hmp(self, line):
        """A command of the human monitor."""
        return self.cmd("human-monitor-command", **{"command-line": line})

    def stderr_text(self):
        """What it complained of."""
        return self.stderr_path.read_text(errors="replace").strip()

    def capabilities(self, names, state=True):
        """Switch capabilities."""
        if names:
            self.cmd("migrate-set-capabilities",
                     capabilities=[{"capability": n, "state": state} for n in names])

    def parameters(self, **values):
        """Set migration parameters."""
        if values:
            self.cmd("migrate-set-parameters", **values)

    def wait(self, states, seconds=30, ready=lambda answer: True):
        """Until query-migrate says one of @states, and @ready. Return: the answer."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.cmd("query-migrate")
            if answer.get("status") in states and ready(answer):
                return answer
            if answer.get("status") == "failed" or time.monotonic() > deadline:
                raise vm.VmError(f"{self.side}: waited for {states}: {answer}; "
                                 f"{self.stderr_text()}")
            time.sleep(0.01)

    def end(self):
        """End it."""
        if hasattr(self, "qmp"):
            self.qmp.close()
        cleanup.end(self.process, 1.0)

    # ---- memory ------------------------------------------------------------------------------

    def pmemsave(self, address, length):
        """Physical memory, as the QEMU dumps it."""
        path = self.directory / "pmemsave.out"
        self.cmd("pmemsave", val=address, size=length, filename=str(path))
        return path.read_bytes()

    def peek(self, address):
        """A word of guest memory."""
        return int.from_bytes(self.pmemsave(address, 2), "little")

    def wait_running(self):
        """Until the guest's code is at work."""
        deadline = time.monotonic() + 30
        before = self.peek(COUNTED)
        while self.peek(COUNTED) == before or before == 0:
            before = before or self.peek(COUNTED)
            if time.monotonic() > deadline:
                raise vm.VmError(f"{self.side}: the guest does not run: {self.stderr_text()}")
            time.sleep(0.02)

    def quiet(self):
        """Have the guest stop writing, and wait until it does."""
        poke(self, FLAG, b"\1\0")
        deadline = time.monotonic() + 20
        while not self.peek(ANSWER):
            if time.monotonic() > deadline:
                raise vm.VmError(f"{self.side}: the guest does not fall silent")
            time.sleep(0.005)

    def blocks(self):
        """{name: (used length, total length, host address or None)} of the RAM blocks."""
        out, mapped = {}, self._mapped()
        for line in self.hmp("info ramblock").splitlines():
            words = line.split()
            numbers = [int(w, 16) for w in words if w.startswith("0x")]
            if len(numbers) < 3:
                continue
            name, (_, used, total) = words[0], numbers[:3]
            address = numbers[3] if len(numbers) > 3 else mapped.get(name.split("/", 1)[-1])
            out[name] = used, total, address
        return out

    def _mapped(self):
        """{region name: host address} of the memory that the guest can see now."""
        out = {}
        for line in self.hmp("info mtree -f").splitlines():
            match = re.match(r"  ([0-9a-f]{16})-[0-9a-f]+ \(prio .*, (?:ram|rom|romd)\): "
                             r"(\S+)(?: @([0-9a-f]+))?", line)
            if match and match[2] not in out:
                answer = self.hmp(f"gpa2hva 0x{match[1]}")
                if (host := re.search(r"\((\S+)\) is 0x([0-9a-f]+)", answer)) \
                        and host[1] == match[2]:
                    out[match[2]] = int(host[2], 16) - int(match[3] or "0", 16)
        return out

    def _candidates(self, length):
        """Addresses of mappings of that length before a guard page, as RAM blocks have them."""
        with open(f"/proc/{self.process.pid}/maps", encoding="ascii") as maps:
            rows = [line.split()[:2] for line in maps]
        for (span, mode), (_, guard) in zip(rows, rows[1:]):
            begin, end = (int(n, 16) for n in span.split("-"))
            if end - begin == length and mode == "rw-p" and guard == "---p":
                yield begin

    def truth(self, directory):
        """Write every RAM block to @directory. Return: {name: length}. It must stand still."""
        directory.mkdir()
        out = {}
        with open(f"/proc/{self.process.pid}/mem", "rb", buffering=0) as memory:
            for name, (used, total, address) in self.blocks().items():
                out[name] = used
                path = directory / f"{block_file(name)}.ram"
                if address is not None:
                    write_sparse(path, os.pread(memory.fileno(), used, address))
                else:
                    for number, at in enumerate(self._candidates(total)):
                        write_sparse(f"{path}.{number}", os.pread(memory.fileno(), used, at))
                if name == "pc.ram":
                    self._same_as_pmemsave(os.pread(memory.fileno(), used, address))
        return out

    def _same_as_pmemsave(self, data):
        """Where the guest sees its RAM and nothing else, QEMU dumps the same."""
        for begin, end in ((0, 640 << 10), (MIB, len(data))):
            if self.pmemsave(begin, end - begin) != data[begin:end]:
                raise vm.VmError(f"{self.side}: pmemsave from 0x{begin:x} differs from the memory")


def poke(guest, address, data):
    """Write guest memory from outside, unseen by QEMU."""
    for name, (_, _, host) in guest.blocks().items():
        if name == "pc.ram":
            with open(f"/proc/{guest.process.pid}/mem", "r+b", buffering=0) as memory:
                os.pwrite(memory.fileno(), data, host + address)


def write_sparse(path, data):
    """A file with holes for zeros."""
    with open(path, "wb") as file:
        for at in range(0, len(data), PAGE):
            if (page := data[at:at + PAGE]).count(0) != len(page):
                file.seek(at)
                file.write(page)
        file.truncate(len(data))


# ---- ways to migrate -----------------------------------------------------------------------------

class Recording:
    """One scenario being recorded: its QEMUs, the relay, and where the results go."""

    def __init__(self, scenario, qemus, work, out):
        self.scenario, self.work, self.out = scenario, work, out
        self.qemus = qemus
        self.meta = {}
        self.source = self.destination = self.relay = None

    def begin(self, with_destination=True):
        """Start the QEMUs and set them up."""
        s = self.scenario
        images(self.work)
        self._prefill()
        self.source = Guest(s, self.qemus[s.source], self.work, "source")
        self.source.wait_running()
        self.source.capabilities(s.source_caps + s.both_caps)
        self.source.parameters(**s.parameters)
        for name, arguments in s.commands:
            self.source.cmd(name, **arguments)
        if s.memory != "file":
            poke(self.source, PATTERN * PAGE, self._pattern())
        if with_destination:
            self.relay = Relay(self.work)
            stopped = [] if s.how in ("postcopy", "recovery", "colo") else ["-S"]
            self.destination = Guest(s, self.qemus[s.destination or s.source], self.work,
                                     "destination", *stopped, "-incoming", "defer")
            self.destination.capabilities(s.both_caps + s.destination_caps)
            self.destination.parameters(**s.parameters)
            self.destination.cmd("migrate-incoming", uri=f"unix:{self.relay.target}")

    def _pattern(self):
        return b"".join(map(pattern_page, range(PATTERN, PATTERN + self.scenario.pattern_pages)))

    def _prefill(self):
        if self.scenario.memory == "file":
            data = bytes(PATTERN * PAGE) + self._pattern()
            (self.work / "source.mem").write_bytes(data.ljust(self.scenario.mem_mib * MIB, b"\0"))

    def passes(self, uri, n_passes=4, **arguments):
        """Migrate slowly until some passes have gone by."""
        # The guest writes more than goes over in a tenth of a second, for which QEMU counts.
        self.source.parameters(**{"max-bandwidth": self.scenario.bandwidth, "downtime-limit": 1})
        self.source.cmd("migrate", uri=uri, **arguments)
        self.source.wait(["active", "completed"], 60, lambda answer: (
            answer["status"] == "completed"
            or answer.get("ram", {}).get("dirty-sync-count", 0) >= n_passes))

    def to_the_end(self):
        """Let it complete."""
        # TCG of QEMU 7.2 loses the last writes of a running guest: test-vm/README.md.
        if self.source.version < (8, 0) and self.scenario.accel == "tcg":
            self.source.quiet()
        self.source.parameters(**{"downtime-limit": 2000, "max-bandwidth": 0})
        self.source.wait(["completed"])

    def truth(self):
        """Keep the memory of the source."""
        self.meta["truth"] = self.source.truth(self.out / "truth")

    # ---- each way: ends with the truth taken ---------------------------------------------------

    def precopy(self):
        """Some passes, then the end; the guest runs until QEMU stops it."""
        self.begin()
        self.passes(f"unix:{self.relay.path}")
        self.to_the_end()
        self.truth()
        self.destination.wait(["completed"])
        # It stands since it was loaded (-S): what QEMU itself read from the stream.
        there = self.destination.pmemsave(0, 640 << 10) + self.destination.pmemsave(
            MIB, (self.scenario.mem_mib - 1) * MIB)
        here = self.source.pmemsave(0, 640 << 10) + self.source.pmemsave(
            MIB, (self.scenario.mem_mib - 1) * MIB)
        self.meta["destination_equal"] = there == here

    def file(self):
        """To a file that QEMU or a child of it writes."""
        self.begin(with_destination=False)
        path = self.out / "stream"
        self.passes(f"file:{path}" if "mapped-ram" in self.scenario.source_caps
                    else f"exec:cat > {path}")
        self.to_the_end()
        self.truth()

    def block(self):
        """With the disks, as QEMU before 9.1 could."""
        self.begin()
        self.passes(f"unix:{self.relay.path}", blk=True)
        self.to_the_end()
        self.truth()

    def snapshot(self):
        """background-snapshot: the stream stands for its begin, while the guest goes on."""
        self.begin(with_destination=False)
        self.source.cmd("stop")
        self.truth()
        self.source.parameters(**{"max-bandwidth": MIB})
        before = self.source.peek(COUNTED)
        self.source.cmd("migrate", uri=f"exec:cat > {self.out}/stream")
        # Memory is guarded before the first page goes out, but after "active".
        self.source.wait(["active", "completed"], ready=lambda answer: any(
            answer.get("ram", {}).get(kind) for kind in ("normal", "duplicate")))
        self.source.cmd("cont")
        self.source.wait(["completed"], 60)
        self.meta["guest_went_on"] = self.source.peek(COUNTED) != before

    def postcopy(self):
        """Some passes, then the destination goes on and asks for pages."""
        self.begin()
        self.passes(f"unix:{self.relay.path}", 2)
        self.source.parameters(**{"max-postcopy-bandwidth": 2 * MIB})
        self.source.cmd("migrate-start-postcopy")
        self.source.wait(["completed"], 60)
        self.truth()

    def recovery(self):
        """Postcopy from the first pass on; the connections break; new ones end it."""
        self.begin()
        self.source.parameters(**{"max-bandwidth": 200 << 10, "max-postcopy-bandwidth": 100 << 10})
        self.source.cmd("migrate", uri=f"unix:{self.relay.path}")
        self.source.wait(["active"])
        self.source.cmd("migrate-start-postcopy")
        self.source.wait(["postcopy-active"])
        self.destination.wait(["postcopy-active"])
        for attempt in range(self.scenario.cuts):
            time.sleep(0.4)
            self.relay.cut()
            self.source.wait(["postcopy-paused"])
            self.destination.wait(["postcopy-paused"])
            self.relay.target = f"{self.work}/again{attempt}.sock"
            self.destination.cmd("migrate-recover", uri=f"unix:{self.relay.target}")
            self.source.cmd("migrate", uri=f"unix:{self.relay.path}", resume=True)
            self.source.wait(["postcopy-active"])
        self.source.parameters(**{"max-postcopy-bandwidth": 0})
        self.source.wait(["completed"])
        self.truth()

    def colo(self):
        """Some checkpoints; the guest falls silent; some more, then the link breaks."""
        self.begin()
        self.source.parameters(**{"x-checkpoint-delay": 300})
        self.source.cmd("migrate", uri=f"unix:{self.relay.path}")
        state = self.source.wait(["colo", "completed"])
        if state["status"] == "completed":
            raise Unsupported("completes where COLO should begin")
        self._checkpoints(3)
        self.source.quiet()
        self._checkpoints(3)
        self.relay.cut()
        time.sleep(0.2)
        self.truth()

    def _checkpoints(self, count):
        # Nine messages of four bytes would be three; reverse bytes of the return path are few.
        reverse = self.relay.of_kind("main")[0].reverse
        want, deadline = len(reverse) + 12 * (count + 1), time.monotonic() + 30
        while len(reverse) < want:
            if time.monotonic() > deadline:
                raise vm.VmError(f"no checkpoints: {self.source.cmd('query-migrate')}")
            time.sleep(0.02)

    def finish(self):
        """End the QEMUs; write capture and meta.json."""
        for guest in (self.source, self.destination):
            if guest is not None:
                guest.end()
        if self.relay is not None:
            self.relay.close()
            self.relay.write(self.out)


def describe(recording):
    """meta.json"""
    s, source, destination = recording.scenario, recording.source, recording.destination
    return {**vars(s), "input": "." if recording.relay else "stream",
            "source_version": source.qemu.full_version, "source_argv": source.argv,
            "destination_version": destination.qemu.full_version if destination else None,
            **recording.meta}


def record(scenario, qemus, out):
    """Record one scenario to the directory @out, which must not exist."""
    out = pathlib.Path(out)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="qmig-record-", dir="/dev/shm") as work:
        recording = Recording(scenario, qemus, pathlib.Path(work), out)
        try:
            getattr(recording, scenario.how)()
        finally:
            recording.finish()
        meta = describe(recording)
    (out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return meta


def main():
    """Record by name."""
    import scenarios        # pylint: disable=import-outside-toplevel
    directory, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
    qemus, failed = vm.find_qemus(), 0
    for s in scenarios.ALL:
        if names and not any(n in s.name for n in names):
            continue
        shutil.rmtree(directory / s.name, ignore_errors=True)
        began = time.monotonic()
        try:
            record(s, qemus, directory / s.name)
        except (vm.VmError, Unsupported, OSError, KeyError) as error:
            failed += 1
            shutil.rmtree(directory / s.name, ignore_errors=True)
            print(f"FAILED {s.name}: {error}", flush=True)
        else:
            print(f"ok {s.name} {time.monotonic() - began:.1f} s", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
