/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The public header alone, in strict C99: must compile. */
#include "qmig-plugin.h"

static struct qmig_plugin plugin = { .name = "header-only" };

QMIG_REGISTER_PLUGIN(plugin)
