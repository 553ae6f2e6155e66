/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is a stream whole and consistent, and would a certain QEMU take it? */
#ifndef QMIG_INSPECT_CHECK_H
#define QMIG_INSPECT_CHECK_H

#include "inspect/reader.h"
#include "qmp/client.h"
#include "util/auto.h"

/**
 * qmig_check_read() - read all of a stream, and look for what is wrong in it
 *
 * Every record is read, every compressed page decoded, every device section read by name.
 * Memory: two bits for each page of the guest.
 *
 * Return: { "complete": bool,
 *           "findings": [ { "severity": "error" | "warning", "channel": text,
 *                           "offset": bytes in the channel, "where": section or block,
 *                           "text": what is wrong } ],
 *           "needs": what a QEMU must have to load it:
 *             { "machine": text, "page_size": n, "capabilities": [ text ], "since": version,
 *               "until": version that still reads it, 0: all, "blocks": [ { "name", "length" } ],
 *               "sections": [ { "name", "instance", "version", "vmsd" } ] } }
 *         (transfer full). A version is major * 10000 + minor * 100. At most
 *         QMIG_CHECK_FINDINGS findings are listed; a last one tells of the rest.
 *         NULL only when the file cannot be opened.
 */
JsonObject *qmig_check_read(const char *path,
                            void (*progress)(uint64_t done, uint64_t total),
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

enum { QMIG_CHECK_FINDINGS = 100 };

/* Add a finding to those of a check. */
void qmig_check_add(JsonObject *check, const char *severity, const char *channel,
                    uint64_t offset, const char *where, const char *fmt, ...)
    G_GNUC_PRINTF(6, 7);

/* Add what a QEMU of @version (major * 10000 + minor * 100; 0: any) with machine @machine
 * (nullable: any) would refuse. */
void qmig_check_against_facts(JsonObject *check, const char *machine, unsigned version);

/* Add what this running QEMU would refuse: machine, RAM blocks, vCPUs, PCI devices,
 * capabilities, version. Errors: as qmig_qmp_execute(). */
bool qmig_check_against_qmp(JsonObject *check, QmigQmp *qmp,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Add what the devices of a QEMU binary would refuse, by the output of its -dump-vmstate.
 * Errors: PROTOCOL: not such an output. */
bool qmig_check_against_vmstate(JsonObject *check, const char *json, size_t length,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- what a QEMU takes, as a description (docs/accepts.md) --------------------------------- */

/* A description that says nothing yet. (transfer full) */
JsonObject *qmig_accepts_new_description(void);

/* Add what this running QEMU tells: "machine", "qemu", "vcpus", "blocks", "pci", "capabilities".
 * Errors: as qmig_qmp_execute(). */
bool qmig_accepts_of_qmp(JsonObject *accepts, QmigQmp *qmp,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Add "vmstates", by the output of a binary's -dump-vmstate. Errors: PROTOCOL. */
bool qmig_accepts_of_vmstate(JsonObject *accepts, const char *json, size_t length,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
