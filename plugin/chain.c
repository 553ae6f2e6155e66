/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The chain: the hot path of the plugin layer.
 *
 *     push -> observer -> observer -> rewriter --next--> observer -> … -> sink
 *
 * Stages are the plugins that want events, side by side in one array, with the functions and
 * handles copied into it: an observer costs one indirect call per event and nothing else.
 * A rewriter's next continues behind it, on the same C stack.
 *
 * Errors travel outside the ABI: the first one is kept in chain->error, the -1 of the plugins
 * above only unwinds the stack. So the message is that of whoever detected it, and a plugin
 * that swallows a -1 cannot hide it.
 *
 * The number of plugins is bounded for the stack, too: each rewriter adds a few frames.
 */
#include "plugin/chain.h"

#include "plugin/bridge.h"
#include "util/error.h"

#include <stddef.h>
#include <string.h>

typedef void (*ObserveFunction)(void *, const struct qmig_event *, uint32_t);
typedef int (*EventFunction)(void *, struct qmig_next *, const struct qmig_event *,
                             uint32_t);

typedef struct {
    ObserveFunction observe; /* NULL: a rewriter */
    EventFunction event;     /* NULL: an observer */
    void *handle;
    struct qmig_next next; /* what the plugin gets; context: this stage */
    QmigChain *chain;
    QmigInstance *instance;
    bool may_send; /* inside event or finish of a rewriter */
} Stage;

struct QmigChain {
    Stage stages[QMIG_CHAIN_PLUGINS_MAX]; /* those that observe or rewrite */
    unsigned n_stages;
    QmigInstance *instances[QMIG_CHAIN_PLUGINS_MAX]; /* all, in order; owned */
    Stage *stage_of[QMIG_CHAIN_PLUGINS_MAX]; /* of each instance; NULL: wants no events */
    unsigned n_instances;
    bool rewrites;
    bool looks_first;
    bool finished;
    QmigChainSink sink;
    void *sink_data;
    GError *error; /* the first failure inside a push or finish in progress */
};

/* ---- events --------------------------------------------------------------------------- */

static int
rewriter_event(Stage *stage, const struct qmig_event *ev)
{
    stage->may_send = true;
    int result = stage->event(stage->handle, &stage->next, ev, 0);
    stage->may_send = false;
    if (result != 0 && stage->chain->error == NULL) {
        qmig_instance_failed(stage->instance, "event", &stage->chain->error);
    }
    return result;
}

static int
to_sink(QmigChain *chain, const struct qmig_event *ev)
{
    if (chain->sink(chain->sink_data, ev, &chain->error)) {
        return 0;
    }
    if (chain->error ==
        NULL) { /* against its contract; an event must not get lost quietly */
        qmig_set_error(&chain->error, QMIG_ERROR_STATE,
                       "the output of the plugins is closed");
    }
    return -1;
}

/* Hand @ev to the stages from number @i on, up to the next rewriter, or to the sink. */
static inline int
pass_on(QmigChain *chain, unsigned i, const struct qmig_event *ev)
{
    for (; i < chain->n_stages; i++) {
        Stage *stage = &chain->stages[i];

        if (stage->observe == NULL) {
            return rewriter_event(stage, ev);
        }
        stage->observe(stage->handle, ev, 0);
    }
    return chain->rewrites && chain->sink != NULL ? to_sink(chain, ev) : 0;
}

static int
refuse(Stage *stage, const char *why)
{
    qmig_set_error(&stage->chain->error, QMIG_ERROR_PLUGIN,
                   "plugin %s: sends an event %s",
                   qmig_instance_api(stage->instance)->name, why);
    return -1;
}

/* A rewriter hands on an event that may be of its own making. */
static int
next_event(struct qmig_next *next, const struct qmig_event *ev, uint32_t flags)
{
    Stage *stage = next->context;
    QmigChain *chain = stage->chain;

    (void)flags;
    if (G_UNLIKELY(chain->error != NULL)) {
        return -1;
    }
    if (G_UNLIKELY(!stage->may_send)) {
        return refuse(stage, "outside of a rewriter's event, idle and finish");
    }
    if (G_UNLIKELY(ev == NULL || ev->size < offsetof(struct qmig_event, u))) {
        return refuse(stage, "without its size");
    }
    return pass_on(chain, (unsigned)(stage - chain->stages) + 1, ev);
}

bool
qmig_chain_push(QmigChain *chain, const struct qmig_event *ev, GError **error)
{
    pass_on(chain, 0, ev);
    if (G_UNLIKELY(chain->error != NULL)) {
        g_propagate_error(error, g_steal_pointer(&chain->error));
        return false;
    }
    return true;
}

static bool
has_idle(const QmigChain *chain, unsigned i)
{
    return chain->stages[i].event != NULL &&
           qmig_instance_api(chain->stages[i].instance)->idle != NULL;
}

bool
qmig_chain_minds_silence(const QmigChain *chain)
{
    for (unsigned i = 0; i < chain->n_stages; i++) {
        if (has_idle(chain, i)) {
            return true;
        }
    }
    return false;
}

bool
qmig_chain_idle(QmigChain *chain, uint64_t silent_ns, GError **error)
{
    for (unsigned i = 0; i < chain->n_stages && chain->error == NULL; i++) {
        Stage *stage = &chain->stages[i];

        if (!has_idle(chain, i)) {
            continue;
        }
        stage->may_send = true;
        int result = qmig_instance_api(stage->instance)
                         ->idle(stage->handle, &stage->next, silent_ns);
        stage->may_send = false;
        if (result != 0 && chain->error == NULL) {
            qmig_instance_failed(stage->instance, "idle", &chain->error);
        }
    }
    if (chain->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&chain->error));
        return false;
    }
    return true;
}

void
qmig_chain_set_outcome(QmigChain *chain, const char *failure, int64_t pong)
{
    for (unsigned i = 0; i < chain->n_instances; i++) {
        qmig_instance_set_outcome(chain->instances[i], failure, pong);
    }
}

bool
qmig_chain_finish(QmigChain *chain, GError **error)
{
    g_return_val_if_fail(!chain->finished, true);
    chain->finished = true;
    for (unsigned i = 0; i < chain->n_instances; i++) {
        Stage none = { .next = { sizeof none.next, &none, next_event },
                       .chain = chain,
                       .instance = chain->instances[i] };
        Stage *stage = chain->stage_of[i] != NULL ? chain->stage_of[i] : &none;
        g_autoptr(GError) said = NULL;

        stage->may_send = stage->event != NULL;
        bool ok = qmig_instance_finish(chain->instances[i], &stage->next, &said);
        stage->may_send = false;
        if (chain->error != NULL) { /* of the sink or a plugin further on: the cause */
            g_propagate_error(error, g_steal_pointer(&chain->error));
            return false;
        }
        if (!ok) {
            g_propagate_error(error, g_steal_pointer(&said));
            return false;
        }
    }
    return true;
}

/* ---- making a chain ------------------------------------------------------------------- */

/* The value at *@text up to a single comma; two commas are one. *@text moves behind it. */
static char *
take_parameter(const char **text)
{
    GString *out = g_string_new(NULL);
    const char *p = *text;

    for (; *p != '\0'; p++) {
        if (*p == ',' && *++p != ',') {
            break;
        }
        g_string_append_c(out, *p);
    }
    *text = p;
    return g_string_free(out, FALSE);
}

static bool
configure(QmigInstance *instance, const char *parameters, GError **error)
{
    while (*parameters != '\0') {
        g_autofree char *parameter = take_parameter(&parameters);
        char *equals = strchr(parameter, '=');

        if (equals == NULL || equals == parameter) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "plugin %s: \"%s\" is not key=value",
                                  qmig_instance_api(instance)->name, parameter);
        }
        *equals = '\0';
        if (!qmig_instance_config(instance, parameter, equals + 1, error)) {
            return false;
        }
    }
    return true;
}

/* Load what @spec names. (transfer full) */
static QmigPlugin *
load_spec(const char *spec, GError **error)
{
    const char *colon = strchr(spec, ':');
    g_autofree char *name = colon != NULL ? g_strndup(spec, (size_t)(colon - spec))
                                          : g_strdup(spec);

    return qmig_plugin_load(name, error);
}

static bool
names(const char *const *list, const char *name)
{
    return list != NULL && g_strv_contains(list, name);
}

/* @a stands before @b. */
static bool
check_two(const struct qmig_plugin *a, const struct qmig_plugin *b, GError **error)
{
    if (names(a->conflicts, b->name) || names(b->conflicts, a->name)) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG, "plugins %s and %s: not in one chain%s", a->name,
            b->name, strcmp(a->name, b->name) == 0 ? ", it works only once" : "");
    }
    if (names(b->not_after, a->name)) {
        return qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "plugin %s: not behind %s, whose output is of no use to it; "
            "give it first",
            b->name, a->name);
    }
    return true;
}

/* All of @specs, or NULL. (transfer full) */
static GPtrArray *
load_all(const char *const *specs, GError **error)
{
    g_autoptr(GPtrArray)
        plugins = g_ptr_array_new_with_free_func((GDestroyNotify)qmig_plugin_free);

    for (; *specs != NULL; specs++) {
        if (plugins->len == QMIG_CHAIN_PLUGINS_MAX) {
            qmig_set_error(error, QMIG_ERROR_CONFIG, "more than %d plugins in one chain",
                           QMIG_CHAIN_PLUGINS_MAX);
            return NULL;
        }
        QmigPlugin *plugin = load_spec(*specs, error);
        if (plugin == NULL) {
            return NULL;
        }
        g_ptr_array_add(plugins, plugin);
        for (guint i = 0; i + 1 < plugins->len; i++) {
            const QmigPlugin *before = plugins->pdata[i];
            if (!check_two(&before->api, &plugin->api, error)) {
                return NULL;
            }
        }
    }
    return g_steal_pointer(&plugins);
}

/* Open @plugin, (transfer full), as @spec says. */
static QmigInstance *
open_spec(QmigPlugin *plugin, const char *spec, GError **error)
{
    const char *colon = strchr(spec, ':');
    g_autoptr(QmigInstance) instance = qmig_instance_open(plugin, error);

    if (instance == NULL || !configure(instance, colon != NULL ? colon + 1 : "", error) ||
        !qmig_instance_get_ready(instance, error)) {
        return NULL;
    }
    return g_steal_pointer(&instance);
}

/* The one that asks for a capture, or NULL. */
static const QmigInstance *
recorder(const QmigChain *chain)
{
    for (unsigned i = 0; i < chain->n_instances; i++) {
        if (qmig_instance_record(chain->instances[i]) != NULL) {
            return chain->instances[i];
        }
    }
    return NULL;
}

const char *
qmig_chain_record(const QmigChain *chain)
{
    const QmigInstance *instance = recorder(chain);

    return instance != NULL ? qmig_instance_record(instance) : NULL;
}

/* Do the plugins so far go together with @instance? */
static bool
check_conflicts(const QmigChain *chain, const QmigInstance *instance, GError **error)
{
    const QmigInstance *other = recorder(chain);

    return qmig_instance_record(instance) == NULL || other == NULL ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "plugin %s: plugin %s asks for a capture in %s already: one is "
                          "made of a migration",
                          qmig_instance_api(instance)->name,
                          qmig_instance_api(other)->name, qmig_instance_record(other));
}

/* Add @instance, (transfer full), at the end. */
static void
append(QmigChain *chain, QmigInstance *instance)
{
    const struct qmig_plugin *api = qmig_instance_api(instance);

    if (api->event != NULL || api->observe != NULL) {
        Stage *stage = &chain->stages[chain->n_stages++];

        *stage = (Stage){
            .observe = api->event != NULL ? NULL : api->observe,
            .event = api->event,
            .handle = qmig_instance_handle(instance),
            .next = { sizeof stage->next, stage, next_event },
            .chain = chain,
            .instance = instance,
        };
        chain->stage_of[chain->n_instances] = stage;
        chain->rewrites = chain->rewrites || api->event != NULL;
        chain->looks_first = chain->looks_first || api->pace != NULL;
    }
    chain->instances[chain->n_instances++] = instance;
}

QmigChain *
qmig_chain_new(const char *const *specs, QmigChainSink sink, void *sink_data,
               GError **error)
{
    g_autoptr(QmigChain) chain = g_new0(QmigChain, 1);
    g_autoptr(GPtrArray) plugins = load_all(specs, error);

    if (plugins == NULL) {
        return NULL;
    }
    chain->sink = sink;
    chain->sink_data = sink_data;
    for (; *specs != NULL; specs++) {
        QmigInstance *instance = open_spec(g_ptr_array_steal_index(plugins, 0), *specs,
                                           error);
        if (instance == NULL) {
            return NULL;
        }
        if (!check_conflicts(chain, instance, error)) {
            qmig_instance_free(instance);
            return NULL;
        }
        append(chain, instance);
    }
    return g_steal_pointer(&chain);
}

void
qmig_chain_free(QmigChain *chain)
{
    if (chain == NULL) {
        return;
    }
    while (chain->n_instances > 0) {
        qmig_instance_free(chain->instances[--chain->n_instances]);
    }
    g_clear_error(&chain->error);
    g_free(chain);
}

bool
qmig_chain_rewrites(const QmigChain *chain)
{
    return chain->rewrites;
}

bool
qmig_chain_looks_first(const QmigChain *chain)
{
    return chain->looks_first;
}

QmigInstance *const *
qmig_chain_instances(const QmigChain *chain, unsigned *n)
{
    *n = chain->n_instances;
    return chain->instances;
}

void
qmig_chain_set_position(QmigChain *chain, QmigPosition position, void *data)
{
    for (unsigned i = 0; i < chain->n_instances; i++) {
        qmig_instance_set_position(chain->instances[i], position, data);
    }
}

/* ---- changes while it runs ------------------------------------------------------------ */

static char *
list_names(const QmigChain *chain)
{
    GString *list = g_string_new(NULL);

    for (unsigned i = 0; i < chain->n_instances; i++) {
        g_string_append_printf(list, "%s%s", i > 0 ? ", " : "",
                               qmig_instance_api(chain->instances[i])->name);
    }
    return g_string_free(list, FALSE);
}

/* The one that @name means, by its first @length bytes: "stats", or, as in reports, "stats#2". */
static QmigInstance *
find(const QmigChain *chain, const char *name, size_t length)
{
    g_autofree char *wanted = g_strndup(name, length);
    char *hash = strchr(wanted, '#');
    guint64 nth = 1;

    if (hash != NULL) {
        *hash = '\0';
        if (!g_ascii_string_to_unsigned(hash + 1, 10, 1, QMIG_CHAIN_PLUGINS_MAX, &nth,
                                        NULL)) {
            return NULL;
        }
    }
    for (unsigned i = 0; i < chain->n_instances; i++) {
        if (strcmp(qmig_instance_api(chain->instances[i])->name, wanted) == 0 &&
            --nth == 0) {
            return chain->instances[i];
        }
    }
    return NULL;
}

bool
qmig_chain_set(QmigChain *chain, const char *name, const char *value, bool try,
               GError **error)
{
    const char *dot = strchr(name, '.');

    if (dot == NULL || dot == name || dot[1] == '\0') {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "\"%s\", wanted PLUGIN.KEY",
                              name);
    }
    QmigInstance *instance = find(chain, name, (size_t)(dot - name));
    if (instance != NULL) {
        return qmig_instance_set(instance, dot + 1, value, try ? QMIG_SET_TRY : 0, error);
    }
    g_autofree char *list = list_names(chain);
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "plugin %.*s is not in use here (there are: %s): it takes part "
                          "from the beginning or not at all, by --plugin",
                          (int)(dot - name), name, list[0] != '\0' ? list : "none");
}

/* ---- reports -------------------------------------------------------------------------- */

/* @name, or "name#2" and so on when the chain has it before. (transfer full) */
static char *
report_key(struct json_object *all, const char *name)
{
    char *key = g_strdup(name);

    for (unsigned n = 2; json_object_object_get_ex(all, key, NULL); n++) {
        g_free(key);
        key = g_strdup_printf("%s#%u", name, n);
    }
    return key;
}

JsonObject *
qmig_chain_report(QmigChain *chain)
{
    struct json_object *all = json_object_new_object();

    for (unsigned i = 0; i < chain->n_instances; i++) {
        QmigInstance *instance = chain->instances[i];
        g_autofree char *key = report_key(all, qmig_instance_api(instance)->name);
        g_autoptr(GError) error = NULL;
        struct json_object *one = qmig_instance_report(instance, &error);

        if (one == NULL) {
            one = json_object_new_object();
            json_object_object_add(one, "error", json_object_new_string(error->message));
        }
        json_object_object_add(all, key, one);
    }
    return all;
}
