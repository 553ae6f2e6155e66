#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The example plugin of docs/examples/plugin/, as somebody outside of this tree has it: built by its own
Makefile against the headers that `meson install` puts somewhere, found by pkg-config, and loaded by a
`qmig proxy` that carries a recorded stream: test-example.py QMIG BUILD. TAP on stdout.
"""
import csv
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/lib"))

import carry  # noqa: E402
from tap import Skip, check, run_tests  # noqa: E402

QMIG, BUILD = (os.path.abspath(path) for path in sys.argv[1:])
SCRATCH = tempfile.TemporaryDirectory(prefix="example-")
HOME = pathlib.Path(SCRATCH.name)
ROOT = HOME / "root"
STRICT = "-O1 -Wall -Wextra -pedantic -Werror"


def call(*args, code=0, **options):
    """Run to the end, with exit @code. Return: (stdout, stderr)."""
    done = subprocess.run(list(map(str, args)), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False, **options)
    check(done.returncode == code, f"{args}: exit {code}, got {done.returncode}\n"
                                   f"{done.stdout}{done.stderr}")
    return done.stdout, done.stderr


def needs(*programs):
    """Skip unless all are here."""
    for program in programs:
        if shutil.which(program) is None:
            raise Skip(f"{program} is not here")


def environment():
    """pkg-config sees the installed tree and no other."""
    found = list(ROOT.rglob("qmig-plugin.pc"))
    check(len(found) == 1, f"one qmig-plugin.pc is installed: {found}")
    return {**os.environ, "PKG_CONFIG_LIBDIR": str(found[0].parent), "PKG_CONFIG_PATH": "",
            "PKG_CONFIG_SYSROOT_DIR": str(ROOT)}


def made(*variables):
    """A copy of the example, built. Return: its directory."""
    needs("make", "pkg-config")
    folder = pathlib.Path(tempfile.mkdtemp(dir=HOME))
    for name in ("Makefile", "csv.c"):
        shutil.copy(TOP / "docs/examples/plugin" / name, folder)
    call("make", "-C", folder, *variables, env=environment())
    check((folder / "csv.so").exists(), "make makes csv.so")
    return folder


def counts(plugin, **env):
    """It sees all bytes and pages, and says so in its file and in the report."""
    needs("zstd")
    # It ends when the source has said all: it has no return path.
    stream, rows = carry.golden("7.2-q35-no-return-path"), HOME / "rows.csv"
    rows.unlink(missing_ok=True)
    done = carry.carried(QMIG, [f"{plugin}:file={rows},every=1"], stream, **env)
    check(done.code == 0 and done.arrived == stream, f"an observer changes nothing: {done}")
    said = done.report["plugins"]["csv"]
    with open(rows, encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    check(len(table) == said["rows"] > 0, f"as many rows as it says: {said}, {len(table)}")
    check(sum(int(row["bytes"]) for row in table) == said["bytes"] == len(stream),
          f"all {len(stream)} bytes: {said}")
    for kind in ("normal", "zero"):
        check(sum(int(row[kind]) for row in table) == said["pages"][kind] > 0, f"{kind}: {said}")


def installed_headers_alone():
    """What a plugin is built against is installed, and describes where plugins go."""
    needs("meson", "pkg-config")
    call("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--tags", "devel",
         "--destdir", ROOT)
    found = {path.name for path in ROOT.rglob("*") if path.is_file()}
    check(found == {"qmig-plugin.h", "qmig-event.h", "qmig-plugin.pc"}, f"installed: {found}")
    out, _ = call("pkg-config", "--print-errors", "--cflags", "qmig-plugin", env=environment())
    check(out.split() == [f"-I{next(ROOT.rglob('qmig-plugin.h')).parent}"], f"cflags: {out}")
    out, _ = call("pkg-config", "--libs", "qmig-plugin", env=environment())
    check("-l" not in out, f"a plugin links to nothing of qmig's: {out}")
    out, _ = call("pkg-config", "--variable=plugindir", "qmig-plugin", env=environment())
    check(out.strip().endswith("/qmig/plugins"), f"plugindir: {out}")


def by_path():
    """make, and loaded by its path."""
    folder = made()
    counts(f"{folder}/csv.so")
    out, _ = call(QMIG, "plugins", f"{folder}/csv.so")
    check("file=FILE" in out, f"qmig plugins tells what it takes: {out}")


def strict_c99():
    """As strict C99, without a warning."""
    counts(f"{made(f'CFLAGS=-std=c99 {STRICT}')}/csv.so")


def as_cxx():
    """As C++, without a warning."""
    needs("c++")
    # Members that are left out are the point of the structure.
    counts(f"{made('CC=c++', f'CFLAGS=-x c++ -std=c++20 {STRICT} -Wno-missing-field-initializers')}"
           "/csv.so")


def by_name():
    """make install puts it where qmig looks for names; --plugin csv finds it there."""
    folder = made()
    env = environment()
    call("make", "-C", folder, "install", f"DESTDIR={ROOT}", env=env)
    directory = next(ROOT.rglob("csv.so")).parent
    plugindir, _ = call("pkg-config", "--variable=plugindir", "qmig-plugin", env=env)
    # Some pkg-configs put the system root in front of variables.
    check(str(directory).endswith(plugindir.strip().removeprefix(str(ROOT))),
          f"in {plugindir}: {directory}")
    counts("csv", QMIG_PLUGIN_PATH=str(directory))


def refusals():
    """A Makefile without qmig, and a plugin without a file, say what is missing."""
    needs("make", "pkg-config")
    _, err = call("make", "-C", TOP / "docs/examples/plugin", "-n", code=2,
                  env={**os.environ, "PKG_CONFIG_LIBDIR": str(HOME / "nowhere"),
                       "PKG_CONFIG_PATH": ""})
    check("does not find qmig-plugin.pc" in err, err)
    for spec, text in (("", "file=FILE is missing"), (":every=0", "want 1 to"), (":x=y", "want file=")):
        _, err = call(QMIG, "proxy", "--listen=unix:/nowhere/in", "--connect=unix:/nowhere/out",
                      f"--plugin={made()}/csv.so{spec}", code=1)
        check(text in err, f"{spec}: {err}")


TESTS = [("the headers are installed alone, with a pkg-config file", installed_headers_alone),
         ("built by its Makefile, loaded by path", by_path),
         ("built as strict C99", strict_c99),
         ("built as C++", as_cxx),
         ("installed, loaded by name", by_name),
         ("what is missing is said", refusals)]
run_tests(TESTS)
