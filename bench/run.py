#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Benchmarks: bench/run.py [decode] [stream] [proxy] [save] [storage], or run.py tunnel [OPTION…].
Ratios are measured interleaved in one run and told as min / median / max, with the machine they
were measured on.
"""
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "test-vm"))

import save_bench  # noqa: E402
import storage_bench  # noqa: E402
import stream_bench  # noqa: E402
import throttle_bench  # noqa: E402
import tunnel_bench  # noqa: E402
import tunnel_via  # noqa: E402
import vm  # noqa: E402

BUILD = TOP / "build-bench"
QMIG = BUILD / "cli/qmig"
RESULTS = BUILD / "results"
ROUNDS = int(os.environ.get("QMIG_BENCH_ROUNDS", "7"))
MEMORY_MIB = int(os.environ.get("QMIG_BENCH_MEMORY", "2048"))


def machine():
    """What this was measured on, in a line."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (f"{os.cpu_count()} CPUs {model}, {memory:.0f} GiB, Linux "
            f"{platform.release().split('-')[0]}")


def spread(values):
    """min / median / max."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def text(figures, digits=2):
    """A spread for people."""
    return " / ".join(f"{figures[k]:.{digits}f}" for k in ("min", "median", "max"))


def new_pair(qemu):
    """A pair with an idle guest of realistic memory: three quarters from real files.

    Memory is private: the pages of shared files would cost the destination so much that nothing
    else showed. That it arrives whole is the end-to-end tests' business.
    """
    accel = "kvm" if vm.kvm_works(qemu) else "tcg"
    return vm.Pair(src=qemu, dst=qemu, accel=accel, mem_mib=MEMORY_MIB, fill=0.75, share=False,
                   workload={"ws": "16M", "rate": 0})


def record(qemu, path):
    """A stream of such a guest, written by QEMU itself."""
    with new_pair(qemu) as pair:
        pair.wait_ticking(pair.src)
        pair.src.cmd("migrate-set-parameters", **{"max-bandwidth": 0})
        pair.src.cmd("migrate", uri=f"exec:cat > {path}")
        while pair.src.cmd("query-migrate")["status"] not in ("completed", "failed"):
            time.sleep(0.1)


def bench_decode(qemu):
    """The decoder alone, from memory."""
    stream = pathlib.Path("/dev/shm") / f"qmig-bench-{os.getpid()}"
    try:
        record(qemu, stream)
        out = subprocess.run([BUILD / "bench/decode-speed", stream, str(max(ROUNDS, 7))],
                             check=True, capture_output=True, text=True).stdout
    finally:
        stream.unlink(missing_ok=True)
    figures = json.loads(out)
    print(f"\ndecode: a recorded stream of {figures['bytes'] / 1e9:.2f} GB (QEMU "
          f"{qemu.version}), from memory, one core; GB/s, min / median / max of "
          f"{figures['rounds']}")
    for name in ("memcpy", "decode", "decode+stats", "decode+encode", "decode+sum"):
        ratio = figures[name]["median"] / figures["memcpy"]["median"]
        print(f"  {name:14} {text(figures[name]):>24}   {ratio:6.2f} x memcpy")
    return figures


def memcpy_speed(path):
    """GB/s of copying the stream in memory, by the decoder's own bench."""
    out = subprocess.run([BUILD / "bench/decode-speed", path, "3"], check=True,
                         capture_output=True, text=True).stdout
    return json.loads(out)["memcpy"]["median"]


def bench_stream(qemu):
    """qmig stream on a recorded stream."""
    return stream_bench.bench(record, qemu, QMIG, memcpy_speed, ROUNDS)


def cpu_seconds():
    """User and system time of ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def one_migration(qemu, options):
    """Migrate a fresh guest; seconds by QEMU's own clock, CPU seconds of qmig, wire bytes."""
    with new_pair(qemu) as pair:
        pair.wait_ticking(pair.src)
        before = cpu_seconds()
        done = subprocess.run([QMIG, "migrate", f"unix:{pair.src.qmp}", f"unix:{pair.dst.qmp}",
                               "--suspend", "--keep-source", "--json", "--progress=none",
                               *options], capture_output=True, text=True, timeout=120,
                              check=False)
        cpu = cpu_seconds() - before
        if done.returncode != 0:
            sys.exit(f"bench: qmig ended with {done.returncode}: {done.stderr}")
        total = pair.src.cmd("query-migrate")["total-time"] / 1000
        if pair.guest_errors():
            sys.exit(f"bench: {pair.guest_errors()}")
    report = json.loads(done.stdout)
    return {"seconds": total, "cpu": cpu, "bytes": report["ram"]["transferred"]}


CASES = {"direct": ["--direct"], "proxy": [], "proxy, null": ["--plugin=null"]}


def bench_proxy(qemu):
    """The same migration direct, through the proxy, and through decoder and encoder."""
    runs = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, options in CASES.items():
            runs[name].append(one_migration(qemu, options))
    gigabytes = statistics.median(r["bytes"] for r in runs["direct"]) / 1e9
    print(f"\nproxy: a guest of {MEMORY_MIB} MiB, {gigabytes:.2f} GB to send, QEMU "
          f"{qemu.version}, unix socket; min / median / max of {ROUNDS}, interleaved")
    result = {}
    for name, list_ in runs.items():
        seconds = spread([r["seconds"] for r in list_])
        cpu = spread([r["cpu"] / (r["bytes"] / 1e9) for r in list_])
        ratio = spread([r["seconds"] / d["seconds"] for r, d in zip(list_, runs["direct"])])
        result[name] = {"seconds": seconds, "ratio": ratio, "cpu_per_gb": cpu}
        print(f"  {name:12} {text(seconds):>20} s   {text(ratio):>20} x direct   "
              f"qmig {text(cpu):>20} CPU-s/GB")
    return result


def bench_save(qemu):
    """Saving and restoring, beside QEMU's own means; by the newest QEMU, which has them all."""
    newest = max(vm.find_qemus().values(), key=lambda q: [int(n) for n in q.version.split(".")])
    return save_bench.run(qemu if os.environ.get("QMIG_BENCH_ALL") else newest, new_pair, QMIG,
                          ROUNDS)


def bench_storage(qemu):
    """A disk beside nbdcopy."""
    with tempfile.TemporaryDirectory(prefix="qmig-bench-") as folder:
        return storage_bench.bench(qemu, QMIG, min(ROUNDS, 3), folder)


def bench_throttle(qemu):
    """The rate over every second, beside QEMU's own limit."""
    return throttle_bench.bench(qemu, QMIG)


def main():
    """Run what was asked for; by default all but the tunnel, which takes hours."""
    if sys.argv[1:2] == ["tunnel"]:
        tunnel_bench.main(sys.argv[2:], machine(), tunnel_via.binary(BUILD))
        return
    benches = {"decode": bench_decode, "stream": bench_stream, "proxy": bench_proxy, "save": bench_save,
               "storage": bench_storage, "throttle": bench_throttle}
    names = sys.argv[1:] or list(benches)
    if unknown := set(names) - set(benches):
        sys.exit(f"bench: unknown: {', '.join(sorted(unknown))}; known: {', '.join(benches)}")
    print(f"machine: {machine()}")
    found = vm.find_qemus()
    results = {"machine": machine()}
    for version, qemu in found.items():
        if version != "7.2" and not os.environ.get("QMIG_BENCH_ALL"):
            continue
        for name in names:
            results[f"{name}-{version}"] = benches[name](qemu)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(results, indent=2), encoding="utf-8")
    print(f"\nresults: {path.relative_to(TOP)}")


if __name__ == "__main__":
    main()
