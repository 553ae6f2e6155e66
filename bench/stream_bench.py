# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Reading a saved stream: `qmig stream stat` on a file of 1 GiB or more in the page cache, beside
plain reading, copying in memory, and QEMU's scripts/analyze-migration.py where that is at hand
(test-vm/fetch-qemu --source).
"""
import os
import pathlib
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
SCRIPT_ROUNDS = 3       # it takes its time


def high_water(pid):
    """The largest resident set of a running process so far, MiB; 0 when it is gone.

    Not wait4()'s: that one begins with what this interpreter had when it was forked."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return next((int(line.split()[1]) / 1024 for line in status
                         if line.startswith("VmHWM")), 0)
    except OSError:
        return 0


def run(argv):
    """(seconds, CPU seconds, largest resident set in MiB) of a command on one processor."""
    start, memory = time.monotonic(), 0
    pid = os.posix_spawn(argv[0], argv, os.environ,
                         file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - start > 0.02:     # by then it is the command, not taskset
            memory = max(memory, high_water(pid))
        time.sleep(0.004)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"bench: {argv} ended with {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, memory


def pinned(*argv):
    """On the first processor alone."""
    return ["/usr/bin/taskset", "-c", "0", *map(str, argv)]


def find_script():
    """QEMU's script, of the newest version there is, or None."""
    scripts = sorted((TOP / ".cache/qemu-source").glob("*/scripts/analyze-migration.py"))
    return scripts[-1] if scripts else None


def measure(qmig, path, rounds):
    """All commands, interleaved; {name: [(seconds, cpu, MiB)]}."""
    commands = {
        "cat": pinned("/bin/cat", path),
        "stat": pinned(qmig, "stream", "stat", path),
        "stat, no sample": pinned(qmig, "stream", "stat", "--sample=0", path),
        "show": pinned(qmig, "stream", "show", path),
        "check": pinned(qmig, "stream", "check", path),
    }
    runs = {name: [] for name in commands}
    script = find_script()
    for number in range(rounds):
        for name, argv in commands.items():
            runs[name].append(run(argv))
        # It lists devices and steps over pages; with -m, to list these too, it ends with an
        # error on streams of today.
        if script and number < SCRIPT_ROUNDS:
            runs.setdefault("analyze-migration.py", []).append(
                run(pinned("/usr/bin/env", "python3", script, "-f", path)))
    if not script:
        print("  skipped: analyze-migration.py is not here (test-vm/fetch-qemu --source)")
    return runs


def bench(record, qemu, qmig, memcpy, rounds):
    """Print and return the figures. @record(qemu, path) makes the stream, @memcpy(path) GB/s."""
    path = pathlib.Path("/dev/shm") / f"qmig-bench-{os.getpid()}"
    try:
        record(qemu, path)
        size = path.stat().st_size
        copied = memcpy(path)
        runs = measure(qmig, path, rounds)
    finally:
        path.unlink(missing_ok=True)
    print(f"\nstream: a recorded stream of {size / 2**30:.2f} GiB (QEMU {qemu.version}) in memory, "
          f"one processor; GB/s, min / median / max of {rounds}; memcpy {copied:.1f} GB/s")
    stat = statistics.median(r[0] for r in runs["stat"])
    memory = max(r[2] for r in runs["stat"])
    result = {"bytes": size, "memcpy": copied}
    for name, list_ in runs.items():
        speeds = [size / r[0] / 1e9 for r in list_]
        mib = max(r[2] for r in list_)
        result[name] = {"gbps": speeds, "seconds": [r[0] for r in list_], "mib": mib}
        line = (f"  {name:26} {min(speeds):8.3f} / {statistics.median(speeds):.3f} / "
                f"{max(speeds):.3f}   {statistics.median(speeds) / copied:6.3f} x memcpy   "
                f"{mib:8.1f} MiB")
        if name.startswith("analyze"):
            line += (f"   stat takes 1/{statistics.median(r[0] for r in list_) / stat:.0f} of its "
                     f"time, 1/{mib / memory:.0f} of its memory")
        print(line)
    return result
