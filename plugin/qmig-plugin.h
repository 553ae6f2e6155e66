/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The stream-plugin ABI of qmig. Public: C99, usable from C++, needs no library.
 *
 *                 one instance for each decoded channel of a migration
 *
 *     open -> config* -> get_ready -> ( observe | event )* -> finish -> report* -> close
 *                                    |    `-- report at any time between events --'     |
 *                                    `--- pace, alter, set: at any time in between -----'
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
 * Threads: all calls for one instance come from one thread at a time, but for `pace`, `alter`
 * and `set`: these come from any thread, beside any other call, between get_ready and close.
 * Instances share nothing unless the plugin makes them.
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

/* What came of the migration, as far as it is known on the main channel. */
struct qmig_outcome {
    uint32_t size;      /* of this structure, bytes */
    uint32_t has_pong;  /* 1: last_pong tells something */
    uint32_t last_pong; /* value of the last PONG that the destination sent */
    uint32_t reserved;
    const char *failure; /* NUL-terminated, for people; NULL: no failure is known */
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
    /* Inside `observe` and `event`: how many bytes of the main channel leave before the event
       in hand, as qmig_piece.offset counts them. Elsewhere it tells nothing. */
    uint64_t (*position)(struct qmig_host *);
    /* How it ended: from `finish` to the end of `close`; before, no failure is known. A migration
       that is ended from elsewhere (another channel broke, another plugin refused) has no
       `finish`: then in `report` and `close` only. Never NULL; good until the next call. */
    const struct qmig_outcome *(*outcome)(struct qmig_host *);
};

/* The rest of the chain, for rewriters. */
struct qmig_next {
    uint32_t size;
    void *context; /* the host's */
    /*
     * Hand on one event; only from inside `event`, `idle` and `finish`. Payload pointers must
     * stay good until the plugin's own function returns (the host flushes before that
     * if it must).
     * Return: 0, or -1: the plugin returns -1 as well and sets no error of its own.
     */
    int (*event)(struct qmig_next *, const struct qmig_event *ev, uint32_t flags);
};

/* Channels, as the source opened them; values are never reused. */
enum qmig_piece_channel {
    QMIG_PIECE_MAIN = 1,
    QMIG_PIECE_MULTIFD = 2,
    QMIG_PIECE_PREEMPT = 3,
    QMIG_PIECE_OTHER = 4 /* encrypted end to end: nobody can tell which it is */
};

/* Bytes at the head of what is to be written to the destination, on any channel. */
struct qmig_piece {
    uint32_t size;    /* of this structure, bytes */
    uint32_t channel; /* enum qmig_piece_channel */
    uint32_t id;      /* MULTIFD: the source's number; OTHER: 1, 2, … */
    uint32_t reserved;
    uint64_t offset;  /* of the first byte: what was written on this channel before it */
    uint64_t bytes;   /* that are ready, at least 1; `pace` may lower it, not to 0 */
    uint64_t wait_ns; /* for `pace` to set; 0 */
};

/* Flags of `set`. */
#define QMIG_SET_TRY 1u /* change nothing: say only whether the value would be taken */

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

    /*
     * May this piece go now? One instance is asked for all channels of the migration, forward
     * direction, each from a thread of its own: main, multifd, preempt.
     *
     * Leave wait_ns at 0: piece->bytes, lowered or not, are granted; they will be written next,
     * and the channel asks again when they have been. Set wait_ns: nothing is granted. The
     * host asks again after that time, or sooner (it does not sleep longer than 100 ms), so
     * that a wait can be as long as one likes (UINT64_MAX: a standstill) and `set` can end it.
     * Data is held back by nothing else. -1 ends the migration.
     *
     * An observer with `pace` sees each event before any byte of it is asked for.
     */
    int (*pace)(void *handle, struct qmig_piece *piece);
    /* Change bytes that were granted, not their number; piece->bytes of @data. What is changed is
       on the wire as it is: the destination may take harm. -1 ends the migration. */
    int (*alter)(void *handle, const struct qmig_piece *piece, uint8_t *data);
    /* Configuration while it runs. After -1 the old value holds. @flags: QMIG_SET_*. */
    int (*set)(void *handle, const char *key, const char *value, uint32_t flags);
    /*
     * Names of plugins, NULL at the end. `conflicts`: may not be in the same chain; one's own
     * name: only once. `not_after`: may not stand before this one, as what they hand on is of
     * no use to it. Where one of two says so, it holds; refused before anything is opened.
     */
    const char *const *conflicts;
    const char *const *not_after;
    /*
     * Rewriter: the input has been silent for @silent_ns, and need not speak again until something
     * is handed on; called again and again while that lasts, some five times a second. Whoever
     * holds events back has this, so that the two sides do not wait for each other for ever: it
     * may call next->event as in `event`. -1 ends the migration.
     */
    int (*idle)(void *handle, struct qmig_next *next, uint64_t silent_ns);
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
