#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The two ends of the tunnel as programs, without guests: options, credentials, limits, signals, status,
systemd's side. TAP on stdout.
"""
import atexit
import contextlib
import json
import os
import pathlib
import pwd
import re
import resource
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

from tap import Skip, check, run_tests  # noqa: E402

QMIG = os.environ.get("QMIG", str(TOP / "build/cli/qmig"))
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix="qmig-tun-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
RUN = SCRATCH / "run"
RUN.mkdir(mode=0o700)
os.environ["QMIG_RUNTIME_DIR"] = str(RUN)
PKI, OTHER = SCRATCH / "pki", SCRATCH / "other"
DEADLINE_S = 20


def qmig(*args, code=0, **options):
    """Run qmig to its end, which must be that."""
    done = subprocess.run([QMIG, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=30, check=False, **options)
    check(done.returncode == code, f"{args}: exit {code}, got {done.returncode}: {done.stderr}")
    return done


class Proxy:
    """A started `qmig proxy`; its stderr is read by a thread."""

    def __init__(self, *args, wait=True, **options):
        self.process = subprocess.Popen([QMIG, "proxy", *map(str, args)], text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, **options)
        self.lines = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        self.where = self.line("listening on ")[len("listening on "):] if wait else None

    def read(self):
        """Keep the lines as they come."""
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def line(self, text, beyond=0):
        """Wait for a line with @text after so many lines."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            for line in self.lines[beyond:]:
                if text in line:
                    return line
            if self.process.poll() is not None:
                self.thread.join(5)
                if not any(text in line for line in self.lines[beyond:]):
                    break
            time.sleep(0.02)
        raise AssertionError(f"\"{text}\" on stderr: {self.lines}")

    def end(self, number, code):
        """Send a signal; it ends in that code."""
        self.process.send_signal(number)
        got = self.process.wait(DEADLINE_S)
        self.thread.join(5)
        check(got == code, f"exit {code}, got {got}: {self.lines}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()


def far(*args, **options):
    """A far end on a free port."""
    tls = () if "--insecure" in args or "--tls-dir" in args else ("--tls-dir", PKI)
    return Proxy("--tunnel", "tcp:127.0.0.1:0", "--connect", f"unix:{SCRATCH}/dst", *tls, *args,
                 **options)


def near(end, *args, **options):
    """A near end to it."""
    tls = () if "--insecure" in args or "--tls-dir" in args else ("--tls-dir", PKI)
    return Proxy("--listen", f"unix:{SCRATCH}/src", "--via", end.where[len("tcp:"):], *tls, *args,
                 **options)


@contextlib.contextmanager
def destination(path=SCRATCH / "dst"):
    """Somebody who waits there, takes one connection, and echoes what it got when that ends."""
    got = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            listener.settimeout(DEADLINE_S)
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                with contextlib.suppress(OSError):
                    while piece := connection.recv(1 << 16):
                        got.append(piece)
                    connection.sendall(b"bye")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield got
        finally:
            listener.close()
            os.unlink(path)
            thread.join(1)


def carry(data, look=None):
    """Send through the near end; return what came back."""
    with socket.socket(socket.AF_UNIX) as source:
        source.settimeout(DEADLINE_S)
        source.connect(str(SCRATCH / "src"))
        source.sendall(data)
        if look is not None:
            look()
        source.shutdown(socket.SHUT_WR)
        return source.recv(16)


@contextlib.contextmanager
def two_qemus(place):
    """A source and a destination without machines, their monitors src.qmp and dst.qmp there."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise Skip("qemu-system-x86_64 is not here")
    processes = []
    try:
        for name, more in (("src", ()), ("dst", ("-incoming", "defer"))):
            (place / f"{name}.qmp").unlink(missing_ok=True)
            processes.append(subprocess.Popen(
                [qemu, "-machine", "none", "-nodefaults", "-display", "none", "-S", *more, "-qmp",
                 f"unix:{place}/{name}.qmp,server=on,wait=off"], stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL))
        end = time.monotonic() + DEADLINE_S
        while not ((place / "src.qmp").exists() and (place / "dst.qmp").exists()):
            check(time.monotonic() < end, "both QEMUs have their monitors")
            time.sleep(0.05)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


# ---- tests --------------------------------------------------------------------------------------

def wrong_options():
    """What does not go together is told, with exit 1, and nothing is left."""
    there = f"unix:{SCRATCH}/dst"
    here = f"unix:{SCRATCH}/src"
    tunnel = ("--tunnel", "tcp:127.0.0.1:0")
    for args, text in (
            (tunnel, "wanted --connect, --allow or both"),
            ((*tunnel, "--via", "h", "--connect", there), "--tunnel and --via"),
            ((*tunnel, "--connect", there, "--listen", here), "--listen: wanted only without"),
            ((*tunnel, "--connect", there, "--plugin", "stats"), "--plugin: wanted only without"),
            (("--listen", here, "--connect", there, "--insecure"),
             "--insecure: wanted only with --tunnel or --via"),
            (("--listen", here, "--connect", there, "--sessions=4"),
             "--sessions: wanted only with --tunnel"),
            (("--listen", here, "--via", "h", "--allow=x"), "--allow: wanted only with --tunnel"),
            ((*tunnel, "--connect", there, "--codec=lz4"), "--codec: wanted only with --via"),
            ((*tunnel, "--connect", there, "--insecure", "--tls-dir", PKI), "--insecure goes without"),
            ((*tunnel, "--connect", there, "--insecure", "--tls-psk"), "--insecure goes without"),
            ((*tunnel, "--connect", there, "--insecure", "--tunnel-allow-name=x"),
             "--insecure goes without"),
            ((*tunnel, "--connect", there, "--tls-psk", "--tunnel-allow-name=x"),
             "--tunnel-allow-name goes with certificates"),
            ((*tunnel, "--connect", there, "--tls-dir", SCRATCH / "no"), "--insecure goes without"),
            ((*tunnel, "--connect", there, "--tls-dir", PKI, "--sessions=-1"), "wanted 1 to 1024"),
            ((*tunnel, "--connect", there, "--tls-dir", PKI, "--cache=much"), "--cache: "),
            ((*tunnel, "--connect", there, "--tls-dir", PKI, "--rate=fast"), "--rate: "),
            ((*tunnel, "--connect", there, "--tls-dir", PKI, "--deadline=1ms"), "wanted 1s to 24h"),
            ((*tunnel, "--connect", there, "--tls-dir", PKI, "--user=no-such-user-here"),
             "user \"no-such-user-here\": "),
            ((*tunnel, "--connect", there, "--tls-dir", PKI, "--user=root"), "is root"),
            (("--tunnel", "systemd", "--connect", there, "--tls-dir", PKI), "gave this process 0"),
            (("--tunnel", "nowhere", "--connect", there, "--tls-dir", PKI), "expected unix:PATH"),
            (("--via", "h", "--insecure"), "--via wants --listen"),
            (("--listen", here, "--via", "", "--insecure"), "an empty address"),
            (("--listen", here, "--via", "a,,b", "--insecure"), "an empty address"),
            (("--listen", here, "--via", "h", "--insecure", "--connections=17"), "wanted 1 to 16"),
            (("--listen", here, "--via", "h", "--insecure", "--codec=rar"), "wanted auto, none")):
        done = qmig("proxy", *args, code=1)
        check(text in done.stderr, f"{args}: \"{text}\" in {done.stderr}")
        check(done.stdout == "", done.stdout)
    check(not os.listdir(RUN), f"no socket is left: {os.listdir(RUN)}")


def carries(*options, warning=False):
    """A test: bytes go both ways, qmig status shows both ends, both end in order."""
    def test():
        def look():
            time.sleep(1)
            listed = json.loads(qmig("status", "--json").stdout)
            roles = sorted(entry["qmig"]["tunnel"]["role"] for entry in listed)
            check(roles == ["far", "near"], f"both are listed: {listed}")
            for entry in listed:
                session = entry["qmig"]["status"]["sessions"][0]
                check(session["state"] == "up" and session["name"] ==
                      f"unix:{SCRATCH}/src@{socket.gethostname()}",
                      f"the session: {session}")
                encrypted = {wire["tls"].partition(",")[0] for wire in session["wires"]}
                check(encrypted == {"none" if warning else "TLSv1.3"}, f"TLS: {session['wires']}")
            text = qmig("status").stdout
            check("tunnel, far end" in text and "tunnel, near end" in text, text)

        with far(*options) as there, destination() as got:
            with near(there, *options, "--json") as here:
                data = b"QEVM\0\0\0\3" + os.urandom(1 << 20)
                check(carry(data, look) == b"bye", "the answer came back")
                check(here.process.wait(DEADLINE_S) == 0, f"near: {here.lines}")
                report = json.loads(here.process.stdout.read())["sessions"][0]
                check(len(data) <= report["plain_bytes"] < len(data) + 4096, f"report: {report}")
            check(b"".join(got) == data, "the bytes are those that were sent")
            for end in (there, here):
                check(any("WARNING: --insecure" in line for line in end.lines) == warning,
                      f"a warning: {end.lines}")
            one = qmig("status", there.process.pid).stdout
            check("connections: " in one and "limits: 16 sessions" in one, one)
            there.end(signal.SIGTERM, 0)
        check(not os.listdir(RUN), f"no socket is left: {os.listdir(RUN)}")
    return test


def strangers_are_refused():
    """Other certificates, other names, no TLS at all: a line each, and the near end is told."""
    with far("--tunnel-allow-name", "*.example.org") as there:
        done = qmig("proxy", "--listen", f"unix:{SCRATCH}/src", "--via",
                    there.where[4:], "--tls-dir", PKI, code=3)
        there.line("certificate is for ")
        check(there.where in done.stderr, done.stderr)
        seen = len(there.lines)
        qmig("proxy", "--listen", f"unix:{SCRATCH}/src", "--via", there.where[4:], "--insecure",
             code=3)
        there.line(": tls: ", seen)
        seen = len(there.lines)
        done = qmig("proxy", "--listen", f"unix:{SCRATCH}/src", "--via", there.where[4:],
                    "--tls-dir", OTHER, code=3)
        check("certificate" in done.stderr, done.stderr)
        there.line(": tls: ", seen)
        check(not (SCRATCH / "src").exists(), "no socket is left")
        gate = json.loads(qmig("status", "--json", there.process.pid).stdout)
        time.sleep(0.6)
        gate = json.loads(qmig("status", "--json", there.process.pid).stdout)
        gate = gate["qmig"]["status"]["gate"]
        check(gate["refused"] == 3 and gate["refused_by"] == {"tls": 3}, f"counted: {gate}")


def wrong_beginnings():
    """What is wrong on this side is exit 1, also where the far end was reached already."""
    taken = SCRATCH / "src"
    with far() as there, socket.socket(socket.AF_UNIX) as other:
        for args, text in ((("--tls-dir", PKI, "--limits", SCRATCH / "no"), f"{SCRATCH}/no"),
                           (("--tls-dir", SCRATCH / "no"), "--insecure goes without"),
                           (("--tls-dir", PKI, "--plugin", "no-such-plugin"), "no-such-plugin")):
            done = qmig("proxy", "--listen", f"unix:{taken}", "--via", there.where[4:], *args,
                        code=1)
            check(text in done.stderr, f"{args}: \"{text}\" in {done.stderr}")
        other.bind(str(taken))
        done = qmig("proxy", "--listen", f"unix:{taken}", "--via", there.where[4:], "--tls-dir",
                    PKI, code=1)
        check(str(taken) in done.stderr and taken.exists(), done.stderr)
    taken.unlink()


def breaks(words, *options):
    """A test: the far end cannot connect on; the near end ends with exit 3, and says why."""
    def test():
        with far() as there, near(there, *options) as here:
            with socket.socket(socket.AF_UNIX) as source:
                source.settimeout(DEADLINE_S)
                source.connect(str(SCRATCH / "src"))
                source.sendall(b"QEVM\0\0\0\3")
                with contextlib.suppress(ConnectionResetError):
                    check(source.recv(1) == b"", "nothing comes back")
            code = here.process.wait(DEADLINE_S)
            check(code == 3, f"near: exit 3, got {code}: {here.lines}")
            line = here.line("broke off: ")
            for word in (*words, "query-migrate"):
                check(word in line, f"\"{word}\" in {line}")
            check("carried" in here.process.stdout.read(), "the report is printed")
    return test


def descriptors():
    """Either end has as many descriptors as the hard limit grants."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    hard = min(hard, 2048) if hard != resource.RLIM_INFINITY else 2048

    def little():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    with far(preexec_fn=little) as there, near(there, preexec_fn=little) as here:
        for end in (there, here):
            limits = resource.prlimit(end.process.pid, resource.RLIMIT_NOFILE)
            check(limits == (hard, hard), f"{end.where}: {limits}")


def reloads():
    """SIGHUP: limits and credentials; what cannot be read changes nothing."""
    limits = SCRATCH / "limits"
    pki = SCRATCH / "reloaded"
    shutil.copytree(PKI, pki)
    limits.write_text("tunnel.sessions = 3\n")
    qmig("proxy", "--tunnel", "tcp:127.0.0.1:0", "--connect", f"unix:{SCRATCH}/dst", "--tls-dir",
         PKI, "--limits", SCRATCH / "no", code=1)

    def sessions(process):
        time.sleep(0.7)
        entry = json.loads(qmig("status", "--json", process.pid).stdout)
        return entry["qmig"]["status"]["limits"]["sessions"]

    with far("--tls-dir", pki, "--limits", limits) as there:
        check(sessions(there.process) == 3, "from the file at the begin")
        for text, words, wanted in (("tunnel.sessions = many\n", "; the old limits stay", 3),
                                    ("tunnel.speed = 1\n", "no limit of that name", 3),
                                    ("throttle.rate = 1M\n", "no plugin is in use", 3),
                                    ("tunnel.cache = 2G\n", "when it is started again", 16)):
            seen = len(there.lines)
            limits.write_text(text)
            there.process.send_signal(signal.SIGHUP)
            there.line(words, seen)
            check(sessions(there.process) == wanted, f"{wanted} after {text}")
        key = (pki / "server-key.pem").read_text()
        (pki / "server-key.pem").write_text("nonsense")
        seen = len(there.lines)
        there.process.send_signal(signal.SIGHUP)
        there.line("; the old credentials stay", seen)
        (pki / "server-key.pem").write_text(key)
        for name in ("ca-cert.pem", "server-cert.pem", "server-key.pem"):
            shutil.copy(OTHER / name, pki)
        there.process.send_signal(signal.SIGHUP)
        sessions(there.process)
        done = qmig("proxy", "--listen", f"unix:{SCRATCH}/src", "--via", there.where[4:],
                    "--tls-dir", PKI, code=3)
        check("certificate" in done.stderr, f"the new certificate is shown: {done.stderr}")
        there.end(signal.SIGTERM, 0)


def leaves():
    """SIGTERM ends what lives, and both sides are told; a near end is stopped with exit 4."""
    with far() as there, destination():
        with near(there) as here, socket.socket(socket.AF_UNIX) as source:
            source.connect(str(SCRATCH / "src"))
            source.sendall(b"QEVM\0\0\0\3")
            time.sleep(0.3)
            there.end(signal.SIGTERM, 0)
            check(any("no new session" in line for line in there.lines), f"{there.lines}")
            code = here.process.wait(DEADLINE_S)
            check(code == 3, f"near: exit 3, got {code}: {here.lines}")
    with far() as there, near(there) as here:
        here.end(signal.SIGTERM, 4)
        check(not (SCRATCH / "src").exists(), "no socket is left")
        there.end(signal.SIGINT, 0)


def last_pass(pages):
    """A migration stream up to the middle of the last pass over memory."""
    def section(kind, head, body):
        return (struct.pack(">BI", kind, 2) + head + body + struct.pack(">Q", 0x10) +
                struct.pack(">BI", 0x7e, 2))

    def page(i):
        return struct.pack(">QB", i << 12 | 0x08, 6) + b"pc.ram" + os.urandom(4096)

    head = struct.pack(">B3sII", 3, b"ram", 0, 4)
    blocks = struct.pack(">QB6sQ", pages << 12 | 0x04, 6, b"pc.ram", pages << 12)
    return (b"QEVM\0\0\0\3" + section(1, head, blocks) +
            section(2, b"", b"".join(map(page, range(pages)))) + section(3, b"", page(0)))


def ends_after_the_switchover():
    """SIGTERM when the source is in its last pass, and the tunnel has no room: nobody ends."""
    def critical(end):
        entry = json.loads(qmig("status", "--json", end.process.pid).stdout)
        return entry["qmig"]["status"]["sessions"][0]["critical"]

    options = ("--rate=100kB/s", "--codec=none", "--cache=0")
    with far() as there, destination(), near(there, *options) as here:
        with socket.socket(socket.AF_UNIX) as source:
            source.connect(str(SCRATCH / "src"))
            source.sendall(last_pass(460))
            time.sleep(1)
            here.process.send_signal(signal.SIGTERM)
            here.line("a guest is changing hosts")
            check(critical(here) and here.process.poll() is None, "it goes on")
            here.end(signal.SIGTERM, 4)


def commands_of_page():
    """Those under "A first tunnel", with this test's places in place of those of the two hosts."""
    page = (TOP / "docs/man/qmig-proxy.pod").read_text(encoding="utf-8")
    section = re.search(r"^=head2 A first tunnel$(.*?)^=head", page, re.MULTILINE | re.DOTALL)[1]
    for theirs, ours in (("/srv/", f"{SCRATCH}/srv/"), ("/run/qemu/", f"{SCRATCH}/qemu/"),
                         ("tcp:0.0.0.0:7117", "tcp:127.0.0.1:0"), ("b.example", "localhost")):
        check(theirs in section, f"{theirs} in {section}")
        section = section.replace(theirs, ours)
    return [shlex.split(line)[1:] for line in section.replace("\\\n", "").splitlines()
            if line.startswith(" qmig ")]


def first_tunnel_of_the_page():
    """What qmig-proxy(1) tells, from no keys to a guest that has moved: by certificates, by a key."""
    (SCRATCH / "qemu").mkdir()
    done, there = [], None
    with contextlib.ExitStack() as ends:
        for args in commands_of_page():
            done.append(args[0])
            if args[0] == "proxy":
                there = ends.enter_context(Proxy(*args[1:]))
            elif args[0] == "migrate":
                args[args.index("localhost")] += ":" + there.where.rpartition(":")[2]
                with two_qemus(SCRATCH / "qemu"):
                    qmig(*args, "--no-journal")
                there.end(signal.SIGTERM, 0)
            else:
                qmig(*args)
    check(done == ["pki", "pki", "pki", "proxy", "migrate", "pki", "proxy", "migrate"], f"{done}")


def command_of_unit():
    """What the example's unit starts, with this test's files in place of that host's."""
    unit = (TOP / "docs/examples/systemd/qmig-tunnel.service").read_text(encoding="utf-8")
    (SCRATCH / "empty").touch()
    command = re.search(r"^ExecStart=/usr/bin/qmig (.*)$", unit, re.MULTILINE)[1]
    for theirs, ours in (("/etc/qmig/pki", PKI), ("/etc/qmig/limits", SCRATCH / "empty"),
                         ("/run/qemu", SCRATCH)):
        check(theirs in command, f"{theirs} in {command}")
        command = command.replace(theirs, str(ours))
    return shlex.split(command)


def under_systemd():
    """A socket at descriptor 3, and somebody who waits for READY=1."""
    with socket.socket() as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        notify.bind(str(SCRATCH / "notify"))
        notify.settimeout(DEADLINE_S)
        start = ("import os, sys; os.dup2(int(sys.argv[1]), 3);"
                 "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
                 "os.execv(sys.argv[2], sys.argv[2:])")
        command = [sys.executable, "-c", start, str(listener.fileno()), QMIG, *command_of_unit()]
        with subprocess.Popen(command, pass_fds=(listener.fileno(),), stderr=subprocess.PIPE,
                              text=True, env={**os.environ,
                                              "NOTIFY_SOCKET": str(SCRATCH / "notify")}) as process:
            try:
                check(notify.recv(64) == b"READY=1", "it is ready")
                there = type("Given", (), {"where": f"tcp:127.0.0.1:{listener.getsockname()[1]}"})
                with destination() as got, near(there, "--connect", f"unix:{SCRATCH}/dst"):
                    carry(b"QEVM\0\0\0\3")
                check(b"".join(got) == b"QEVM\0\0\0\3", "carried")
                process.send_signal(signal.SIGTERM)
                check(notify.recv(64) == b"STOPPING=1", "it is stopping")
                check(process.wait(DEADLINE_S) == 0, f"exit 0: {process.returncode}")
                check("listening on systemd" in process.stderr.read(), "it says where")
            finally:
                process.kill()
        os.unlink(SCRATCH / "notify")


def becomes_a_user():
    """--user: no capability, no root, no new privileges; and it still carries."""
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise Skip("there is no user nobody") from None
    with far("--user", "nobody") as there:
        text = pathlib.Path(f"/proc/{there.process.pid}/status").read_text("ascii")
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        check(status["Uid"].split() == [str(nobody.pw_uid)] * 4, f"Uid: {status['Uid']}")
        check(status["Gid"].split() == [str(nobody.pw_gid)] * 4, f"Gid: {status['Gid']}")
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            check(int(status[name], 16) == 0, f"{name}: {status[name]}")
        check(status["NoNewPrivs"].strip() == "1", "no new privileges")
        for thread in pathlib.Path(f"/proc/{there.process.pid}/task").iterdir():
            lines = (thread / "status").read_text("ascii").splitlines()
            caps = [line for line in lines if line.startswith("CapPrm")]
            check(int(caps[0].split()[1], 16) == 0, f"thread {thread.name}: {caps}")
        SCRATCH.chmod(0o711)
        with destination() as got:
            (SCRATCH / "dst").chmod(0o777)
            with near(there):
                carry(b"QEVM\0\0\0\3")
        check(b"".join(got) == b"QEVM\0\0\0\3", "carried")
        check(str(there.process.pid) in qmig("status").stdout, "root finds it")
        there.end(signal.SIGTERM, 0)


def socket_files():
    """A far end on a unix socket leaves none, and takes nobody else's."""
    path = SCRATCH / "door"
    args = ("--tunnel", f"unix:{path}", "--connect", f"unix:{SCRATCH}/dst", "--insecure")
    with Proxy(*args) as there:
        check(stat.S_ISSOCK(path.stat().st_mode), "the socket is there")
        with destination() as got, Proxy("--listen", f"unix:{SCRATCH}/src", "--via",
                                         f"unix:{path}", "--insecure"):
            carry(b"QEVM\0\0\0\3")
        check(b"".join(got) == b"QEVM\0\0\0\3", "carried")
        done = qmig("proxy", *args, code=1)
        check(str(path) in done.stderr and path.exists(), done.stderr)
        there.end(signal.SIGTERM, 0)
    check(not path.exists(), "the socket is gone")


TESTS = [
    ("options that do not go together are exit 1", wrong_options),
    ("by certificates: both ends carry, show themselves and end", carries()),
    ("in the clear: a warning, and the same", carries("--insecure", warning=True)),
    ("by pre-shared keys: the same", carries("--tls-psk", "--tls-dir", SCRATCH / "psk")),
    ("strangers are refused, and told in the log", strangers_are_refused),
    ("what cannot be used at the begin is exit 1", wrong_beginnings),
    ("nobody listens over there: exit 3, with the reason", breaks((f"{SCRATCH}/dst",))),
    ("a destination that is not allowed: exit 3, with the reason",
     breaks(("may not connect to", f"{SCRATCH}/other.sock", "--allow"),
            "--connect", f"unix:{SCRATCH}/other.sock")),
    ("both ends raise their limit of descriptors", descriptors),
    ("SIGHUP: limits and credentials are read again", reloads),
    ("SIGTERM: sessions are ended, both ends say how", leaves),
    ("SIGTERM in the last pass: it is waited for", ends_after_the_switchover),
    ("the first tunnel of the man page", first_tunnel_of_the_page),
    ("systemd: what the unit starts, its socket, READY=1, STOPPING=1", under_systemd),
    ("--user: nothing of root is left", becomes_a_user),
    ("a unix socket is made and removed", socket_files),
]


def main():
    """Run them all."""
    for args in (("all", PKI, "--host", "127.0.0.1"), ("all", OTHER, "--host", "127.0.0.1"),
                 ("psk", SCRATCH / "psk")):
        qmig("pki", *args)
    run_tests(TESTS)


if __name__ == "__main__":
    main()
