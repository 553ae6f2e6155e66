/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The plugin ABI, with plugins loaded from shared objects: layout, versions, order of calls,
 * and what becomes of plugins that break the rules. The plugins are in $QMIG_TEST_PLUGINS.
 */
#include "layout.h"
#include "plugin/chain.h"
#include "plugin/loader.h"
#include "util/error.h"

#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

typedef struct {
    GArray *kinds; /* uint16_t */
    bool fails;
} Sink;

static bool
collect(void *data, const struct qmig_event *ev, GError **error)
{
    Sink *sink = data;

    if (sink->fails) {
        return qmig_set_error(error, QMIG_ERROR_CLOSED, "the wire is cut");
    }
    if (sink->kinds != NULL) {
        g_array_append_val(sink->kinds, ev->kind);
    }
    return true;
}

/* Replaces a leading '@' of each spec by the directory of the test plugins. */
static QmigChain *
try_chain(const char *const *specs, Sink *sink, GError **error)
{
    g_autoptr(GPtrArray) full = g_ptr_array_new_with_free_func(g_free);

    for (; *specs != NULL; specs++) {
        g_ptr_array_add(
            full, (*specs)[0] == '@'
                      ? g_strconcat(g_getenv("QMIG_TEST_PLUGINS"), "/", *specs + 1, NULL)
                      : g_strdup(*specs));
    }
    g_ptr_array_add(full, NULL);
    return qmig_chain_new((const char *const *)full->pdata, collect, sink, error);
}

static QmigChain *
chain_of_one(const char *spec, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    QmigChain *chain = try_chain((const char *[]){ spec, NULL }, sink, &error);

    g_assert_no_error(error);
    return chain;
}

static bool
push(QmigChain *chain, uint16_t kind, GError **error)
{
    struct qmig_event ev = { .size = sizeof ev, .kind = kind, .wire_size = 8 };

    return qmig_chain_push(chain, &ev, error);
}

static void
assert_report(QmigChain *chain, const char *want)
{
    g_autoptr(JsonObject) report = qmig_chain_report(chain);

    g_assert_cmpstr(json_object_to_json_string_ext(report, JSON_C_TO_STRING_PLAIN), ==,
                    want);
}

static void
assert_says(const GError *error, QmigErrorCode code, const char *part)
{
    g_assert_error(error, QMIG_ERROR, (int)code);
    if (strstr(error->message, part) == NULL) {
        g_error("\"%s\" does not say \"%s\"", error->message, part);
    }
}

/* ---- versions ------------------------------------------------------------------------- */

static void
test_layout_is_that_of_version_1(void)
{
    for (size_t i = 0;; i++) {
        g_assert_cmpstr(layout_now[i].what, ==, layout_v1[i].what);
        if (layout_v1[i].what == NULL) {
            return;
        }
        if (layout_now[i].value != layout_v1[i].value) {
            g_error("%s is %zu, in version 1 it is %zu", layout_v1[i].what,
                    layout_now[i].value, layout_v1[i].value);
        }
    }
}

static void
test_plugin_of_version_1_works(void)
{
    Sink sink = { 0 };
    g_autoptr(QmigChain) chain = chain_of_one("@frozen.so", &sink);
    struct qmig_block block = { .size = sizeof block, .name = "b", .page_size = 4096 };
    struct qmig_event page = { .size = sizeof page,
                               .kind = QMIG_EVENT_PAGE,
                               .wire_size = 9 };

    sink.kinds = g_array_new(FALSE, FALSE, sizeof(uint16_t));
    page.u.page.block = &block;
    page.u.page.offset = 0x5000;
    g_assert_true(qmig_chain_rewrites(chain));
    g_assert_true(push(chain, QMIG_EVENT_HEADER, NULL));
    g_assert_true(qmig_chain_push(chain, &page, NULL));
    g_assert_true(qmig_chain_finish(chain, NULL));
    assert_report(chain,
                  "{\"frozen\":{\"events\":2,\"wire_bytes\":17,\"page_offsets\":20480,"
                  "\"group\":{\"list\":[\"text\"],\"clock\":1}}}");
    g_assert_cmpuint(sink.kinds->len, ==, 3);
    g_assert_cmpuint(g_array_index(sink.kinds, uint16_t, 2), ==, QMIG_EVENT_EOF);
    g_array_unref(sink.kinds);
}

static void
test_newer_plugin_loses_only_what_we_do_not_know(void)
{
    g_autoptr(QmigChain) chain = chain_of_one("@oversized.so", NULL);

    g_assert_true(push(chain, QMIG_EVENT_EOF, NULL));
    assert_report(chain, "{\"declared\":{\"seen\":1}}");
}

static void
test_older_plugin_lacks_only_what_it_does_not_know(void)
{
    g_autoptr(QmigChain) chain = chain_of_one("@undersized.so", NULL);

    g_assert_true(push(chain, QMIG_EVENT_EOF, NULL));
    assert_report(chain, "{\"declared\":{}}"); /* its `report` lies beyond its size */
}

static void
assert_refused(const char *spec, QmigErrorCode code, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(try_chain((const char *[]){ spec, NULL }, NULL, &error));
    assert_says(error, code, part);
}

static void
test_odd_declarations_are_refused(void)
{
    assert_refused("@cut.so", QMIG_ERROR_PLUGIN, "a multiple of 8");
    assert_refused("@tiny.so", QMIG_ERROR_PLUGIN, "struct qmig_plugin of 8 bytes");
    assert_refused("@version.so", QMIG_ERROR_PLUGIN,
                   "made for plugin ABI version 99, this qmig has version 1");
    assert_refused("@nameless.so", QMIG_ERROR_PLUGIN,
                   "nameless.so: the plugin has no name");
    assert_refused("@badname.so", QMIG_ERROR_PLUGIN, "the plugin's name must be");
    assert_refused("@nothing.so", QMIG_ERROR_PLUGIN, "returned no plugin");
    assert_refused("@stranger.so", QMIG_ERROR_PLUGIN, "does not export qmig_plugin_init");
    assert_refused("@absent.so", QMIG_ERROR_PLUGIN, "absent.so");
}

static void
test_names_are_searched_in_the_path_in_both_forms(void)
{
    g_autofree char *path = g_strconcat("/nonexistent::", g_getenv("QMIG_TEST_PLUGINS"),
                                        NULL);

    g_setenv("QMIG_PLUGIN_PATH", path, TRUE);
    g_autoptr(QmigPlugin) brief = qmig_plugin_load("trace", NULL);
    g_assert_cmpstr(brief->api.name, ==, "trace");
    g_assert_true(g_str_has_suffix(brief->origin, "/trace.so"));
    g_autoptr(QmigPlugin) full = qmig_plugin_load("formal", NULL);
    g_assert_true(g_str_has_suffix(full->origin, "/qmig-formal-plugin.so"));
    assert_refused("nonesuch", QMIG_ERROR_CONFIG, path);
    g_unsetenv("QMIG_PLUGIN_PATH");
    assert_refused("trace", QMIG_ERROR_CONFIG, "no plugin \"trace\"");
}

/* ---- order of calls ------------------------------------------------------------------- */

static void
test_calls_come_in_the_documented_order(void)
{
    g_autofree char *dir = g_dir_make_tmp("qmig-abi-XXXXXX", NULL);
    g_autofree char *log = g_build_filename(dir, "log", NULL);
    g_autofree char *want_path = g_test_build_filename(G_TEST_DIST, "call-order.golden",
                                                       NULL);
    g_autofree char *a = g_strdup_printf("@trace.so:log=%s,as=first,key=a,,b", log);
    g_autofree char *b = g_strdup_printf("@retrace.so:log=%s,as=second", log);
    g_autofree char *c = g_strdup_printf("@trace.so:log=%s,as=third", log);
    Sink sink = { 0 };
    g_autofree char *got = NULL, *want = NULL;

    QmigChain *chain = try_chain((const char *[]){ a, b, c, NULL }, &sink, NULL);
    g_assert_nonnull(chain);
    g_assert_true(push(chain, QMIG_EVENT_HEADER, NULL));
    json_object_put(qmig_chain_report(chain));
    g_assert_true(push(chain, QMIG_EVENT_EOF, NULL));
    g_assert_true(qmig_chain_finish(chain, NULL));
    json_object_put(qmig_chain_report(chain));
    qmig_chain_free(chain);

    g_assert_true(g_file_get_contents(log, &got, NULL, NULL));
    g_unlink(log);
    g_rmdir(dir);
    if (g_getenv("QMIG_TEST_REGENERATE") != NULL) {
        g_assert_true(g_file_set_contents(want_path, got, -1, NULL));
    }
    g_assert_true(g_file_get_contents(want_path, &want, NULL, NULL));
    g_assert_cmpstr(got, ==, want);
}

/* ---- rewriters that do change the stream ------------------------------------------------ */

static void
assert_kinds(const char *mode, const uint16_t *want, unsigned n_want)
{
    g_autofree char *spec = g_strconcat("@mischief.so:do=", mode, NULL);
    Sink sink = { .kinds = g_array_new(FALSE, FALSE, sizeof(uint16_t)) };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain) chain = try_chain(
        (const char *[]){ "stats", spec, "stats", NULL }, &sink, &error);

    g_assert_no_error(error);
    g_assert_true(push(chain, QMIG_EVENT_HEADER, NULL));
    g_assert_true(push(chain, QMIG_EVENT_RAM_FLUSH, NULL));
    g_assert_true(push(chain, QMIG_EVENT_EOF, NULL));
    g_assert_true(qmig_chain_finish(chain, NULL));
    g_assert_cmpmem(sink.kinds->data, sink.kinds->len * sizeof(uint16_t), want,
                    n_want * sizeof *want);
    g_array_unref(sink.kinds);

    /* Each observer has seen what passed at its place: 8 bytes an event. */
    g_autoptr(JsonObject) report = qmig_chain_report(chain);
    struct json_object *before = json_object_object_get(report, "stats");
    struct json_object *after = json_object_object_get(report, "stats#2");
    g_assert_cmpint(json_object_get_int(json_object_object_get(before, "bytes")), ==,
                    3 * 8);
    g_assert_cmpuint(
        (unsigned)json_object_get_int(json_object_object_get(after, "bytes")), ==,
        n_want * 8);
}

static void
test_rewriter_may_drop_double_and_reorder(void)
{
    const uint16_t h = QMIG_EVENT_HEADER, f = QMIG_EVENT_RAM_FLUSH, e = QMIG_EVENT_EOF;

    assert_kinds("nothing", (uint16_t[]){ h, f, e }, 3);
    assert_kinds("drop", (uint16_t[]){ h, e }, 2);
    assert_kinds("double", (uint16_t[]){ h, h, f, f, e, e }, 6);
    assert_kinds("reorder", (uint16_t[]){ f, h, e },
                 3); /* the last one comes from finish */
}

/* ---- what a plugin may ask of the host --------------------------------------------------- */

static void
test_one_plugin_may_ask_for_a_capture(void)
{
    Sink sink = { 0 };
    g_autoptr(QmigChain) chain = chain_of_one("@mischief.so:do=record", &sink);
    g_autoptr(QmigChain) none = chain_of_one("null", &sink);
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(qmig_chain_record(chain), ==, "/nowhere");
    g_assert_null(qmig_chain_record(none));
    g_assert_null(try_chain((const char *[]){ "@mischief.so:do=record",
                                              "record:directory=/nowhere/else", NULL },
                            &sink, &error));
    assert_says(error, QMIG_ERROR_CONFIG,
                "plugin record: plugin mischief asks for a capture in /nowhere already");
    assert_refused("@mischief.so:do=record-nothing", QMIG_ERROR_PLUGIN,
                   "asks for a capture without a directory");
    assert_refused("record", QMIG_ERROR_PLUGIN, "directory=DIR is missing");
    assert_refused("record:file=x", QMIG_ERROR_PLUGIN, "file=x: want directory=DIR");
}

static void
test_plugins_are_told_how_it_ended(void)
{
    Sink sink = { 0 };
    g_autoptr(QmigChain) chain = chain_of_one("@mischief.so:do=outcome", &sink);

    assert_report(chain,
                  "{\"mischief\":{\"failure\":\"\",\"has_pong\":0,\"last_pong\":0}}");
    qmig_chain_set_outcome(chain, "it fell", 7);
    assert_report(chain, "{\"mischief\":{\"failure\":\"it fell\",\"has_pong\":1,"
                         "\"last_pong\":7}}");
}

static void
test_what_is_held_may_go_on_in_silence(void)
{
    Sink sink = { .kinds = g_array_new(FALSE, FALSE, sizeof(uint16_t)) };
    g_autoptr(QmigChain) chain = chain_of_one("@mischief.so:do=reorder", &sink);
    g_autoptr(QmigChain) failing = chain_of_one("@mischief.so:do=fail-idle", &sink);
    g_autoptr(QmigChain) watcher = chain_of_one("@watcher.so", &sink);
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_chain_minds_silence(chain));
    g_assert_false(qmig_chain_minds_silence(watcher));
    g_assert_true(push(chain, QMIG_EVENT_HEADER, NULL));
    g_assert_cmpuint(sink.kinds->len, ==, 0);
    g_assert_true(qmig_chain_idle(chain, 1, NULL));
    g_assert_true(qmig_chain_idle(chain, 2, NULL));
    g_assert_cmpuint(sink.kinds->len, ==, 1);
    g_assert_cmpuint(g_array_index(sink.kinds, uint16_t, 0), ==, QMIG_EVENT_HEADER);
    g_assert_true(qmig_chain_idle(watcher, 1, NULL));
    g_assert_false(qmig_chain_idle(failing, 5000000, &error));
    assert_says(error, QMIG_ERROR_PLUGIN, "plugin mischief: silent for 5 ms");
    g_array_unref(sink.kinds);
}

/* ---- broken rules ----------------------------------------------------------------------- */

static void
test_failing_setup_is_refused_with_the_plugins_words(void)
{
    assert_refused(
        "@mischief.so:do=fail-config", QMIG_ERROR_PLUGIN,
        "plugin mischief: no config today \xef\xbf\xbd"); /* made UTF-8, one line */
    assert_refused("@mischief.so:do=fail-config-silently", QMIG_ERROR_PLUGIN,
                   "plugin mischief: its config function failed and gave no reason");
    assert_refused("@mischief.so:do=fail-get-ready-silently", QMIG_ERROR_PLUGIN,
                   "its get_ready function failed and gave no reason");
}

static void
assert_push_fails(const char *first, const char *second, QmigErrorCode code,
                  const char *part)
{
    Sink sink = { .fails = true };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain)
        chain = try_chain((const char *[]){ first, second, NULL }, &sink, &error);

    g_assert_no_error(error);
    g_assert_false(push(chain, QMIG_EVENT_EOF, &error));
    assert_says(error, code, part);
}

static void
test_failing_event_ends_the_stream_with_the_first_cause(void)
{
    assert_push_fails("@mischief.so:do=fail", NULL, QMIG_ERROR_PLUGIN,
                      "plugin mischief: event 14 is not for me");
    assert_push_fails("@mischief.so:do=fail-silently", NULL, QMIG_ERROR_PLUGIN,
                      "its event function failed and gave no reason");
    assert_push_fails("null", "@mischief.so:do=fail", QMIG_ERROR_PLUGIN,
                      "plugin mischief: event 14 is not for me");
    /* a rewriter that does not pass a failure back cannot hide it */
    assert_push_fails("@mischief.so:do=swallow-failure", NULL, QMIG_ERROR_CLOSED,
                      "the wire is cut");
    assert_push_fails("@mischief.so:do=swallow-failure", "@mischief.so:do=fail",
                      QMIG_ERROR_PLUGIN, "event 14 is not for me");
    assert_push_fails("@mischief.so:do=double", NULL, QMIG_ERROR_CLOSED,
                      "the wire is cut");
    assert_push_fails("@mischief.so:do=send-nothing", NULL, QMIG_ERROR_PLUGIN,
                      "plugin mischief: sends an event without its size");
    assert_push_fails("@mischief.so:do=send-sizeless", NULL, QMIG_ERROR_PLUGIN,
                      "sends an event without its size");
}

static void
assert_finish_fails(const char *spec, bool sink_fails, QmigErrorCode code,
                    const char *part)
{
    Sink sink = { .fails = sink_fails };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain) chain = chain_of_one(spec, &sink);

    g_assert_false(qmig_chain_finish(chain, &error));
    assert_says(error, code, part);
}

static void
test_failing_finish_is_an_error(void)
{
    assert_finish_fails("@mischief.so:do=record-late", false, QMIG_ERROR_PLUGIN,
                        "asks for a capture when the migration may have begun");
    assert_finish_fails("@mischief.so:do=fail-finish-silently", false, QMIG_ERROR_PLUGIN,
                        "its finish function failed and gave no reason");
    assert_finish_fails("@mischief.so:do=send-in-finish", true, QMIG_ERROR_CLOSED,
                        "the wire is cut");
    assert_finish_fails("@watcher.so:do=send-in-finish", false, QMIG_ERROR_PLUGIN,
                        "sends an event outside of a rewriter's event, idle and finish");
}

static void
assert_report_broken(const char *mode, const char *why)
{
    g_autofree char *spec = g_strconcat("@mischief.so:do=", mode, NULL);
    g_autofree char *want = g_strdup_printf(
        "{\"mischief\":{\"error\":\"plugin mischief: its report has %s\"}}", why);
    g_autoptr(QmigChain) chain = chain_of_one(spec, NULL);

    assert_report(chain, want);
}

static void
test_broken_report_says_which_rule(void)
{
    assert_report_broken("end-too-often", "end without begin");
    assert_report_broken("never-end", "begin without end");
    assert_report_broken("go-deep", "groups nested too deeply, at \\\"deep\\\"");
    assert_report_broken("no-key", "an entry of a group without a name");
    assert_report_broken("same-key", "a name given twice in one group, at \\\"key\\\"");
}

static void
test_report_is_always_utf8(void)
{
    g_autoptr(QmigChain) chain = chain_of_one("@mischief.so:do=bad-text", NULL);

    assert_report(chain, "{\"mischief\":{\"text\":\"a\xef\xbf\xbd\",\"null\":\"\"}}");
}

static void
test_sending_outside_of_event_is_refused(void)
{
    Sink sink = { .kinds = g_array_new(FALSE, FALSE, sizeof(uint16_t)) };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigChain) chain = chain_of_one("@mischief.so:do=send-in-report", &sink);

    g_assert_true(push(chain, QMIG_EVENT_HEADER, NULL));
    assert_report(chain, "{\"mischief\":{\"result\":0}}");
    g_assert_cmpuint(sink.kinds->len, ==, 1);
    g_assert_false(
        push(chain, QMIG_EVENT_EOF, &error)); /* found out with the next event */
    assert_says(error, QMIG_ERROR_PLUGIN, "sends an event outside");
    g_array_unref(sink.kinds);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *path;
        GTestFunc run;
    } tests[] = {
        { "/abi/layout-is-that-of-version-1", test_layout_is_that_of_version_1 },
        { "/abi/plugin-of-version-1-works", test_plugin_of_version_1_works },
        { "/abi/newer-plugin-loses-only-what-we-do-not-know",
          test_newer_plugin_loses_only_what_we_do_not_know },
        { "/abi/older-plugin-lacks-only-what-it-does-not-know",
          test_older_plugin_lacks_only_what_it_does_not_know },
        { "/abi/odd-declarations-are-refused", test_odd_declarations_are_refused },
        { "/abi/names-are-searched-in-the-path-in-both-forms",
          test_names_are_searched_in_the_path_in_both_forms },
        { "/abi/calls-come-in-the-documented-order",
          test_calls_come_in_the_documented_order },
        { "/abi/rewriter-may-drop-double-and-reorder",
          test_rewriter_may_drop_double_and_reorder },
        { "/abi/one-plugin-may-ask-for-a-capture",
          test_one_plugin_may_ask_for_a_capture },
        { "/abi/plugins-are-told-how-it-ended", test_plugins_are_told_how_it_ended },
        { "/abi/what-is-held-may-go-on-in-silence",
          test_what_is_held_may_go_on_in_silence },
        { "/abi/failing-setup-is-refused-with-the-plugins-words",
          test_failing_setup_is_refused_with_the_plugins_words },
        { "/abi/failing-event-ends-the-stream-with-the-first-cause",
          test_failing_event_ends_the_stream_with_the_first_cause },
        { "/abi/failing-finish-is-an-error", test_failing_finish_is_an_error },
        { "/abi/broken-report-says-which-rule", test_broken_report_says_which_rule },
        { "/abi/report-is-always-utf8", test_report_is_always_utf8 },
        { "/abi/sending-outside-of-event-is-refused",
          test_sending_outside_of_event_is_refused },
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add_func(tests[i].path, tests[i].run);
    }
    return g_test_run();
}
