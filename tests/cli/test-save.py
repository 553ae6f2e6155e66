#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
qmig save and qmig restore without guests: recorded streams through files and pipes, damage, wrong
usage. TAP on stdout.
"""
import importlib.util
import json
import os
import pathlib
import shlex
import signal
import subprocess
import time

SPEC = importlib.util.spec_from_file_location("cli", pathlib.Path(__file__).with_name("test-cli.py"))
cli = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cli)
check, Run, scratch = cli.check, cli.Run, cli.scratch

GOLDEN = cli.TOP / "tests/golden"
WHOLE = ("7.2-return-path", "7.2-q35-no-return-path", "11.1-return-path", "11.1-xbzrle",
         "11.1-ignore-shared")


def golden(name):
    """A recorded stream."""
    return subprocess.run(["zstd", "-dcq", str(GOLDEN / f"{name}.zst")], capture_output=True,
                          check=True).stdout


def qmig(*args, data=b"", timeout=60):
    """(exit code, stdout, stderr) of qmig with @data on stdin; bytes, but for stderr."""
    done = subprocess.run([cli.QMIG, *map(str, args)], input=data, capture_output=True,
                          timeout=timeout, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def good(*args, data=b""):
    """stdout of a qmig that ends well."""
    code, out, err = qmig(*args, data=data)
    check(code == 0, f"qmig {shlex.join(map(str, args))}: exit {code}: {err}")
    return out


def saved(folder, stream, *options):
    """A save file of @stream."""
    path = folder / "x.qmig"
    good("save", *options, "-", path, data=stream)
    return path


def streams_come_back():
    """Recorded streams of real QEMUs: file and pipe give the same bytes, for each codec."""
    for name in WHOLE:
        stream = golden(name)
        with scratch() as folder:
            for options in ((), ("--codec=lz4",), ("--codec=none", "--threads=1"),
                            ("--level=-5",), ("--level=19", "--threads=3")):
                path = saved(folder, stream, *options)
                check(good("restore", path, "-") == stream, f"{name} {options}: from the file")
                check(good("restore", "-", "-", data=path.read_bytes()) == stream,
                      f"{name} {options}: from a pipe")
                check(os.listdir(folder) == ["x.qmig"], f"{os.listdir(folder)}")
            check(path.stat().st_size < len(stream), f"{name}: it is smaller")
            packed = good("save", "-", "-", data=stream)
            check(good("restore", "-", "-", "--threads=1", data=packed) == stream,
                  f"{name}: through two pipes")


def plain_streams_pass():
    """restore of a plain stream to stdout gives it as it is, also from an offset."""
    stream = golden(WHOLE[0])
    check(good("restore", "-", "-", data=stream) == stream, "from a pipe")
    with scratch() as folder:
        plain, packed = folder / "plain", saved(folder, stream)
        plain.write_bytes(stream)
        for offset in (0, 1, 7, 4096, len(stream) // 2, len(stream) - 1, len(stream)):
            for path in (plain, packed):
                check(good("restore", path, "-", f"--offset={offset}") == stream[offset:],
                      f"{path.name} from {offset}")
                check(good("restore", "-", "-", f"--offset={offset}",
                           data=path.read_bytes()) == stream[offset:], f"a pipe from {offset}")
        for path in (plain, packed):
            code, out, err = qmig("restore", path, "-", f"--offset={len(stream) + 1}")
            check(code == 3 and out == b"" and "beyond the stream's end" in err, f"{code}: {err}")


def unfinished_streams_are_refused():
    """A stream that was cut never becomes a file; what a file had before stays."""
    stream = golden(WHOLE[0])
    with scratch() as folder:
        path = folder / "x.qmig"
        path.write_bytes(b"older")
        for length in (0, 1, 100, len(stream) // 2, len(stream) - 1):
            code, out, err = qmig("save", "-", path, data=stream[:length])
            check(code == 3 and out == b"", f"{length} bytes: exit 3, got {code}: {err}")
            check("the stream is not proven whole: " in err, err)
            check(os.listdir(folder) == ["x.qmig"] and path.read_bytes() == b"older",
                  f"the older file stays: {os.listdir(folder)}")
        code, packed, err = qmig("save", "-", "-", data=stream[:-1])
        check(code == 3, f"to a pipe: exit 3, got {code}: {err}")
        code, out, err = qmig("restore", "-", "-", data=packed)
        check(code == 3 and len(out) < len(stream) and "never completed" in err, err)
        code, _, err = qmig("save", "-", path, data=b"GET / HTTP/1.1\r\n\r\n" * 10)
        check(code == 3 and "offset 0" in err, f"garbage: {code}: {err}")
        check(os.listdir(folder) == ["x.qmig"], "nothing is left")


def damage_is_told():
    """Cuts and flipped bytes of a file: exit 3, the place; never the whole stream."""
    stream = golden(WHOLE[0])
    with scratch() as folder:
        path = saved(folder, stream)
        whole = path.read_bytes()
        for at in (3, 30, 50, 60, 200, len(whole) // 2, len(whole) - 300, len(whole) - 20):
            for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1:]):
                path.write_bytes(damaged)
                for args, data in (((path, "-"), b""), (("-", "-"), damaged)):
                    code, out, err = qmig("restore", *args, data=data)
                    check(code == 3 and out != stream and stream.startswith(out),
                          f"byte {at} of {args}: {code}: {err}")
                    check("file offset " in err or "begins neither" in err, err)


def report_is_documented():
    """--json has the members of the page."""
    stream = golden(WHOLE[0])
    with scratch() as folder:
        report = json.loads(good("save", "--json", "-", folder / "x", data=stream))
        check_members(report, "save")
        check(report["outcome"] == "done" and report["proof"] == "decoded", report)
        check(report["stream_bytes"] == len(stream), report)
        check(report["file_bytes"] == (folder / "x").stat().st_size, report)
        check(report["machine"].startswith("pc-") and report["pages"]["normal"] > 0, report)
        code, out, err = qmig("restore", "--json", folder / "x", "-")
        check(code == 0 and out == stream, err)
        check_members(json.loads(err), "restore")
        code, out, err = qmig("save", "--json", "-", folder / "y", data=b"QEVM")
        report = json.loads(out)
        check(code == 3 and report["outcome"] == "failed" and report["exit_code"] == 3, out)
        check(report["error"]["code"] == "protocol" and report["error"]["message"] in err, out)
        check_members(report, "save")


def check_members(report, command):
    """Every member is documented, and all that are always there are there."""
    wanted = cli.documented_members("qmig-save", command)
    there = cli.paths_of(report)
    check(there <= wanted, f"there and not documented: {sorted(there - wanted)}")
    check(wanted - there <= {"error"}, f"documented and absent: {sorted(wanted - there)}")


def wrong_values_are_refused():
    """Exit 1, and the message repeats them."""
    cases = [(("save", "--codec=rar"), "\"rar\", wanted zstd, lz4 or none"),
             (("save", "--threads=-1"), "--threads: -1 is out of range"),
             (("save", "--format=qcow2"), "\"qcow2\", wanted qmig or mapped-ram"),
             (("save", "--parallel-connections=2"), "is for --format=mapped-ram"),
             (("save", "--format=mapped-ram", "--codec=lz4"), "is not compressed"),
             (("save", "--continue", "--quit"), "exclude each other"),
             (("restore", "--paused", "--run"), "exclude each other"),
             (("restore", "--offset=5"), "--offset is for stdout"),
             (("restore", "--threads=1000"), "1000 is out of range"),
             (("restore", "--parallel-connections=-4"), "-4 is out of range")]
    for (command, *options), text in cases:
        done = Run(command, *options, "/nonexistent/a", "/nonexistent/b").expect(1, text)
        check(done.out == "", f"nothing on stdout: {done}")
    Run("save", "nowhere", "/x").expect(1, "expected unix:PATH")
    for option in ("--live", "--quit", "--continue"):
        Run("save", option, "-", "/nonexistent/b").expect(1, "need a QMP socket")
    for args in (("-", "/x"), ("/nonexistent/a", "-")):
        Run("save", "--format=mapped-ram", *args).expect(1, "QEMU writes that file itself")
    for option in ("--paused", "--run", "--parallel-connections=2"):
        Run("restore", option, "/x", "-").expect(1, "need a QMP socket")


def unreachable_is_named():
    """No QMP, no file, no folder: refused, and nothing is made."""
    with scratch() as folder:
        Run("save", f"{folder}/qmp", f"{folder}/x").expect(2, f"unix:{folder}/qmp", "No such file")
        Run("save", "tcp:127.0.0.1:1", f"{folder}/x").expect(2, "must be a unix socket")
        Run("restore", f"{folder}/x", f"{folder}/qmp").expect(2, f"{folder}/x: open: No such file")
        Run("save", "-", f"{folder}/no/x").expect(3, f"{folder}/no/x: create beside it: No such")
        check(not os.listdir(folder), f"nothing is made: {os.listdir(folder)}")
        for number, (serve, text, _) in enumerate(cli.BAD_PEERS):
            with cli.Peer(folder / f"p{number}", serve) as peer:
                done = Run("save", str(peer.path), f"{folder}/x").expect(2, "QEMU: ", text)
                check(done.seconds < cli.DEADLINE_S, f"in time: {done}")
        check(not (folder / "x").exists(), "no file")


def other_files_are_refused():
    """A file of something else, and a QEMU that does not wait for a guest: exit 2."""
    with cli.real_qemu() as (first, _), scratch() as folder:
        (folder / "other").write_bytes(b"#!/bin/sh\necho hello\n")
        Run("restore", f"{folder}/other", first).expect(2, "begins neither with \"QMIGSAVE\"")
        path = saved(folder, golden(WHOLE[0]))
        Run("restore", str(path), first).expect(2, "its state is \"running\", wanted \"inmigrate\"")
        path.write_bytes(path.read_bytes()[:-1])
        Run("restore", str(path), first).expect(2, "trailer at file offset ")
        check(json.loads(Run("status", "--json", first).out)["running"] is True, "it runs on")


def full_device_is_told():
    """What cannot be written is told; a device is never renamed over."""
    code, _, err = qmig("save", "-", "/dev/full", data=golden(WHOLE[0]))
    check(code == 3 and "No space left on device" in err, f"{code}: {err}")
    check(os.path.exists("/dev/full") and not os.path.isfile("/dev/full"), "it is a device still")
    good("save", "-", "/dev/null", data=golden(WHOLE[0]))
    check(not os.path.isfile("/dev/null"), "it is a device still")


def lost_reader_is_told():
    """Who reads stdout goes away: exit 3, no signal."""
    stream = golden(WHOLE[0]) * 1
    with scratch() as folder:
        path = saved(folder, stream)
        for args, data in ((("restore", str(path), "-"), None), (("save", "-", "-"), stream)):
            reader, writer = os.pipe()
            os.close(reader)
            done = subprocess.run([cli.QMIG, *args], input=data, stdout=writer,
                                  stderr=subprocess.PIPE, timeout=20, check=False)
            os.close(writer)
            check(done.returncode == 3 and b"Broken pipe" in done.stderr, done)


def signals_end_it():
    """SIGINT, SIGTERM, SIGHUP while stdin is silent, and while nobody reads: exit 4, no file."""
    stream = golden(WHOLE[0])
    with scratch() as folder:
        big = saved(folder, stream)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for args in (["save", "-", f"{folder}/y"], ["restore", "-", "-"],
                         ["restore", str(big), "-"]):
                process = subprocess.Popen([cli.QMIG, *args], stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                if "-" in args[1]:
                    process.stdin.write(stream[:1000])
                    process.stdin.flush()
                time.sleep(0.3)
                process.send_signal(number)
                code = process.wait(10)
                process.communicate()
                check(code == 4, f"{args}: exit 4, got {code}")
                check(os.listdir(folder) == ["x.qmig"], f"{os.listdir(folder)}")


cli.TESTS[:] = [
    ("recorded streams come back from files and pipes, for each codec", streams_come_back),
    ("plain streams pass, from any offset", plain_streams_pass),
    ("streams that were cut never become a file", unfinished_streams_are_refused),
    ("damage of a file is told with its place", damage_is_told),
    ("--json has the documented members", report_is_documented),
    ("wrong values are exit 1 before anything is contacted", wrong_values_are_refused),
    ("what cannot be reached is named, and nothing is made", unreachable_is_named),
    ("other files, other QEMUs are exit 2", other_files_are_refused),
    ("what cannot be written is told; devices stay devices", full_device_is_told),
    ("a reader that goes away is told", lost_reader_is_told),
    ("signals end it, and no file is left", signals_end_it),
]

if __name__ == "__main__":
    cli.main()
