/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig recover JOURNAL|QMP. */
#include "cli/cli.h"
#include "cli/reach.h"
#include "cli/render.h"
#include "job/journal.h"
#include "job/recover.h"
#include "util/error.h"

#include <stdio.h>
#include <string.h>

static char *arg_fence, *arg_progress;
static char **arg_via;
static gboolean arg_json;

static const GOptionEntry entries[] = {
    { "fence", 0, 0, G_OPTION_ARG_STRING, &arg_fence,
      "makes sure that a lost side runs nothing", "COMMAND" },
    { "via", 0, 0, G_OPTION_ARG_STRING_ARRAY, &arg_via,
      "where the tunnel's far end listens now; may be repeated", "HOST[:PORT]" },
    { "progress", 0, 0, G_OPTION_ARG_STRING, &arg_progress,
      "auto, tty, plain, json or none; on stderr", "KIND" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg_json, "the report as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

/* The journal: a file, or that of the unfinished migration with a QEMU. What is via:ADDRESS there
 * is compared as the journal has it, whatever way the user wrote the address. */
static char *
find_journal(const char *text, GError **error)
{
    const char *via = g_str_has_prefix(text, "via:") ? "via:" : "";
    g_autoptr(QmigAddress) address = NULL;
    g_autofree char *plain = NULL, *qmp = NULL;

    if (g_file_test(text, G_FILE_TEST_IS_REGULAR)) {
        return g_strdup(text);
    }
    address = qmig_address_parse(text + strlen(via), error);
    if (address == NULL) {
        g_prefix_error(error, "\"%s\" is no file, and: ", text);
        return NULL;
    }
    plain = qmig_address_to_string(address);
    qmp = g_strconcat(via, plain, NULL);
    return qmig_journal_find(qmp, error);
}

static void
print_report(JsonObject *report, QmigOutcome outcome)
{
    if (arg_json && report != NULL) {
        cli_print_json(report);
    } else if (arg_json) {
        printf("{}\n");
    } else if (report == NULL && outcome == QMIG_OUTCOME_DONE) {
        printf("The migration has ended: there is nothing to recover.\n");
    } else if (outcome == QMIG_OUTCOME_DONE) {
        printf("The guest is on the destination.\n");
    }
}

/* A qmig migrate that runs tries by itself: let it do so now. */
static int
recover_job(QmigControlPeer *peer)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_control_call(peer, "recover", NULL, NULL, &error)) {
        g_prefix_error(&error, "a qmig is running for it: ");
        return cli_fail("recover", error, QMIG_OUTCOME_USAGE);
    }
    printf("The running qmig tries it now; `qmig watch` shows how it goes.\n");
    return 0;
}

int
cli_recover(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) report = NULL;
    g_autofree char *path = NULL;
    CliRender render;

    if (!cli_parse(
            &argc, &argv, entries, "JOURNAL|QMP",
            "Finishes or undoes a migration whose qmig was killed, by its journal and by\n"
            "what both QEMUs say; resumes a paused post-copy. QMP: the address of either.\n\n"
            "Exit: 0 the guest is on the destination, or there was nothing to do,\n"
            "3 it is on the source, 6 post-copy is still paused, 7 ownership unclear,\n"
            "1 and 2 nothing was touched.\n",
            1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    if (!cli_render_init(&render, stderr, arg_progress)) {
        fprintf(stderr,
                "qmig recover: --progress: \"%s\", wanted auto, tty, plain, json or "
                "none\n",
                arg_progress);
        return QMIG_OUTCOME_USAGE;
    }
    g_autoptr(QmigControlPeer) peer = qmig_control_find(argv[1], &error);
    if (peer != NULL || error != NULL) {
        return peer != NULL ? recover_job(peer)
                            : cli_fail("recover", error, QMIG_OUTCOME_USAGE);
    }
    path = find_journal(argv[1], &error);
    if (path == NULL) {
        return cli_fail("recover", error, QMIG_OUTCOME_USAGE);
    }
    QmigOutcome outcome = qmig_recover(path, arg_fence, (const char *const *)arg_via,
                                       &cli_render_watcher, &render,
                                       cli_cancel_on_signals(), &report, &error);
    cli_render_end(&render);
    print_report(report, outcome);
    return error == NULL ? 0 : cli_fail("recover", error, (int)outcome);
}
