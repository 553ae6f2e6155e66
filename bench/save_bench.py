# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Saving and restoring a guest: qmig beside what QEMU does with exec: and with mapped-ram.

One guest, stopped for each save, is saved in every way in turn, round after round. A save ends
when the file is complete and synced; CPU is that of QEMU, of the programs it runs, and of qmig.
"""
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# Where the files go: in memory, so that it is not the disk that is measured.
FOLDER = os.environ.get("QMIG_BENCH_FOLDER", "/dev/shm")
TICKS = os.sysconf("SC_CLK_TCK")

EXEC = {"exec:lz4": ("lz4 -q -c > {}", "lz4 -dq -c {}"),
        "exec:zstd -1 -T2": ("zstd -q -1 -T2 -c > {}", "zstd -dq -c {}"),
        "exec:pipe lz4": ("{qmig} stream pipe --codec=lz4 > {}",
                          "{qmig} stream pipe --decode < {}"),
        "exec:pipe zstd -T2": ("{qmig} stream pipe --codec=zstd --threads=2 > {}",
                               "{qmig} stream pipe --decode --threads=2 < {}")}
QMIG = {"qmig (zstd 1)": [], "qmig --codec=lz4": ["--codec=lz4"]}
MAPPED = {"mapped-ram": 0, "mapped-ram, multifd 2": 2}


def process_cpu(pid):
    """User and system seconds of a process and of the children it has waited for."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS


def children_cpu():
    """The same of our own ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def has_children(pid):
    """Does a program that QEMU runs still live?"""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "children").read_text(encoding="ascii").strip():
            return True
    return False


def await_migration(side):
    """Until QEMU's migration is over and the program it ran has ended."""
    while (status := side.cmd("query-migrate").get("status")) != "completed":
        if status in ("failed", "cancelled"):
            sys.exit(f"bench: migration {status}: {side.stderr_text()}")
        time.sleep(0.005)
    while has_children(side.pid):
        time.sleep(0.001)


def set_up(side, connections):
    """Capabilities and parameters of QEMU for a file of its own; None: for exec:."""
    have = {c["capability"] for c in side.cmd("query-migrate-capabilities")}
    wanted = {"mapped-ram": connections is not None, "multifd": bool(connections)}
    side.cmd("migrate-set-capabilities", capabilities=[
        {"capability": name, "state": state} for name, state in wanted.items() if name in have])
    side.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
    if connections:
        side.cmd("migrate-set-parameters", **{"multifd-channels": connections})


def sync(path):
    """What was written is on the disk; here: at the end of everybody's time."""
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.close(fd)


def save_by_qemu(side, uri, path, connections):
    """Seconds and CPU seconds of a save by QEMU's own means."""
    set_up(side, connections)
    cpu, start = process_cpu(side.pid), time.monotonic()
    side.cmd("migrate", uri=uri)
    await_migration(side)
    sync(path)
    return time.monotonic() - start, process_cpu(side.pid) - cpu


def run_qmig(side, words):
    """Seconds and CPU seconds of a qmig command on that side's QEMU."""
    cpu, own, start = process_cpu(side.pid), children_cpu(), time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        sys.exit(f"bench: {words}: {done.stderr}")
    return seconds, process_cpu(side.pid) - cpu + children_cpu() - own


def save(pair, name, path, qmig):
    """Stop the guest, save it that way, let it run on."""
    side = pair.src
    side.cmd("stop")
    if name in EXEC:
        seconds, cpu = save_by_qemu(side, "exec:" + EXEC[name][0].format(path, qmig=qmig),
                                    path, None)
    elif name in MAPPED:
        seconds, cpu = save_by_qemu(side, f"file:{path}", path, MAPPED[name])
    else:
        set_up(side, None)
        seconds, cpu = run_qmig(side, [qmig, "save", *QMIG[name], f"unix:{side.qmp}", path])
    side.cmd("cont")
    return {"seconds": seconds, "cpu": cpu, "bytes": os.stat(path).st_blocks * 512}


def restore(pair, name, path, qmig):
    """Load it into a fresh QEMU."""
    pair.new_destination()
    side = pair.dst
    if name in QMIG:
        seconds, cpu = run_qmig(side, [qmig, "restore", "--paused", path, f"unix:{side.qmp}"])
        return {"seconds": seconds, "cpu": cpu}
    set_up(side, MAPPED.get(name))
    uri = "exec:" + EXEC[name][1].format(path, qmig=qmig) if name in EXEC else f"file:{path}"
    cpu, start = process_cpu(side.pid), time.monotonic()
    side.cmd("migrate-incoming", uri=uri)
    await_migration(side)
    return {"seconds": time.monotonic() - start, "cpu": process_cpu(side.pid) - cpu}


def ways(qemu):
    """What can be compared here."""
    names = [*EXEC, *QMIG]
    missing = [tool for tool in ("lz4", "zstd") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"bench: not here: {', '.join(missing)}")
    return names if qemu.version == "7.2" else [*names, *MAPPED]


def spread(values, digits=2):
    """min / median / max as text."""
    return " / ".join(f"{v:.{digits}f}" for v in (min(values), statistics.median(values),
                                                  max(values)))


def table(title, runs, base):
    """Print one table; ratios are to the same round's @base."""
    print(f"\n{title}")
    result = {}
    for name, list_ in runs.items():
        seconds = [r["seconds"] for r in list_]
        ratio = [r["seconds"] / b["seconds"] for r, b in zip(list_, runs[base])]
        line = (f"  {name:22} {spread(seconds):>20} s  {spread(ratio):>20} x {base}  "
                f"CPU {spread([r['cpu'] for r in list_]):>20} s")
        if "bytes" in list_[0]:
            line += f"  {statistics.median(r['bytes'] for r in list_) / 1e6:7.1f} MB"
        print(line)
        result[name] = list_
    return result


def run(qemu, new_pair, qmig, rounds):
    """Measure both ways."""
    names = ways(qemu)
    saves, loads = {name: [] for name in names}, {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="qmig-bench-", dir=FOLDER) as folder, \
            new_pair(qemu) as pair:
        pair.wait_ticking(pair.src)
        # The first save of a guest maps its memory: it is not counted.
        save(pair, names[0], f"{folder}/warm", qmig)
        os.unlink(f"{folder}/warm")
        memory = pair.config["mem_mib"]
        for number in range(rounds):
            for name in names:
                path = f"{folder}/file"
                saves[name].append(save(pair, name, path, qmig))
                # Starting a QEMU takes longer than loading: some rounds do.
                if number < max(3, rounds // 2):
                    loads[name].append(restore(pair, name, path, qmig))
                os.unlink(path)
    what = f"a stopped guest of {memory} MiB, QEMU {qemu.version}, files in {FOLDER}"
    return {"save": table(f"save: {what}; min / median / max of {rounds}, interleaved", saves,
                          "exec:lz4"),
            "restore": table(f"restore: the same; of {len(loads[names[0]])}", loads, "exec:lz4")}
