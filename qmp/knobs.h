/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one table of migration capabilities and parameters of QEMU, and texts to values. */
#ifndef QMIG_QMP_KNOBS_H
#define QMIG_QMP_KNOBS_H

#include "qmp/schema.h"

typedef enum {
    QMIG_KNOB_CAPABILITY,
    QMIG_KNOB_PARAMETER,
} QmigKnobKind;

typedef enum {
    QMIG_KNOB_BOOL,        /* "on", "off" */
    QMIG_KNOB_COUNT,       /* a number without unit */
    QMIG_KNOB_PERCENT,     /* "20", "20%" */
    QMIG_KNOB_BYTES,       /* "64MiB" */
    QMIG_KNOB_RATE,        /* bytes per second: "1.5Gbit" */
    QMIG_KNOB_RATE_MIB,    /* MiB per second: a bare number, or "100MiB/s" */
    QMIG_KNOB_DURATION_MS, /* milliseconds: "300ms" */
    QMIG_KNOB_ENUM,        /* one of a list of words */
    QMIG_KNOB_TEXT,        /* a string; "" clears it */
    QMIG_KNOB_JSON,        /* a list, written as JSON */
} QmigKnobType;

typedef enum {
    QMIG_KNOB_SOURCE = 1 << 0,
    QMIG_KNOB_DESTINATION = 1 << 1,
    QMIG_KNOB_BOTH = QMIG_KNOB_SOURCE | QMIG_KNOB_DESTINATION,
} QmigKnobSide;

typedef struct {
    const char *name; /* QEMU's name */
    QmigKnobKind kind;
    QmigKnobType type;
    QmigKnobSide side;         /* where it has to be set */
    const char *since;         /* "8.1"; NULL = 7.2 has it */
    const char *removed;       /* first version without it; NULL = none known */
    int64_t min, max;          /* range in QEMU's unit; both 0 = none */
    const char *default_value; /* as qmig_knob_parse_value() reads it; "" = unset */
    const char *help;          /* one line, no full stop */
    const char *instead;       /* what does it where this QEMU lacks it; NULL = nothing */
} QmigKnob;

/* All rows, capabilities first. Static. */
const QmigKnob *qmig_knobs(size_t *n);
/* NULL when not in the table. */
const QmigKnob *qmig_knob_find(const char *name);

/* One line of a list of what a certain QEMU has. */
typedef struct {
    char *name; /* owned */
    QmigKnobKind kind;
    const QmigKnob *knob; /* NULL: QEMU lists it, this qmig does not know it */
    bool is_offered;      /* false: this QEMU does not have it */
} QmigKnobEntry;

/* Shown as help of an entry without knob. */
#define QMIG_KNOB_UNKNOWN_HELP "not known to this qmig"

/**
 * qmig_knob_entries() - the table and the lists of a QEMU, joined
 *
 * Table order first, then what only that QEMU knows.
 * Return: (transfer full) (element-type QmigKnobEntry), free with g_ptr_array_unref().
 */
GPtrArray *qmig_knob_entries(const QmigSchema *schema);

/**
 * qmig_knob_parse_value() - what a user wrote, as the JSON value QEMU wants
 * @name:   a capability or parameter; one that is only in @schema is read by its JSON type
 * @text:   see QmigKnobType
 * @schema: (nullable) also check that this QEMU has it, and has that word of an enum
 *
 * Errors: CONFIG (unknown name, malformed, out of range), UNSUPPORTED (this QEMU lacks it).
 * Return: (transfer full) or NULL.
 */
JsonObject *qmig_knob_parse_value(const char *name, const char *text,
                                  const QmigSchema *schema,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_knob_check() - has this QEMU the knob?
 * @have:  (nullable) {name: …} as qmig_qmp_get_capabilities() or _get_parameters() tell
 * @label: whose it is, for the message: "source", "destination"
 *
 * For who has no schema at hand. QEMU does not list a parameter of type JSON that is unset:
 * those pass. Errors: UNSUPPORTED, with the versions that have it and what to use instead.
 */
bool qmig_knob_check(QmigKnobKind kind, const char *name, JsonObject *have,
                     const char *label, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A value of QEMU for people: "1.07 Gbit/s", "on", "300 ms". (transfer full) */
char *qmig_knob_format_value(const char *name, JsonObject *value);

#endif
