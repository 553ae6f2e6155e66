/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stream-plugin ABI of qmig. Public: C99, usable from C++, needs no library.
 *
 *                 one instance for each decoded channel of a migration
 *
 *     open -> config* -> get_ready -> ( observe | event )* -> finish -> report* -> close
 *                                         `-- report at any time between events --'
 *
 * A plugin is a shared object that exports one symbol, made by QMIG_REGISTER_PLUGIN:
 *
 *     static void observe(void *h, const struct qmig_event *ev, uint32_t flags) { … }
 *     static struct qmig_plugin plugin = { .name = "count", .open = …, .observe = observe };
 *     QMIG_REGISTER_PLUGIN(plugin)
 *
 * An *observer* (no `event`) sees every event and changes nothing; a chain of observers leaves
 * the bytes exactly as they came. A *rewriter* (has `event`) decides what goes on, by calling
 * next->event; its output must still be a stream that QEMU accepts. A plugin with both is a
 * rewriter, and its `observe` is not called.
 *
 * Threads: all calls for one instance come from one thread at a time; instances share nothing
 * unless the plugin makes them.
 * Errors: functions returning int return 0, or -1 after host->error(). A failing `event`
 * ends the migration (the guest stays on the source); a failing open, config or get_ready
 * refuses it before anything was touched.
 * Growth: new members go to the ends of the structures, optional for ever; a NULL member means
 * the default. The host copies min(its own, the plugin's) size. `flags` are 0 in version 1.
 */
#ifndef QMIG_PLUGIN_H
#define QMIG_PLUGIN_H

#include "qmig-event.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QMIG_PLUGIN_API_VERSION 1

#if defined(__GNUC__)
#define QMIG_PLUGIN_PRINTF __attribute__((__format__(__printf__, 2, 3)))
#else
#define QMIG_PLUGIN_PRINTF
#endif

/*
 * Where a report is written: a tree of named values. Each call adds one entry to the innermost
 * open group; inside a list the keys are ignored (NULL is fine).
 */
struct qmig_report {
    uint32_t size;
    void *context; /* the host's */
    void (*number)(struct qmig_report *, const char *key, uint64_t value);
    void (*text)(struct qmig_report *, const char *key, const char *value);
    void (*begin_group)(struct qmig_report *, const char *key);
    void (*begin_list)(struct qmig_report *, const char *key);
    void (*end)(struct qmig_report *);
};

/* What the host offers an instance; valid until close returns. */
struct qmig_host {
    uint32_t size;
    void *context; /* the host's */
    /* Say why the call in progress is about to return -1: what, where, got and wanted. */
    void (*error)(struct qmig_host *, const char *format, ...) QMIG_PLUGIN_PRINTF;
    /* A line for the debug log (G_MESSAGES_DEBUG=qmig-plugin). */
    void (*debug)(struct qmig_host *, const char *format, ...) QMIG_PLUGIN_PRINTF;
    /* Nanoseconds of a monotonic clock. */
    uint64_t (*now_ns)(struct qmig_host *);
    /*
     * Ask for a capture of the whole migration (docs/captures.md), in @directory, which is new or
     * empty: what comes from either side, on all channels, whatever plugins make of it. From
     * `config` and `get_ready` only, and by one plugin of a migration. When the directory cannot
     * be used, the migration is refused before anything was touched.
     * Return: 0, or -1: the plugin returns -1 as well and sets no error of its own.
     */
    int (*record)(struct qmig_host *, const char *directory);
};

/* The rest of the chain, for rewriters. */
struct qmig_next {
    uint32_t size;
    void *context; /* the host's */
    /*
     * Hand on one event; only from inside `event` and `finish`. Payload pointers must stay
     * good until the plugin's own `event` or `finish` returns (the host flushes before that
     * if it must).
     * Return: 0, or -1: the plugin returns -1 as well and sets no error of its own.
     */
    int (*event)(struct qmig_next *, const struct qmig_event *ev, uint32_t flags);
};

struct qmig_plugin {
    uint32_t _struct_size; /* set by QMIG_REGISTER_PLUGIN */
    uint32_t _api_version; /* set by QMIG_REGISTER_PLUGIN */

    const char *name;        /* required: 1 to 63 letters, digits, '-' */
    const char *description; /* one line */
    const char *config_help; /* "key=VALUE  what it does\n…" */

    /* Return: the instance's handle; NULL (after host->error) refuses. Default: handle NULL. */
    void *(*open)(struct qmig_host *host);
    /* One key=value of the user's. Default: every key is an error. */
    int (*config)(void *handle, const char *key, const char *value);
    /* Configuration is complete: the last moment to refuse visibly. */
    int (*get_ready)(void *handle);
    /* Observer: see one event. */
    void (*observe)(void *handle, const struct qmig_event *ev, uint32_t flags);
    /* Rewriter: one event arrived; call next->event zero or more times. */
    int (*event)(void *handle, struct qmig_next *next, const struct qmig_event *ev,
                 uint32_t flags);
    /* The input ended: a rewriter sends what it held back (an observer may not send). */
    int (*finish)(void *handle, struct qmig_next *next);
    /* Write what was learnt so far; called between events, and after `finish`, when what
       events pointed to is gone: copy the names you report. */
    void (*report)(void *handle, struct qmig_report *report);
    void (*close)(void *handle);
    /* New members go here, at the end, optional for ever. */
};

#if defined(_WIN32)
#define QMIG_PLUGIN_EXPORT __declspec(dllexport)
#else
#define QMIG_PLUGIN_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
#define QMIG_PLUGIN_LINKAGE extern "C"
#else
#define QMIG_PLUGIN_LINKAGE extern
#endif

/* The one exported symbol. A plugin built into a host defines QMIG_PLUGIN_INIT_NAME itself. */
#ifndef QMIG_PLUGIN_INIT_NAME
#define QMIG_PLUGIN_INIT_NAME qmig_plugin_init
#endif

#define QMIG_REGISTER_PLUGIN(plugin)                                                  \
    QMIG_PLUGIN_LINKAGE QMIG_PLUGIN_EXPORT struct qmig_plugin *QMIG_PLUGIN_INIT_NAME( \
        void);                                                                        \
    struct qmig_plugin *QMIG_PLUGIN_INIT_NAME(void)                                   \
    {                                                                                 \
        (plugin)._struct_size = (uint32_t)sizeof(plugin);                             \
        (plugin)._api_version = QMIG_PLUGIN_API_VERSION;                              \
        return &(plugin);                                                             \
    }

#ifdef __cplusplus
}
#endif

#endif
