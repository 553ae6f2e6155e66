/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What plugins say on writes, what is changed while they run, and which of them do not go
 * together; with plugins loaded from shared objects, in $QMIG_TEST_PLUGINS.
 */
#include "plugin/pacer.h"
#include "util/error.h"

#include <glib.h>
#include <string.h>

/* Replaces a leading '@' of each spec by the directory of the test plugins. */
static QmigChain *
try_chain(const char *const *specs, GError **error)
{
    g_autoptr(GPtrArray) full = g_ptr_array_new_with_free_func(g_free);

    for (; *specs != NULL; specs++) {
        g_ptr_array_add(
            full, (*specs)[0] == '@'
                      ? g_strconcat(g_getenv("QMIG_TEST_PLUGINS"), "/", *specs + 1, NULL)
                      : g_strdup(*specs));
    }
    g_ptr_array_add(full, NULL);
    return qmig_chain_new((const char *const *)full->pdata, NULL, NULL, error);
}

/* @second may be NULL. */
static QmigChain *
chain_of(const char *first, const char *second)
{
    g_autoptr(GError) error = NULL;
    QmigChain *chain = try_chain((const char *[]){ first, second, NULL }, &error);

    g_assert_no_error(error);
    return chain;
}

static void
assert_says(const GError *error, QmigErrorCode code, const char *part)
{
    g_assert_error(error, QMIG_ERROR, (int)code);
    if (strstr(error->message, part) == NULL) {
        g_error("\"%s\" does not say \"%s\"", error->message, part);
    }
}

static void
assert_asked(QmigChain *chain, const char *name, int want)
{
    g_autoptr(JsonObject) report = qmig_chain_report(chain);
    struct json_object *one = json_object_object_get(report, name);

    g_assert_cmpint(json_object_get_int(json_object_object_get(one, "asked")), ==, want);
}

/* Ask for @want, be granted @granted, and write them. */
static void
assert_granted(QmigPacer *pacer, uint64_t want, uint64_t granted)
{
    uint64_t bytes = want, wait_ns = 7;

    g_assert_true(qmig_pacer_ask(pacer, &bytes, &wait_ns, NULL));
    g_assert_cmpuint(wait_ns, ==, 0);
    g_assert_cmpuint(bytes, ==, granted);
    qmig_pacer_wrote(pacer, bytes);
}

static void
test_plugins_without_a_say_are_not_asked(void)
{
    g_autoptr(QmigChain) chain = chain_of("@frozen.so", "stats");

    g_assert_null(qmig_pacer_new(chain, QMIG_PIECE_MAIN, 0));
    g_assert_false(qmig_chain_looks_first(chain));
}

static void
test_the_least_grant_counts_and_nobody_is_asked_twice(void)
{
    g_autoptr(QmigChain) chain = chain_of("@toll.so:grant=10", "@rival.so:grant=4");
    g_autoptr(QmigPacer) pacer = qmig_pacer_new(chain, QMIG_PIECE_MULTIFD, 3);
    uint64_t bytes = 100, wait_ns;

    assert_granted(pacer, 100, 4);
    assert_granted(pacer, 96, 4);
    /* Asked, and asked again, before anything is written. */
    g_assert_true(qmig_pacer_ask(pacer, &bytes, &wait_ns, NULL));
    g_assert_cmpuint(bytes, ==, 2);
    assert_granted(pacer, 92, 2);
    assert_asked(chain, "toll", 1);
    assert_asked(chain, "rival", 3);
    assert_granted(pacer, 90, 4);
    assert_granted(pacer, 1, 1); /* toll's are left from before */
    assert_asked(chain, "toll", 2);
    assert_asked(chain, "rival", 5);
}

static void
test_who_waits_has_nothing(void)
{
    g_autoptr(QmigChain) chain = chain_of("@toll.so", "@rival.so:wait=2");
    g_autoptr(QmigPacer) pacer = qmig_pacer_new(chain, QMIG_PIECE_MAIN, 0);
    uint64_t bytes = 5, wait_ns;

    for (int i = 0; i < 2; i++) {
        g_assert_true(qmig_pacer_ask(pacer, &bytes, &wait_ns, NULL));
        g_assert_cmpuint(wait_ns, ==, 1000);
        g_assert_cmpuint(bytes, ==, 5);
    }
    assert_granted(pacer, 5, 5);
    assert_asked(chain, "toll", 1); /* it had granted them already */
    assert_asked(chain, "rival", 3);
}

static void
assert_ask_fails(const char *spec, const char *part)
{
    g_autoptr(QmigChain) chain = chain_of(spec, NULL);
    g_autoptr(QmigPacer) pacer = qmig_pacer_new(chain, QMIG_PIECE_MAIN, 0);
    g_autoptr(GError) error = NULL;
    uint64_t bytes = 9, wait_ns;

    g_assert_false(qmig_pacer_ask(pacer, &bytes, &wait_ns, &error));
    assert_says(error, QMIG_ERROR_PLUGIN, part);
}

static void
test_bad_answers_are_errors(void)
{
    assert_ask_fails("@toll.so:do=fail-pace", "plugin toll: no further than byte 0");
    assert_ask_fails("@toll.so:do=grant-more", "plugin toll: grants 10 of 9 bytes");
    assert_ask_fails("@toll.so:do=grant-nothing", "plugin toll: grants 0 of 9 bytes");
}

static void
test_bytes_are_altered_by_all_in_order(void)
{
    g_autoptr(QmigChain) chain = chain_of("@toll.so:add=1", "@rival.so:add=5");
    g_autoptr(QmigPacer) pacer = qmig_pacer_new(chain, QMIG_PIECE_MAIN, 0);
    g_autoptr(QmigChain) bad = chain_of("@toll.so:do=fail-alter", NULL);
    g_autoptr(QmigPacer) bad_pacer = qmig_pacer_new(bad, QMIG_PIECE_MAIN, 0);
    g_autoptr(GError) error = NULL;
    uint8_t data[] = { 1, 2, 250 };

    g_assert_true(qmig_pacer_alters(pacer));
    g_assert_true(qmig_pacer_alter(pacer, data, sizeof data, NULL));
    g_assert_cmpmem(data, sizeof data, "\7\10\0", 3);
    g_assert_false(qmig_pacer_alter(bad_pacer, data, sizeof data, &error));
    assert_says(error, QMIG_ERROR_PLUGIN, "its alter function failed");
}

/* ---- set -------------------------------------------------------------------------------- */

static void
assert_set_fails(QmigChain *chain, const char *name, const char *value,
                 QmigErrorCode code, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_chain_set(chain, name, value, false, &error));
    assert_says(error, code, part);
}

static void
test_configuration_changes_while_it_runs(void)
{
    g_autoptr(QmigChain) chain = chain_of("stats", "@toll.so:grant=10");
    g_autoptr(QmigPacer) pacer = qmig_pacer_new(chain, QMIG_PIECE_MAIN, 0);

    g_assert_true(qmig_chain_set(chain, "toll.grant", "3", true, NULL));
    assert_granted(pacer, 10, 10); /* it was only tried */
    g_assert_true(qmig_chain_set(chain, "toll.grant", "3", false, NULL));
    assert_granted(pacer, 10, 3);
    assert_set_fails(chain, "toll.grant", "x", QMIG_ERROR_PLUGIN,
                     "plugin toll: grant=x is nothing for me");
    assert_granted(pacer, 10, 3);
    assert_set_fails(chain, "stats.sample", "3", QMIG_ERROR_PLUGIN,
                     "plugin stats: nothing of it can be changed while it runs");
    assert_set_fails(chain, "tol.grant", "3", QMIG_ERROR_CONFIG,
                     "plugin tol is not in use here (there are: stats, toll)");
    assert_set_fails(chain, "toll#2.grant", "3", QMIG_ERROR_CONFIG,
                     "plugin toll#2 is not");
    g_autoptr(QmigChain) twice = chain_of("@toll.so:grant=10", "@toll.so:grant=10");
    g_autoptr(QmigPacer) twice_pacer = qmig_pacer_new(twice, QMIG_PIECE_MAIN, 0);
    g_assert_true(qmig_chain_set(twice, "toll#2.grant", "4", false, NULL));
    assert_granted(twice_pacer, 10, 4);
    assert_set_fails(chain, "toll", "3", QMIG_ERROR_CONFIG, "wanted PLUGIN.KEY");
    assert_set_fails(chain, ".grant", "3", QMIG_ERROR_CONFIG, "wanted PLUGIN.KEY");
    assert_set_fails(chain, "toll.", "3", QMIG_ERROR_CONFIG, "wanted PLUGIN.KEY");
}

/* ---- who goes with whom ----------------------------------------------------------------- */

static void
assert_refused(const char *first, const char *second, const char *part)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(try_chain((const char *[]){ first, "null", second, NULL }, &error));
    assert_says(error, QMIG_ERROR_CONFIG, part);
}

static void
test_conflicts_are_refused_before_anything_is_opened(void)
{
    /* A bad parameter would be refused, too, if it came to that. */
    assert_refused("@rival.so:no=no", "@trace.so", "plugins rival and trace: not in one");
    assert_refused("@trace.so", "@rival.so:no=no", "plugins trace and rival: not in one");
    assert_refused("@rival.so:no=no", "@rival.so",
                   "plugins rival and rival: not in one chain, it works only once");
    assert_refused("@toll.so:no=no", "@later.so", "plugin later: not behind toll");
    g_autoptr(QmigChain) chain = chain_of("@later.so", "@toll.so");
    g_assert_nonnull(chain);
    assert_refused("throttle:rate=oops", "throttle", "throttle: not in one chain");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pacing/plugins-without-a-say-are-not-asked",
                    test_plugins_without_a_say_are_not_asked);
    g_test_add_func("/pacing/the-least-grant-counts-and-nobody-is-asked-twice",
                    test_the_least_grant_counts_and_nobody_is_asked_twice);
    g_test_add_func("/pacing/who-waits-has-nothing", test_who_waits_has_nothing);
    g_test_add_func("/pacing/bad-answers-are-errors", test_bad_answers_are_errors);
    g_test_add_func("/pacing/bytes-are-altered-by-all-in-order",
                    test_bytes_are_altered_by_all_in_order);
    g_test_add_func("/pacing/configuration-changes-while-it-runs",
                    test_configuration_changes_while_it_runs);
    g_test_add_func("/pacing/conflicts-are-refused-before-anything-is-opened",
                    test_conflicts_are_refused_before_anything_is_opened);
    return g_test_run();
}
