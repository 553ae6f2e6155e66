/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a QEMU takes, as far as somebody described it; docs/accepts.md has the format. Whatever is
 * not described is taken.
 *
 * A refusal is a text for people (transfer full): got and wanted. NULL: it is taken.
 */
#ifndef QMIG_PLUGIN_GUARD_ACCEPTS_H
#define QMIG_PLUGIN_GUARD_ACCEPTS_H

#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct QmigAccepts QmigAccepts;

QmigAccepts *qmig_accepts_new(void);
void qmig_accepts_free(QmigAccepts *a);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigAccepts, qmig_accepts_free)

/**
 * qmig_accepts_add() - take in one more description
 * @json: a description (`qmig stream accepts`), the output of QEMU's -dump-vmstate, or that of
 *        `qmig stream check --json` on a stream that such a QEMU wrote
 *
 * What two of them say of the same thing, the later one decides.
 * Errors: PROTOCOL: it is none of these.
 */
bool qmig_accepts_add(QmigAccepts *a, JsonObject *json,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Likewise, from a file of at most 64 MiB. Errors: IO, LIMIT, PROTOCOL. */
bool qmig_accepts_read(QmigAccepts *a, const char *path,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The description of the output of -dump-vmstate: {"machine", "vmstates"}. (transfer full)
   Errors: PROTOCOL. */
JsonObject *qmig_accepts_of_dump(JsonObject *dump,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The machine type of the stream's head. */
char *qmig_accepts_machine(const QmigAccepts *a, const char *machine);
/* A RAM block of @length bytes. */
char *qmig_accepts_block(const QmigAccepts *a, const char *name, uint64_t length);
/* A device section. @vmsd: (nullable) its description's name; else that is read off @name. */
char *qmig_accepts_section(const QmigAccepts *a, const char *name, uint32_t instance,
                           uint32_t version, const char *vmsd);
/* A guest of so many vCPUs; 0: not known. */
char *qmig_accepts_vcpus(const QmigAccepts *a, unsigned vcpus);
/* A capability that must be set, as the stream's head says. */
char *qmig_accepts_capability(const QmigAccepts *a, const char *name);

#endif
