#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The command line, without guests: help and man pages agree, wrong usage is told, peers that are
absent, hang, lie or close end in a documented exit code within a deadline. TAP on stdout.
"""
import atexit
import contextlib
import fcntl
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

from tap import Skip, check, run_tests  # noqa: E402

QMIG = os.environ.get("QMIG", str(TOP / "build/cli/qmig"))
MAN = TOP / "docs/man"
PAGES = {"migrate": "qmig-migrate", "check": "qmig-check", "options": "qmig-options",
         "recover": "qmig-recover",
         "proxy": "qmig-proxy", "save": "qmig-save",
         "restore": "qmig-save", "status": "qmig-status",
         "watch": "qmig-status", "cancel": "qmig-status", "pause": "qmig-status",
         "postcopy": "qmig-status", "set": "qmig-status", "caps": "qmig-status",
         "stream": "qmig-stream", "pki": "qmig-pki",
         "plugins": "qmig-plugins"}
DEADLINE_S = 10
# Running migrations of others are none of this test's.
os.environ["QMIG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="qmig-cli-run-")
atexit.register(shutil.rmtree, os.environ["QMIG_RUNTIME_DIR"], ignore_errors=True)
USAGE_ERRORS = ("Unknown option", "is no command", "arguments given", "are both needed",
                "wanted ", "Missing argument", "Cannot parse", "no plugin", "no parameter",
                "is no number", "unknown unit", "expected unix:PATH", "neither a capability")


class Run:
    """A finished `qmig`, and how long it took."""

    def __init__(self, *args, timeout=30, env=None):
        start = time.monotonic()
        done = subprocess.run([QMIG, *args], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout, check=False,
                              env={**os.environ, **(env or {})})
        self.seconds = time.monotonic() - start
        self.args, self.code, self.out, self.err = args, done.returncode, done.stdout, done.stderr

    def __str__(self):
        return (f"qmig {shlex.join(self.args)}: exit {self.code} after {self.seconds:.1f} s\n"
                f"stdout: {self.out}stderr: {self.err}")

    def expect(self, code, *texts):
        """Exit @code, and all @texts on stderr."""
        check(self.code == code, f"exit {code}: {self}")
        for text in texts:
            check(text in self.err, f"\"{text}\" on stderr: {self}")
        return self


@contextlib.contextmanager
def scratch():
    """A private directory for sockets, short enough for their names."""
    with tempfile.TemporaryDirectory(prefix="qmig-cli-") as path:
        yield pathlib.Path(path)


# ---- help, usage ------------------------------------------------------------------------------

def help_is_printed():
    """--help of all: stdout, exit 0, at most 80 columns."""
    wanted = [("--help",), ("-h",), ("help",), *((name, "--help") for name in PAGES),
              *(("help", name) for name in PAGES)]
    for args in wanted:
        done = Run(*args).expect(0)
        check(done.out != "" and done.err == "", f"help is on stdout alone: {done}")
        wide = [line for line in done.out.splitlines() if len(line) > 80]
        check(not wide, f"at most 80 columns: {wide}")
    listed = re.findall(r"^  (\w+)", Run("--help").out, re.MULTILINE)
    check(listed == list(PAGES), f"the commands are those of the man pages: {listed}")
    check(re.fullmatch(r"qmig \d+\.\d+\.\d+\n", Run("--version").expect(0).out), "--version")


def wrong_usage_is_refused():
    """Exit 1, a message on stderr, nothing on stdout."""
    cases = [((), "usage:"), (("",), "usage:"), (("no-such",), "\"no-such\" is no command"),
             (("--no-such",), "is no command"), (("help", "no-such"), "is no command")]
    for name in PAGES:
        cases.append(((name, "--no-such"), "Unknown option --no-such"))
    cases += [((name,), "0 arguments given") for name in ("migrate", "watch", "cancel", "pause",
                                                          "postcopy", "set", "caps")]
    cases += [(("migrate", "/a"), "1 arguments given"),
              (("migrate", "/a", "/b", "/c"), "3 arguments given"),
              (("proxy", "/a"), "1 arguments given"), (("status", "/a", "/b"), "2 arguments"),
              (("cancel", "/a", "/b"), "2 arguments"), (("caps", "/a", "/b"), "2 arguments"),
              (("set", "/a"), "1 arguments given")]
    for args, text in cases:
        done = Run(*args).expect(1, text)
        check(done.out == "", f"nothing on stdout: {done}")


WRONG_VALUES = [
    (("--progress=loud",), "\"loud\", wanted auto, tty, plain, json or none"),
    (("--set=downtime-limit",), "\"downtime-limit\", wanted NAME=VALUE"),
    (("--set==5",), "\"=5\", wanted NAME=VALUE"),
    (("--timeout=5parsecs",), "unknown unit \"parsecs\""),
    (("--timeout=soon",), "\"soon\" is no number"),
    (("--timeout=-5s",), "\"-5s\" is no number"),
    (("--parallel-connections=many",), "\"many\" is no whole number"),
    (("--parallel-connections=0",), "0 is out of range 1 to 255"),
    (("--bandwidth=5parsecs",), "max-bandwidth: rate: unknown unit \"parsecs\""),
    (("--downtime=-1ms",), "\"-1ms\" is no number"),
    (("--comp-xbzrle-cache=1",), "out of range"),
    (("--set=xbzrle=on",), "\"xbzrle\" is a capability"),
    (("--cap=downtime-limit",), "\"downtime-limit\" is a parameter"),
    (("--comp-methods=lz4",), "\"lz4\", wanted xbzrle, mt, zlib, zstd, qatzip, qpl or"),
    (("--comp-methods=zlib,zstd",), "multifd-compression would be \"zstd\", and by"),
    (("--comp-zlib-level=1", "--comp-methods=zstd"), "multifd-compression would be"),
    (("--comp-zlib-level=10",), "multifd-zlib-level: 10 is out of range 0 to 9"),
    (("--comp-mt-threads=0",), "compress-threads: 0 is out of range 1 to 255"),
    (("--compressed", "--parallel"),
     "xbzrle (--compressed) does not go with multifd (--parallel)"),
    (("--comp-methods=xbzrle,zstd",), "xbzrle (--comp-methods) does not go with multifd"),
    (("--comp-xbzrle-cache=5000000",), "5000000 bytes are not a power of two"),
    (("--zerocopy", "--comp-methods=zstd"), "zero-copy-send (--zerocopy) does not go"),
    (("--dirty-limit", "--auto-converge"), "does not go with auto-converge"),
    (("--throttle-max=10", "--auto-converge-initial=30"), "is less than"),
    (("--cap=release-ram",), "release-ram (--cap) needs postcopy-ram"),
    (("--release-ram",), "--release-ram needs --postcopy or --postcopy-after-precopy"),
    (("--timeout-suspend",), "--timeout-suspend needs --timeout"),
    (("--timeout=1s", "--timeout-suspend", "--timeout-postcopy"),
     "--timeout-suspend does not go with --timeout-postcopy"),
    (("--p2p",), "--p2p: it takes an agent on the host"),
    (("--tunnelled",), "--tunnelled: it takes an agent on the host"),
    (("--mapped-ram",), "use qmig save --mapped-ram FILE"),
    (("--offline",), "--offline needs --definition"),
    (("--offline", "--live"), "--live does not go with --offline"),
    (("--definition=/x",), "--definition needs --persistent or --undefinesource"),
    (("--postcopy-resume", "--parallel"), "--postcopy-resume does not go with --parallel"),
    (("--persistent",), "--persistent needs --definition-to"),
    (("--rdma-pin-all",), "--rdma-pin-all needs --migrateuri"),
    (("--migrateuri=rdma:192.0.2.1:1",), "no proxy can stand in RDMA: add --direct"),
    (("--p2p", "--release-ram", "--comp-methods=lz4"), "agent"),
    (("--p2p", "--release-ram", "--comp-methods=lz4"), "--release-ram needs"),
    (("--p2p", "--release-ram", "--comp-methods=lz4"), "\"lz4\", wanted"),
    (("--migrateuri=nowhere",), "\"nowhere\": expected unix:PATH, tcp:HOST:PORT"),
    (("--listen=tcp:localhost",), "\"tcp:localhost\": no port"),
    (("--listen=unix:/" + "x" * 200,), "wanted 1 to 107"),
    (("--direct", "--plugin=null"), "--direct goes without proxy"),
    (("--direct", "--listen=/tmp/x"), "--direct goes without proxy"),
    (("--direct", "--record=/tmp/x"), "--direct goes without proxy")]


def wrong_values_are_refused():
    """Values that can be judged without a QEMU: exit 1, and the message repeats them."""
    for options, text in WRONG_VALUES:
        done = Run("migrate", *options, "/nonexistent/a", "/nonexistent/b").expect(1, text)
        check(done.out == "", f"nothing on stdout: {done}")
    for address in ("nowhere", "tcp:1:2:3", "tcp:localhost:x", "tcp:localhost:70000", "unix:"):
        for args in (("status", "--qmp", address), ("migrate", address, "/b"), ("caps", address)):
            Run(*args).expect(1, "address: ")
    for args in (("status", "vm1"), ("watch", "vm1"), ("cancel", "vm1"), ("pause", "vm1"),
                 ("postcopy", "vm1"), ("set", "vm1", "bandwidth=1G")):
        Run(*args).expect(1, "\"vm1\": no running qmig migrate is of that name")
    Run("watch", "--progress=json", "vm1").expect(1, "\"json\", wanted auto, tty or plain")


# ---- man pages ----------------------------------------------------------------------------------

def stream_subcommands():
    """Those of `qmig stream`."""
    return re.findall(r"^  (\w+) ", Run("stream", "--help").out, re.MULTILINE)


def help_options(command):
    """The long options in --help; of a command with subcommands those of all."""
    if command == "stream":
        texts = [Run("stream", name, "--help").out for name in stream_subcommands()]
        return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", "\n".join(texts), re.MULTILINE))
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", Run(command, "--help").out, re.MULTILINE))


def page_options(command):
    """The long options in =item lines of OPTIONS; of this command where a page has several."""
    text = (MAN / f"{PAGES[command]}.pod").read_text(encoding="utf-8")
    options = re.search(r"^=head1 OPTIONS$(.*?)^=head1 ", text, re.MULTILINE | re.DOTALL)[1]
    if "=head2" in options:
        options = re.search(rf"^=head2 qmig {command}$(.*?)(?=^=head2|\Z)", options,
                            re.MULTILINE | re.DOTALL)[1]
    items = "".join(re.findall(r"^=item .*$", options, re.MULTILINE))
    return set(re.findall(r"B<(--[\w-]+)>", items))


def pages_have_every_option():
    """--help and OPTIONS name the same options."""
    for command in PAGES:
        listed, documented = help_options(command), page_options(command)
        check("--help" in listed, f"{command} --help was understood: {listed}")
        check(listed == documented,
              f"{command}: only in --help: {sorted(listed - documented)}, only in "
              f"{PAGES[command]}.pod: {sorted(documented - listed)}")


def documented_members(page, command=None):
    """The members of the report, as C<name> in =item lines of REPORT; of @command where a page has
    several."""
    text = (MAN / f"{page}.pod").read_text(encoding="utf-8")
    report = re.search(r"^=head1 REPORT$(.*?)^=head1 ", text, re.MULTILINE | re.DOTALL)[1]
    if command is not None:
        report = re.search(rf"^=head2 qmig {command}$(.*?)(?=^=head2|\Z)", report,
                           re.MULTILINE | re.DOTALL)[1]
    items = "".join(re.findall(r"^=item .*$", report, re.MULTILINE))
    return set(re.findall(r"C<([\w.]+)>", items))


def has_member(report, path):
    """Is a.b there?"""
    for part in path.split("."):
        if not isinstance(report, dict) or part not in report:
            return False
        report = report[part]
    return True


def paths_of(report):
    """Members as the page names them: groups of figures by their leaves, all else by its top."""
    paths = set()
    for name, value in report.items():
        if name in ("ms", "ram") or (name == "error" and "where" in value):
            paths |= {f"{name}.{leaf}" for leaf in value}
        else:
            paths.add(name)
    return paths


def check_report(report, page):
    """Every documented member is there, and no other."""
    wanted, there = documented_members(page), paths_of(report)
    missing = {path for path in wanted if not has_member(report, path)}
    check(not missing, f"documented and absent: {sorted(missing)}")
    check(there <= wanted, f"there and not documented: {sorted(there - wanted)}")


# ---- examples -----------------------------------------------------------------------------------

def join_lines(lines):
    """Continuation lines as one."""
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def example_lines():
    """(where, command line) of every example that begins with qmig."""
    for page in sorted(MAN.glob("*.pod")):
        examples = re.search(r"^=head1 EXAMPLES$(.*?)^=head1 ",
                             page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]
        for line in join_lines(examples.splitlines()):
            if line.startswith(" qmig "):
                yield page.name, line.strip()
    fenced, inside = [], False
    for line in (TOP / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside:
            fenced.append(line)
    for line in join_lines(fenced):
        if re.match(r"(\$ )?(build/cli/)?qmig ", line):
            yield "README.md", re.sub(r"^(\$ )?(build/cli/)?", "", line)


def examples_parse():
    """Every example is understood: with sockets that are not there it fails, but not by usage."""
    seen = {}
    with scratch() as path:
        for where, line in example_lines():
            seen[where] = seen.get(where, 0) + 1
            line = re.split(r" [<>|] ", line)[0]     # the shell's part
            args = [re.sub(r"tcp:192\.0\.2\.\d+:\d+", "tcp:127.0.0.1:1", word)
                    for word in shlex.split(line, comments=True)[1:]]
            args = [re.sub(r"(?<![\w.])/(run|tmp|srv)/", f"{path}/", word) for word in args]
            args = [f"{path}/{word}" if word in ("SRC", "DST") else word for word in args]
            if args[0] == "proxy":
                parsed_proxy(path, args, f"{where}: {line}")
                continue
            done = Run(*args)
            check(not any(text in done.err for text in USAGE_ERRORS), f"{where}: {line}\n{done}")
            check(args[0] != "migrate" or done.code == 2, f"{where}: {line}\n{done}")
    wanted = {"README.md", *(page.name for page in MAN.glob("*.pod"))}
    check(set(seen) == wanted, f"examples were found in all of {sorted(wanted)}: {seen}")


def parsed_proxy(path, args, where):
    """A `qmig proxy` of an example gets as far as listening."""
    for option, value in zip(args, args[1:]):
        if option in ("--listen", "--connect") and value.startswith("unix:"):
            os.makedirs(os.path.dirname(value[len("unix:"):]), exist_ok=True)
    # The addresses of examples are not this host's.
    args = [word.replace("tcp:127.0.0.1:1", "tcp:127.0.0.1:0") for word in args]
    check(path.exists(), "the scratch directory is there")
    if "--tls-dir" in args and "--tls" not in args:
        pki = pathlib.Path(args[args.index("--tls-dir") + 1])
        if not pki.exists():
            Run("pki", "all", str(pki), "--host", "far.example").expect(0)
    if any(word.startswith("guard:accepts=") for word in args):
        Run(*args).expect(1, "vm1.accepts: ")   # the command before it was not to write it here
        return
    if "--via" in args:
        args[args.index("--via") + 1] = "127.0.0.1:1"
        Run(*args).expect(3, "tcp:127.0.0.1:1: ")
        return
    with Proxy(*args[1:]) as proxy:
        check(proxy.listening(), f"{where}: {proxy.err}")
        proxy.end(signal.SIGTERM)
        wanted = 0 if "--tunnel" in args else 4
        check(proxy.code == wanted, f"{where}: exit {wanted}, got {proxy.code}: {proxy.err}")


# ---- QMP peers ----------------------------------------------------------------------------------

class Peer:
    """A scripted QMP peer on a unix socket: serve(connection) for each one that comes."""

    def __init__(self, path, serve):
        self.path, self.serve, self.held = path, serve, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        """Accept until the listener is shut."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.held.append(connection)
            with contextlib.suppress(OSError):
                self.serve(connection)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.held:
            connection.close()
        self.thread.join(5)


GREETING = (b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, '
            b'"capabilities": ["oob"]}}\r\n')


def hang(_connection):
    """Accepts, says nothing."""


def lie(connection):
    """Greets in no language of QMP."""
    connection.sendall(b"220 smtp.example ESMTP\r\n")


def close(connection):
    """Closes at once."""
    connection.close()


def greet_and_hang(connection):
    """A greeting, and no answer to anything."""
    connection.sendall(GREETING)


def greet_and_lie(connection):
    """A greeting, and an answer that says not to what."""
    connection.sendall(GREETING)
    connection.recv(4096)
    connection.sendall(b'{"return": {}}\r\n')


def greet_and_close(connection):
    """A greeting, and the end."""
    connection.sendall(GREETING)
    connection.recv(4096)
    connection.shutdown(socket.SHUT_RDWR)


BAD_PEERS = [(hang, "no QMP greeting in time", "timeout"), (lie, "220 smtp.example ESMTP", "protocol"),
             (close, "closed its QMP connection", "closed"),
             (greet_and_hang, "no reply to qmp_capabilities", "timeout"),
             (greet_and_lie, "reply without an id", "protocol"),
             (greet_and_close, "closed its QMP connection", "closed")]


def unreachable_is_named():
    """Nobody listens: exit code, side and address; with --json the documented object."""
    with scratch() as path:
        for source in (f"unix:{path}/src", "tcp:127.0.0.1:1"):
            done = Run("migrate", "--json", source, f"unix:{path}/dst")
            done.expect(2, "begin: source: ", source, "Nothing was ")
            report = json.loads(done.out)
            check_report(report, "qmig-migrate")
            check(report["outcome"] == "refused" and report["exit_code"] == 2 and
                  report["guest"] == "source" and report["phase"] == "begin", done)
            check(report["error"]["code"] == "io", done)
            check(report["error"]["side"] == "source", done)
            for member in ("message", "where", "next"):
                check(report["error"][member] in done.err, f"{member} is on stderr: {done}")
            check(report["source"]["qmp"] == source, done)
        for args in (("status",), ("status", "--json"), ("cancel",), ("caps",),
                     ("caps", "--json"), ("set", None, "max-bandwidth=1G")):
            words = [args[0], *(w for w in args[1:] if w and "=" not in w), f"{path}/none",
                     *(w for w in args[1:] if w and "=" in w)]
            done = Run(*words).expect(1, f"qmig {args[0]}: ", f"unix:{path}/none", "No such file")
            check(done.out == "", f"nothing on stdout: {done}")


def bad_source_ends_migrate():
    """A source that hangs, lies or closes: exit 2, told as the source, within the deadline."""
    with scratch() as path:
        for number, (serve, text, code) in enumerate(BAD_PEERS):
            with Peer(path / f"src{number}", serve) as peer:
                done = Run("migrate", "--json", str(peer.path), f"{path}/dst")
            done.expect(2, "begin: source: ", text, "Nothing was ")
            check(json.loads(done.out)["error"]["code"] == code, f"code {code}: {done}")
            check(done.seconds < DEADLINE_S, f"within {DEADLINE_S} s: {done}")


def bad_peer_ends_status():
    """The same with the commands for one QEMU: exit 1."""
    with scratch() as path:
        for number, (serve, text, _) in enumerate(BAD_PEERS):
            command = ("status", "caps", "cancel")[number % 3]
            with Peer(path / f"p{number}", serve) as peer:
                done = Run(command, str(peer.path))
            done.expect(1, f"qmig {command}: QEMU: ", text)
            check(done.out == "", f"nothing on stdout: {done}")
            check(done.seconds < DEADLINE_S, f"within {DEADLINE_S} s: {done}")


def signal_ends_hanging_migrate():
    """SIGINT while a source hangs: exit 4 at once, nothing touched."""
    with scratch() as path, Peer(path / "src", hang) as peer:
        with subprocess.Popen([QMIG, "migrate", "--json", str(peer.path), f"{path}/dst"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as process:
            check("begin" in process.stderr.readline(), "it has begun")
            while not peer.held:
                time.sleep(0.01)
            start = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        check(process.returncode == 4, f"exit 4, got {process.returncode}: {err}")
        check(time.monotonic() - start < 2, "at once")
        report = json.loads(out)
        check(report["outcome"] == "cancelled" and report["guest"] == "source", out)


def lost_reader_ends_nothing():
    """Nobody reads stderr any more: no signal ends a migration halfway; the exit code stays."""
    with scratch() as path:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run([QMIG, "migrate", f"{path}/src", f"{path}/dst"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=writer, timeout=20, check=False)
        finally:
            os.close(writer)
        check(done.returncode == 2, f"exit 2, got {done.returncode}")


# ---- the proxy alone ----------------------------------------------------------------------------

class Proxy:
    """A started `qmig proxy`."""

    def __init__(self, *args):
        self.process = subprocess.Popen([QMIG, "proxy", *args], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        self.code, self.out, self.err = None, "", ""

    def listening(self):
        """Wait for the line that tells the address. Return: the address, "" when it ended."""
        self.err = self.process.stderr.readline()
        return self.err[len("listening on "):].strip() if self.err.startswith("listening on ") \
            else ""

    def end(self, number=None):
        """Send a signal, if any, and wait."""
        if number is not None:
            self.process.send_signal(number)
        self.out, err = self.process.communicate(timeout=20)
        self.err += err
        self.code = self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def proxy_needs_addresses():
    """Without --listen or --connect, or with a plugin that says no: exit 1, no socket."""
    with scratch() as path:
        there, here = f"--connect=unix:{path}/out", f"--listen=unix:{path}/in"
        for args, text in (((), "--listen and --connect"), ((here,), "--listen and --connect"),
                           ((there,), "--listen and --connect"),
                           ((here, there, "--plugin=no-such"), "no plugin \"no-such\""),
                           ((here, there, "--plugin=stats:no=1"), "no parameter \"no\""),
                           ((f"--listen={path}/no/in", there), f"unix:{path}/no/in: bind")):
            done = Run("proxy", *args).expect(1, text)
            check(done.out == "", f"nothing on stdout: {done}")
            check(not os.listdir(path), f"no socket is left: {os.listdir(path)}")


def proxy_refuses_garbage():
    """A source that is no QEMU: exit 3, the message shows its bytes, the socket is gone."""
    with scratch() as path, Proxy("--json", f"--listen=unix:{path}/in",
                                  f"--connect=unix:{path}/out") as proxy:
        check(proxy.listening() == f"unix:{path}/in", proxy.err)
        check(stat.S_ISSOCK(os.stat(path / "in").st_mode), "the socket is there")
        with socket.socket(socket.AF_UNIX) as source:
            source.connect(str(path / "in"))
            source.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
            proxy.end()
        check(proxy.code == 3, f"exit 3, got {proxy.code}: {proxy.err}")
        check("source: first connection: it begins with 47 45 54 20" in proxy.err, proxy.err)
        check(not os.listdir(path), f"no socket is left: {os.listdir(path)}")
        report = json.loads(proxy.out)
        check_report(report, "qmig-proxy")
        check(report["state"] == "failed" and report["error"]["code"] == "protocol", proxy.out)


def proxy_names_lost_destination():
    """A source with a good beginning and a destination that is not there: exit 3, side named."""
    with scratch() as path, Proxy(f"--listen=unix:{path}/in",
                                  f"--connect=unix:{path}/out") as proxy:
        check(proxy.listening(), proxy.err)
        with socket.socket(socket.AF_UNIX) as source:
            source.connect(str(path / "in"))
            source.sendall(b"QEVM\0\0\0\3")
            proxy.end()
        check(proxy.code == 3, f"exit 3, got {proxy.code}: {proxy.err}")
        check(f"destination: main channel: unix:{path}/out: " in proxy.err, proxy.err)
        check(not os.listdir(path), f"no socket is left: {os.listdir(path)}")


def proxy_ends_on_signals():
    """SIGTERM, SIGINT and SIGHUP: exit 4, the socket is gone; also while a source is connected."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for connected in (False, True):
            with scratch() as path, Proxy(f"--listen=unix:{path}/in",
                                          f"--connect=unix:{path}/out") as proxy:
                check(proxy.listening(), proxy.err)
                with socket.socket(socket.AF_UNIX) as source:
                    if connected:
                        source.connect(str(path / "in"))
                    proxy.end(number)
                check(proxy.code == 4, f"exit 4, got {proxy.code}: {proxy.err}")
                check("stopped by a signal" in proxy.err, proxy.err)
                check(not os.listdir(path), f"no socket is left: {os.listdir(path)}")


def proxy_reloads_its_limits():
    """--limits: read at the begin and on SIGHUP; a bad file is told, and the proxy goes on."""
    with scratch() as path:
        limits = path / "limits"
        args = (f"--listen=unix:{path}/in", f"--connect=unix:{path}/out", f"--limits={limits}")
        Run("proxy", *args, "--plugin=throttle").expect(1, f"{limits}: No such file")
        limits.write_text("# nothing yet\n\nthrottle.rate = fast\n")
        Run("proxy", *args, "--plugin=throttle").expect(1, f"{limits}:3: plugin throttle: rate=fast")
        limits.write_text("throttle.rate=1M\n")
        Run("proxy", *args).expect(1, f"{limits}:1: plugin throttle is not in use here")
        check(os.listdir(path) == ["limits"], f"no socket is left: {os.listdir(path)}")
        with Proxy(*args, "--plugin=throttle") as proxy:
            check(proxy.listening(), proxy.err)
            for text, want in (
                    ("throttle.rate = 2Gbit\n throttle.burst=1M", "limits read anew: 2\n"),
                    ("throttle.rate\n", f"qmig proxy: {limits}:1: \"throttle.rate\", wanted "
                                        "PLUGIN.KEY or tunnel.KEY = VALUE; the old limits stay\n"),
                    ("throttle.rate = 1\nstats.x = 1", f"qmig proxy: {limits}:2: plugin stats is "
                                                       "not in use here"),
                    ("throttle.rate = 1\n" * 9999, f"qmig proxy: {limits}: not a text of less"),
                    ("throttle.rate = none\n", "limits read anew: 1\n")):
                limits.write_text(text)
                proxy.process.send_signal(signal.SIGHUP)
                got = proxy.process.stderr.readline()
                check(got.startswith(want), f"{got!r}, wanted {want!r}")
            limits.unlink()
            proxy.process.send_signal(signal.SIGHUP)
            check("No such file" in proxy.process.stderr.readline(), "a missing file is told")
            proxy.end(signal.SIGTERM)
            check(proxy.code == 4, f"exit 4, got {proxy.code}: {proxy.err}")


def proxy_records_nothing():
    """A capture never goes over something, and one without a connection leaves nothing."""
    with scratch() as path:
        os.mkdir(path / "used")
        (path / "used" / "file").touch()
        addresses = f"--listen=unix:{path}/in", f"--connect=unix:{path}/out"
        Run("proxy", *addresses, f"--record={path}/used").expect(1, "a new or empty directory")
        Run("proxy", *addresses, f"--record={path}/no/new").expect(1, "No such file")
        with Proxy(*addresses, f"--record={path}/new") as proxy:
            check(proxy.listening() and (path / "new" / "timeline.jsonl").exists(), proxy.err)
            proxy.end(signal.SIGTERM)
        check(os.listdir(path) == ["used"], f"nothing is left: {os.listdir(path)}")


def replay_reads_its_input_first():
    """What is no capture, or damaged, is exit 1; a destination that is not there is exit 3."""
    with scratch() as path:
        to = f"--to=unix:{path}/in"
        Run("stream", "replay", "/nonexistent").expect(1, "--to is needed")
        Run("stream", "replay", "/nonexistent", "--to=nowhere").expect(1, "expected unix:PATH")
        Run("stream", "replay", "/nonexistent", to).expect(1, "/nonexistent")
        Run("stream", "replay", str(path), to).expect(1, "no capture")
        Run("stream", "replay", str(path), to, "--timeout=-1").expect(1, "out of range")
        (path / "0-main.forward").write_bytes(b"QEVM\0\0\0\3")
        (path / "timeline.jsonl").write_text("{}\n")
        Run("stream", "replay", str(path), to).expect(1, "timeline.jsonl:1: no ")
        (path / "timeline.jsonl").unlink()
        done = Run("stream", "replay", str(path), to, "--json").expect(3, "main channel: unix:")
        check(json.loads(done.out)["loaded"] is False, done.out)


def proxy_tells_its_port():
    """tcp port 0: the line on stderr has the port, and somebody listens there."""
    with Proxy("--listen=tcp:127.0.0.1:0", "--connect=tcp:127.0.0.1:1") as proxy:
        port = int(proxy.listening().rpartition(":")[2])
        check(port > 0, f"a port: {proxy.err}")
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        proxy.end(signal.SIGTERM)
        check(proxy.code == 4, f"exit 4, got {proxy.code}: {proxy.err}")


# ---- journals ---------------------------------------------------------------------------------

def recover_finds_journals():
    """By either side, however its address is written; what is behind a tunnel is another's."""
    with scratch() as path:
        directory = path / "qmig"
        directory.mkdir()
        journal = directory / "20260101T000000.000000-vm1-1.journal"
        journal.write_text(json.dumps({"n": 0, "step": "begin",
                                       "source": {"qmp": "unix:/nonexistent/src"},
                                       "destination": {"qmp": "via:unix:/nonexistent/dst"}}) + "\n",
                           encoding="utf-8")
        env = {"XDG_STATE_HOME": str(path)}
        with journal.open("r+", encoding="utf-8") as held:
            fcntl.flock(held, fcntl.LOCK_EX)      # found is enough: nothing is to be touched
            for target in ("/nonexistent/src", "unix:/nonexistent/src", "via:/nonexistent/dst",
                           "via:unix:/nonexistent/dst", str(journal)):
                Run("recover", target, env=env).expect(2, str(journal), "still runs")
            for target in ("/nonexistent/dst", "via:/nonexistent/src"):
                Run("recover", target, env=env).expect(1, "no journal in ")
            for target in ("via:", "via:nowhere", "nowhere"):
                Run("recover", target, env=env).expect(1, f"\"{target}\" is no file, and: ")


# ---- a real QEMU ---------------------------------------------------------------------

@contextlib.contextmanager
def real_qemu(*options):
    """A QEMU without machine, with two QMP sockets; yields their paths."""
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise Skip("qemu-system-x86_64 is not here")
    with scratch() as path:
        paths = [path / "qmp1", path / "qmp2"]
        command = [qemu, "-machine", "none", "-nodefaults", "-display", "none", *options]
        for each in paths:
            command += ["-qmp", f"unix:{each},server=on,wait=off"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as process:
            try:
                for _ in range(200):
                    if all(each.exists() for each in paths) or process.poll() is not None:
                        break
                    time.sleep(0.05)
                check(process.poll() is None, f"QEMU runs: {process.returncode}")
                yield [str(each) for each in paths]
            finally:
                process.kill()


def status_of_real_qemu():
    """As text and as JSON; the guest is left as it was."""
    with real_qemu() as (first, second):
        done = Run("status", first).expect(0)
        check(re.search(r"^guest +running$", done.out, re.MULTILINE), str(done))
        check(re.search(r"^migration +none$", done.out, re.MULTILINE), str(done))
        report = json.loads(Run("status", "--json", second).expect(0).out)
        check(set(report) == {"guest", "running", "migration", "qmig"}, report)
        check(report["guest"] == "running" and report["running"] is True, report)
        Run("cancel", first).expect(1, "no migration is running")


def caps_of_real_qemu():
    """Every capability and parameter QEMU lists is there, with its value."""
    with real_qemu() as (first, _):
        report = json.loads(Run("caps", "--json", first).expect(0).out)
        check(report["capabilities"]["xbzrle"] is False, report)
        check(isinstance(report["parameters"]["max-bandwidth"], int), report)
        text = Run("caps", first).expect(0).out
        for name in (*report["capabilities"], *report["parameters"]):
            check(re.search(rf"^  {name} ", text, re.MULTILINE), f"{name} is in:\n{text}")


def set_of_real_qemu():
    """Units are understood; of several pairs none is set when one is wrong."""
    with real_qemu() as (first, second):
        def parameters():
            return json.loads(Run("caps", "--json", second).expect(0).out)["parameters"]

        done = Run("set", first, "max-bandwidth=1Gbit", "downtime-limit=1.5s").expect(0)
        check(done.out == "" and done.err == "", f"silent: {done}")
        check(parameters()["max-bandwidth"] == 125000000, parameters())
        check(parameters()["downtime-limit"] == 1500, parameters())
        before = parameters()
        for pair, text in (("max-bandwidth=5parsecs", "unknown unit \"parsecs\""),
                           ("max-bandwidth", "\"max-bandwidth\", wanted NAME=VALUE"),
                           ("=5", "\"=5\", wanted NAME=VALUE"),
                           ("no-such=1", "no-such: neither a capability nor a parameter"),
                           ("multifd-channels=1000", "out of range 1 to 255"),
                           ("multifd-compression=rar", "\"rar\" is none of: none")):
            Run("set", first, "downtime-limit=7ms", pair).expect(1, text)
            check(parameters() == before, f"{pair}: nothing was set: {parameters()}")


def check_of_real_qemus():
    """Two QEMUs that do not fit: exit 2, all problems told at once, no setting changed."""
    with real_qemu() as (first, again), real_qemu("-S") as (other, there):
        before = [Run("caps", "--json", each).expect(0).out for each in (again, there)]
        done = Run("migrate", "--json", "--cap=no-such", "--set=nor-this=1",
                   "--cap=x-colo", first, other)
        done.expect(2, "wanted \"inmigrate\"", "no-such", "nor-this", "x-colo",
                    "Nothing was ")
        report = json.loads(done.out)
        check_report(report, "qmig-migrate")
        check(report["phase"] == "check" and report["source"]["machine"] == "none", done.out)
        after = [Run("caps", "--json", each).expect(0).out for each in (again, there)]
        check(before == after, "no setting was changed")


TESTS = [
    ("help is on stdout, within 80 columns, for every command", help_is_printed),
    ("unknown commands, options and wrong numbers of arguments are exit 1", wrong_usage_is_refused),
    ("wrong values are exit 1 before anything is contacted", wrong_values_are_refused),
    ("every option is in its man page, and the reverse", pages_have_every_option),
    ("every example of README and man pages parses", examples_parse),
    ("an unreachable QMP is named with side and address; --json has its members",
     unreachable_is_named),
    ("a source that hangs, lies or closes ends migrate in time", bad_source_ends_migrate),
    ("a QEMU that hangs, lies or closes ends status, caps and cancel in time",
     bad_peer_ends_status),
    ("a signal ends a migrate whose source hangs", signal_ends_hanging_migrate),
    ("a reader of stderr that goes away does not end migrate", lost_reader_ends_nothing),
    ("proxy without address or with a bad plugin is exit 1", proxy_needs_addresses),
    ("proxy: garbage from the source is exit 3, and no socket is left", proxy_refuses_garbage),
    ("proxy: a destination that is not there is exit 3 and named", proxy_names_lost_destination),
    ("proxy: SIGTERM, SIGINT and SIGHUP are exit 4, and no socket is left", proxy_ends_on_signals),
    ("proxy: --limits is read again on SIGHUP, and a bad file is told", proxy_reloads_its_limits),
    ("proxy: tells the port the kernel chose", proxy_tells_its_port),
    ("proxy: --record wants a new place, and leaves none empty", proxy_records_nothing),
    ("stream replay: reads its input before it connects", replay_reads_its_input_first),
    ("recover finds a journal by the address of either side", recover_finds_journals),
    ("status of a real QEMU", status_of_real_qemu),
    ("caps of a real QEMU lists all it has", caps_of_real_qemu),
    ("set of a real QEMU understands units, and sets all or nothing", set_of_real_qemu),
    ("migrate of real QEMUs that do not fit is exit 2 and touches nothing", check_of_real_qemus),
]


def main():
    """Run them as TAP; exit 1 when one failed."""
    run_tests(TESTS)


if __name__ == "__main__":
    main()
