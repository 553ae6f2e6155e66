# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the end-to-end tests share: running qmig, the claims every test makes."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "test-vm"), str(TOP / "tests/lib")]

import vm  # noqa: E402  (the launcher lives beside the guests)
from tap import Skip, check, run_tests  # noqa: E402,F401  (all tests say lib.Skip, lib.check, …)

QMIG = os.environ.get("QMIG", str(TOP / "build/cli/qmig"))
FULL = bool(os.environ.get("QMIG_TEST_FULL"))


def qemu(version):
    """The QEMU of that version, or Skip."""
    found = vm.find_qemus()
    if version not in found:
        raise Skip(f"QEMU {version} is not here (./dev qemu fetches it)")
    return found[version]


def accel(binary):
    """"kvm" where the bare-metal guest really runs under it, or Skip."""
    if not vm.kvm_works(binary):
        raise Skip(f"no guest runs under KVM with QEMU {binary.version} on this machine")
    return "kvm"


class Run:
    """A finished `qmig` command."""

    def __init__(self, process, out, err):
        self.code = process.returncode
        self.out, self.err = out, err

    def report(self):
        """The JSON object on stdout."""
        return json.loads(self.out)


def start(*args, **options):
    """Start qmig; the caller waits."""
    return subprocess.Popen([*options.pop("prefix", []), QMIG, *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)


def finish(process, timeout=60):
    """Wait for a started qmig."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"qmig did not end within {timeout} s:\n{err}") from None
    return Run(process, out, err)


def run(*args, timeout=60, **options):
    """Run qmig to its end."""
    return finish(start(*args, **options), timeout)


def migrate_args(pair):
    """The arguments every migration of @pair has."""
    return ["migrate", f"unix:{pair.src.qmp}", f"unix:{pair.dst.qmp}", "--json",
            "--progress=json"]


# Only ours: other runs on this machine have private directories of their own.
SCRATCH = tempfile.TemporaryDirectory(prefix="e2e-")
STATE = tempfile.TemporaryDirectory(prefix="e2e-state-")
RUNTIME = tempfile.TemporaryDirectory(prefix="e2e-run-")
ENVIRONMENT = {**os.environ, "TMPDIR": SCRATCH.name, "XDG_STATE_HOME": STATE.name,
               "QMIG_RUNTIME_DIR": RUNTIME.name}


def leftovers():
    """What qmig left in its temporary directory."""
    return set(os.listdir(SCRATCH.name))


def settings(side):
    """Capabilities and parameters of a QEMU, to compare before and after."""
    capabilities = {c["capability"]: c["state"] for c in side.cmd("query-migrate-capabilities")}
    return capabilities, side.cmd("query-migrate-parameters")


def moved_whole(pair, *options, prefix=()):
    """
    Migrate with @options, leaving both sides stopped: RAM is equal byte for byte; then the
    destination runs: exactly one guest runs, and it has seen no corruption. Return: the report.
    """
    before = leftovers()
    done = run(*migrate_args(pair), "--suspend", "--keep-source", *options, prefix=prefix)
    check(done.code == 0, f"exit 0, got {done.code}: {done.err}")
    differing = pair.compare_ram()
    check(not differing, f"RAM equal byte for byte; {len(differing)} pages differ, "
                         f"first {differing[:5]}")
    check(pair.running() == [], "nobody runs before cont")
    pair.dst.cmd("cont")
    pair.wait_ticking(pair.dst)
    check(pair.running() == ["dst"], f"the destination's guest alone runs: {pair.running()}")
    time.sleep(0.3)
    check(pair.guest_errors() == [], f"the guest sees no corruption: {pair.guest_errors()}")
    check(leftovers() <= before, f"no private directory is left: {leftovers() - before}")
    return done.report()


def stayed_whole(pair, done, code, settings_before=None):
    """After a failure: exit code, the guest runs on the source alone, nothing is left."""
    check(done.code == code, f"exit {code}, got {done.code}: {done.err}")
    check(pair.src.alive(), "the source lives")
    pair.wait_ticking(pair.src)
    check(pair.running() == ["src"], f"the source's guest alone runs: {pair.running()}")
    check(pair.guest_errors() == [], f"the guest sees no corruption: {pair.guest_errors()}")
    if settings_before is not None:
        check(settings(pair.src) == settings_before, "the source's settings are put back")


def interrupt_when(process, want):
    """Read --progress=json lines until @want(event) is true; return all of stderr so far."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if want(event):
            return "".join(lines)
    return "".join(lines)


def kill(pid, number=signal.SIGKILL):
    """End a process the test started."""
    os.kill(pid, number)
