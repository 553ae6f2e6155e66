/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading QEMU's object tree.
 *
 * What QEMU refuses to tell (no such object, a property that cannot be read) is NULL, not an
 * error; errors are those of a QEMU that does not answer. Lists have at most as many entries
 * as the limits below: what is beyond is left out.
 */
#ifndef QMIG_QMP_QOM_H
#define QMIG_QMP_QOM_H

#include "qmp/client.h"

enum {
    QMIG_QOM_MAX_ENTRIES =
        4096, /* members of one object; the largest known, a CPU, has 800 */
};

/**
 * qmig_qmp_ask() - a question whose answer may be no
 * @arguments: (transfer full) (nullable)
 * @answer:    (out) (transfer full) NULL when QEMU says that it cannot tell
 */
bool qmig_qmp_ask(QmigQmp *qmp, const char *command, JsonObject *arguments,
                  JsonObject **answer, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What a human-monitor command prints. @text: (out) (transfer full) NULL: it cannot. */
bool qmig_qmp_ask_human(QmigQmp *qmp, const char *command_line, char **text,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Type of the object that a member of a list is the child of: "PIIX3"; NULL: it is no child.
 * (transfer full) */
char *qmig_qom_child_type(JsonObject *entry);

/* [{"name", "type"}, …] of an object; NULL when there is none. */
bool qmig_qom_list(QmigQmp *qmp, const char *path, JsonObject **list,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qom_get(QmigQmp *qmp, const char *path, const char *property,
                  JsonObject **value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * {name: value} of what can be read of an object: neither children nor links, but for the link
 * to the bus it sits on; an empty one when there is no such object.
 */
bool qmig_qom_properties(QmigQmp *qmp, const char *path, JsonObject **properties,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
