/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plugin loader.
 *
 * What a plugin declares is not trusted: sizes are checked before they are used, and a size
 * that would cut a member in two is refused rather than copied. The library stays open as
 * long as the QmigPlugin lives, because its strings and functions are used in place.
 */
#include "plugin/loader.h"

#include "util/error.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#ifndef QMIG_PLUGIN_DIR
#error "QMIG_PLUGIN_DIR is set by meson.build"
#endif

enum { NAME_MAX_LENGTH = 63 };

/* Up to here a plugin must reach: size, version, name. */
#define SIZE_MIN offsetof(struct qmig_plugin, description)

typedef struct qmig_plugin *(*InitFunction)(void);

static bool
is_name(const char *name)
{
    size_t n = strspn(name,
                      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");

    return n > 0 && n <= NAME_MAX_LENGTH && name[n] == '\0';
}

bool
qmig_plugin_check(const struct qmig_plugin *declared, const char *origin,
                  struct qmig_plugin *api, GError **error)
{
    struct qmig_plugin own = { 0 };

    if (declared == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PLUGIN,
                              "%s: its init function returned no plugin", origin);
    }
    /* Before the size: another version may mean something else by it. */
    if (declared->_api_version != QMIG_PLUGIN_API_VERSION) {
        return qmig_set_error(
            error, QMIG_ERROR_PLUGIN,
            "%s: made for plugin ABI version %u, this qmig has version %d", origin,
            declared->_api_version, QMIG_PLUGIN_API_VERSION);
    }
    uint32_t size = declared->_struct_size;
    if (size < SIZE_MIN || size % sizeof(void *) != 0) {
        return qmig_set_error(
            error, QMIG_ERROR_PLUGIN,
            "%s: struct qmig_plugin of %u bytes, want at least %zu and a "
            "multiple of %zu",
            origin, size, SIZE_MIN, sizeof(void *));
    }
    memcpy(&own, declared, MIN(size, sizeof own));
    if (own.name == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PLUGIN, "%s: the plugin has no name",
                              origin);
    }
    if (!is_name(own.name)) {
        return qmig_set_error(
            error, QMIG_ERROR_PLUGIN,
            "%s: the plugin's name must be 1 to %d letters, digits or '-'", origin,
            NAME_MAX_LENGTH);
    }
    *api = own;
    return true;
}

static QmigPlugin *
load_builtin(const QmigBuiltinPlugin *builtin, GError **error)
{
    g_autoptr(QmigPlugin) plugin = g_new0(QmigPlugin, 1);

    plugin->origin = g_strdup("built-in");
    if (!qmig_plugin_check(builtin->init(), builtin->name, &plugin->api, error)) {
        return NULL;
    }
    return g_steal_pointer(&plugin);
}

static QmigPlugin *
load_path(const char *path, GError **error)
{
    g_autoptr(QmigPlugin) plugin = g_new0(QmigPlugin, 1);

    plugin->origin = g_strdup(path);
    plugin->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin->library == NULL) {
        /* dlerror() begins with the path in most cases, but not in all. */
        qmig_set_error(error, QMIG_ERROR_PLUGIN, "plugin %s: %s", path, dlerror());
        return NULL;
    }
    /* POSIX makes this conversion work; ISO C has no word for it. */
    InitFunction init = (InitFunction)(uintptr_t)dlsym(plugin->library,
                                                       "qmig_plugin_init");
    if (init == NULL) {
        qmig_set_error(error, QMIG_ERROR_PLUGIN,
                       "%s: no qmig plugin: it does not export qmig_plugin_init", path);
        return NULL;
    }
    if (!qmig_plugin_check(init(), path, &plugin->api, error)) {
        return NULL;
    }
    return g_steal_pointer(&plugin);
}

/* (transfer full) the path of the shared object for @name in @directory, or NULL. */
static char *
find_in(const char *directory, const char *name)
{
    /* An empty entry of a search path means the working directory to some programs. Not here:
       nobody should run code from where they happen to stand. */
    if (directory[0] == '\0') {
        return NULL;
    }
    g_autofree char *brief = g_strdup_printf("%s/%s.so", directory, name);
    if (g_file_test(brief, G_FILE_TEST_IS_REGULAR)) {
        return g_steal_pointer(&brief);
    }
    g_autofree char *full = g_strdup_printf("%s/qmig-%s-plugin.so", directory, name);
    return g_file_test(full, G_FILE_TEST_IS_REGULAR) ? g_steal_pointer(&full) : NULL;
}

static QmigPlugin *
load_by_search(const char *name, GError **error)
{
    const char *env = secure_getenv("QMIG_PLUGIN_PATH");
    g_autofree char *places = g_strconcat(env != NULL ? env : "", ":", QMIG_PLUGIN_DIR,
                                          NULL);
    g_auto(GStrv) directories = g_strsplit(places, ":", -1);

    for (char **directory = directories; *directory != NULL; directory++) {
        g_autofree char *path = find_in(*directory, name);

        if (path != NULL) {
            return load_path(path, error);
        }
    }
    qmig_set_error(
        error, QMIG_ERROR_CONFIG,
        "no plugin \"%s\": not built in, and neither %s.so nor qmig-%s-plugin.so "
        "is in %s",
        name, name, name, places[0] == ':' ? places + 1 : places);
    return NULL;
}

QmigPlugin *
qmig_plugin_load(const char *name, GError **error)
{
    if (strchr(name, '/') != NULL) {
        return load_path(name, error);
    }
    if (!is_name(name)) {
        qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "\"%s\" is no plugin name: want 1 to %d letters, digits or '-', or a "
            "path with a slash",
            name, NAME_MAX_LENGTH);
        return NULL;
    }
    for (const QmigBuiltinPlugin *row = qmig_builtin_plugins; row->name != NULL; row++) {
        if (strcmp(row->name, name) == 0) {
            return load_builtin(row, error);
        }
    }
    return load_by_search(name, error);
}

void
qmig_plugin_free(QmigPlugin *plugin)
{
    if (plugin == NULL) {
        return;
    }
    if (plugin->library != NULL) {
        dlclose(plugin->library);
    }
    g_free(plugin->origin);
    g_free(plugin);
}
