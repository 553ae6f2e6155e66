#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A plugin made with QMIG_REGISTER_PLUGIN exports exactly one symbol: qmig_plugin_init.
# Usage: test-one-symbol.sh PLUGIN.so…
set -eu

command -v nm >/dev/null || { echo "skip: no nm"; exit 77; }
for plugin; do
    # The sanitizers add names of their own.
    found=$(nm -D --defined-only "$plugin" | awk '{ print $NF }' |
        grep -Ev '^(__odr_asan|__asan|__ubsan)' | tr '\n' ' ')
    if [ "$found" != "qmig_plugin_init " ]; then
        echo "$plugin exports: $found" >&2
        exit 1
    fi
done
