/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See refusals.h. */
#include "proxy/link/refusals.h"

#include "util/error.h"

#include <inttypes.h>
#include <string.h>

enum { N_CODES = QMIG_ERROR_TLS + 1, SECOND_US = 1000000 };

struct QmigRefusals {
    bool (*emit)(void *data, const char *line);
    void *data;
    int64_t since_us; /* the second that runs; 0 = none does */
    unsigned n_lines; /* told in it */
    uint64_t left_out[N_CODES], n_left_out;
    uint64_t all[N_CODES], n_all;
    char *last_peer; /* of those left out */
};

QmigRefusals *
qmig_refusals_new(bool (*emit)(void *data, const char *line), void *data)
{
    QmigRefusals *refusals = g_new0(QmigRefusals, 1);

    refusals->emit = emit;
    refusals->data = data;
    return refusals;
}

void
qmig_refusals_free(QmigRefusals *refusals)
{
    if (refusals != NULL) {
        g_free(refusals->last_peer);
        g_free(refusals);
    }
}

static const char *
name_of(int code)
{
    GError error = { QMIG_ERROR, code, NULL };

    return qmig_error_name(&error);
}

/* What was left out stays so where the line cannot be written. */
static void
summarize(QmigRefusals *refusals, int64_t now_us)
{
    g_autoptr(GString) line = g_string_new(NULL);
    bool first = true;

    g_string_append_printf(
        line, "refused %" PRIu64 " more in %" PRId64 " s:", refusals->n_left_out,
        MAX((now_us - refusals->since_us) / SECOND_US, 1));
    for (int code = 0; code < N_CODES; code++) {
        if (refusals->left_out[code] > 0) {
            g_string_append_printf(line, "%s %" PRIu64 " %s", first ? "" : ",",
                                   refusals->left_out[code], name_of(code));
            first = false;
        }
    }
    g_string_append_printf(line, "; the last from %s", refusals->last_peer);
    if (refusals->emit(refusals->data, line->str)) {
        memset(refusals->left_out, 0, sizeof refusals->left_out);
        refusals->n_left_out = 0;
    }
}

void
qmig_refusals_flush(QmigRefusals *refusals, bool at_once, int64_t now_us)
{
    if (refusals->since_us == 0 ||
        (!at_once && now_us - refusals->since_us < SECOND_US)) {
        return;
    }
    if (refusals->n_left_out > 0) {
        summarize(refusals, now_us);
    }
    /* Where that could not be written, it is tried again a second later. */
    refusals->since_us = refusals->n_left_out > 0 ? now_us : 0;
    refusals->n_lines = 0;
}

void
qmig_refusals_add(QmigRefusals *refusals, const char *peer, const GError *why,
                  int64_t now_us)
{
    int code = why->domain == QMIG_ERROR && why->code >= 0 && why->code < N_CODES
                   ? why->code
                   : QMIG_ERROR_IO;

    qmig_refusals_flush(refusals, false, now_us);
    if (refusals->since_us == 0) {
        refusals->since_us = now_us;
    }
    refusals->all[code]++;
    refusals->n_all++;
    if (refusals->n_lines < QMIG_REFUSALS_LINES) {
        g_autofree char *line = g_strdup_printf("refused %s: %s: %s", peer, name_of(code),
                                                why->message);
        refusals->n_lines++;
        if (refusals->emit(refusals->data, line)) {
            return;
        }
    }
    refusals->left_out[code]++;
    refusals->n_left_out++;
    g_free(refusals->last_peer);
    refusals->last_peer = g_strdup(peer);
}

int64_t
qmig_refusals_due_us(const QmigRefusals *refusals)
{
    return refusals->n_left_out > 0 ? refusals->since_us + SECOND_US : INT64_MAX;
}

uint64_t
qmig_refusals_total(const QmigRefusals *refusals)
{
    return refusals->n_all;
}

struct json_object *
qmig_refusals_describe(const QmigRefusals *refusals)
{
    struct json_object *object = json_object_new_object();

    for (int code = 0; code < N_CODES; code++) {
        if (refusals->all[code] > 0) {
            json_object_object_add(object, name_of(code),
                                   json_object_new_int64((int64_t)refusals->all[code]));
        }
    }
    return object;
}
