#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The built-in plugins, without guests: what belongs to each is there; `guard` with recorded streams
between scripted peers. TAP on stdout.
"""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

import carry  # noqa: E402
from tap import Skip, check, run_tests  # noqa: E402

QMIG = os.environ.get("QMIG", str(TOP / "build/cli/qmig"))
MAN = TOP / "docs/man"
SCRATCH = tempfile.TemporaryDirectory(prefix="plugins-")
PLAIN = "7.2-q35-no-return-path"
ANSWERED = "11.1-return-path"


def qmig(*args, codes=(0,)):
    """Run it. Return: stdout."""
    done = subprocess.run([QMIG, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False)
    check(done.returncode in codes, f"{args}: exit {codes}, got {done.returncode}: {done.stderr}")
    return done.stdout


def plugins_are_whole():
    """Each built-in plugin has its folder, its page, its rows; and is what they say."""
    listed = json.loads(qmig("plugins", "--json"))
    names = [plugin["name"] for plugin in listed]
    check(names == sorted(set(names)) and len(names) > 5, f"each once, in order: {names}")
    folders = {path.parent.name for path in (TOP / "plugin").glob("*/meson.build")}
    check(set(names) == folders, f"a folder for each: {sorted(folders ^ set(names))}")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\w+) \|",
                           (TOP / "plugin/README.md").read_text(encoding="utf-8"), re.MULTILINE))
    check(rows == {plugin["name"]: plugin["kind"] for plugin in listed},
          f"a row with its kind in plugin/README.md: {rows}")
    overview = (MAN / "qmig-plugins.pod").read_text(encoding="utf-8")
    for plugin in listed:
        name = plugin["name"]
        page = TOP / "plugin" / name / f"qmig-{name}-plugin.pod"
        check(page.exists() and f"qmig-{name}-plugin - " in page.read_text(encoding="utf-8"),
              f"a man page: {page}")
        check(f"L<qmig-{name}-plugin(1)>" in overview, f"{name}: named in qmig-plugins(1)")
        check(plugin["description"] and plugin["origin"] == "built-in", f"described: {plugin}")
        keys = set(re.findall(r"^([\w-]+)=", plugin["parameters"], re.MULTILINE))
        items = "".join(re.findall(r"^=item .*$", page.read_text(encoding="utf-8"), re.MULTILINE))
        check(keys == set(re.findall(r"B<([\w-]+)=>", items)),
              f"{name}: its page has the parameters {sorted(keys)}: {items}")


def plugins_are_listed():
    """All of them, one of them, none of that name."""
    kinds = dict(re.findall(r"^([\w-]+) +(\w+) ", qmig("plugins"), re.MULTILINE))
    check(kinds["guard"] == "rewriter" and kinds["throttle"] == "pacer" and
          kinds["record"] == "service" and kinds["stats"] == "observer", f"kinds: {kinds}")
    check("sample=N" in qmig("plugins", "stats"), "what stats takes")
    check("no plugin \"no-such\"" in carry.carried(QMIG, ["no-such"], b"").err, "no such plugin")
    qmig("plugins", "no-such", codes=(1,))


# ---- guard ----------------------------------------------------------------------------------------

def scratch(name, content=None):
    """A path of this test's, with @content."""
    path = pathlib.Path(SCRATCH.name) / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def needs(name):
    """What the golden stream needs, as `qmig stream check` tells."""
    path = scratch(f"{name}.stream", carry.golden(name))
    return json.loads(qmig("stream", "check", "--json", path, codes=(0, 3)))["needs"]


def accepts(**members):
    """A description with these members, as a file of its own."""
    number = len(os.listdir(SCRATCH.name))
    return scratch(f"accepts-{number}.json", {"format": "qmig-accepts", "version": 1, **members})


def guarded(stream, *keys, **options):
    """@stream behind a guard with @keys."""
    return carry.carried(QMIG, ["guard:" + ",".join(map(str, keys))], stream, **options)


def whole_tail(arrived):
    """The description is there, hence the end."""
    return arrived.endswith(b"}")


def changes_nothing():
    """What it takes arrives as it came; probes are PINGs and nothing else."""
    described = json.dumps({"needs": needs(PLAIN)}).encode()
    stream, file = carry.golden(PLAIN), scratch("like.json", described)
    for keys in ([f"accepts={file}"], [f"accepts={file}", "hold-tail=yes"],
                 [f"accepts={file}", "probe=yes"], [f"flight={scratch('f')}", "keep=256K"]):
        done = guarded(stream, *keys)
        check(done.code == 0 and done.arrived == stream, f"{keys}: {done}")
    check(not scratch("f").exists(), "nothing failed, nothing is written")
    stream, n = carry.golden(ANSWERED), len(needs(ANSWERED)["sections"])
    done = guarded(stream, f"flight={scratch('f')}", "probe=yes", until=whole_tail,
                   reply=carry.SHUT_0)
    pings = [b"\x08\0\2\0\4" + struct.pack(">I", 0x716d0000 + i) for i in range(n + 1)]
    check(done.code == 0 and len(done.arrived) == len(stream) + 9 * (n + 1), f"{n}: {done}")
    rest = done.arrived
    for ping in pings:
        check(rest.count(ping) == 1, f"each PING once: {ping}")
        rest = rest.replace(ping, b"")
    check(rest == stream, "and between them the stream")


def refused_untouched():
    """In the head: nothing reaches the destination, not even a connection."""
    stream = carry.golden(PLAIN)
    blocks = needs(PLAIN)["blocks"]
    small = [{**block, "length": block["length"] - 1} for block in blocks]
    cases = [({"machine": "pc-i440fx-7.2"}, "machine: the stream is of a pc-q35-7.2"),
             ({"blocks": blocks[1:]}, f"{blocks[0]['name']}: RAM block of"),
             ({"blocks": small}, f"the QEMU's has {small[0]['length']}")]
    for members, text in cases:
        done = guarded(stream, f"accepts={accepts(**members)}")
        check(done.code == 3 and text in done.err and "was not touched" in done.err,
              f"{text}: {done}")
        check(done.arrived is None, f"{text}: nobody was contacted")
    done = guarded(stream[:100], f"accepts={accepts(machine='pc-q35-7.2')}")
    check(done.code == 3 and done.arrived is None, f"nor for a head that is cut: {done}")


def refused_in_device_state():
    """Each kind of reason, before a byte of device state leaves."""
    stream, sections = carry.golden(PLAIN), needs(PLAIN)["sections"]
    tail = stream.index(b"\x05timer")
    last = sections[-1]
    older = [{**s, "version": s["version"] - (s is last)} for s in sections]
    dump = scratch("dump.json", {"vmschkmachine": {"Name": "pc-q35-7.2"}, "a": {"Description": {
        "name": "timer", "version_id": 9, "minimum_version_id": 7}}})
    cases = [([f"accepts={accepts(sections=sections[:-1])}"],
              f"{last['name']}: the QEMU has no such device"),
             ([f"accepts={accepts(pci=['00.0'])}"], "the QEMU has no PCI device at"),
             ([f"accepts={accepts(vcpus=3)}"], "the QEMU has 3: use -smp 1"),
             ([f"accepts={dump}"], "timer: state of version 2, the QEMU takes 7 to 9")]
    for keys, text in cases:
        done = guarded(stream, *keys, "hold-tail=yes")
        check(done.code == 3 and text in done.err, f"{text}: {done}")
        check(stream.startswith(done.arrived) and len(done.arrived) <= tail,
              f"{text}: {len(done.arrived)} bytes, device state begins at {tail}")
    done = guarded(stream, f"accepts={accepts(sections=older)}", "hold-tail=yes")
    check(done.code == 3 and f"{last['name']}: state of version" in done.err, f"version: {done}")


def never_too_late():
    """What has left is not refused: the guest may run there. It is told."""
    file = accepts(sections=[{"name": "none", "instance": 0, "version": 1}], vcpus=7)
    cases = [(PLAIN, "hold-tail=no")]
    # COLO begins with an ordinary tail, which can be held.
    cases += [(f"captures/{name}/0-main.forward", f"hold-tail={hold}")
              for name, hold in (("7.2-recovery", "yes"), ("11.1-recovery", "yes"),
                                 ("7.2-colo", "no"), ("11.1-colo", "no"))]
    for name, key in cases:
        stream = carry.golden(name)
        done = guarded(stream, f"accepts={file}", key)
        # A broken stream may end inside a record.
        check(stream.startswith(done.arrived) and len(done.arrived) > len(stream) - 4200,
              f"{name}: all of it goes, {len(stream)} bytes: {done}")
        said = done.report["plugins"]["guard"]
        check(said["late"] > 0 and "no such device" in said["late_list"][0]["text"],
              f"{name}: it is told: {said}")
        check("refused" not in said, f"{name}: not refused: {said}")


def cut_streams():
    """A source that ends early: the destination is not given what was held; the rest is kept."""
    stream = carry.golden(ANSWERED)
    file = scratch("like.json", json.dumps({"needs": needs(ANSWERED)}).encode())
    tail = stream.index(b"\x05timer")
    for length in (len(stream) - 1, tail + 2000, tail - 5000, len(stream) // 2, 3000):
        done = guarded(stream[:length], f"accepts={file}", "hold-tail=yes",
                       f"flight={scratch('f')}", "keep=64M")
        check(done.code == 3 and stream.startswith(done.arrived or b""), f"{length}: {done}")
        check(done.arrived is None or len(done.arrived) <= tail, f"{length}: held: {done}")
        kept = scratch("f").read_bytes()
        check(stream[:length].startswith(kept) and len(kept) > length - 5000,
              f"{length}: all that came is kept: {len(kept)}")
        summary = json.loads(scratch("f.json").read_text(encoding="utf-8"))
        check(summary["format"] == "qmig-flight" and summary["file"]["whole"]
              and "the source closed" in summary["failure"], f"{length}: {summary}")


def pages_of(path):
    """Everything `qmig stream show --every` lists of a stream, without offsets."""
    return [re.sub(r"^\s*[0-9a-f]+\s+", "", line)
            for line in qmig("stream", "show", "--every", path, codes=(0, 3)).splitlines()]


def flights_of_every_size():
    """A ring that is too small keeps the end, and what is written is a stream."""
    stream = carry.golden(ANSWERED)
    before = scratch("whole", stream)
    check(len(pages_of(before)) > 20, "the stream is listed")
    for keep in ("256K", "300K", "350000", "500K", "600K", "700K"):
        done = guarded(stream, f"flight={scratch('f')}", f"keep={keep}", until=whole_tail,
                       reply=carry.SHUT_1)
        check(done.code == 3, f"{keep}: {done}")
        kept = scratch("f").read_bytes()
        summary = json.loads(scratch("f.json").read_text(encoding="utf-8"))
        check("SHUT 1" in summary["failure"], f"{keep}: {summary}")
        tail = stream.index(b"\x05timer") - 5
        check(kept.endswith(stream[tail:]) and summary["file"]["readable"],
              f"{keep}: all device state is kept: {summary['file']}")
        check(len(kept) < len(stream) and not summary["file"]["whole"], f"{keep}: not all else")
        shown = qmig("stream", "show", "--json", scratch("f"), codes=(0, 3))
        check("globalstate" in shown and "not read" not in shown, f"{keep}: it is read: {shown[:300]}")


def bad_words():
    """What cannot be is refused before it listens, and says what is wanted."""
    garbage = scratch("garbage", b"no json")
    for spec, text in (("guard", "accepts=FILE"), ("guard:keep=1,flight=/tmp/f", "want 256K to 1G"),
                       ("guard:hold-tail=maybe", "want yes or no"), ("guard:x=y", "want accepts"),
                       ("guard:flight=/nowhere/f", "no such directory"),
                       (f"guard:flight={SCRATCH.name}", "it is a directory"),
                       (f"guard:flight={scratch('f')},hold-tail=yes", "for what"),
                       ("guard:accepts=/nowhere", "No such file"),
                       (f"guard:accepts={garbage}", "neither a description"),
                       (f"guard:accepts={accepts()}", None)):
        specs = [spec, spec] if text is None else [spec]
        done = carry.carried(QMIG, specs, b"")
        check(done.code == 1 and (text or "works only once") in done.err, f"{spec}: {done}")
    file = scratch("accepts.json", {"format": "qmig-accepts", "version": 2})
    done = carry.carried(QMIG, [f"guard:accepts={file}"], b"")
    check(done.code == 1 and "version 2, wanted 1" in done.err, f"{done}")


TESTS = [
    ("each plugin has its folder, page and rows", plugins_are_whole),
    ("plugins lists the built-in ones and knows no others", plugins_are_listed),
    ("guard: what is taken arrives as it came", changes_nothing),
    ("guard: a head that is refused touches nobody", refused_untouched),
    ("guard: device state is refused before it leaves", refused_in_device_state),
    ("guard: what has left is not refused", never_too_late),
    ("guard: streams that are cut", cut_streams),
    ("guard: flights of every size are streams", flights_of_every_size),
    ("guard: bad words", bad_words),
]


def with_zstd(function):
    """A test that needs it."""
    def test():
        if shutil.which("zstd") is None:
            raise Skip("zstd is not here")
        function()
    return test


run_tests([(name, with_zstd(function)) for name, function in TESTS])
