/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The chain with built-in plugins: specs, what reaches the sink, reports; -m perf: its cost. */
#include "plugin/chain.h"
#include "plugin/loader.h"
#include "util/error.h"

#include <glib.h>
#include <string.h>

typedef struct {
    unsigned n;
    const struct qmig_event *last;
    unsigned fail_at; /* the event, counted from 1, at which it fails */
    bool silent;      /* fails without an error */
} Sink;

static bool
collect(void *data, const struct qmig_event *ev, GError **error)
{
    Sink *sink = data;

    sink->last = ev;
    if (++sink->n == sink->fail_at) {
        return sink->silent ? false
                            : qmig_set_error(error, QMIG_ERROR_CLOSED, "the wire is cut");
    }
    return true;
}

static const struct qmig_event eof = { .size = sizeof eof,
                                       .kind = QMIG_EVENT_EOF,
                                       .wire_size = 1 };

static QmigChain *
chain_of(const char *const *specs, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    QmigChain *chain = qmig_chain_new(specs, collect, sink, &error);

    g_assert_no_error(error);
    return chain;
}

static int64_t
reported(QmigChain *chain, const char *plugin, const char *key)
{
    g_autoptr(JsonObject) all = qmig_chain_report(chain);
    struct json_object *one, *value;

    g_assert_true(json_object_object_get_ex(all, plugin, &one));
    g_assert_true(json_object_object_get_ex(one, key, &value));
    return json_object_get_int64(value);
}

static void
test_empty_chain_passes_by_and_reports_nothing(void)
{
    Sink sink = { 0 };
    g_autoptr(QmigChain) chain = chain_of((const char *[]){ NULL }, &sink);
    g_autoptr(JsonObject) report = qmig_chain_report(chain);

    g_assert_false(qmig_chain_rewrites(chain));
    g_assert_true(qmig_chain_push(chain, &eof, NULL));
    g_assert_true(qmig_chain_finish(chain, NULL));
    g_assert_cmpuint(sink.n, ==, 0);
    g_assert_cmpint(json_object_object_length(report), ==, 0);
}

static void
test_observers_leave_the_sink_alone(void)
{
    Sink sink = { 0 };
    g_autoptr(QmigChain)
        chain = chain_of((const char *[]){ "stats", "stats", NULL }, &sink);

    g_assert_false(qmig_chain_rewrites(chain));
    g_assert_true(qmig_chain_push(chain, &eof, NULL));
    g_assert_cmpuint(sink.n, ==, 0);
    g_assert_cmpint(reported(chain, "stats", "bytes"), ==, 1);
    g_assert_cmpint(reported(chain, "stats#2", "bytes"), ==, 1);
}

static void
test_null_hands_on_the_very_same_event(void)
{
    Sink sink = { 0 };
    g_autoptr(QmigChain) chain = chain_of(
        (const char *[]){ "stats", "null", "stats", "null", NULL }, &sink);

    g_assert_true(qmig_chain_rewrites(chain));
    g_assert_true(qmig_chain_push(chain, &eof, NULL));
    g_assert_true(qmig_chain_push(chain, &eof, NULL));
    g_assert_true(qmig_chain_finish(chain, NULL));
    g_assert_cmpuint(sink.n, ==, 2);
    g_assert_true(sink.last == &eof);
    g_assert_cmpint(reported(chain, "stats#2", "bytes"), ==, 2);
}

static void
test_sink_failure_reaches_the_pusher_unchanged(void)
{
    Sink sink = { .fail_at = 2 };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain)
        chain = chain_of((const char *[]){ "null", "null", NULL }, &sink);

    g_assert_true(qmig_chain_push(chain, &eof, NULL));
    g_assert_false(qmig_chain_push(chain, &eof, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CLOSED);
    g_assert_cmpstr(error->message, ==, "the wire is cut");
}

static void
test_sink_failing_without_a_word_is_still_a_failure(void)
{
    Sink sink = { .fail_at = 1, .silent = true };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain) chain = chain_of((const char *[]){ "null", NULL }, &sink);

    g_assert_false(qmig_chain_push(chain, &eof, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
}

static void
assert_spec_refused(const char *spec, QmigErrorCode code, const char *part)
{
    const char *specs[] = { "stats", spec, NULL };
    g_autoptr(GError) error = NULL;

    g_assert_null(qmig_chain_new(specs, NULL, NULL, &error));
    g_assert_error(error, QMIG_ERROR, (int)code);
    if (strstr(error->message, part) == NULL) {
        g_error("\"%s\" does not say \"%s\"", error->message, part);
    }
}

static void
test_bad_specs_are_refused_with_a_reason(void)
{
    assert_spec_refused("nonesuch", QMIG_ERROR_CONFIG, "no plugin \"nonesuch\"");
    assert_spec_refused("", QMIG_ERROR_CONFIG, "is no plugin name");
    assert_spec_refused("a b", QMIG_ERROR_CONFIG, "is no plugin name");
    assert_spec_refused("/nonexistent/x.so", QMIG_ERROR_PLUGIN, "/nonexistent/x.so");
    assert_spec_refused("stats:sample", QMIG_ERROR_CONFIG, "\"sample\" is not key=value");
    assert_spec_refused("stats:=1", QMIG_ERROR_CONFIG, "\"=1\" is not key=value");
    assert_spec_refused("stats:sample=1,,2", QMIG_ERROR_PLUGIN,
                        "sample=1,2: want a number");
    assert_spec_refused("stats:sample=-1", QMIG_ERROR_PLUGIN, "sample=-1: want a number");
    assert_spec_refused("stats:sample=", QMIG_ERROR_PLUGIN, "sample=: want a number");
    assert_spec_refused("stats:sample=4,odd=1", QMIG_ERROR_PLUGIN,
                        "no parameter \"odd\"");
    assert_spec_refused("null:a=b", QMIG_ERROR_PLUGIN, "takes no parameters, got a=b");
}

static void
test_too_many_plugins_are_refused(void)
{
    const char *specs[18] = { NULL };
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 16; i++) {
        specs[i] = "null";
    }
    g_autoptr(QmigChain) full = qmig_chain_new(specs, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_true(qmig_chain_push(full, &eof, NULL));
    specs[16] = "null";
    g_assert_null(qmig_chain_new(specs, NULL, NULL, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
}

static void
test_built_in_plugins_are_what_their_names_say(void)
{
    for (const QmigBuiltinPlugin *row = qmig_builtin_plugins; row->name != NULL; row++) {
        g_autoptr(QmigPlugin) plugin = qmig_plugin_load(row->name, NULL);

        g_assert_cmpstr(plugin->api.name, ==, row->name);
        g_assert_cmpstr(plugin->origin, ==, "built-in");
        g_assert_nonnull(plugin->api.description);
    }
}

/* Pages of a block in ascending order, as QEMU sends them. */
static void
measure(const char *const *specs)
{
    enum { N_PAGES = 65536, ROUNDS = 100 };
    struct qmig_block block = {
        sizeof block, 0, "pc.ram", 6, 4096, (uint64_t)N_PAGES * 4096, 0
    };
    struct qmig_event ev = { .size = sizeof ev, .kind = QMIG_EVENT_PAGE, .wire_size = 9 };
    Sink sink = { 0 };
    g_autoptr(QmigChain) chain = chain_of(specs, &sink);

    ev.u.page.block = &block;
    ev.u.page.kind = QMIG_PAGE_ZERO;
    int64_t start = g_get_monotonic_time();
    for (unsigned i = 0; i < ROUNDS * N_PAGES; i++) {
        ev.u.page.offset = (uint64_t)(i % N_PAGES) * 4096;
        g_assert_true(qmig_chain_push(chain, &ev, NULL));
    }
    double ns = (double)(g_get_monotonic_time() - start) * 1000 / (ROUNDS * N_PAGES);
    g_autofree char *names = g_strjoinv(" ", (char **)specs);
    g_test_message("[%s]: %.2f ns for a page event", names, ns);
}

static void
test_speed(void)
{
    if (!g_test_perf()) {
        g_test_skip("run with -m perf");
        return;
    }
    measure((const char *[]){ NULL });
    measure((const char *[]){ "stats", NULL });
    measure((const char *[]){ "null", NULL });
    measure((const char *[]){ "stats", "null", "stats", NULL });
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/chain/empty-chain-passes-by-and-reports-nothing",
                    test_empty_chain_passes_by_and_reports_nothing);
    g_test_add_func("/chain/observers-leave-the-sink-alone",
                    test_observers_leave_the_sink_alone);
    g_test_add_func("/chain/null-hands-on-the-very-same-event",
                    test_null_hands_on_the_very_same_event);
    g_test_add_func("/chain/sink-failure-reaches-the-pusher-unchanged",
                    test_sink_failure_reaches_the_pusher_unchanged);
    g_test_add_func("/chain/sink-failing-without-a-word-is-still-a-failure",
                    test_sink_failing_without_a_word_is_still_a_failure);
    g_test_add_func("/chain/bad-specs-are-refused-with-a-reason",
                    test_bad_specs_are_refused_with_a_reason);
    g_test_add_func("/chain/too-many-plugins-are-refused",
                    test_too_many_plugins_are_refused);
    g_test_add_func("/chain/built-in-plugins-are-what-their-names-say",
                    test_built_in_plugins_are_what_their_names_say);
    g_test_add_func("/chain/speed", test_speed);
    return g_test_run();
}
