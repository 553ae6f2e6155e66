/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One fault: where it strikes, and what happens there. */
#ifndef QMIG_PLUGIN_FAULT_FAULT_H
#define QMIG_PLUGIN_FAULT_FAULT_H

#include "qmig-plugin.h"

#include <glib.h>
#include <stdbool.h>

typedef enum {
    FAULT_AT_NOTHING, /* not said yet */
    FAULT_AT_BYTE,
    FAULT_AT_EVENT,
    FAULT_AT_FILE, /* from when it is there, on every channel */
} FaultPlace;

typedef enum {
    FAULT_DO_NOTHING, /* not said yet */
    FAULT_DO_DELAY,
    FAULT_DO_STALL,
    FAULT_DO_CUT,
    FAULT_DO_CORRUPT,
} FaultAction;

typedef enum {
    FAULT_WAITING, /* for its place */
    FAULT_ACTING,
    FAULT_DONE,
} FaultState;

enum { FAULT_ANY_ID = UINT32_MAX };

typedef struct {
    char *at, *what; /* owned; as they were given */
    FaultPlace place;
    uint32_t channel, id; /* BYTE; EVENT: main */
    bool has_offset;      /* BYTE; EVENT: once it was seen */
    uint64_t offset;      /* bytes of that channel that leave before */
    uint16_t kind;        /* EVENT: enum qmig_event_kind */
    uint32_t number;      /* EVENT: section type, command, or kind of bytes; 0: any */
    char *name;   /* EVENT: of the section or block; NULL: any. FILE: the path. owned */
    uint64_t nth; /* EVENT: how many are still to come, this one included */
    FaultAction action;
    uint64_t delay_ms;
    uint64_t corrupt_at; /* bytes behind the place */
    FaultState state;
    uint64_t until_ns;  /* DELAY, while ACTING */
    uint64_t struck_at; /* byte of the channel where it struck */
} Fault;

/* "main@1M", "multifd-2@0", "start:ram", "command:postcopy-run", "eos#3", "file:/tmp/x".
   Errors: CONFIG. */
bool fault_parse_place(Fault *fault, const char *text,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "delay:300ms", "stall", "cut", "corrupt", "corrupt:12". Errors: CONFIG. */
bool fault_parse_action(Fault *fault, const char *text,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Is it the event that this fault waits for, not counting how often? */
bool fault_is_event(const Fault *fault, const struct qmig_event *ev);

void fault_free(void *fault);

#endif
