#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
qmig stream pipe without guests: recorded streams through pipes that give them in any pieces,
damage, cuts, keys, idle inputs, readers that go away, two ways. TAP on stdout.
"""
import contextlib
import importlib.util
import json
import os
import pathlib
import random
import re
import select
import shlex
import signal
import socket
import subprocess
import threading
import time

SPEC = importlib.util.spec_from_file_location("cli", pathlib.Path(__file__).with_name("test-cli.py"))
cli = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cli)
check, scratch = cli.check, cli.scratch

GOLDEN = cli.TOP / "tests/golden"
STREAMS = sorted(path.stem for path in GOLDEN.glob("*.zst"))
HEADER, HEAD = 40, 16
PIPE = [cli.QMIG, "stream", "pipe"]
CLEAR_MARK = 8
RANDOM = random.Random(5)


def golden(name):
    """A recorded stream."""
    return subprocess.run(["zstd", "-dcq", str(GOLDEN / f"{name}.zst")], capture_output=True,
                          check=True).stdout


def key_in(folder, name="key"):
    """A key file."""
    (folder / name).write_bytes(os.urandom(32))
    return f"--key={folder / name}"


def start(*args, **options):
    """A running pipe."""
    return subprocess.Popen([*PIPE, *map(str, args)],
                            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE,
                               "stderr": subprocess.PIPE, **options})


def run(*args, data=b"", timeout=60, **options):
    """(exit code, stdout, stderr)."""
    with start(*args, **options) as process:
        out, err = process.communicate(data, timeout=timeout)
    return process.returncode, out, err.decode()


def good(*args, data=b"", **options):
    """stdout of a pipe that ends well."""
    code, out, err = run(*args, data=data, **options)
    check(code == 0 and err == "", f"{shlex.join(map(str, args))}: exit {code}: {err}")
    return out


def read_some(file, n, timeout=10):
    """@n bytes that must come while the input stays open."""
    data, deadline = b"", time.monotonic() + timeout
    while len(data) < n:
        ready, _, _ = select.select([file], [], [], max(0, deadline - time.monotonic()))
        check(ready, f"{n} bytes are there, not {len(data)}")
        piece = os.read(file.fileno(), n - len(data))
        check(piece, f"{n} bytes before the end, not {len(data)}")
        data += piece
    return data


def in_pieces(data, *args):
    """Through a pipe that is given pieces of any length, with pauses."""
    with start(*args) as process:
        def feed():
            view = memoryview(data)
            pause_at = {RANDOM.randrange(40) for _ in range(4)}
            for number in range(10 ** 9):
                if not view:
                    break
                n = RANDOM.choice((1, 7, 1000, 4096, 70000))
                process.stdin.write(view[:n])
                process.stdin.flush()
                view = view[n:]
                if number in pause_at:
                    time.sleep(0.02)
            process.stdin.close()
        feeder = threading.Thread(target=feed)
        feeder.start()
        out = process.stdout.read()
        feeder.join()
        err = process.stderr.read().decode()
        check(process.wait() == 0, err)
    return out


def records(coded, mark):
    """(start, end) of each record."""
    at, found = HEADER, []
    while at < len(coded):
        end = at + HEAD + int.from_bytes(coded[at + 8:at + 12], "big") + mark
        found.append((at, end))
        at = end
    check(at == len(coded), "the records fill it")
    return found


# ---- what goes in comes out -------------------------------------------------------------------

def streams_come_back():
    """All recorded streams, in any pieces, with each codec and cipher."""
    with scratch() as folder:
        key = key_in(folder)
        ways = ([], ["--codec=none"], ["--codec=lz4", "--threads=3"], ["--codec=zstd", "--level=5"],
                [key], [key, "--cipher=chacha20-poly1305", "--codec=lz4"])
        for number, name in enumerate(STREAMS):
            stream = golden(name)
            for way in (ways[number % len(ways)], ways[(number + 3) % len(ways)]):
                coded = in_pieces(stream, *way)
                check(coded.startswith(b"QMIGPIPE"), "the magic")
                plain = in_pieces(coded, "--decode", *[word for word in way if word == key])
                check(plain == stream, f"{name} {way}")


def any_bytes():
    """No migration stream, nothing at all, much more than the ring holds."""
    large = os.urandom(1 << 20) * 12
    for data in (b"", b"x", b"QEV", large):
        for options in (["--codec=zstd"], ["--threads=4"]):
            coded = good(*options, data=data)
            check(good("--decode", data=coded) == data, f"{len(data)} bytes {options}")
    check(len(good("--codec=lz4", data=bytes(8 << 20))) < 100000, "zeros cost nothing")
    check(len(good(data=large)) < len(large) * 1.01, "noise costs next to nothing")


def files_are_packed():
    """Into a file, however fast the disk is, what is left is small."""
    with scratch() as folder:
        with open(folder / "file", "wb") as file:
            run(data=b"line of a text\n" * 500000, stdout=file)
        packed = (folder / "file").read_bytes()
        check(len(packed) < 100000, f"{len(packed)} bytes")
        check(len(good("--decode", data=packed)) == 7500000, "it comes back")


def plain_passes():
    """--decode passes on what nobody encoded, but not with a key."""
    stream = golden(STREAMS[0])
    check(good("--decode", data=stream) == stream, "a plain stream")
    check(in_pieces(stream, "--decode") == stream, "in pieces")
    check(good("--decode", data=b"QMIGSAVE") == b"QMIGSAVE", "a near miss")
    with scratch() as folder:
        key = key_in(folder)
        for data in (stream, good(data=stream)):
            code, out, err = run("--decode", key, data=data)
            check(code == 3 and out == b"" and "not encrypted, and there is a key" in err, err)
        code, out, err = run("--decode", data=good(key, data=stream))
        check(code == 3 and out == b"" and "a key is needed (--key)" in err, err)


def idle_input_is_passed():
    """What is there is handed on at once, byte by byte, though the input stays open."""
    with scratch() as folder:
        key = key_in(folder)
        for options, mark in (([], CLEAR_MARK), ([key], 16)):
            with start(*options) as encode, start("--decode", *options,
                                                   stdin=encode.stdout) as decode:
                for piece in (b"x", b"QEVM" * 10, b"y" * 5000):
                    encode.stdin.write(piece)
                    encode.stdin.flush()
                    check(read_some(decode.stdout, len(piece)) == piece, f"{piece[:4]} {mark}")
                encode.stdin.close()
                check(decode.stdout.read() == b"", "the end")
                check(decode.wait() == 0 and encode.wait() == 0, "both end well")
    with start("--decode") as plain:
        plain.stdin.write(b"QE")
        plain.stdin.flush()
        check(read_some(plain.stdout, 2) == b"QE", "a plain beginning is not held back either")
        plain.stdin.close()


# ---- what is wrong is told --------------------------------------------------------------------

def damage_is_told():
    """Flipped bytes, cuts, records missing, twice, exchanged: exit 3, the place; what came before
    it is given, nothing behind it."""
    stream = golden("7.2-return-path")
    with scratch() as folder:
        key = key_in(folder)
        for options, mark in (([], CLEAR_MARK), ([key], 16)):
            coded = good(*options, "--codec=lz4", "--rate=2MiB/s", data=stream)
            found = records(coded, mark)
            check(len(found) > 3, f"some records: {len(found)}")
            parts = [coded[a:b] for a, b in found]

            def bad(data, what):
                code, out, err = run("--decode", *options, data=data)
                check(code == 3 and stream.startswith(out), f"{what}: {code}, {len(out)}: {err}")
                check("at byte " in err or "header" in err, f"{what}: {err}")
                return out

            for at in [9, 20, 39, *[RANDOM.randrange(40, len(coded)) for _ in range(12)]]:
                out = bad(coded[:at] + bytes([coded[at] ^ 0x10]) + coded[at + 1:], f"flip at {at}")
                check(out != stream or at >= found[-1][0], f"not all at {at}")
            for at in (0, 5, 39, 40, found[1][0], found[1][0] + 3, found[2][1] - 1,
                       found[-1][0], len(coded) - 1):
                bad(coded[:at], f"cut at {at}")
            head = coded[:HEADER]
            bad(head + b"".join(parts[1:]), "the first is missing")
            out = bad(head + b"".join(parts[:2] + parts[1:]), "one twice")
            check(out, "what was before is given")
            bad(head + b"".join([parts[0], parts[2], parts[1], *parts[3:]]), "exchanged")
            bad(head + b"".join(parts[:-2] + parts[-1:]), "the last but one is missing")
            bad(coded + coded, "two streams")
            other = good(*options, "--codec=lz4", data=stream)
            bad(head + other[HEADER:], "records of another stream")
            bad(other[:HEADER] + coded[HEADER:], "header of another stream")


def another_key():
    """The wrong key gives nothing."""
    with scratch() as folder:
        coded = good(key_in(folder), data=b"secret" * 100)
        check(b"secret" not in coded, "it is encrypted")
        code, out, err = run("--decode", key_in(folder, "other"), data=coded)
        check(code == 3 and out == b"" and "another key" in err, err)
        cli.Run("pki", "psk", str(folder / "psk"), "--user=me").expect(0)
        coded = good(f"--key={folder / 'psk'}", "--key-user=me", data=b"x")
        check(good("--decode", f"--key={folder / 'psk/keys.psk'}", "--key-user=me",
                   data=coded) == b"x", "a key of qmig pki")


def wrong_usage():
    """Exit 1, the value, nothing on stdout."""
    with scratch() as folder:
        (folder / "short").write_bytes(b"abc")
        for args, text in (
                (["--codec=rar"], "\"rar\", wanted auto, lz4, zstd or none"),
                (["--level=3"], "--level is for --codec=zstd"),
                (["--codec=lz4", "--level=3"], "--level is for --codec=zstd"),
                (["--threads=0"], "--threads=0: wanted 1 to"),
                (["--threads=1000"], "--threads=1000: wanted 1 to"),
                (["--timeout=0"], "--timeout=0: out of range"),
                (["--rate=fast"], "--rate: "),
                (["--rate=1"], "--rate=1: wanted 1000"),
                (["--cipher=aes-256-gcm"], "need --key"),
                (["--key-user=me"], "need --key"),
                ([f"--key={folder / 'short'}"], "has 3 bytes"),
                ([f"--key={folder / 'absent'}"], "absent"),
                ([key_in(folder), "--cipher=rot13"], "\"rot13\", wanted aes-256-gcm or"),
                (["--encode", "--decode"], "exclude each other"),
                (["--connect=unix:/x", "--listen=unix:/y"], "exclude each other"),
                (["--connect=unix:/x", "--", "cat"], "exclude each other"),
                (["--connect=nowhere"], "expected unix:PATH"),
                (["--connect=tcp:127.0.0.1:1"], "wants --key, or --insecure"),
                (["--report=fd:99"], "no open descriptor"),
                (["--report=fd:x"], "no open descriptor")):
            code, out, err = run(*args)
            check(code == 1 and out == b"" and text in err, f"{args}: {code} {err}")


def reader_goes_away():
    """Nobody reads any more: exit 3, though the input is idle or endless."""
    for options in ([], ["--decode"]):
        with start(*options, "--codec=none") as process:
            process.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                for _ in range(200):
                    process.stdin.write(b"x" * 10000)
                    process.stdin.flush()
                    time.sleep(0.005)
            check(process.wait(timeout=10) == 3, "exit 3")
            check(b"stdout" in (err := process.stderr.read()), err)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
    with open("/dev/full", "wb") as full:
        code, _, err = run(data=b"x" * 1000000, stdout=full)
    check(code == 3 and "No space left" in err, f"{code} {err}")


def signals_end_it():
    """SIGTERM: exit 4, and the other side sees a cut."""
    with start() as encode, start("--decode", stdin=encode.stdout) as decode:
        encode.stdin.write(b"abc")
        encode.stdin.flush()
        check(read_some(decode.stdout, 3) == b"abc", "it runs")
        encode.stdout.close()
        encode.send_signal(signal.SIGTERM)
        check(encode.wait(timeout=10) == 4, "exit 4")
        check(decode.wait(timeout=10) == 3, "the reader is told")
        check(b"cut at byte" in (err := decode.stderr.read()), err)
        encode.stdin.close()


def memory_is_bounded():
    """A reader that stops: no more is taken than the ring holds, and memory stays what it was."""
    for options in (["--codec=none"], ["--codec=zstd", "--threads=2"]):
        with start(*options) as process:
            os.set_blocking(process.stdin.fileno(), False)
            taken, noise, quiet_since = 0, os.urandom(1 << 16), time.monotonic()
            while time.monotonic() - quiet_since < 0.5 and taken < 1 << 28:
                try:
                    taken += os.write(process.stdin.fileno(), noise)
                    quiet_since = time.monotonic()
                except BlockingIOError:
                    time.sleep(0.01)
            check(taken < 8 << 20, f"{taken} bytes were taken")
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1])
            check(peak < 48 << 10, f"{peak} KiB of memory")
            process.kill()


# ---- rate, report -----------------------------------------------------------------------------

def rate_is_kept():
    """--rate: in no second more, and all together as much."""
    data = os.urandom(3 << 20)
    with start("--rate=1MiB/s", "--codec=none") as process:
        feeder = threading.Thread(target=lambda: (process.stdin.write(data), process.stdin.close()))
        feeder.start()
        began, seen = time.monotonic(), []
        while piece := os.read(process.stdout.fileno(), 1 << 16):
            seen.append((time.monotonic() - began, len(piece)))
        took = time.monotonic() - began
        feeder.join()
    check(2.7 < took < 6, f"3 MiB in {took} s")
    for at, _ in seen:
        second = sum(n for t, n in seen if at <= t < at + 1)
        # A reader that is late finds more at once: what a pipe holds.
        check(second <= (1 << 20) * 1.03 + (1 << 16), f"{second} bytes from {at:.2f} s on")


def report_is_documented():
    """--report: at the end and on SIGUSR1, to a file and a descriptor; every member documented."""
    stream = golden("7.2-return-path")
    page = (cli.MAN / "qmig-stream.pod").read_text(encoding="utf-8")
    told = re.search(r"^I<pipe>: (.*?)\n\n", page[page.index("=head1 JSON"):],
                     re.MULTILINE | re.DOTALL)[1]
    wanted = set(re.findall(r"C<(\w+)>", told))
    values = {"none", "lz4", "zstd", "running", "done", "failed", "cancelled"}
    with scratch() as folder:
        path = folder / "report"
        coded = good(f"--report={path}", data=stream)
        report = json.loads(path.read_text())
        there = {*report, *report["encoded"]}
        check(there <= wanted, f"there and not documented: {sorted(there - wanted)}")
        absent = wanted - there - values - {"error"}
        check(not absent, f"documented and absent: {sorted(absent)}")
        flow = report["encoded"]
        check(report["outcome"] == "done" and report["decoded"] is None, report)
        check(flow["bytes_in"] == len(stream) and flow["bytes_out"] == len(coded), flow)
        check(flow["stream"]["pages"]["normal"] > 0 and flow["stream"]["complete"] == 1, flow)
        check(flow["stream"]["iteration"] >= 1 and flow["stream_note"] is None, flow)
        code, _, err = run("--decode", f"--report={path}", data=coded[:-1])
        report = json.loads(path.read_text())
        check(code == 3 and report["outcome"] == "failed", report)
        check(report["error"]["code"] == "closed" and report["error"]["message"] in err, report)
        good(f"--report={path}", data=b"GET / HTTP/1.1")
        note = json.loads(path.read_text())["encoded"]["stream_note"]
        check(note == "no migration stream", note)
        good(f"--report={path}", data=b"Quite another thing")
        check(json.loads(path.read_text())["encoded"]["stream_note"], "why it looked no further")
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reports:
        with start(f"--report=fd:{write_end}", pass_fds=[write_end]) as process:
            os.close(write_end)
            process.stdin.write(stream[:50000])
            process.stdin.flush()
            read_some(process.stdout, HEADER)
            deadline, taken = time.monotonic() + 10, 0
            while taken != 50000:
                check(time.monotonic() < deadline, f"50000 bytes, not {taken}")
                process.send_signal(signal.SIGUSR1)
                report = json.loads(reports.readline())
                check(report["outcome"] == "running", report)
                taken = report["encoded"]["bytes_in"]
            process.communicate()
        check(json.loads(reports.readline())["outcome"] == "done", "and at the end")


# ---- two ways ---------------------------------------------------------------------------------

def reach(path):
    """A connection to it: it may have its name and not yet listen."""
    deadline = time.monotonic() + 10
    while True:
        plain = socket.socket(socket.AF_UNIX)
        try:
            plain.connect(str(path))
            return plain
        except OSError:
            plain.close()
            check(time.monotonic() < deadline, f"{path} listens")
            time.sleep(0.01)


def told_off(connection):
    """It is closed by the other side."""
    connection.settimeout(15)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1000):
            pass


def talk(a, b):
    """Each says something, hears the other, and ends."""
    for number in range(3):
        for one, other in ((a, b), (b, a)):
            words = b"%d" % number * 1000
            one.stdin.write(words)
            one.stdin.flush()
            check(read_some(other.stdout, len(words)) == words, "what was said is heard")
    a.stdin.close()
    check(b.stdout.read() == b"", "the end is heard")
    b.stdin.write(b"last words")
    b.stdin.close()
    check(a.stdout.read() == b"last words", "the other half speaks on")
    check(a.wait(timeout=10) == 0 and b.wait(timeout=10) == 0, "both end well")


def both_ways():
    """--connect and --listen: both halves, each ended by itself."""
    with scratch() as folder:
        key = key_in(folder)
        for options in ([], [key], [key, "--cipher=chacha20-poly1305"]):
            place = f"unix:{folder / 'socket'}"
            with start(f"--listen={place}", *options) as b:
                with start(f"--connect={place}", *options) as a:
                    talk(a, b)
            check(not (folder / "socket").exists(), "the socket is removed")


def by_a_command():
    """A COMMAND instead of a socket, and on its side --decode with a plain socket: nobody is
    connected before there is something to say."""
    with scratch() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "plain"))
        listener.listen()
        listener.settimeout(0.5)
        with start("--", *PIPE, "--decode", f"--connect=unix:{folder / 'plain'}") as a:
            with contextlib.suppress(TimeoutError):
                listener.accept()
                check(False, "a connection before there are bytes")
            listener.settimeout(10)
            a.stdin.write(b"QEVM")
            a.stdin.flush()
            plain, _ = listener.accept()
            with plain:
                check(plain.recv(4, socket.MSG_WAITALL) == b"QEVM", "plain bytes")
                plain.sendall(b"answer")
                check(read_some(a.stdout, 6) == b"answer", "the answer")
                a.stdin.close()
                check(plain.recv(1) == b"", "the end")
                plain.shutdown(socket.SHUT_WR)
                check(a.stdout.read() == b"" and a.wait(timeout=15) == 0, a.stderr.read())
    code, _, err = run("--", "false", data=b"x")
    check(code == 3 and "false: exit status 1" in err, f"{code} {err}")
    code, _, err = run("--", "/nonexistent/x", data=b"x")
    check(code == 3 and "/nonexistent/x" in err, f"{code} {err}")
    code, _, err = run("--", "cat", data=b"x")
    check(code == 3 and "sends back what it is sent" in err, f"{code} {err}")


def strangers_are_refused():
    """Who has no key is told off, and the listener waits on; who has another one too."""
    with scratch() as folder:
        key, place = key_in(folder), f"unix:{folder / 'socket'}"
        with start(f"--listen={place}", key) as b:
            with reach(folder / "socket") as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100)
                told_off(stranger)
            for options, text in (([], "give both the same"), ([key_in(folder, "other")], "")):
                code, out, err = run(f"--connect={place}", *options, data=b"evil")
                check(code == 3 and out == b"" and text in err, f"{code} {err}")
            with start(f"--connect={place}", key) as a:
                talk(a, b)
            err = b.stderr.read().decode()
            check(err.count("a connection was refused") == 3, err)
            check("another key" in err, err)
        with start(f"--listen={place}", key) as b:
            with reach(folder / "socket") as mirror:
                first = mirror.recv(HEADER, socket.MSG_WAITALL)
                mirror.sendall(first)
                told_off(mirror)
            b.terminate()
            err = b.stderr.read().decode()
            check(b.wait(timeout=10) == 4 and "sends back what it is sent" in err, err)
            b.stdin.close()


def broken_link():
    """The other program dies: exit 3, at both ends of both ways."""
    with scratch() as folder:
        place = f"unix:{folder / 'socket'}"
        for victim in (0, 1):
            with start(f"--listen={place}") as b:
                with start(f"--connect={place}") as a:
                    a.stdin.write(b"x")
                    a.stdin.flush()
                    read_some(b.stdout, 1)
                    killed, other = ((a, b), (b, a))[victim]
                    killed.kill()
                    check(other.wait(timeout=10) == 3, "exit 3")
                    check(b"cut at byte" in (err := other.stderr.read()), err)
                    for process in (a, b):
                        with contextlib.suppress(BrokenPipeError):
                            process.stdin.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(folder / "socket")
    code, _, err = run("--connect=unix:/nonexistent/socket", "--timeout=1", data=b"x")
    check(code == 3 and "/nonexistent/socket" in err, f"{code} {err}")
    with scratch() as folder:
        code, _, err = run(f"--listen=unix:{folder / 's'}", "--timeout=1", data=b"x")
        check(code == 3 and "unix:" in err, f"{code} {err}")
        check(not (folder / "s").exists(), "the socket is removed")


cli.TESTS[:] = [
    ("recorded streams come back, in any pieces", streams_come_back),
    ("so does anything else", any_bytes),
    ("into a file it is packed", files_are_packed),
    ("plain input passes, but not where a key is", plain_passes),
    ("an idle input is handed on at once", idle_input_is_passed),
    ("damage and cuts: the place, and nothing behind it", damage_is_told),
    ("another key gives nothing", another_key),
    ("wrong usage is refused", wrong_usage),
    ("a reader that goes away", reader_goes_away),
    ("a signal ends it, and the reader is told", signals_end_it),
    ("a reader that stops: memory is bounded", memory_is_bounded),
    ("--rate is kept", rate_is_kept),
    ("--report: members, SIGUSR1, file and descriptor", report_is_documented),
    ("two ways: both halves", both_ways),
    ("two ways by a command", by_a_command),
    ("two ways: strangers are refused, the listener stays", strangers_are_refused),
    ("two ways: a link that breaks", broken_link),
]

if __name__ == "__main__":
    cli.main()
