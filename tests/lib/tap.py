# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every test in Python is made of: claims, skips, TAP on stdout."""
import sys
import traceback


class Skip(Exception):
    """The machine lacks something; the text says what."""


def check(condition, claim):
    """An assertion that names what was claimed."""
    if not condition:
        raise AssertionError(claim)


def run_tests(tests):
    """Run (name, function) pairs as TAP; exit 1 when one failed."""
    failed = False
    print(f"1..{len(tests)}", flush=True)
    for number, (name, function) in enumerate(tests, 1):
        try:
            function()
        except Skip as skip:
            print(f"ok {number} - {name} # SKIP {skip}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed = True
            print(f"not ok {number} - {name}", flush=True)
            print("# " + traceback.format_exc().rstrip().replace("\n", "\n# "), flush=True)
        else:
            print(f"ok {number} - {name}", flush=True)
    sys.exit(failed)
