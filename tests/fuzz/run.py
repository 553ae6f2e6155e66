#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Run the fuzz targets built in build-fuzz/, and tell what they found."""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = TOP / "build-fuzz"
SEEDS = TOP / "tests/fuzz/corpus"
FINDINGS = BUILD / "findings"

# A finding is also what takes longer or more memory than this: seconds for one input, MiB of the
# whole process, and of one allocation. ASan itself takes a good part of the memory.
LIMITS = ["-timeout=20", "-rss_limit_mb=1536", "-malloc_limit_mb=256"]
MAX_LEN = 48 << 10


def run(name, seconds):
    """Return: (name, status, what the fuzzer said last of its work, its log)."""
    work = BUILD / "corpus" / name
    found = FINDINGS / name
    log = BUILD / "logs" / f"{name}.log"
    for folder in (work, found, log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    command = [BUILD / "tests/fuzz" / f"fuzz-{name}", work, SEEDS / name, *LIMITS,
               f"-max_len={MAX_LEN}", f"-max_total_time={seconds}", f"-artifact_prefix={found}/",
               "-print_final_stats=1", "-use_value_profile=1"]
    with open(log, "w", encoding="utf-8") as out:
        # Slices of GLib would hide single blocks from the sanitizer.
        status = subprocess.run(list(map(str, command)), stdout=out, stderr=out, check=False,
                                env=os.environ | {"G_SLICE": "always-malloc"}).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    runs = re.search(r"number_of_executed_units: (\d+)", text)
    cover = re.findall(r"cov: (\d+)", text)
    work_done = (f"{int(runs[1]):>10} inputs, " if runs else "") + \
        (f"{cover[-1]:>6} edges" if cover else "")
    return name, status, work_done, log


def main():
    built = sorted(p.name.removeprefix("fuzz-") for p in (BUILD / "tests/fuzz").glob("fuzz-*")
                   if p.is_file())
    options = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help="targets (default: all)")
    options.add_argument("--seconds", type=int, default=300, help="for each target (%(default)s)")
    options.add_argument("--jobs", type=int, default=1, help="targets at a time (%(default)s)")
    options = options.parse_args()
    if unknown := set(options.names) - set(built):
        sys.exit(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(built)}")
    failed = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for name, status, work_done, log in pool.map(
                lambda n: run(n, options.seconds), options.names or built):
            print(f"{'ok   ' if status == 0 else 'FOUND'} {name:<14} {work_done}", flush=True)
            if status != 0:
                failed.append(name)
                print(f"      {log.relative_to(TOP)}, inputs in {FINDINGS.relative_to(TOP)}/{name}/")
    print(f"{len(options.names or built) - len(failed)} targets without a finding, "
          f"{len(failed)} with one")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
