# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The tunnel beside QEMU's own settings: guests of several kinds over links of several rates.

Every round runs each setting once, so that what else the machine does falls on all of them.
"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import tunnel_run
import tunnel_via
import vm
from tunnel_run import PROFILES, QEMU_SETTINGS
from tunnel_via import VIA_SETTINGS

TOP = pathlib.Path(__file__).resolve().parents[1]
RESULTS = TOP / "build/bench"
# Bytes/s at best, and the seconds after which a migration counts as one that never ends.
RATES = {"100mbit": (12e6, 180), "1gbit": (118e6, 60), "10gbit": (1e9, 30),
         "loopback": (1.5e9, 30)}
SETUP_S = 6     # to start a pair, to fill its guest's working set, to compare


def settings_of(args, qemu, profile):
    """Name and setting of each that is to run."""
    mine = [(name, setting) for name, setting in QEMU_SETTINGS.items()
            if tunnel_run.fits(setting, qemu, profile)] + list(VIA_SETTINGS.items())
    return [row for row in mine if not args.setting or row[0] in args.setting]


def estimate(args, qemus):
    """How long it takes at most, about."""
    seconds = 0.0
    for qemu in qemus:
        for profile in args.profile:
            for rate in args.rate:
                speed, limit = RATES[rate]
                longest = min(2 * (args.memory << 20) / speed, args.limit or limit)
                seconds += args.rounds * len(settings_of(args, qemu, profile)) * \
                    (longest + SETUP_S)
    return seconds


def make_link(rate):
    """The network of that name."""
    return vm.Loopback() if rate == "loopback" else vm.Link(rate)


class Bench:
    """All runs of one call. runs: {(qemu, profile, rate, setting): [run, …]}."""

    def __init__(self, args, qmig):
        self.args, self.qmig, self.runs = args, qmig, {}
        self._pki = tunnel_via.Pki(qmig)

    def one(self, qemu, profile, rate, name, setting, files):
        """One run, told in a line."""
        limit = self.args.limit or RATES[rate][1]
        with make_link(rate) as link, tunnel_run.new_pair(
                qemu, profile, files, self.args.memory, link) as pair:
            tunnel_run.warm_up(self.args.memory)
            if name in VIA_SETTINGS:
                run = tunnel_via.by_via(pair, setting, self.args.memory, limit, self.qmig,
                                        self._pki)
            else:
                run = tunnel_run.by_qemu(pair, setting, self.args.memory, limit)
        self.runs.setdefault((qemu.version, profile, rate, name), []).append(run)
        ended = f"{run['seconds']:7.2f} s" if run["finished"] else f"never ({limit} s)"
        print(f"  {qemu.version} {profile:14} {rate:8} {name:14} {ended}, "
              f"{run['wire'] / 1e6:.0f} MB, longest silence {run['gap_ms']:.0f} ms"
              f"{', WRONG: ' + run['error'] if 'error' in run else ''}", flush=True)

    def profile(self, qemu, profile, folder):
        """All rounds of one kind of guest."""
        files = tunnel_run.Files(folder, profile, self.args.memory)
        for _ in range(self.args.rounds):
            for rate in self.args.rate:
                for name, setting in settings_of(self.args, qemu, profile):
                    self.one(qemu, profile, rate, name, setting, files)
        files.close()


# ---- telling -----------------------------------------------------------------------------------

def spread(values, digits):
    """min / median / max, or what there is."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return " / ".join(f"{value:.{digits}f}"
                      for value in (min(values), statistics.median(values), max(values)))


def row(name, runs, best):
    """A line of the table; @best: the shortest median of QEMU's own settings."""
    done = [run for run in runs if run["finished"] and "error" not in run]
    seconds = [run["seconds"] for run in done]
    wrong = [run["error"] for run in runs if "error" in run]
    total = spread(seconds, 2)
    commands = [run["command_seconds"] for run in done if "command_seconds" in run]
    if commands:
        total += f" (command {statistics.median(commands):.2f})"
    if len(done) + len(wrong) < len(runs):
        total = "never" if not done else f"{total} (never: {len(runs) - len(done)} of {len(runs)})"
    if wrong:
        total += f" **wrong: {wrong[0]}**"
    ratio = f"{statistics.median(seconds) / best:.2f}" if done and best else ""
    names = dict.fromkeys(key for run in runs for key in run["cpu"])
    cpu = ", ".join(f"{key} {statistics.median(run['cpu'].get(key, 0.0) for run in runs):.1f}"
                    for key in names)
    return (f"| {name} | {total} | {ratio} | {spread([r['blackout_ms'] for r in done], 0)} | "
            f"{spread([r['gap_ms'] for r in runs], 0)} | "
            f"{spread([r['wire'] / 1e6 for r in runs], 0)} | "
            f"{statistics.median(r['written'] for r in runs):.0f} | {cpu} |")


HEAD = ("| setting | seconds | of QEMU's best | blackout, ms | longest silence, ms | MB sent | "
        "pages/s written | CPU seconds |\n|---|---|---|---|---|---|---|---|")


def table(args, machine, runs):
    """All of it as Markdown."""
    lines = [f"Guests of {args.memory} MiB, {args.rounds} rounds, interleaved: min / median / max. "
             "MB: as the interface of the source's side counts them. CPU seconds: medians; QEMUs "
             "without their vCPUs, which run the guest.", "", f"Machine: {machine}.", ""]
    groups = dict.fromkeys(key[:3] for key in runs)
    for version, profile, rate in groups:
        mine = {key[3]: list_ for key, list_ in runs.items() if key[:3] == (version, profile, rate)}
        medians = [statistics.median(run["seconds"] for run in list_) for name, list_ in mine.items()
                   if name in QEMU_SETTINGS and all(run["finished"] and "error" not in run
                                                    for run in list_)]
        lines += [f"### {profile}, {rate}, QEMU {version}", "", f"{PROFILES[profile].text}.", "",
                  HEAD]
        lines += [row(name, list_, min(medians, default=None)) for name, list_ in mine.items()]
        lines.append("")
    return "\n".join(lines)


def write(args, machine, runs):
    """Table and figures into files; the table to stdout as well."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / time.strftime("tunnel-%Y%m%d-%H%M%S.md")
    text = table(args, machine, runs)
    path.write_text(text, encoding="utf-8")
    figures = {"machine": machine, "memory_mib": args.memory, "runs": [
        {"qemu": key[0], "profile": key[1], "rate": key[2], "setting": key[3], "rounds": list_}
        for key, list_ in runs.items()]}
    path.with_suffix(".json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(f"\n{text}\nresults: {path.relative_to(TOP)} and .json")


def parse(words):
    """The options; those that may be repeated mean all when absent."""
    parser = argparse.ArgumentParser(prog="./dev bench tunnel", description=__doc__)
    several = {"action": "append", "default": []}
    parser.add_argument("--profile", choices=PROFILES, **several)
    parser.add_argument("--rate", choices=RATES, **several)
    parser.add_argument("--setting", choices=[*QEMU_SETTINGS, *VIA_SETTINGS], **several)
    parser.add_argument("--qemu", metavar="VERSION", help="7.2 if absent", **several)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, metavar="SECONDS",
                        help="when a migration is cut off; by the rate if absent")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    args = parser.parse_args(words)
    args.profile = args.profile or list(PROFILES)
    args.rate = args.rate or list(RATES)
    return args


def find(versions):
    """The QEMUs of those versions."""
    found = vm.find_qemus()
    missing = [version for version in versions if version not in found]
    if missing:
        sys.exit(f"bench: no QEMU {', '.join(missing)}; there are: {', '.join(found)}")
    return [found[version] for version in versions]


def main(words, machine, qmig):
    """Measure what was asked for, by @qmig."""
    args = parse(words)
    reason = vm.Link.why_not()
    if reason:
        sys.exit(f"bench: no links: {reason}")
    qemus = find(args.qemu or ["7.2"])
    if not args.setting and not tunnel_via.exists(qmig):
        sys.exit(f"bench: {qmig} has no --via; name a --setting of QEMU's own")
    print(f"machine: {machine}\nthis takes up to {estimate(args, qemus) / 60:.0f} minutes; "
          "--profile, --rate, --setting, --rounds make it shorter", flush=True)
    bench = Bench(args, qmig)
    with tempfile.TemporaryDirectory(prefix="qmig-bench-", dir="/dev/shm") as folder:
        try:
            for qemu in qemus:
                for profile in args.profile:
                    bench.profile(qemu, profile, folder)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        finally:
            if bench.runs:
                write(args, machine, bench.runs)
