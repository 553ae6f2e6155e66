#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Plugins that rewrite a stream, and one that looks on, before a stock destination: test-plugins.py VERSION
[WORD...]: those whose names have one of the words.

No proxy on the destination's side, and the capability xbzrle on neither. RAM is compared byte for
byte and the guests that run are counted, every time.
"""
import json
import pathlib
import struct
import sys
import tempfile
import threading
import time
import zlib

import lib
from lib import check

VERSION = sys.argv[1]
# A hot set of which every write changes a word: what deltas are for.
WORKLOAD = {"ws": "32M", "rate": 8000, "pattern": "word", "order": "hot", "content": "text"}
# Too fast for precopy to end.
RESTLESS = {**WORKLOAD, "rate": "max", "order": "seq", "pattern": "touch"}
# So slow that several passes over what was written follow the first one.
SLOW = ("--bandwidth=100MiB/s", "--downtime=60ms")
# The guest is stopped while all that it writes is left to be sent again.
AT_ONCE = ("--bandwidth=100MiB/s", "--downtime=400ms")
POSTCOPY = ("--bandwidth=50MiB/s", "--downtime=1ms", "--postcopy")
CHAIN = ("--plugin=zero", "--plugin=xbzrle:cache=512MiB,threads=2", "--plugin=stats")


def sends_zeroes(version):
    """What makes that source send pages of zeroes whole; nothing, where it cannot be told."""
    return () if version == "7.2" else ("--zero-page-detection=none",)


def pair(source=VERSION, destination=VERSION, **options):
    """A pair under KVM, half of its memory filled."""
    src, dst = lib.qemu(source), lib.qemu(destination)
    return lib.vm.Pair(src=src, dst=dst, accel=lib.accel(src), mem_mib=192, fill=0.5,
                       workload=options.pop("workload", WORKLOAD), **options)


def without_xbzrle(p):
    """Neither side was told of XBZRLE."""
    for side in (p.src, p.dst):
        on = [c["capability"] for c in side.cmd("query-migrate-capabilities") if c["state"]]
        check("xbzrle" not in on, f"{side}: capabilities {on}")


def moved(p, *options):
    """moved_whole(), with the capabilities looked at before and after. Return: the report."""
    p.wait_ticking(p.src)
    without_xbzrle(p)
    report = lib.moved_whole(p, *options)
    without_xbzrle(p)
    check(report["proxy"]["channels"][0]["mode"] == "rewrite", "the stream was rewritten")
    check("xbzrle" not in str(report.get("capabilities", "")), "nobody asked for it either")
    return report


def deltas_save(report):
    """Deltas went over, and fewer bytes than came."""
    plugins = report["proxy"]["plugins"]
    mine, came, left = plugins["xbzrle"], plugins["stats"], plugins["stats#2"]
    check(mine["pages_delta"] > 0, f"pages went as deltas: {mine}")
    check(left["pages"]["xbzrle"] == mine["pages_delta"], f"and left as such: {left['pages']}")
    check(came["pages"]["xbzrle"] == 0, f"QEMU sent none: {came['pages']}")
    check(mine["bytes_out"] < mine["bytes_in"], f"fewer bytes: {mine}")
    wire = report["proxy"]["channels"][0]["bytes_forward"]
    check(wire == left["bytes"], f"{left['bytes']} bytes by stats, {wire} on the wire")
    check(wire < came["bytes"], f"{wire} bytes on the wire, QEMU sent {came['bytes']}")
    print(f"# {VERSION}: {came['bytes'] >> 10} KiB by QEMU, {wire >> 10} KiB on the wire; "
          f"{mine['pages_delta']} deltas of {mine['pages_again']} pages sent again, "
          f"{mine['pages_unchanged']} unchanged", flush=True)


def deltas_at_the_end(report):
    """The last pass, of the guest that stands still, has deltas too."""
    last = report["proxy"]["plugins"]["stats#2"]["iterations"][-1]
    check(last["xbzrle"] > 0, f"deltas in the last pass: {last}")


def zeroes_found(report, source=VERSION):
    """Pages of zeroes that QEMU sent whole."""
    mine = report["proxy"]["plugins"]["zero"]
    if sends_zeroes(source):
        check(mine["zero"] > 1000, f"pages of zeroes became records: {mine}")
        check(mine["bytes_saved"] == mine["zero"] * 4095, f"their bytes: {mine}")


def read_png(path):
    """Width, height and rows of a PNG of 8-bit numbers."""
    data, at, packed = path.read_bytes(), 8, b""
    check(data[:8] == b"\x89PNG\r\n\x1a\n", "a PNG")
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + length]
        check(zlib.crc32(kind + body) == struct.unpack_from(">I", data, at + 8 + length)[0], kind)
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", body)
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    rows = zlib.decompress(packed)
    check(len(rows) == (width + 1) * height, f"{width} x {height}: {len(rows)} bytes")
    return width, height, [rows[y * (width + 1) + 1:(y + 1) * (width + 1)] for y in range(height)]


def heat_is_where_the_guest_writes(report, directory):
    """The map of what QEMU sent: the same counts as stats', hottest where the guest writes."""
    came, mine = (report["proxy"]["plugins"][name] for name in ("stats", "heatmap"))
    check(mine["resent"] == came["pages"]["resent"] > 0, f"resent: {mine}")
    hot = mine["hottest"][0]
    check(16 << 20 <= hot["offset"] < 48 << 20, f"hottest is the working set: {hot}")
    whole = json.loads((directory / "map.json").read_text(encoding="utf-8"))
    ram = max(whole["pages"], key=lambda block: block["length"])
    times = bytearray(ram["length"] // ram["page_size"])
    for first, pages, n, _ in ram["runs"]:
        times[first:first + pages] = bytes([min(n, 254)]) * pages
    width, _, rows = read_png(directory / "map.png")
    pixels = b"".join(rows[ram["image_row"]:ram["image_row"] + ram["image_rows"]])
    check(width == 512 and pixels[:len(times)] == times, "the picture is what the JSON says")
    check(not mine.get("file_error"), mine)
    width, height, _ = read_png(directory / "time.png")
    check(width > 500 and height > 5, f"{height} slices of {width} columns")


def chain():
    with pair(workload=RESTLESS) as p, tempfile.TemporaryDirectory() as name:
        report = moved(p, f"--plugin=heatmap:file={name}/map.json,image={name}/map.png,"
                          f"timeline={name}/time.png",
                       *CHAIN, *AT_ONCE, *sends_zeroes(VERSION))
        deltas_save(report)
        deltas_at_the_end(report)
        zeroes_found(report)
        heat_is_where_the_guest_writes(report, pathlib.Path(name))


def go_over(p, share, failed):
    """Ask for post-copy once so much of memory was sent."""
    deadline = time.monotonic() + 40
    sent, total = 0, 1
    while sent < total * share:
        if time.monotonic() > deadline:
            failed.append(f"{sent} bytes of {total} sent within 40 s")
            return
        time.sleep(0.05)
        ram = p.src.cmd("query-migrate").get("ram", {})
        sent, total = ram.get("transferred", 0), ram.get("total", 1)
    asked = lib.run("postcopy", f"unix:{p.src.qmp}")
    if asked.code != 0:
        failed.append(asked.err)


def moved_by_postcopy(p, *options, share=1.2):
    """
    moved(), with post-copy in the middle: by default when some pages went as deltas, as more was
    sent than there is memory. Return: the report.
    """
    failed = []
    p.wait_ticking(p.src)
    thread = threading.Thread(target=go_over, args=(p, share, failed))
    thread.start()
    report = moved(p, *CHAIN, *POSTCOPY, *options)
    thread.join()
    if report["proxy"]["plugins"]["stats#2"]["packaged_bytes"] == 0:
        raise lib.Skip(f"the guest writes so slowly here that precopy ended: {failed}")
    check(not failed, failed)
    return report


def postcopy():
    """Some deltas, then post-copy; the destination would die of one there."""
    with pair(workload=RESTLESS) as p:
        report = moved_by_postcopy(p, *sends_zeroes(VERSION))
        deltas_save(report)
        left = report["proxy"]["plugins"]["stats#2"]
        check(left["pages"]["normal"] > report["proxy"]["plugins"]["xbzrle"]["pages_first"],
              f"in post-copy pages go whole: {left['pages']}")


def alone(*plugins, also):
    def test():
        with pair() as p:
            also(moved(p, *plugins, "--plugin=stats", *SLOW, *sends_zeroes(VERSION)))
    return test


def small_cache():
    """A cache for a tenth of the pages: others give way, and memory is whole."""
    with pair() as p:
        report = moved(p, "--plugin=xbzrle:cache=8M,threads=3", "--plugin=stats", *SLOW)
        mine = report["proxy"]["plugins"]["xbzrle"]
        check(mine["cache_evicted"] > 0 and mine["cache_room"] == 2048, f"pages gave way: {mine}")


def other_destination():
    """Zero records and deltas of another version's pages."""
    other = "11.1" if VERSION == "7.2" else "7.2"
    with pair(other, VERSION) as p:
        report = moved(p, *CHAIN, *SLOW, *sends_zeroes(other))
        deltas_save(report)
        zeroes_found(report, other)
    with pair(other, VERSION, workload=RESTLESS) as p:
        report = moved_by_postcopy(p, *sends_zeroes(other))
        deltas_save(report)
        zeroes_found(report, other)


def zeroes_in_postcopy():
    """Of pages of zeroes most come when the guest is over there already: still as records."""
    source = "11.1" if VERSION == "7.2" else VERSION
    with pair(source, VERSION, workload=RESTLESS) as p:
        report = moved_by_postcopy(p, *sends_zeroes(source), share=0.1)
        mine = report["proxy"]["plugins"]["zero"]
        # In so little of a pass no more pages of any content can have been sent.
        check(mine["zero"] > 0.4 * p.src.cmd("query-migrate")["ram"]["total"] / 4096, mine)


def through_multifd():
    """Plugins do not see its pages: that is said before and after, and nothing is harmed."""
    with pair() as p:
        p.wait_ticking(p.src)
        report = lib.moved_whole(p, "--plugin=xbzrle", "--parallel-connections=2", *SLOW)
        check(report["proxy"]["plugins"]["xbzrle"]["pages_delta"] == 0, "no delta")
        for text in report["messages"], report["proxy"]["notices"]:
            check("plugins see the main channel" in str(text), f"it says so: {text}")


def qemu_has_xbzrle():
    """QEMU's own deltas pass by the plugin's cache."""
    with pair() as p:
        p.wait_ticking(p.src)
        report = lib.moved_whole(p, "--plugin=xbzrle", "--compressed",
                                 "--bandwidth=100MiB/s", "--downtime=10ms")
        pages = report["proxy"]["plugins"]["stats"]["pages"]
        check(pages["xbzrle"] > 0, f"QEMU sent deltas: {pages}")


def cancelled():
    """In the middle of a rewritten stream: the guest stays, and the next one is whole."""
    with pair() as p:
        p.wait_ticking(p.src)
        process = lib.start(*lib.migrate_args(p), *CHAIN, "--bandwidth=20MiB/s")
        deadline = time.monotonic() + 20
        while p.src.cmd("query-migrate").get("status") != "active":
            check(time.monotonic() < deadline, "it began")
            time.sleep(0.05)
        time.sleep(0.5)
        process.terminate()
        lib.stayed_whole(p, lib.finish(process), 4)
        p.new_destination()
        deltas_save(moved(p, *CHAIN, *SLOW))


TESTS = [
    ("heatmap, zero and xbzrle, RAM equal, deltas to the end", chain),
    ("zero and xbzrle, then post-copy, RAM equal", postcopy),
]
LONG = [
    ("zero alone, RAM equal", alone("--plugin=zero", also=zeroes_found)),
    ("xbzrle alone, RAM equal", alone("--plugin=xbzrle", also=deltas_save)),
    ("a small cache, RAM equal", small_cache),
    ("from another version's source, RAM equal", other_destination),
    ("pages of zeroes in post-copy, RAM equal", zeroes_in_postcopy),
    ("with multifd nothing is changed, and that is said", through_multifd),
    ("with QEMU's own xbzrle, RAM equal", qemu_has_xbzrle),
    ("cancelled, then moved", cancelled),
]
if not lib.FULL:
    # The QEMU between its neighbours does the rest in long runs.
    TESTS, LONG = TESTS[:1 if VERSION == "10.0" else None], []
lib.run_tests([(f"{VERSION}: {name}", test) for name, test in TESTS + LONG
               if not sys.argv[2:] or any(word in name for word in sys.argv[2:])])
