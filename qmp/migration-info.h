/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The reply of query-migrate as a struct. */
#ifndef QMIG_QMP_MIGRATION_INFO_H
#define QMIG_QMP_MIGRATION_INFO_H

#include "util/address.h"
#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    QMIG_MIGRATION_NONE, /* nothing yet, or QEMU told no status */
    QMIG_MIGRATION_SETUP,
    QMIG_MIGRATION_WAIT_UNPLUG,
    QMIG_MIGRATION_ACTIVE,
    QMIG_MIGRATION_PRE_SWITCHOVER,
    QMIG_MIGRATION_DEVICE,
    QMIG_MIGRATION_POSTCOPY_DEVICE,
    QMIG_MIGRATION_POSTCOPY_ACTIVE,
    QMIG_MIGRATION_POSTCOPY_PAUSED,
    QMIG_MIGRATION_POSTCOPY_RECOVER_SETUP,
    QMIG_MIGRATION_POSTCOPY_RECOVER,
    QMIG_MIGRATION_COLO,
    QMIG_MIGRATION_CANCELLING,
    QMIG_MIGRATION_FAILING,
    QMIG_MIGRATION_CANCELLED, /* from here: over */
    QMIG_MIGRATION_FAILED,
    QMIG_MIGRATION_COMPLETED,
    QMIG_MIGRATION_UNKNOWN, /* a status of a newer QEMU: in progress */
} QmigMigrationStatus;

QmigMigrationStatus qmig_migration_status_from_text(const char *text);
/* QEMU's word; "unknown" for UNKNOWN. Static. */
const char *qmig_migration_status_name(QmigMigrationStatus status);
/* completed, failed or cancelled: nothing happens until the next migrate. */
bool qmig_migration_status_is_over(QmigMigrationStatus status);
/* Neither over nor none. */
bool qmig_migration_status_is_in_progress(QmigMigrationStatus status);
/* The guest is, or may be, at the destination: cancel would lose it. */
bool qmig_migration_status_is_postcopy(QmigMigrationStatus status);

/* Bytes unless said otherwise; 0 when QEMU did not tell. */
typedef struct {
    uint64_t transferred;
    uint64_t remaining;
    uint64_t total;
    uint64_t duplicate;         /* zero pages sent */
    uint64_t normal;            /* normal pages sent */
    uint64_t normal_bytes;      /* bytes of normal pages sent */
    uint64_t dirty_pages_rate;  /* pages per second the guest dirties */
    double mbps;                /* 10^6 bits per second */
    uint64_t dirty_sync_count;  /* passes */
    uint64_t postcopy_requests; /* pages asked for by the destination */
    uint64_t page_size;
    uint64_t multifd_bytes;
    uint64_t pages_per_second;
    uint64_t precopy_bytes;
    uint64_t downtime_bytes;
    uint64_t postcopy_bytes;
} QmigMigrationRam;

typedef struct {
    uint64_t cache_size;
    uint64_t bytes;
    uint64_t pages;
    uint64_t cache_miss; /* pages */
    double cache_miss_rate;
    double encoding_rate;
    uint64_t overflow; /* pages */
} QmigMigrationXbzrle;

typedef struct {
    QmigMigrationStatus status;
    char *status_text; /* as QEMU wrote it; "none" when it wrote nothing; owned */

    bool has_ram; /* cancelled and failed carry no statistics */
    QmigMigrationRam ram;
    bool has_xbzrle; /* only with that capability */
    QmigMigrationXbzrle xbzrle;
    uint64_t vfio_transferred;
    uint64_t remaining; /* RAM and devices; 0 before QEMU 11.1 */

    bool has_downtime; /* completed, or in postcopy */
    uint64_t downtime_ms;
    bool has_expected_downtime; /* while running */
    uint64_t expected_downtime_ms;
    uint64_t setup_time_ms;
    uint64_t total_time_ms;
    uint64_t cpu_throttle_percentage; /* auto-converge; 0 = not throttling */

    char *error_desc;       /* NULL = none; old QEMUs tell none for many failures; owned */
    char **blocked_reasons; /* why it cannot migrate now; never NULL, may be empty; owned */

    /* Where a destination listens, with the real port; elements owned, may be empty. */
    GPtrArray *socket_addresses; /* (element-type QmigAddress) */
} QmigMigrationInfo;

/**
 * qmig_migration_info_new() - read the reply of query-migrate
 * @reply: a JSON object
 *
 * Members that are absent, or of another type than expected, count as absent: a newer QEMU
 * must not end a migration by a new notation. Errors: PROTOCOL (no object).
 * Return: (transfer full) or NULL.
 */
QmigMigrationInfo *
qmig_migration_info_new(JsonObject *reply, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_migration_info_free(QmigMigrationInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigMigrationInfo, qmig_migration_info_free)

#endif
