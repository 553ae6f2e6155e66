#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
qmig stream on recorded streams of real QEMUs, without guests: every subcommand, text and JSON,
files, pipes, captures and save files, damage. TAP on stdout.
"""
import hashlib
import importlib.util
import json
import pathlib
import subprocess

SPEC = importlib.util.spec_from_file_location("cli", pathlib.Path(__file__).with_name("test-cli.py"))
cli = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cli)
check, scratch = cli.check, cli.scratch

GOLDEN = cli.TOP / "tests/golden"
FILES = sorted(path.stem for path in GOLDEN.glob("*.zst"))
CAPTURES = sorted(path.name for path in (GOLDEN / "captures").iterdir() if path.is_dir())
MIB = 1 << 20
# Shared memory does not travel; the main channel alone has not what multifd carried.
ELSEWHERE = ("11.1-ignore-shared", "11.1-multifd")


def unpack(path):
    """The bytes of a golden file."""
    return subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout


def golden(name, folder):
    """A recorded stream as a file."""
    path = folder / name
    path.write_bytes(unpack(GOLDEN / f"{name}.zst"))
    return path


def capture(name, folder):
    """A recorded capture as a directory."""
    path = folder / name
    path.mkdir()
    for packed in (GOLDEN / "captures" / name).glob("*.zst"):
        (path / packed.stem).write_bytes(unpack(packed))
    return path


def stream(*args, code=0, data=b""):
    """stdout of `qmig stream`, which ends with @code."""
    done = subprocess.run([cli.QMIG, "stream", *map(str, args)], input=data, capture_output=True,
                          timeout=60, check=False)
    check(done.returncode == code,
          f"qmig stream {args}: exit {code}, got {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


def everything(folder):
    """All recorded streams, as inputs."""
    return ([golden(name, folder) for name in FILES]
            + [capture(name, folder) for name in CAPTURES])


def outlines_account_for_every_byte():
    """show: entries follow each other without a gap, to the last byte of each channel."""
    with scratch() as folder:
        for path in everything(folder):
            entries = [json.loads(line) for line in stream("show", "--json", path).splitlines()]
            ends = {e["channel"]: e for e in entries if e["what"] == "end"}
            check(ends, f"{path.name}: an end for each channel")
            for channel, end in ends.items():
                last = max(e["offset"] + e["size"] for e in entries if e["channel"] == channel)
                check(end["offset"] == last or not end["complete"],
                      f"{path.name}, {channel}: read to {last} of {end['offset']}")
            files = [path] if path.is_file() else list(path.glob("*.forward"))
            check(sum(e["offset"] for e in ends.values())
                  >= sum(f.stat().st_size for f in files) - 16384 * (len(ends) > 1),
                  f"{path.name}: all bytes are in the outline")
            check(stream("show", path).count("\n") >= len(entries), f"{path.name}: text")


def captures_have_times():
    """show: with a timeline, when each entry came; damage to it is told with its line."""
    with scratch() as folder:
        path = capture("11.1-multifd-zstd", folder)
        sizes = [(f.stat().st_size, int(f.name.split("-")[0]), f.name.split("-")[1].split(".")[0])
                 for f in sorted(path.glob("*.forward"))]
        lines = [{"format": "qmig-capture", "version": 1, "started": "2026-01-01T00:00:00Z"}]
        lines += [{"t": 10 * n, "channel": n, "open": kind} for _, n, kind in sizes]
        for t in range(4):
            lines += [{"t": 1000 * (t + 1), "channel": n, "forward": size // 4 if t < 3
                       else size - 3 * (size // 4)} for size, n, _ in sizes]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (path / "timeline.jsonl").write_text(text, encoding="ascii")
        entries = [json.loads(line) for line in stream("show", "--json", path).splitlines()]
        for channel in {e["channel"] for e in entries}:
            times = [e["t_us"] for e in entries
                     if e["channel"] == channel and e["what"] not in ("device", "description")]
            check(times[0] == 1000 and times == sorted(times), f"{channel}: {times}")
        check("0.004000  main" in stream("show", path), "the text has them, too")
        (path / "timeline.jsonl").write_text(text.replace('"forward": ', '"forward": -'),
                                             encoding="ascii")
        stream("show", path, code=1)


def memory_is_that_of_the_guest():
    """extract: every page of every block has come; both ways of moving one guest agree."""
    with scratch() as folder:
        for path in everything(folder):
            out = folder / f"{path.name}.x"
            summary = json.loads(stream("extract", "--json", path, out))
            for block in summary["blocks"]:
                file = out / block["file"]
                check(file.stat().st_size == block["length"], f"{path.name}: {block}")
                whole = block["received"] == block["pages"]
                check(whole or path.name in ELSEWHERE, f"{path.name}: {block}")
            names = [d["name"] for d in summary["devices"]]
            check("cpu" in names and "timer" in names, f"{path.name}: devices {names}")
            check(stream("check", path).endswith("in order\n"), f"{path.name}: in order")


def known_pages_come_back():
    """extract: the pattern that the recorder put into the guest's second MiB, from zlib and zstd
    payload, plain packets, recovery and COLO alike."""
    sums = set()
    with scratch() as folder:
        for name in CAPTURES:
            path, out = capture(name, folder), folder / f"{name}.x"
            stream("extract", path, out)
            ram = (out / "ram/mem").read_bytes()
            sums.add(hashlib.sha256(ram[MIB:2 * MIB]).hexdigest())
            check(any(ram[MIB:2 * MIB]), f"{name}: the pattern is not zero")
    check(len(sums) == 1, f"one pattern in all {len(CAPTURES)} captures: {sums}")


def conversions_keep_the_guest():
    """convert: to a plain stream, to mapped-ram, back, packed as a save file: diff finds nothing."""
    with scratch() as folder:
        for path in everything(folder):
            if path.name in ELSEWHERE:
                stream("convert", "--to=mapped-ram", path, folder / "refused", code=1)
                check(not (folder / "refused").exists(), "zeros in place of memory are refused")
                continue
            plain, mapped, back, packed = (folder / f"{path.name}.{end}"
                                           for end in ("plain", "mapped", "back", "qmig"))
            stream("convert", path, plain)
            stream("convert", "--to=mapped-ram", path, mapped)
            stream("convert", "--drop-description", mapped, back)
            subprocess.run([cli.QMIG, "save", "--json", "-", packed], stdin=plain.open("rb"),
                           stdout=subprocess.DEVNULL, check=True)
            for other in (plain, mapped, back, packed):
                check(stream("diff", path, other) == "", f"{path.name} and {other.name}")
            check(b'"vmsd_name"' not in back.read_bytes(), f"{path.name}: described no more")


def differences_are_named():
    """diff: a changed page and a changed field, by their names; exit as diff(1)."""
    with scratch() as folder:
        path = golden("11.1-return-path", folder)
        data = bytearray(path.read_bytes())
        devices = json.loads(stream("device", "--json", "timer", path))
        at = devices[0]["offset"] + 7
        data[at] ^= 1
        stream("extract", path, folder / "x")
        bios = (folder / "x/ram/pc.bios").read_bytes()
        # The page with the reset vector, as it lies in the stream.
        body = data.find(bios[-4096:])
        check(body > 0, "the BIOS's last page is in the stream")
        data[body + 32] ^= 1
        other = folder / "other"
        other.write_bytes(data)
        diff = json.loads(stream("diff", "--json", path, other, code=1))
        check([d["name"] for d in diff["devices"]] == ["timer"], f"devices: {diff['devices']}")
        check([f["field"] for f in diff["devices"][0]["fields"]] == ["cpu_ticks_offset"],
              f"fields: {diff['devices'][0]}")
        check([b["pages"] for b in diff["blocks"]] == [1], f"blocks: {diff['blocks']}")
        text = stream("diff", path, other, code=1)
        check("cpu_ticks_offset" in text and "1 pages differ" in text, text)
        stream("diff", path, folder / "nowhere", code=2)


def numbers_agree():
    """stat: pages by kind, block and pass add up; channels have all bytes."""
    with scratch() as folder:
        for path in everything(folder):
            stat = json.loads(stream("stat", "--json", "--sample=1", path))
            for kind in ("zero", "normal", "xbzrle", "zlib"):
                n = stat["pages"][kind]
                check(sum(b[kind] for b in stat["blocks"]) == n, f"{path.name}: blocks, {kind}")
                check(sum(i[kind] for i in stat["iterations"]) == n, f"{path.name}: passes, {kind}")
            files = [path] if path.is_file() else list(path.glob("*.forward"))
            check(stat["bytes"] <= sum(f.stat().st_size for f in files), f"{path.name}: bytes")
            check(stat["complete"], f"{path.name}: {stat['reason']}")
            check(stream("stat", path).startswith(("3", "1", "2", "4", "5", "6", "7", "8", "9")),
                  f"{path.name}: text")


def devices_have_names():
    """device: every section of a described stream is read by name; text and pattern."""
    with scratch() as folder:
        for path in everything(folder):
            devices = json.loads(stream("device", "--json", path))
            described = not path.name.endswith("recovery")
            check(all(("fields" in d) == described for d in devices), f"{path.name}: by name")
            check(len(devices) > 20, f"{path.name}: {len(devices)} devices")
            if described:
                check("env.eip" in stream("device", "cpu", path), f"{path.name}: registers")
                check(json.loads(stream("desc", "--json", path))["page_size"] == 4096, "desc")
            else:
                stream("desc", path, code=1)
        stream("device", "no-such-device", path, code=1)


def facts_of_a_qemu_decide():
    """check: machine and version; what is refused, and exit 2."""
    with scratch() as folder:
        path = golden("11.1-return-path", folder)
        stream("check", "--machine=pc-i440fx-11.1", "--qemu-version=11.1", path)
        text = stream("check", "--machine=pc-q35-7.2", "--qemu-version=7.2", path, code=2)
        check("use -machine pc-i440fx-11.1" in text and "QEMU 10.0 brought" in text, text)
        old = golden("7.2-compress", folder)
        stream("check", "--qemu-version=7.2", old)
        report = json.loads(stream("check", "--json", "--qemu-version=10.0", old, code=2))
        check("compress" in report["needs"]["capabilities"], f"needs: {report['needs']}")
        stream("check", "--qemu-version=new", old, code=1)


def damage_is_placed():
    """check, show, extract, convert: truncated and damaged input ends with its place told."""
    with scratch() as folder:
        path = golden("11.1-xbzrle", folder)
        data = path.read_bytes()
        for cut in (1, 100, len(data) // 2, len(data) - 1):
            text = stream("check", "-", code=3, data=data[:cut])
            check("error: stream: main: " in text, f"cut at {cut}: {text}")
            stream("show", "-", code=3, data=data[:cut])
        broken = bytearray(data)
        broken[300] ^= 0xff
        report = json.loads(stream("check", "--json", "-", code=3, data=bytes(broken)))
        check(report["findings"] and not report["complete"], f"damage: {report['findings']}")
        stream("convert", "-", folder / "out", code=1, data=data[:1000])
        check(not (folder / "out").exists(), "no half-converted file is left")
        for args in (("show", folder / "nowhere"), ("check", folder), ("stat", "--sample=-1", path),
                     ("convert", "--to=tape", path, folder / "y"), ("extract", path, folder)):
            stream(*args, code=1)


cli.TESTS[:] = [
    ("show: every byte is in the outline", outlines_account_for_every_byte),
    ("show: a capture's timeline", captures_have_times),
    ("extract, check: all memory and devices of every recorded stream", memory_is_that_of_the_guest),
    ("extract: known pages from every kind of payload", known_pages_come_back),
    ("convert: there and back, the guest stays the same", conversions_keep_the_guest),
    ("diff: a changed page and a changed field are named", differences_are_named),
    ("stat: the numbers add up", numbers_agree),
    ("device, desc: every section by name", devices_have_names),
    ("check: what a QEMU would refuse", facts_of_a_qemu_decide),
    ("damage and truncation are told with their place", damage_is_placed),
]

if __name__ == "__main__":
    cli.main()
