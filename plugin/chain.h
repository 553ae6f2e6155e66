/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The plugins of one channel, in order, and what they do with its events. */
#ifndef QMIG_PLUGIN_CHAIN_H
#define QMIG_PLUGIN_CHAIN_H

#include "plugin/qmig-plugin.h"
#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>

typedef struct QmigChain QmigChain;

enum { QMIG_CHAIN_PLUGINS_MAX = 16 };

/* Where a rewriting chain's output goes. Return false with @error set to end the migration. */
typedef bool (*QmigChainSink)(void *data, const struct qmig_event *ev, GError **error);

/**
 * qmig_chain_new() - load, open, configure and ready the plugins of one channel
 * @specs: (array zero-terminated=1) "NAME", "NAME:key=value,key=value", or a path (has a
 *         slash, no colon) to a shared object in place of NAME. A comma inside a value is
 *         written twice. Names: see plugin/loader.h.
 * @sink:  (nullable) receives the events that leave the chain; unused by observers
 *
 * Errors: PLUGIN, with the plugin's own words; CONFIG for a name that is not found, a spec
 *         that cannot be read, too many plugins, two that ask for a capture or that do not
 *         go together.
 */
QmigChain *qmig_chain_new(const char *const *specs, QmigChainSink sink, void *sink_data,
                          GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_chain_free(QmigChain *chain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigChain, qmig_chain_free)

/* At least one plugin rewrites: the channel's output is what reaches the sink. */
bool qmig_chain_rewrites(const QmigChain *chain);

/* The directory of the capture that a plugin asks for, or NULL. Borrowed. */
const char *qmig_chain_record(const QmigChain *chain);

/* An observer has to see the events before their bytes are written. */
bool qmig_chain_looks_first(const QmigChain *chain);

/* Who tells the plugins how many bytes leave before the event in hand (host->position): called
   inside of push, with @data. Before the first push. */
void qmig_chain_set_position(QmigChain *chain, uint64_t (*position)(void *), void *data);

/* Hand one event to the first plugin. Errors: PLUGIN, or the sink's. After one the chain is
   good only for finish and reports. */
bool qmig_chain_push(QmigChain *chain, const struct qmig_event *ev,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What the plugins are told of the end (host->outcome). @failure: (nullable); @pong: value of the
   last PONG, -1 = none. Before finish, or where there is none before free. */
void qmig_chain_set_outcome(QmigChain *chain, const char *failure, int64_t pong);

/* A plugin wants to be told of silence: qmig_chain_idle(). */
bool qmig_chain_minds_silence(const QmigChain *chain);

/* Nothing came for so long. Between events. Errors: as push. */
bool qmig_chain_idle(QmigChain *chain, uint64_t silent_ns,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The input ended: `finish` of every plugin, first to last. */
bool qmig_chain_finish(QmigChain *chain, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_chain_report() - what the plugins have learnt, at any time between events
 *
 * {"<plugin name>": {what it reports}, …}; the second of one name is "<plugin name>#2", and so
 * on. A plugin that breaks the rules of reporting gets {"error": "why"} in place of its report.
 * Threads: that of push.
 * Return: (transfer full) never NULL.
 */
JsonObject *qmig_chain_report(QmigChain *chain);

/**
 * qmig_chain_set() - change a plugin's configuration while it runs
 * @name: "PLUGIN.KEY"; of several plugins of that name, the first; "PLUGIN#2.KEY": the second
 * @try:  change nothing, say only whether it would be done
 *
 * Threads: any. Errors: CONFIG: no such plugin in the chain; PLUGIN: it says no.
 */
bool qmig_chain_set(QmigChain *chain, const char *name, const char *value, bool try,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The plugins of a chain in their order, borrowed; for plugin/pacer.c. Threads: any. */
struct QmigInstance *const *qmig_chain_instances(const QmigChain *chain, unsigned *n);

#endif
