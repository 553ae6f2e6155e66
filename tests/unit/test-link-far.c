/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the far end may connect to, and what it says of where it did not. */
#include "proxy/link/far-log.h"
#include "proxy/link/reach.h"
#include "proxy/link/refusals.h"
#include "util/error.h"

#include <string.h>

static void
check_allowed(const char *address, bool allowed)
{
    static const char *const patterns[] = { "unix:/run/vm*/qmp", "tcp:127.0.0.*:1",
                                            "tcp:vm*.example:1", NULL };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigAddress) own = qmig_address_parse("unix:../own", NULL);
    g_autoptr(QmigAddress) got = qmig_reach_allowed(own, patterns, address, &error);

    g_test_message("%s: %s", address, error != NULL ? error->message : "allowed");
    g_assert_cmpint(got != NULL, ==, allowed);
    if (!allowed) {
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    }
}

static void
test_allowed(void)
{
    check_allowed("", true);
    check_allowed("unix:../own", true);
    check_allowed("unix:/run/vm1/qmp", true);
    check_allowed("unix:/run/vm1/../docker/qmp", false);
    check_allowed("unix:/run/vm1/./qmp", false);
    check_allowed("unix:/elsewhere/qmp", false);
    check_allowed("tcp:127.0.0.1:1", true);
    check_allowed("tcp:127.0.0.1:2", false);
    check_allowed("tcp:127.0.0.x.example:1", false);
    check_allowed("tcp:vm1.example:1", true);
    check_allowed("nonsense", false);
}

static bool
take_line(void *data, const char *line)
{
    g_string_append_printf(data, "%s\n", line);
    return true;
}

/* Of a thousand that are turned down not every one is a line. */
static void
test_log_is_bounded(void)
{
    g_autoptr(GString) said = g_string_new(NULL);
    QmigFarLog *log = qmig_far_log_new(take_line, said);
    g_autoptr(GError) why = g_error_new(QMIG_ERROR, QMIG_ERROR_CONFIG, "no");

    for (int i = 0; i < 1000; i++) {
        qmig_far_log_refused(log, QMIG_STREAM_DISK, "", why);
    }
    g_auto(GStrv) lines = g_strsplit(said->str, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), <=, 2 * QMIG_REFUSALS_LINES);
    g_assert_cmpstr(lines[0], ==, "refused disk of a nameless session: config: no");
    qmig_far_log_free(log);
    g_assert_nonnull(strstr(said->str, " config; the last from disk of a nameless"));
}
int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link/far/allowed", test_allowed);
    g_test_add_func("/link/far/log-is-bounded", test_log_is_bounded);
    return g_test_run();
}
