#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The demonstration: a real guest that keeps writing to its memory migrates, live, through the
proxy over a link of 1 Gbit/s, and the outcome is proven.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import vm

TOP = pathlib.Path(__file__).resolve().parents[1]
MEMORY_MIB = 512
WORKLOAD = {"ws": "48M", "rate": 4000, "pattern": "part", "order": "hot", "content": "text"}


def say(text):
    """A line of the demonstration, at once."""
    print(text, flush=True)


def verdict(good, text):
    """One proven claim. Return: whether it held."""
    say(f"  {'ok ' if good else 'NOT'} {text}")
    return good


def choose_qemu():
    """The QEMU and accelerator to show; TCG only where no guest runs under KVM."""
    found = vm.find_qemus()
    if not found:
        sys.exit("demo: no QEMU is here; ./dev setup installs one")
    for qemu in found.values():
        if vm.kvm_works(qemu):
            return qemu, "kvm"
    say("No guest runs under KVM on this machine: the demo uses TCG, QEMU's own emulation.")
    # As a source under TCG, 7.2 itself loses the last writes of a guest that does not pause.
    newer = [qemu for version, qemu in found.items() if version != "7.2"]
    if not newer:
        sys.exit("demo: QEMU 7.2 under TCG loses a guest's last writes, with and without qmig; "
                 "`./dev qemu` fetches newer ones")
    return newer[-1], "tcg"


def choose_link(rate):
    """A limited link between two network namespaces, or None and why."""
    if os.geteuid() != 0:
        say("Not root: no network namespaces, so the link is an unlimited unix socket.")
        return None
    try:
        return vm.Link(rate=rate)
    except (OSError, vm.VmError) as error:
        say(f"No limited link here ({error}): the link is an unlimited unix socket.")
        return None


def migrate(pair, link, qmig):
    """Run qmig with its live view on this terminal. Return: exit code and report."""
    report_path = os.path.join(pair.dir, "report.json")
    command = [str(qmig), "migrate", f"unix:{pair.src.qmp}", f"unix:{pair.dst.qmp}",
               "--suspend", "--keep-source", "--json"]
    if link is not None:
        command += [f"--migrateuri=tcp:{link.dst_addr}:0"]
        command = link.exec_prefix + command
    shown = [os.path.basename(a) if a == str(qmig) else a for a in command]
    say("\n$ " + " ".join(shown))
    with open(report_path, "w+", encoding="utf-8") as report:
        code = subprocess.run(command, stdout=report, check=False, timeout=50).returncode
        report.seek(0)
        text = report.read()
    return code, json.loads(text) if text.startswith("{") else {}


def show_report(report):
    """The figures worth a line."""
    stats = report["proxy"]["plugins"]["stats"]
    pages = stats["pages"]
    say(f"\n  {'pass':>6} {'MiB':>8} {'normal':>8} {'zero':>8} {'resent':>8} {'ms':>7}")
    for it in stats["iterations"]:
        say(f"  {it['number']:>6} {it['bytes'] / 2**20:>8.1f} {it['normal']:>8} "
            f"{it['zero']:>8} {it['resent']:>8} {it['duration_ms']:>7}")
    say(f"  total  {stats['bytes'] / 2**20:>8.1f} {pages['normal']:>8} {pages['zero']:>8} "
        f"{pages['resent']:>8} {report['ms']['migrate']:>7}")
    say(f"  device state {stats['device_bytes']} bytes in {len(stats['devices'])} sections, "
        f"read and split by the proxy")


def prove(pair, report):
    """The claims. Return: whether all held."""
    say("\nVerdict")
    start = time.monotonic()
    differing = pair.compare_ram()
    compare_ms = (time.monotonic() - start) * 1000
    good = verdict(not differing, f"memory of both sides, {MEMORY_MIB} MiB, is equal byte for "
                                  f"byte while both stand still ({len(differing)} pages differ)")
    good &= verdict(pair.running() == [], "neither runs yet")
    pair.dst.cmd("cont")
    pair.wait_ticking(pair.dst)
    time.sleep(0.5)
    good &= verdict(pair.running() == ["dst"], "exactly one guest runs: the destination's")
    errors = pair.guest_errors()
    good &= verdict(not errors, f"the guest's own check of its memory is clean {errors or ''}")
    stats = report["proxy"]["plugins"]["stats"]
    good &= verdict(stats["complete"] == 1 and stats["pages"]["normal"] ==
                    report["ram"]["pages_normal"], "every page on the wire was read and counted: "
                    f"the proxy's count is QEMU's ({stats['pages']['normal']} normal)")
    say(f"      downtime {report['ms']['downtime']} ms by QEMU's count; "
        f"the guest stood still {pair.blackout_ms():.0f} ms by its own ticks, "
        f"for the comparison above ({compare_ms:.0f} ms) was made meanwhile")
    return good


def main():
    """The demonstration."""
    parser = argparse.ArgumentParser(description="a real guest migrates through the proxy")
    parser.add_argument("--rate", default="1gbit", help="of the link (default: 1gbit)")
    parser.add_argument("--qmig", default=TOP / "build/cli/qmig", help=argparse.SUPPRESS)
    options = parser.parse_args()
    qemu, accel = choose_qemu()
    link = choose_link(options.rate)
    try:
        with vm.Pair(src=qemu, dst=qemu, mem_mib=MEMORY_MIB, accel=accel, workload=WORKLOAD,
                     fill=0.5, link=link) as pair:
            pair.wait_ticking(pair.src)
            say(f"QEMU {qemu.version}, {accel.upper()}, {MEMORY_MIB} MiB: a guest runs and "
                f"writes {WORKLOAD['rate']} pages a second"
                + (f"; the link is {options.rate}" if link else ""))
            code, report = migrate(pair, link, options.qmig)
            if code != 0:
                sys.exit(f"demo: qmig ended with {code}")
            show_report(report)
            good = prove(pair, report)
    finally:
        if link is not None:
            link.close()
    say("\nA real guest moved, whole." if good else "\nNOT whole: this is a bug in qmig.")
    sys.exit(not good)


if __name__ == "__main__":
    main()
