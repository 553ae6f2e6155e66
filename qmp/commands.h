/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The commands a migration needs, typed. Errors as qmig_qmp_execute(). */
#ifndef QMIG_QMP_COMMANDS_H
#define QMIG_QMP_COMMANDS_H

#include "qmp/client.h"

/* Status of a migration, QEMU's MigrationStatus. What a newer QEMU adds is UNKNOWN: in progress. */
typedef enum {
    QMIG_STATUS_NONE, /* no migration since the start of this QEMU */
    QMIG_STATUS_SETUP,
    QMIG_STATUS_ACTIVE,
    QMIG_STATUS_PRE_SWITCHOVER,
    QMIG_STATUS_DEVICE,
    QMIG_STATUS_POSTCOPY, /* any postcopy-* : the guest cannot come back to the source */
    QMIG_STATUS_CANCELLING,
    QMIG_STATUS_CANCELLED,
    QMIG_STATUS_FAILED,
    QMIG_STATUS_COMPLETED,
    QMIG_STATUS_COLO,
    QMIG_STATUS_UNKNOWN,
} QmigMigrationStatus;

/* Nothing will change any more until the next `migrate`. */
bool qmig_status_is_final(QmigMigrationStatus status);
QmigMigrationStatus qmig_status_parse(const char *text);

/* query-migrate; what QEMU did not tell is 0. */
typedef struct {
    QmigMigrationStatus status;
    char *status_text;           /* QEMU's word; "none" when it had none */
    char *error;                 /* (nullable) error-desc */
    QmigAddress *socket_address; /* (nullable) where a destination listens */
    char *blocked;               /* (nullable) blocked-reasons, joined by "; " */
    uint64_t transferred, remaining, total; /* bytes of RAM */
    uint64_t normal, duplicate;             /* pages */
    uint64_t page_size;                     /* bytes */
    uint64_t dirty_rate;                    /* pages per second */
    uint64_t iterations;                    /* dirty-sync-count */
    double mbps;                            /* megabits per second */
    uint64_t total_ms, setup_ms;
    uint64_t downtime_ms;          /* once completed */
    uint64_t expected_downtime_ms; /* while running */
    uint64_t throttle_percent;
} QmigMigrationInfo;

void qmig_migration_info_clear(QmigMigrationInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(QmigMigrationInfo, qmig_migration_info_clear)

/* @reply: what query-migrate returned. Fills @info. */
void qmig_migration_info_parse(QmigMigrationInfo *info, JsonObject *reply);
/* @info: (out) overwritten: clear an earlier one first. */
bool qmig_qmp_query_migrate(QmigQmp *qmp, QmigMigrationInfo *info,
                            const QmigQmpCall *call,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* query-status: whether vCPUs run, and QEMU's word ("running", "paused", "inmigrate", …).
 * @status: (out) (optional) (transfer full) */
bool qmig_qmp_query_status(QmigQmp *qmp, bool *running, char **status,
                           const QmigQmpCall *call,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The versioned machine type without "-machine". (transfer full) */
char *qmig_qmp_query_machine(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Bytes of base and plugged memory. */
bool qmig_qmp_query_memory(QmigQmp *qmp, uint64_t *bytes,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_query_vcpus(QmigQmp *qmp, unsigned *count,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* {name: bool} of all capabilities this QEMU has. (transfer full) */
JsonObject *qmig_qmp_get_capabilities(QmigQmp *qmp,
                                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @states: {name: bool}; borrowed. An empty one sends nothing. */
bool qmig_qmp_set_capabilities(QmigQmp *qmp, JsonObject *states,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* As query-migrate-parameters gives them. (transfer full) */
JsonObject *qmig_qmp_get_parameters(QmigQmp *qmp,
                                    GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @values: {name: value}; borrowed. An empty one sends nothing. */
bool qmig_qmp_set_parameters(QmigQmp *qmp, JsonObject *values,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* @uri: where to; returns before QEMU has connected. */
bool qmig_qmp_migrate(QmigQmp *qmp, const char *uri,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Resume a paused post-copy towards @uri. */
bool qmig_qmp_migrate_resume(QmigQmp *qmp, const char *uri,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Destination of a paused post-copy: listen anew. Out of band, as the next. */
bool qmig_qmp_migrate_recover(QmigQmp *qmp, const char *uri,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Break a post-copy, on either side; it can be resumed. */
bool qmig_qmp_migrate_pause(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_start_postcopy(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_migrate_incoming(QmigQmp *qmp, const char *uri,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Never during postcopy: QEMU 7.2 would accept it, and the guest be lost. */
bool qmig_qmp_migrate_cancel(QmigQmp *qmp, const QmigQmpCall *call,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Shut QEMU's migration sockets out of band: works while its main loop is blocked. */
bool qmig_qmp_yank_migration(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_stop(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_qmp_cont(QmigQmp *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* End QEMU; its closing the connection is success. */
bool qmig_qmp_quit(QmigQmp *qmp, const QmigQmpCall *call,
                   GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Give QEMU a descriptor under a name, for "fd:NAME". Unix sockets only. @fd stays open here. */
bool qmig_qmp_getfd(QmigQmp *qmp, const char *name, int fd,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
