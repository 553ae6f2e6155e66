/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding a plugin by name or path, and agreeing with it on the version of the ABI. */
#ifndef QMIG_PLUGIN_LOADER_H
#define QMIG_PLUGIN_LOADER_H

#include "plugin/qmig-plugin.h"

#include <glib.h>
#include <stdbool.h>

/* A loaded plugin; instances are opened from it (plugin/bridge.h). */
typedef struct {
    struct qmig_plugin api; /* of this build's size; members the plugin lacks are NULL */
    char *origin;           /* "built-in", or the path of the shared object */
    void *library;          /* dlopen's handle; NULL: built-in */
} QmigPlugin;

/**
 * qmig_plugin_load() - find and check a plugin
 * @name: a name, or a path when there is a slash in it
 *
 * Names are looked for in this order: the built-in plugins; NAME.so, then
 * qmig-NAME-plugin.so, in each directory of $QMIG_PLUGIN_PATH (colons between them; ignored
 * in a process that was given privileges), then in the installed plugin directory.
 * Errors: CONFIG: no such plugin, with the places searched; PLUGIN: it is there, but cannot
 *         be loaded or speaks another ABI.
 * Return: (transfer full) the plugin, or NULL.
 */
QmigPlugin *qmig_plugin_load(const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void qmig_plugin_free(QmigPlugin *plugin);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigPlugin, qmig_plugin_free)

/**
 * qmig_plugin_check() - take over a plugin's declaration, whatever its age
 * @declared: as the plugin's one function returned it; NULL is an error
 * @origin:   for messages
 * @api:      (out) min(own, declared) bytes of it over zeroes
 *
 * Errors: PLUGIN.
 */
bool qmig_plugin_check(const struct qmig_plugin *declared, const char *origin,
                       struct qmig_plugin *api, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A built-in plugin: its name and its registration function (plugin/builtin.c). */
typedef struct {
    const char *name;
    struct qmig_plugin *(*init)(void);
} QmigBuiltinPlugin;

/* A row with a NULL name ends the table. */
extern const QmigBuiltinPlugin qmig_builtin_plugins[];

#endif
