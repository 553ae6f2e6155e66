/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bridge between the ABI's world (-1, C strings, callbacks) and qmig's (GError, json-c).
 *
 * A plugin that breaks a rule is a fact of life, not a bug of qmig: it becomes an error that
 * names the plugin and the rule. Nothing here asserts on what a plugin does.
 *
 * A report in progress is a stack of open json-c containers. Each is already part of its
 * parent, so only the root is owned. After the first broken rule the rest is ignored.
 */
#include "plugin/bridge.h"

#include "util/clock.h"
#include "util/error.h"

#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

struct QmigInstance {
    QmigPlugin *plugin;
    struct qmig_host host; /* context: this instance */
    void *handle;          /* open's */
    bool opened;
    bool is_ready;
    struct qmig_outcome outcome;
    char *failure;         /* owned; outcome's */
    char *record;          /* the directory of the capture it asked for, or NULL */
    QmigPosition position; /* NULL: there is none */
    void *position_data;
    pthread_mutex_t lock; /* guards what follows, for calls that come from any thread */
    char *error_text;     /* what the plugin said last; NULL: nothing */
};

enum { REPORT_DEPTH_MAX = 16 }; /* open containers, the root included */

typedef struct {
    struct qmig_report report; /* context: this builder */
    struct json_object *open[REPORT_DEPTH_MAX];
    unsigned depth;
    char *broken; /* the first broken rule, or NULL */
} Builder;

/* ---- the host, as the plugin sees it --------------------------------------------------- */

/* One line of valid UTF-8: it goes into messages and JSON. */
static char *clean_text(const char *format, va_list ap) G_GNUC_PRINTF(1, 0);

static char *
clean_text(const char *format, va_list ap)
{
    g_autofree char *raw = g_strdup_vprintf(format, ap);
    char *text = g_utf8_make_valid(raw != NULL ? raw : "", -1);

    g_strchomp(text);
    return g_strdelimit(text, "\r\n", ' ');
}

/* Put @text, (transfer full), in the place of what the plugin said. Return: (transfer full) */
static char *
swap_error_text(QmigInstance *instance, char *text)
{
    pthread_mutex_lock(&instance->lock);
    char *old = instance->error_text;
    instance->error_text = text;
    pthread_mutex_unlock(&instance->lock);
    return old;
}

static void host_error(struct qmig_host *host, const char *format, ...)
    G_GNUC_PRINTF(2, 3);
static void host_debug(struct qmig_host *host, const char *format, ...)
    G_GNUC_PRINTF(2, 3);

static void
host_error(struct qmig_host *host, const char *format, ...)
{
    QmigInstance *instance = host->context;
    va_list ap;

    va_start(ap, format);
    g_free(swap_error_text(instance, clean_text(format, ap)));
    va_end(ap);
}

static void
host_debug(struct qmig_host *host, const char *format, ...)
{
    QmigInstance *instance = host->context;
    va_list ap;

    va_start(ap, format);
    g_autofree char *text = clean_text(format, ap);
    va_end(ap);
    g_debug("%s: %s", instance->plugin->api.name, text);
}

static uint64_t
host_now_ns(struct qmig_host *host)
{
    struct timespec now;

    (void)host;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int
host_record(struct qmig_host *host, const char *directory)
{
    QmigInstance *instance = host->context;

    if (instance->is_ready) {
        host_error(host, "asks for a capture when the migration may have begun");
        return -1;
    }
    if (directory == NULL || directory[0] == '\0') {
        host_error(host, "asks for a capture without a directory");
        return -1;
    }
    g_free(instance->record);
    instance->record = g_strdup(directory);
    return 0;
}

static uint64_t
host_position(struct qmig_host *host)
{
    QmigInstance *instance = host->context;

    return instance->position != NULL ? instance->position(instance->position_data) : 0;
}

void
qmig_instance_set_position(QmigInstance *instance, QmigPosition position, void *data)
{
    instance->position = position;
    instance->position_data = data;
}

static const struct qmig_outcome *
host_outcome(struct qmig_host *host)
{
    const QmigInstance *instance = host->context;

    return &instance->outcome;
}

void
qmig_instance_set_outcome(QmigInstance *instance, const char *failure, int64_t pong)
{
    g_free(instance->failure);
    instance->failure = g_strdup(failure);
    instance->outcome = (struct qmig_outcome){
        .size = sizeof instance->outcome,
        .has_pong = pong >= 0,
        .last_pong = pong >= 0 ? (uint32_t)pong : 0,
        .failure = instance->failure,
    };
}

/* ---- calls ---------------------------------------------------------------------------- */

bool
qmig_instance_failed(QmigInstance *instance, const char *what, GError **error)
{
    const char *name = instance->plugin->api.name;
    g_autofree char *text = swap_error_text(instance, NULL);

    if (text == NULL || text[0] == '\0') {
        return qmig_set_error(error, QMIG_ERROR_PLUGIN,
                              "plugin %s: its %s function failed and gave no reason",
                              name, what);
    }
    return qmig_set_error(error, QMIG_ERROR_PLUGIN, "plugin %s: %s", name, text);
}

/* The outcome of an ABI function that returns 0 or -1. */
static bool
outcome(QmigInstance *instance, int result, const char *what, GError **error)
{
    if (result != 0) {
        return qmig_instance_failed(instance, what, error);
    }
    /* Said something, yet went on: not to be taken for the reason of a later failure. */
    g_free(swap_error_text(instance, NULL));
    return true;
}

QmigInstance *
qmig_instance_open(QmigPlugin *plugin, GError **error)
{
    g_autoptr(QmigInstance) instance = g_new0(QmigInstance, 1);

    instance->plugin = plugin;
    qmig_instance_set_outcome(instance, NULL, -1);
    instance->host = (struct qmig_host){
        .size = sizeof instance->host,
        .context = instance,
        .error = host_error,
        .debug = host_debug,
        .now_ns = host_now_ns,
        .record = host_record,
        .outcome = host_outcome,
        .position = host_position,
    };
    pthread_mutex_init(&instance->lock, NULL);
    if (plugin->api.open != NULL) {
        instance->handle = plugin->api.open(&instance->host);
        if (instance->handle == NULL) {
            qmig_instance_failed(instance, "open", error);
            return NULL;
        }
    }
    instance->opened = true;
    return g_steal_pointer(&instance);
}

void
qmig_instance_free(QmigInstance *instance)
{
    if (instance == NULL) {
        return;
    }
    if (instance->opened && instance->plugin->api.close != NULL) {
        instance->plugin->api.close(instance->handle);
    }
    qmig_plugin_free(instance->plugin);
    g_free(instance->error_text);
    g_free(instance->failure);
    g_free(instance->record);
    pthread_mutex_destroy(&instance->lock);
    g_free(instance);
}

const struct qmig_plugin *
qmig_instance_api(const QmigInstance *instance)
{
    return &instance->plugin->api;
}

void *
qmig_instance_handle(const QmigInstance *instance)
{
    return instance->handle;
}

bool
qmig_instance_config(QmigInstance *instance, const char *key, const char *value,
                     GError **error)
{
    const struct qmig_plugin *api = &instance->plugin->api;

    if (api->config == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PLUGIN,
                              "plugin %s: takes no parameters, got %s=%s", api->name, key,
                              value);
    }
    return outcome(instance, api->config(instance->handle, key, value), "config", error);
}

bool
qmig_instance_get_ready(QmigInstance *instance, GError **error)
{
    const struct qmig_plugin *api = &instance->plugin->api;

    if (api->get_ready != NULL &&
        !outcome(instance, api->get_ready(instance->handle), "get_ready", error)) {
        return false;
    }
    instance->is_ready = true;
    return true;
}

const char *
qmig_instance_record(const QmigInstance *instance)
{
    return instance->record;
}

bool
qmig_instance_finish(QmigInstance *instance, struct qmig_next *next, GError **error)
{
    const struct qmig_plugin *api = &instance->plugin->api;

    return api->finish == NULL ||
           outcome(instance, api->finish(instance->handle, next), "finish", error);
}

/* ---- calls from any thread ------------------------------------------------------------- */

bool
qmig_instance_set(QmigInstance *instance, const char *key, const char *value,
                  uint32_t flags, GError **error)
{
    const struct qmig_plugin *api = &instance->plugin->api;

    if (api->set == NULL) {
        return qmig_set_error(
            error, QMIG_ERROR_PLUGIN,
            "plugin %s: nothing of it can be changed while it runs, got "
            "%s=%s",
            api->name, key, value);
    }
    return outcome(instance, api->set(instance->handle, key, value, flags), "set", error);
}

bool
qmig_instance_pace(QmigInstance *instance, struct qmig_piece *piece, GError **error)
{
    const struct qmig_plugin *api = &instance->plugin->api;
    uint64_t bytes = piece->bytes;

    if (api->pace(instance->handle, piece) != 0) {
        return qmig_instance_failed(instance, "pace", error);
    }
    if (piece->wait_ns == 0 && (piece->bytes == 0 || piece->bytes > bytes)) {
        return qmig_set_error(error, QMIG_ERROR_PLUGIN,
                              "plugin %s: grants %" G_GUINT64_FORMAT
                              " of %" G_GUINT64_FORMAT " bytes",
                              api->name, piece->bytes, bytes);
    }
    return true;
}

bool
qmig_instance_alter(QmigInstance *instance, const struct qmig_piece *piece, uint8_t *data,
                    GError **error)
{
    const struct qmig_plugin *api = &instance->plugin->api;

    return api->alter(instance->handle, piece, data) == 0 ||
           qmig_instance_failed(instance, "alter", error);
}

/* ---- reports -------------------------------------------------------------------------- */

static void
broken(Builder *b, const char *rule, const char *key)
{
    if (b->broken == NULL) {
        g_autofree char *text = g_utf8_make_valid(key != NULL ? key : "", -1);
        b->broken = key != NULL ? g_strdup_printf("%s, at \"%s\"", rule, text)
                                : g_strdup(rule);
    }
}

/* Put @value, (transfer full), into the innermost container. Return: it is there. */
static bool
add(Builder *b, const char *key, struct json_object *value)
{
    g_autoptr(JsonObject) owned = value;

    if (b->broken != NULL) {
        return false;
    }
    struct json_object *into = b->open[b->depth - 1];
    if (json_object_is_type(into, json_type_array)) {
        return json_object_array_add(into, g_steal_pointer(&owned)) == 0;
    }
    if (key == NULL) {
        broken(b, "an entry of a group without a name", NULL);
        return false;
    }
    g_autofree char *name = g_utf8_make_valid(key, -1);
    if (json_object_object_get_ex(into, name, NULL)) {
        broken(b, "a name given twice in one group", name);
        return false;
    }
    return json_object_object_add(into, name, g_steal_pointer(&owned)) == 0;
}

static void
report_number(struct qmig_report *report, const char *key, uint64_t value)
{
    add(report->context, key, json_object_new_uint64(value));
}

static void
report_text(struct qmig_report *report, const char *key, const char *value)
{
    g_autofree char *text = g_utf8_make_valid(value != NULL ? value : "", -1);

    add(report->context, key, json_object_new_string(text));
}

static void
begin(Builder *b, const char *key, struct json_object *container)
{
    if (b->depth == REPORT_DEPTH_MAX) {
        broken(b, "groups nested too deeply", key);
    }
    if (add(b, key, container)) {
        b->open[b->depth++] = container;
    }
}

static void
report_begin_group(struct qmig_report *report, const char *key)
{
    begin(report->context, key, json_object_new_object());
}

static void
report_begin_list(struct qmig_report *report, const char *key)
{
    begin(report->context, key, json_object_new_array());
}

static void
report_end(struct qmig_report *report)
{
    Builder *b = report->context;

    if (b->broken != NULL) {
        return;
    }
    if (b->depth == 1) {
        broken(b, "end without begin", NULL);
        return;
    }
    b->depth--;
}

JsonObject *
qmig_instance_report(QmigInstance *instance, GError **error)
{
    const struct qmig_plugin *api = &instance->plugin->api;
    g_autoptr(JsonObject) root = json_object_new_object();
    Builder b = {
        .report = { sizeof b.report, &b, report_number, report_text, report_begin_group,
                    report_begin_list, report_end },
        .open = { root },
        .depth = 1,
    };

    if (api->report != NULL) {
        api->report(instance->handle, &b.report);
    }
    if (b.depth > 1) {
        broken(&b, "begin without end", NULL);
    }
    g_autofree char *rule = b.broken;
    if (rule != NULL) {
        qmig_set_error(error, QMIG_ERROR_PLUGIN, "plugin %s: its report has %s",
                       api->name, rule);
        return NULL;
    }
    return g_steal_pointer(&root);
}
