/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this QEMU can do, as its own query-qmp-schema tells: the only feature test. */
#ifndef QMIG_QMP_SCHEMA_H
#define QMIG_QMP_SCHEMA_H

#include "qmp/client.h"

typedef struct QmigSchema QmigSchema;

/* The JSON type of an argument. */
typedef enum {
    QMIG_SCHEMA_NONE, /* there is no such argument */
    QMIG_SCHEMA_BOOL,
    QMIG_SCHEMA_INT,
    QMIG_SCHEMA_NUMBER,
    QMIG_SCHEMA_STRING, /* also an alternate of string and null, such as tls-creds */
    QMIG_SCHEMA_ENUM,
    QMIG_SCHEMA_ARRAY,
    QMIG_SCHEMA_OBJECT,
    QMIG_SCHEMA_OTHER,
} QmigSchemaType;

/**
 * qmig_schema_new() - index the reply of query-qmp-schema
 * @entries: the array; another reference to it is kept
 *
 * Immutable afterwards. Threads: any, after creation.
 * Errors: PROTOCOL (no array, an entry without name or meta-type).
 * Return: (transfer full) or NULL.
 */
QmigSchema *qmig_schema_new(JsonObject *entries,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The same, asked of @q. Errors: also those of qmig_qmp_execute(). */
QmigSchema *qmig_schema_load(QmigQmp *q, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_schema_free(QmigSchema *schema);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigSchema, qmig_schema_free)

bool qmig_schema_has_command(const QmigSchema *s, const char *command);
/* May @command be executed out of band? */
bool qmig_schema_command_has_oob(const QmigSchema *s, const char *command);
bool qmig_schema_has_event(const QmigSchema *s, const char *event);

/*
 * @path names an argument, or a member of it: "channels", "channels.addr.transport". Arrays
 * are looked through; of a union, all branches are searched.
 */
bool qmig_schema_command_has_arg(const QmigSchema *s, const char *command,
                                 const char *path);
QmigSchemaType qmig_schema_command_arg_type(const QmigSchema *s, const char *command,
                                            const char *path);
/* Is @value one of the enum at @path? False also when that is no enum. */
bool qmig_schema_command_arg_enum_has(const QmigSchema *s, const char *command,
                                      const char *path, const char *value);
/* All values of the enum at @path, in QEMU's order; (transfer full), empty when no enum. */
char **qmig_schema_command_arg_enum_values(const QmigSchema *s, const char *command,
                                           const char *path);
/* As _has_arg, in what @command returns: ("query-migrate", "ram.postcopy-bytes"). */
bool qmig_schema_command_returns(const QmigSchema *s, const char *command,
                                 const char *path);

/* Migration capabilities and parameters this QEMU accepts; lists in its order, transfer full. */
bool qmig_schema_has_capability(const QmigSchema *s, const char *name);
bool qmig_schema_has_parameter(const QmigSchema *s, const char *name);
char **qmig_schema_capabilities(const QmigSchema *s);
char **qmig_schema_parameters(const QmigSchema *s);

#endif
