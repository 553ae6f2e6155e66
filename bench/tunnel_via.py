# SPDX-License-Identifier: LGPL-2.1-or-later
"""One migration of a loaded guest by `qmig migrate --via`, its far end beside the destination."""
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

import tunnel_run
import vm

PORT = 7117
START_S = 10
PATIENCE_S = 20     # for a migration that is cut off to be undone


@dataclasses.dataclass
class Via:
    """What qmig is told besides the addresses."""
    options: tuple = ()
    tls: bool = False


VIA_SETTINGS = {
    "via": Via(),
    "via 4": Via(("--via-connections=4",)),
    "via 4, TLS": Via(("--via-connections=4",), tls=True),
}


class Pki:
    """Certificates for both ends, made when they are needed first."""

    def __init__(self, qmig):
        self._qmig, self._folder = qmig, None

    def path(self):
        """The directory that holds them."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="qmig-bench-pki-")
            subprocess.run([self._qmig, "pki", "all", self._folder.name + "/pki",
                            "--host", vm.Link.dst_addr, "--host", vm.Loopback.dst_addr],
                           check=True, stdout=subprocess.DEVNULL)
        return self._folder.name + "/pki"


class Far:
    """`qmig proxy --tunnel` on the destination's side."""

    def __init__(self, qmig, link, security):
        # setpriv: it dies with the bench.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *link.dst_exec_prefix, qmig, "proxy",
             f"--tunnel=tcp:{link.dst_addr}:{PORT}", "--allow=*", *security],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True)
        self.said, self._up = "", threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._up.wait(START_S) or "listening" not in self.said:
            self.close()
            raise vm.VmError(f"qmig proxy --tunnel: {self.said}")

    def _read(self):
        for line in self.process.stderr:
            self.said += line
            if "listening" in line:
                self._up.set()
        self._up.set()

    def close(self):
        """End it by its pid."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _run_near(command, limit_s, before_end):
    """
    Run qmig; (exit code, or None when it was cut off; stdout, stderr, wall and CPU seconds).
    @before_end is called before it is cut off.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        code = usage = None
        asked_to_end = False
        while usage is None:
            pid, status, resources = os.wait4(process.pid, os.WNOHANG)
            if pid:
                usage, code = resources, os.waitstatus_to_exitcode(status)
                process.returncode = code   # Popen must not wait for it again
                break
            late = time.monotonic() - begin - limit_s
            if late > 0 and not asked_to_end:
                asked_to_end = True
                before_end()
                process.send_signal(signal.SIGINT)
            if late > PATIENCE_S:
                process.kill()
            time.sleep(tunnel_run.POLL_S / 4)
        wall = time.monotonic() - begin
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return (None if asked_to_end else code, *texts, wall, usage.ru_utime + usage.ru_stime)


def by_via(pair, setting, mem_mib, limit_s, qmig, pki):
    """Through the tunnel. Return: what was measured, as tunnel_run.by_qemu() does."""
    security = (("--insecure",), ("--via-insecure",))
    if setting.tls:
        security = ((f"--tls-dir={pki.path()}",), (f"--via-tls-dir={pki.path()}",))
    far = Far(qmig, pair.link, security[0])
    costs = {}
    try:
        meter = tunnel_run.Meter(pair)
        far_begin = tunnel_run.cpu_seconds(far.process.pid)
        code, out, err, wall, near_cpu = _run_near(
            [*pair.link.exec_prefix, qmig, "migrate", f"unix:{pair.src.qmp}",
             f"unix:{pair.dst.qmp}", f"--via={pair.link.dst_addr}:{PORT}", *security[1],
             *setting.options, "--downtime=300ms", "--keep-source", "--json",
             "--progress=none", "--no-journal"], limit_s,
            # The destination does not survive the undoing.
            lambda: costs.update(meter.read()))
        costs = costs or meter.read()
        costs["cpu"] |= {"near": near_cpu,
                         "far": tunnel_run.cpu_seconds(far.process.pid) - far_begin}
    finally:
        far.close()
    run = {"finished": code == 0, "seconds": wall, "command_seconds": wall, **costs}
    if code == 0:
        report = json.loads(out)
        run["seconds"] = report["ms"]["migrate"] / 1000
        run["qemu_downtime_ms"] = report["ms"]["downtime"]
        run["tunnel"] = report.get("tunnel") or report.get("via")
    elif code is not None:
        run["error"] = f"exit {code}: {err.strip()[-400:]} {far.said.strip()[-200:]}"
    return tunnel_run.conclude(pair, run, meter, mem_mib)


def binary(build):
    """The qmig that is measured: $QMIG, or the bench's own."""
    return os.environ.get("QMIG") or str(pathlib.Path(build) / "cli/qmig")


def exists(qmig):
    """Whether it has the tunnel."""
    done = subprocess.run([qmig, "migrate", "--help"], capture_output=True, text=True, check=False)
    return "--via" in done.stdout
