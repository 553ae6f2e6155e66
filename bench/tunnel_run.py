# SPDX-License-Identifier: LGPL-2.1-or-later
"""One migration of a loaded guest over a link, by QEMU's own means, and what it cost."""
import dataclasses
import mmap
import os
import re
import time

import vm

PORT = 4711
TICKS = os.sysconf("SC_CLK_TCK")
GUEST_END = 16 << 20    # the bare guest's program and tables lie below
CHUNK = 4 << 20
POLL_S = 0.02
POOL = 256 << 20        # further than any codec looks back
FRESH_COPIES = 3        # of the guest's memory: the destination's, and the caches of both ends
FRESH_MORE = 512 << 20
SETTLE_S = 1.0          # the guest is watched for so long after its arrival


@dataclasses.dataclass
class Profile:
    """A guest: what its memory holds, and what it does. See test-vm/README.md."""
    text: str
    content: str        # of the memory beyond the working set
    pool: str           # of what the guest writes
    workload: dict


PROFILES = {
    "idle": Profile("memory as after days of use, hardly written",
                    "used", "files", {"ws": "16M", "rate": 100}),
    "text": Profile("texts; 1000 pages/s are edited, a quarter of a page each",
                    "text", "text",
                    {"ws": "64M", "rate": 1000, "pattern": "part", "order": "random"}),
    "incompressible": Profile("random bytes; 500 pages/s become others", "random", "random",
                              {"ws": "64M", "rate": 500, "pattern": "page", "order": "random",
                               "content": "random"}),
    "hot": Profile("memory in use; a word in each page of 100 MiB, 40000 pages/s",
                   "used", "files", {"ws": "100M", "rate": 40000, "pattern": "touch"}),
    "rewrite": Profile("memory in use; 5000 whole pages/s of 128 MiB become others",
                       "used", "files", {"ws": "128M", "rate": 5000, "pattern": "page"}),
}


@dataclasses.dataclass
class Setting:
    """What QEMU is told. parameters may hold "MEMORY", the guest's size."""
    capabilities: tuple = ()
    parameters: dict = dataclasses.field(default_factory=dict)
    postcopy: bool = False          # from the second pass on
    last: str = ""                  # the last QEMU that has it
    loads: tuple = ()               # the profiles for which it is of use; none named: all


QEMU_SETTINGS = {
    "plain": Setting(),
    "xbzrle": Setting(("xbzrle",), {"xbzrle-cache-size": "MEMORY"}),
    "multifd none": Setting(("multifd",), {"multifd-channels": 2}),
    "multifd zstd": Setting(("multifd",), {"multifd-channels": 2,
                                           "multifd-compression": "zstd"}),
    "compress": Setting(("compress",), {"compress-threads": 2, "decompress-threads": 2},
                        last="9.0"),
    "postcopy": Setting(("postcopy-ram",), postcopy=True, loads=("hot", "rewrite")),
}


def fits(setting, qemu, profile):
    """Whether that QEMU has it, and it is of use there."""
    newest = not setting.last or not qemu.at_least(setting.last) or qemu.version == setting.last
    return newest and (not setting.loads or profile in setting.loads)


class Files:
    """What the guests of a profile begin with, and what they write."""

    def __init__(self, folder, profile, mem_mib):
        kind = PROFILES[profile]
        self.memory, self.pool = os.path.join(folder, "memory"), os.path.join(folder, "pool")
        vm.template(self.memory, mem_mib << 20, GUEST_END + vm.parse_size(kind.workload["ws"]),
                    kind.content)
        vm.pool(self.pool, POOL, kind.pool)

    def close(self):
        """Give the room back."""
        os.unlink(self.memory)
        os.unlink(self.pool)


# ---- what it costs -----------------------------------------------------------------------------

def cpu_seconds(pid, thread=None):
    """User and system seconds of a process, its ended threads included, or of a thread."""
    path = f"/proc/{pid}/task/{thread}/stat" if thread else f"/proc/{pid}/stat"
    with open(path, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Meter:
    """CPU of both QEMUs and the bytes on the wire, from its making on; vCPUs apart."""

    def __init__(self, pair):
        self._pair = pair
        self._vcpus = {side.name: side.cmd("query-cpus-fast")[0]["thread-id"]
                       for side in (pair.src, pair.dst)}
        self._begin = self._now()
        self._wire = pair.link.bytes_sent()
        self.begin_ns = time.monotonic_ns()

    def _now(self):
        return {side.name: (cpu_seconds(side.pid), cpu_seconds(side.pid, self._vcpus[side.name]))
                for side in (self._pair.src, self._pair.dst) if side.alive()}

    def read(self):
        """Of each side that lives without its vCPU, of both vCPUs, and the bytes there and back."""
        now, wire = self._now(), self._pair.link.bytes_sent()
        cpu, vcpu = {}, 0.0
        for name, (whole, guest) in now.items():
            whole, guest = whole - self._begin[name][0], guest - self._begin[name][1]
            cpu[name] = whole - guest
            vcpu += guest
        return {"cpu": {**cpu, "vcpu": vcpu}, "wire": wire[0] - self._wire[0],
                "wire_back": wire[1] - self._wire[1]}


def written(pair, begin_ns):
    """Pages a second that the guest wrote on the source since then."""
    lines = [status for status in pair.src.ticks.statuses if status.ns >= begin_ns]
    if len(lines) < 2:
        return 0.0
    return (lines[-1].dirtied - lines[0].dirtied) * 1e9 / (lines[-1].ns - lines[0].ns)


def longest_gap(pair, begin_ns):
    """The longest silence of the guest since then, in ms, wherever it was."""
    gaps = [length for side in (pair.src, pair.dst)
            for _, length in side.ticks.gaps(1, begin_ns)]
    if pair.dst.ticks.first_ns:
        gaps.append(pair.blackout_ms())
    return max(gaps, default=0.0)


# ---- whether it is all there -------------------------------------------------------------------

def _address(side):
    text = side.cmd("human-monitor-command", **{"command-line": "gpa2hva 0"})
    found = re.search(r"is (0x[0-9a-f]+)", text)
    if not found:
        raise vm.VmError(f"gpa2hva: {text.strip()}")
    return int(found[1], 16)


def differing(pair, size):
    """
    Where memory differs that the guest does not write: a page's address, or None. The source
    stands still with all of it; that the rest is right is told by the guest itself.
    """
    workload = pair.config["workload"]
    starts = {side.pid: _address(side) for side in (pair.src, pair.dst)}
    first = GUEST_END + vm.parse_size(workload["ws"])
    with open(f"/proc/{pair.src.pid}/mem", "rb", buffering=0) as src, \
            open(f"/proc/{pair.dst.pid}/mem", "rb", buffering=0) as dst:
        for at in range(first, size, CHUNK):
            length = min(CHUNK, size - at)
            one = os.pread(src.fileno(), length, starts[pair.src.pid] + at)
            other = os.pread(dst.fileno(), length, starts[pair.dst.pid] + at)
            if one != other:
                return at
    return None


def judge(pair, size):
    """What is wrong after a migration that says that it is done; None: nothing."""
    if pair.running() != ["dst"]:
        return f"runs on {pair.running()}"
    if pair.guest_errors():
        return pair.guest_errors()[0]
    at = differing(pair, size)
    return None if at is None else f"memory differs at {at:#x}"


# ---- migrating ---------------------------------------------------------------------------------

def new_pair(qemu, profile, files, mem_mib, link):
    """A guest of that profile, ticking; its destination. Memory is private: see run.py."""
    accel = "kvm" if vm.kvm_works(qemu) else "tcg"
    pair = vm.Pair(qemu, accel=accel, mem_mib=mem_mib, share=False, memory=files.memory,
                   pool=files.pool, link=link, machine=f"pc-i440fx-{qemu.version}",
                   workload=PROFILES[profile].workload)
    try:
        pair.wait_ticking(pair.src, 60)
        pair.src.ticks.wait(lambda log: log.status, 10)
    except BaseException:
        pair.close()
        raise
    return pair


def warm_up(mem_mib):
    """
    Touch as much free memory as a run can want. Where the machine is a guest itself that gives
    free memory back to its host, taking it anew costs more than all that is measured here.
    """
    size = FRESH_COPIES * (mem_mib << 20) + FRESH_MORE
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        memory[::mmap.PAGESIZE] = bytes(size // mmap.PAGESIZE)


def _tell(pair, setting, mem_mib):
    """Capabilities and parameters of both; the destination listens, and is to run what comes."""
    on = [{"capability": name, "state": True} for name in setting.capabilities]
    parameters = {name: mem_mib << 20 if value == "MEMORY" else value
                  for name, value in setting.parameters.items()}
    for side in (pair.src, pair.dst):
        side.cmd("migrate-set-capabilities", capabilities=[
            {"capability": "return-path", "state": True}, *on])
        side.cmd("migrate-set-parameters", **{"max-bandwidth": 0, **parameters})
    uri = f"tcp:{pair.link.dst_addr}:{PORT}"
    pair.dst.cmd("migrate-incoming", uri=uri)
    # While it waits this only means that it shall go on by itself: QEMU's shortest downtime.
    pair.dst.cmd("cont")
    return uri


def by_qemu(pair, setting, mem_mib, limit_s):
    """QEMU alone. Return: what was measured; "finished" is False for one that was cut off."""
    uri = _tell(pair, setting, mem_mib)
    meter = Meter(pair)
    begin = time.monotonic()
    pair.src.cmd("migrate", uri=uri)
    asked = False
    while True:
        info = pair.src.cmd("query-migrate", timeout=limit_s)
        seconds = time.monotonic() - begin
        if info["status"] in ("completed", "failed"):
            break
        if seconds > limit_s:
            break
        if setting.postcopy and not asked and info.get("ram", {}).get("dirty-sync-count", 0) > 1:
            asked = True
            pair.src.cmd("migrate-start-postcopy")
        time.sleep(POLL_S)
    run = {"finished": info["status"] == "completed", "seconds": seconds, **meter.read()}
    if info["status"] == "failed":
        run["error"] = f"{info.get('error-desc')} {pair.dst.stderr_text().strip()}"
    if run["finished"]:
        run["qemu_seconds"] = info["total-time"] / 1000
        run["qemu_downtime_ms"] = info["downtime"]
    return conclude(pair, run, meter, mem_mib)


def conclude(pair, run, meter, mem_mib):
    """The guest's view, and whether all of it is there."""
    if run["finished"]:
        pair.wait_ticking(pair.dst)
        time.sleep(SETTLE_S)
        run["blackout_ms"] = pair.blackout_ms()
    run["gap_ms"] = longest_gap(pair, meter.begin_ns)
    run["written"] = written(pair, meter.begin_ns)
    if run["finished"]:
        wrong = judge(pair, mem_mib << 20)
        if wrong:
            run["error"] = wrong
    return run
