/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands migration needs, one typed call each. Errors as in qmp/client.h. */
#ifndef QMIG_QMP_COMMANDS_H
#define QMIG_QMP_COMMANDS_H

#include "qmp/client.h"
#include "qmp/migration-info.h"

/*
 * All calls wait until @deadline, and end early when @cancel (nullable) is raised. Results are
 * set only on success; a reply of another shape than expected is a PROTOCOL error.
 */

/* ---- what is it ------------------------------------------------------------------------- */

/* "7.2.22 (Debian 1:7.2+dfsg-7)"; (transfer full) */
char *qmig_qmp_query_version(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* @status: (out) (optional) (transfer full) QEMU's run state: "running", "inmigrate", … */
bool qmig_qmp_query_status(QmigQmp *q, bool *is_running, char **status,
                           QmigDeadline deadline, const QmigCancel *cancel,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The guest's name, "" when it has none; (transfer full) */
char *qmig_qmp_query_name(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The guest's UUID, all zeroes when it was given none; (transfer full) */
char *qmig_qmp_query_uuid(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool qmig_qmp_query_kvm(QmigQmp *q, bool *is_enabled, QmigDeadline deadline,
                        const QmigCancel *cancel,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The versioned machine type, "pc-i440fx-7.2": aliases are resolved by QEMU; (transfer full) */
char *qmig_qmp_query_machine(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Any property of QEMU's object tree; *@value (transfer full), NULL is JSON's null. */
bool qmig_qmp_qom_get(QmigQmp *q, const char *path, const char *property,
                      JsonObject **value, QmigDeadline deadline, const QmigCancel *cancel,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* @base_bytes: present at start; @plugged_bytes: (optional) plugged since */
bool qmig_qmp_query_memory(QmigQmp *q, uint64_t *base_bytes, uint64_t *plugged_bytes,
                           QmigDeadline deadline, const QmigCancel *cancel,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Number of virtual CPUs. */
bool qmig_qmp_query_n_cpus(QmigQmp *q, unsigned *n_cpus, QmigDeadline deadline,
                           const QmigCancel *cancel,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- migration -------------------------------------------------------------------------- */

/* (transfer full) */
QmigMigrationInfo *qmig_qmp_query_migrate(QmigQmp *q, QmigDeadline deadline,
                                          const QmigCancel *cancel,
                                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All capabilities, {"events": false, …}; (transfer full) */
JsonObject *qmig_qmp_get_capabilities(QmigQmp *q, QmigDeadline deadline,
                                      const QmigCancel *cancel,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/*
 * @capabilities: (transfer full) {"events": true, …}; those not named keep their value. QEMU
 * takes all or none. An empty object is sent nowhere and is a success.
 */
bool qmig_qmp_set_capabilities(QmigQmp *q, JsonObject *capabilities,
                               QmigDeadline deadline, const QmigCancel *cancel,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_set_capability(QmigQmp *q, const char *name, bool is_on,
                             QmigDeadline deadline, const QmigCancel *cancel,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* All parameters as query-migrate-parameters tells them; (transfer full) */
JsonObject *qmig_qmp_get_parameters(QmigQmp *q, QmigDeadline deadline,
                                    const QmigCancel *cancel,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @parameters: (transfer full) {"max-bandwidth": 0, …}; as set_capabilities */
bool qmig_qmp_set_parameters(QmigQmp *q, JsonObject *parameters, QmigDeadline deadline,
                             const QmigCancel *cancel,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * @uri:    "tcp:host:port", "unix:path", "fd:name", …
 * @resume: go on with a postcopy migration that is paused
 *
 * Returns before QEMU has connected: wait for MIGRATION events, or ask query_migrate.
 */
bool qmig_qmp_migrate(QmigQmp *q, const char *uri, bool resume, QmigDeadline deadline,
                      const QmigCancel *cancel, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* For a QEMU of `-incoming defer`; once per process, even when it fails. */
bool qmig_qmp_migrate_incoming(QmigQmp *q, const char *uri, QmigDeadline deadline,
                               const QmigCancel *cancel,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* No error when nothing migrates. Never in postcopy: QEMU 7.2 obeys, and the guest is lost. */
bool qmig_qmp_migrate_cancel(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* On from status pre-switchover. */
bool qmig_qmp_migrate_continue(QmigQmp *q, QmigDeadline deadline,
                               const QmigCancel *cancel,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool qmig_qmp_migrate_start_postcopy(QmigQmp *q, QmigDeadline deadline,
                                     const QmigCancel *cancel,
                                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * Out of band, on a connection with qmig_qmp_has_oob(): interrupt postcopy; make the paused
 * destination listen on a new @uri; shut all migration sockets of a QEMU that hangs on them.
 */
bool qmig_qmp_migrate_pause(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_migrate_recover(QmigQmp *q, const char *uri, QmigDeadline deadline,
                              const QmigCancel *cancel,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_yank_migration(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- the guest -------------------------------------------------------------------------- */

/* In run state inmigrate, cont succeeds and only undoes -S: ask query_status before. */
bool qmig_qmp_cont(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_stop(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/*
 * End QEMU, and wait until it closed the connection: then success. (The process may live for
 * a moment longer.) A connection that was closed before is CLOSED.
 */
bool qmig_qmp_quit(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Give QEMU a copy of @fd under @name, for "fd:NAME". Unix sockets only. */
bool qmig_qmp_getfd(QmigQmp *q, const char *name, int fd, QmigDeadline deadline,
                    const QmigCancel *cancel, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_closefd(QmigQmp *q, const char *name, QmigDeadline deadline,
                      const QmigCancel *cancel, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* QEMU writes @size bytes of guest memory from @address to file @path of its host. */
bool qmig_qmp_pmemsave(QmigQmp *q, uint64_t address, uint64_t size, const char *path,
                       QmigDeadline deadline, const QmigCancel *cancel,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What the human monitor prints; errors are part of the text; (transfer full) */
char *qmig_qmp_human_command(QmigQmp *q, const char *command_line, QmigDeadline deadline,
                             const QmigCancel *cancel,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Let the guest's network cards tell the switches where they are now. */
bool qmig_qmp_announce_self(QmigQmp *q, QmigDeadline deadline, const QmigCancel *cancel,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
