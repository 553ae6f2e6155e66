/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plugins linked into qmig. They use the public ABI and nothing else. */
#include "plugin/loader.h"

struct qmig_plugin *qmig_plugin_init_fault(void);
struct qmig_plugin *qmig_plugin_init_guard(void);
struct qmig_plugin *qmig_plugin_init_heatmap(void);
struct qmig_plugin *qmig_plugin_init_null(void);
struct qmig_plugin *qmig_plugin_init_record(void);
struct qmig_plugin *qmig_plugin_init_stats(void);
struct qmig_plugin *qmig_plugin_init_throttle(void);
struct qmig_plugin *qmig_plugin_init_xbzrle(void);
struct qmig_plugin *qmig_plugin_init_zero(void);

/* A row for each. */
/* clang-format off */
const QmigBuiltinPlugin qmig_builtin_plugins[] = {
    { "fault", qmig_plugin_init_fault },
    { "guard", qmig_plugin_init_guard },
    { "heatmap", qmig_plugin_init_heatmap },
    { "null", qmig_plugin_init_null },
    { "record", qmig_plugin_init_record },
    { "stats", qmig_plugin_init_stats },
    { "throttle", qmig_plugin_init_throttle },
    { "xbzrle", qmig_plugin_init_xbzrle },
    { "zero", qmig_plugin_init_zero },
    { NULL, NULL },
};
/* clang-format on */
