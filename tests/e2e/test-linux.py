#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A Linux guest with a user-land load, emulated (TCG), between QEMUs of different versions. QEMU 7.2
is left out as a source: under TCG it loses the last writes of a running guest, with and without
qmig.
"""
import lib

PAIRS = [("10.0", "11.1"), ("11.1", "10.0"), ("11.1", "11.1")]


def moves(source, destination, *options):
    """A test: Linux boots, works, and moves."""
    def test():
        src, dst = lib.qemu(source), lib.qemu(destination)
        try:
            pair = lib.vm.Pair(src=src, dst=dst, accel="tcg", guest="linux", mem_mib=256,
                               workload={"ws": 4, "rate": 2})
        except lib.vm.VmError as error:
            raise lib.Skip(f"the Linux guest is not here: {error}") from None
        with pair as p:
            p.wait_ticking(p.src, timeout=60)
            lib.moved_whole(p, *options)
    return test


lib.run_tests([(f"Linux, {s} -> {d}, through the proxy, RAM equal", moves(s, d))
               for s, d in PAIRS]
              + [("Linux, 11.1 -> 11.1, through decoder and encoder, RAM equal",
                  moves("11.1", "11.1", "--plugin=null"))])
