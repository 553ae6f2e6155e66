/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One instance of a plugin, seen from qmig's side: every call of the ABI but the two hot ones
 * (observe, event: plugin/chain.c) goes through here, and comes back as GError or JSON.
 */
#ifndef QMIG_PLUGIN_BRIDGE_H
#define QMIG_PLUGIN_BRIDGE_H

#include "plugin/loader.h"
#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>

typedef struct QmigInstance QmigInstance;

/**
 * qmig_instance_open() - open an instance
 * @plugin: (transfer full) freed with the instance, and on error too
 *
 * Errors: PLUGIN, with the plugin's words.
 */
QmigInstance *qmig_instance_open(QmigPlugin *plugin,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Close, and free the plugin. */
void qmig_instance_free(QmigInstance *instance);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigInstance, qmig_instance_free)

const struct qmig_plugin *qmig_instance_api(const QmigInstance *instance);
/* What open returned: the first argument of observe and event. */
void *qmig_instance_handle(const QmigInstance *instance);

/* Errors: PLUGIN; each is prefixed with the plugin's name. */
bool qmig_instance_config(QmigInstance *instance, const char *key, const char *value,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_instance_get_ready(QmigInstance *instance,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_instance_finish(QmigInstance *instance, struct qmig_next *next,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The directory of the capture that it asked for, or NULL. Borrowed. */
const char *qmig_instance_record(const QmigInstance *instance);

/* Threads: any. Errors: PLUGIN; also for a plugin without `set`. @flags: QMIG_SET_*. */
bool qmig_instance_set(QmigInstance *instance, const char *key, const char *value,
                       uint32_t flags, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_instance_pace() - may a piece go? The plugin has `pace`.
 * @piece: (inout)
 *
 * Threads: any. Errors: PLUGIN; also for a piece that the plugin made empty or longer.
 */
bool qmig_instance_pace(QmigInstance *instance, struct qmig_piece *piece,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The plugin has `alter`. Threads: any. Errors: PLUGIN. */
bool qmig_instance_alter(QmigInstance *instance, const struct qmig_piece *piece,
                         uint8_t *data, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Where host->position gets its answer from. Before the first event. */
typedef uint64_t (*QmigPosition)(void *data);
void qmig_instance_set_position(QmigInstance *instance, QmigPosition position,
                                void *data);

/* What host->outcome tells from now on. @failure: (nullable) copied; @pong: -1 = none. */
void qmig_instance_set_outcome(QmigInstance *instance, const char *failure, int64_t pong);

/**
 * qmig_instance_report() - what the instance has learnt
 *
 * Text that is not UTF-8 is made so. Errors: PLUGIN: groups that do not match, groups too
 * deep, a name given twice.
 * Return: (transfer full) an object, {} for a plugin without `report`; NULL on error.
 */
JsonObject *qmig_instance_report(QmigInstance *instance,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_instance_failed() - a call of @what returned -1: make an error of it
 * @what: the ABI function, for the message when the plugin said nothing
 *
 * Takes what the plugin last told host->error.
 * Return: always false.
 */
bool qmig_instance_failed(QmigInstance *instance, const char *what, GError **error);

#endif
