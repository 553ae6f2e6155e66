# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The plugin throttle: the rate over every second of a migration, as the interface towards the
destination counts it, beside QEMU's own max-bandwidth.
"""
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/e2e"))

import rates  # noqa: E402
import vm  # noqa: E402

PORT = 4711
BEGIN_BYTES = 20_000_000    # from when the link is full
MULTIFD = ("--parallel", "--parallel-connections=4")
# Name, bytes per second, options.
CASES = [
    (f"{who}{', four multifd channels' if channels else ''}", rate, (*limit, *channels))
    for rate in (50e6, 250e6) for channels in ((), MULTIFD)
    for who, limit in (("throttle", (f"--plugin=throttle:rate={rate:.0f}",)),
                       ("max-bandwidth", (f"--bandwidth={rate:.0f}",)))
]


def seconds(samples):
    """The rate over each second, bytes/s, from the middle of one sample to that of another."""
    found, last = [], 0
    for first in samples:
        begin = (first[0] + first[2]) / 2
        while last < len(samples) and (samples[last][0] + samples[last][2]) / 2 < begin + 1e9:
            last += 1
        if last == len(samples):
            break
        end = (samples[last][0] + samples[last][2]) / 2
        found.append((samples[last][1] - first[1]) * 1e9 / (end - begin))
    return found


def bulk(samples):
    """Without the beginning and the end of a migration."""
    begin = next((s[0] for s in samples if s[1] - samples[0][1] >= BEGIN_BYTES), 0)
    end = max((a[0] for a, b in zip(samples, samples[1:]) if b[1] - a[1] > 100_000), default=0)
    return rates.between(samples, begin, end)


def one(qemu, qmig, rate, options):
    """One migration of some seconds; the rate over each."""
    size = max(512, int(rate * 4 / 2**20))
    with vm.Link(rate=None) as link, vm.Pair(
            src=qemu, dst=qemu, accel="kvm" if vm.kvm_works(qemu) else "tcg", mem_mib=size,
            fill=0.9, share=False, link=link, workload={"ws": "16M", "rate": 0}) as pair:
        pair.wait_ticking(pair.src)
        with rates.Sampler(link.exec_prefix, interval_s=0.01) as sampler:
            done = subprocess.run(
                [*link.exec_prefix, qmig, "migrate", f"unix:{pair.src.qmp}",
                 f"unix:{pair.dst.qmp}", f"--migrateuri=tcp:{link.dst_addr}:{PORT}", "--suspend",
                 "--progress=none", *options], capture_output=True, text=True, timeout=120,
                check=False)
        if done.returncode != 0:
            sys.exit(f"bench: qmig ended with {done.returncode}: {done.stderr}")
    return seconds(bulk(sampler.samples))


def bench(qemu, qmig):
    """Print and return what the rate was over the seconds of each case, in parts of what was set."""
    reason = vm.Link.why_not()
    if reason:
        print(f"\nthrottle: not measured: {reason}")
        return {"skipped": reason}
    print(f"\nthrottle: QEMU {qemu.version}; the rate over any second of a migration, in parts of "
          "the one set; min / median / max of all windows")
    result = {}
    for name, rate, options in CASES:
        parts = [r / rate for r in one(qemu, qmig, rate, options)]
        if not parts:
            print(f"  {rate / 1e6:4.0f} MB/s  {name:36} over in less than a second")
            continue
        figures = {"min": min(parts), "median": statistics.median(parts), "max": max(parts),
                   "windows": len(parts)}
        result[f"{name} {rate:.0f}"] = figures
        print(f"  {rate / 1e6:4.0f} MB/s  {name:36} {figures['min']:.3f} / "
              f"{figures['median']:.3f} / {figures['max']:.3f}  of {len(parts)}", flush=True)
    return result
