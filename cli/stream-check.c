/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream check: is a stream whole, and would this QEMU take it? */
#include "cli/stream.h"
#include "inspect/check.h"
#include "util/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static struct {
    gboolean json;
    char *qmp, *machine, *version, *binary;
} arg;

static const GOptionEntry entries[] = {
    { "qmp", 0, 0, G_OPTION_ARG_STRING, &arg.qmp,
      "Would the QEMU at this monitor take it? (Waiting with -incoming, or any)", "QMP" },
    { "machine", 0, 0, G_OPTION_ARG_STRING, &arg.machine,
      "Would a QEMU with this machine type take it?", "TYPE" },
    { "qemu-version", 0, 0, G_OPTION_ARG_STRING, &arg.version,
      "Would a QEMU of this version take it?", "X.Y" },
    { "qemu", 0, 0, G_OPTION_ARG_FILENAME, &arg.binary,
      "Would the devices of this QEMU binary take it? (Runs it with -dump-vmstate)",
      "BINARY" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "As JSON", NULL },
    G_OPTION_ENTRY_NULL
};

/* "10.0" or "7.2.22" as major * 10000 + minor * 100 + micro. */
static bool
parse_version(const char *text, unsigned *version, GError **error)
{
    unsigned major, minor, micro = 0;
    int n = 0;

    if (sscanf(text, "%2u.%2u%n", &major, &minor, &n) != 2 ||
        (text[n] != '\0' && sscanf(text + n, ".%2u%n", &micro, &n) != 1)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--qemu-version=%s: want a version as 10.0", text);
    }
    *version = major * 10000 + minor * 100 + micro;
    return true;
}

static bool
ask_monitor(JsonObject *check, GError **error)
{
    g_autoptr(QmigQmp) qmp = cli_connect(arg.qmp, error);

    return qmp != NULL && qmig_check_against_qmp(check, qmp, error);
}

static bool
ask_binary(JsonObject *check, GError **error)
{
    const char *machine = arg.machine != NULL
                              ? arg.machine
                              : qmig_json_string(json_object_object_get(check, "needs"),
                                                 "machine");
    g_autofree char *refusal = NULL;
    g_autofree char *out = cli_dump_vmstate(arg.binary, machine, &refusal, error);

    if (refusal != NULL) {
        /* It does not know the machine type, for one. */
        qmig_check_add(check, "refused", "", 0, "machine", "%s", refusal);
        return true;
    }
    if (out == NULL) {
        return false;
    }
    return qmig_check_against_vmstate(check, out, strlen(out), error);
}

static bool
compare(JsonObject *check, GError **error)
{
    unsigned version = 0;

    if (arg.version != NULL && !parse_version(arg.version, &version, error)) {
        return false;
    }
    qmig_check_against_facts(check, arg.machine, version);
    return (arg.qmp == NULL || ask_monitor(check, error)) &&
           (arg.binary == NULL || ask_binary(check, error));
}

/* The worst finding decides. */
static int
exit_code(JsonObject *findings)
{
    int code = 0;

    for (size_t i = 0; i < json_object_array_length(findings); i++) {
        const char *severity = qmig_json_string(json_object_array_get_idx(findings, i),
                                                "severity");

        if (strcmp(severity, "error") == 0) {
            return QMIG_OUTCOME_FAILED;
        }
        if (strcmp(severity, "refused") == 0) {
            code = QMIG_OUTCOME_REFUSED;
        }
    }
    return code;
}

static void
print_needs(JsonObject *needs)
{
    const char *machine = qmig_json_string(needs, "machine");
    JsonObject *names = qmig_json_get(needs, "capabilities", json_type_array);
    int64_t since = qmig_json_int(needs, "since", 0);
    int64_t until = qmig_json_int(needs, "until", 0);

    printf("needs: machine %s", machine != NULL ? machine : "unknown");
    if (since > 0) {
        printf(", QEMU %" PRId64 ".%" PRId64 " or later", since / 10000,
               since / 100 % 100);
    }
    if (until > 0) {
        printf(", at most QEMU %" PRId64 ".%" PRId64, until / 10000, until / 100 % 100);
    }
    for (size_t i = 0; names != NULL && i < json_object_array_length(names); i++) {
        printf(", %s", json_object_get_string(json_object_array_get_idx(names, i)));
    }
    printf("\n");
}

static void
print_findings(JsonObject *findings)
{
    for (size_t i = 0; i < json_object_array_length(findings); i++) {
        JsonObject *finding = json_object_array_get_idx(findings, i);
        const char *channel = qmig_json_string(finding, "channel");

        printf("%s: %s: %s", qmig_json_string(finding, "severity"),
               qmig_json_string(finding, "where"), qmig_json_string(finding, "text"));
        if (channel[0] != '\0') {
            printf(" (%s, offset %" PRId64 ")", channel,
                   qmig_json_int(finding, "offset", 0));
        }
        printf("\n");
    }
}

int
cli_stream_check(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) check = NULL;
    JsonObject *findings;

    if (!cli_parse(&argc, &argv, entries, "INPUT",
                   "Exit: 0 whole (and would be taken), 1 usage, 2 would be refused,\n"
                   "3 damaged or not complete.\n",
                   1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    check = qmig_check_read(argv[1], cli_stream_progress(), &error);
    if (check == NULL || !compare(check, &error)) {
        return cli_fail("stream check", error, QMIG_OUTCOME_USAGE);
    }
    findings = qmig_json_get(check, "findings", json_type_array);
    if (arg.json) {
        cli_print_json(check);
    } else {
        print_findings(findings);
        print_needs(qmig_json_get(check, "needs", json_type_object));
        printf("%s\n", exit_code(findings) == 0 ? "in order"
                       : qmig_json_bool(check, "complete", false)
                           ? "complete, but see above"
                           : "not complete");
    }
    return exit_code(findings);
}
