// SPDX-License-Identifier: LGPL-2.1-or-later
// The public header alone, in strict C++11: must compile.
#include "qmig-plugin.h"

static void
observe(void *, const qmig_event *, uint32_t)
{
}

static qmig_plugin
describe()
{
    qmig_plugin p = qmig_plugin();

    p.name = "header-only";
    p.observe = observe;
    return p;
}

static qmig_plugin plugin = describe();

QMIG_REGISTER_PLUGIN(plugin)
