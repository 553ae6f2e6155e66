/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Plugins that declare themselves in odd ways; -DVARIANT_… picks one. */
#include "qmig-plugin.h"

#include <stddef.h>

static int seen;

static void
declared_observe(void *handle, const struct qmig_event *ev, uint32_t flags)
{
    (void)handle, (void)ev, (void)flags;
    seen++;
}

static void
declared_report(void *handle, struct qmig_report *r)
{
    (void)handle;
    r->number(r, "seen", (uint64_t)seen);
}

/* A plugin of a time when struct qmig_plugin has grown. */
static struct {
    struct qmig_plugin known;
    void (*members_of_the_future[8])(void);
} plugin = {
    .known = {
        ._struct_size = sizeof(struct qmig_plugin),
        ._api_version = QMIG_PLUGIN_API_VERSION,
        .name = "declared",
        .observe = declared_observe,
        .report = declared_report,
    },
};

QMIG_PLUGIN_EXPORT struct qmig_plugin *qmig_plugin_init(void);

struct qmig_plugin *
qmig_plugin_init(void)
{
#if defined(VARIANT_OVERSIZED)
    plugin.known._struct_size = sizeof plugin;
    plugin.members_of_the_future[0] = (void (*)(void))0x1;
#elif defined(VARIANT_UNDERSIZED)
    /* A plugin of a time when there was no `report`: what lies behind is not to be read. */
    plugin.known._struct_size = offsetof(struct qmig_plugin, report);
#elif defined(VARIANT_CUT)
    plugin.known._struct_size = offsetof(struct qmig_plugin, report) + 4;
#elif defined(VARIANT_TINY)
    plugin.known._struct_size = offsetof(struct qmig_plugin, name);
#elif defined(VARIANT_VERSION)
    plugin.known._api_version = 99;
#elif defined(VARIANT_NAMELESS)
    plugin.known.name = NULL;
#elif defined(VARIANT_BADNAME)
    plugin.known.name = "no spaces";
#elif defined(VARIANT_NOTHING)
    return NULL;
#else
#error "which variant?"
#endif
    return &plugin.known;
}
