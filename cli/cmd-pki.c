/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig pki: a small CA, certificates and pre-shared keys for QEMU, and what is in a directory. */
#include "cli/cli.h"
#include "util/error.h"
#include "util/x509.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct {
    char *ca, *name, *user;
    char **hosts;
    int days;
    gboolean json;
} arg;

static const GOptionEntry entries[] = {
    { "ca", 0, 0, G_OPTION_ARG_FILENAME, &arg.ca,
      "server, client: the directory of the CA that signs", "DIR" },
    { "host", 0, 0, G_OPTION_ARG_STRING_ARRAY, &arg.hosts,
      "server, all: name or IP address it is known by; repeat it", "NAME" },
    { "name", 0, 0, G_OPTION_ARG_STRING, &arg.name, "the common name in the certificate",
      "NAME" },
    { "days", 0, 0, G_OPTION_ARG_INT, &arg.days,
      "how long it is good (365); below 0: it has expired", "N" },
    { "user", 0, 0, G_OPTION_ARG_STRING, &arg.user, "psk: whose key (qemu)", "NAME" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json, "show: as one JSON object", NULL },
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "WHAT is one of\n"
    "  ca      a CA: ca-cert.pem, and ca-key.pem, which signs and goes nowhere\n"
    "  server  what a destination shows: server-cert.pem, server-key.pem\n"
    "  client  what a source shows: client-cert.pem, client-key.pem\n"
    "  all     these three in one directory: for tests, and for one host\n"
    "  psk     a pre-shared key instead: a line of keys.psk\n"
    "  show    what is there, and what a migration would find wrong with it\n\n"
    "Nothing is overwritten. QEMU's user must be able to read what is for QEMU.\n";

typedef struct {
    const char *name;
    bool (*run)(const char *dir, GError **error);
} PkiCommand;

/* ---- making ------------------------------------------------------------------------------ */

static bool
make(QmigPkiKind kind, const char *dir, const char *ca_dir, const char *name,
     GError **error)
{
    const char *const *hosts = (const char *const *)arg.hosts;
    QmigPkiRequest request = {
        .kind = kind,
        .dir = dir,
        .ca_dir = ca_dir,
        .name = arg.name != NULL                           ? arg.name
                : kind == QMIG_PKI_SERVER && hosts != NULL ? hosts[0]
                                                           : name,
        .hosts = hosts,
        .days = arg.days,
    };

    return qmig_pki_make(&request, error);
}

static bool
run_ca(const char *dir, GError **error)
{
    return make(QMIG_PKI_CA, dir, NULL, "qmig CA", error);
}

static bool
run_server(const char *dir, GError **error)
{
    return make(QMIG_PKI_SERVER, dir, arg.ca, "server", error);
}

static bool
run_client(const char *dir, GError **error)
{
    return make(QMIG_PKI_CLIENT, dir, arg.ca, "client", error);
}

static bool
run_all(const char *dir, GError **error)
{
    return make(QMIG_PKI_CA, dir, NULL, "qmig CA", error) &&
           make(QMIG_PKI_SERVER, dir, dir, "server", error) &&
           make(QMIG_PKI_CLIENT, dir, dir, "client", error);
}

static bool
run_psk(const char *dir, GError **error)
{
    return qmig_pki_make_psk(dir, arg.user != NULL ? arg.user : "qemu", error);
}

/* ---- show -------------------------------------------------------------------------------- */

static const char *const kind_names[] = {
    [QMIG_PKI_CA] = "ca",
    [QMIG_PKI_SERVER] = "server",
    [QMIG_PKI_CLIENT] = "client",
};

/* What a migration would say of it; NULL = nothing is wrong. */
static char *
find_problem(const char *dir, QmigPkiKind kind)
{
    g_autoptr(GError) error = NULL;
    bool ok = kind == QMIG_PKI_CA ? qmig_x509_check_ca(dir, &error)
                                  : qmig_x509_check_own(dir, kind, &error);

    return ok ? NULL : g_strdup(error->message);
}

static JsonObject *
describe(const char *dir, QmigPkiKind kind, X509 *cert)
{
    JsonObject *o = json_object_new_object();
    g_auto(QmigX509Info) info = { 0 };
    g_autofree char *problem = find_problem(dir, kind);

    qmig_x509_info(cert, &info);
    g_autofree char *from = qmig_x509_format_time(info.from);
    g_autofree char *until = qmig_x509_format_time(info.until);
    cli_add_text(o, "kind", kind_names[kind]);
    cli_add_text(o, "subject", info.subject);
    cli_add_text(o, "issuer", info.issuer);
    cli_add_text(o, "names", info.names);
    cli_add_text(o, "from", from);
    cli_add_text(o, "until", until);
    json_object_object_add(
        o, "days_left",
        json_object_new_int64((info.until - (int64_t)time(NULL)) / (24 * 60 * 60)));
    cli_add_text(o, "problem", problem);
    return o;
}

static JsonObject *
psk_users(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, QMIG_PKI_PSK, NULL);
    g_autofree char *text = NULL;
    JsonObject *users = json_object_new_array();

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return users;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line != NULL; line++) {
        const char *colon = strchr(*line, ':');
        if (colon != NULL && **line != '#') {
            json_object_array_add(
                users, json_object_new_string_len(*line, (int)(colon - *line)));
        }
    }
    return users;
}

static void
print_certificates(JsonObject *certificates, JsonObject *users)
{
    static const char *const members[] = { "subject", "issuer", "names",
                                           "from",    "until",  "problem" };

    for (size_t i = 0; i < json_object_array_length(certificates); i++) {
        JsonObject *o = json_object_array_get_idx(certificates, i);
        printf("%s-cert.pem\n", qmig_json_string(o, "kind"));
        for (size_t m = 0; m < G_N_ELEMENTS(members); m++) {
            const char *text = qmig_json_string(o, members[m]);
            if (text != NULL && text[0] != '\0') {
                printf("  %-8s %s\n", members[m], text);
            }
        }
    }
    for (size_t i = 0; i < json_object_array_length(users); i++) {
        printf("keys.psk\n  user     %s\n",
               json_object_get_string(json_object_array_get_idx(users, i)));
    }
}

static bool
run_show(const char *dir, GError **error)
{
    g_autoptr(JsonObject) report = json_object_new_object();
    JsonObject *certificates = json_object_new_array();
    JsonObject *users = psk_users(dir);
    g_autofree char *problem = NULL;

    json_object_object_add(report, "certificates", certificates);
    json_object_object_add(report, "psk_users", users);
    for (QmigPkiKind kind = QMIG_PKI_CA; kind <= QMIG_PKI_CLIENT; kind++) {
        g_autofree char *path = qmig_x509_cert_path(dir, kind);
        g_autoptr(X509) cert = NULL;
        if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
            continue;
        }
        cert = qmig_x509_read(path, error);
        if (cert == NULL) {
            return false;
        }
        json_object_array_add(certificates, describe(dir, kind, cert));
        problem = problem != NULL ? problem : find_problem(dir, kind);
    }
    if (json_object_array_length(certificates) + json_object_array_length(users) == 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: neither certificates nor keys.psk are there", dir);
    }
    if (arg.json) {
        cli_print_json(report);
    } else {
        print_certificates(certificates, users);
    }
    return problem == NULL || qmig_set_error(error, QMIG_ERROR_TLS, "%s", problem);
}

/* ---- the command ------------------------------------------------------------------------- */

/* Options that would be ignored are a mistake. */
static bool
check_options(const char *what, GError **error)
{
    const struct {
        const char *option, *needed_by;
        bool given;
    } rows[] = {
        { "--ca", "server client", arg.ca != NULL },
        { "--host", "server all", arg.hosts != NULL },
        { "--name", "ca server client", arg.name != NULL },
        { "--user", "psk", arg.user != NULL },
        { "--json", "show", arg.json },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(GStrv) kinds = g_strsplit(rows[i].needed_by, " ", 0);
        if (rows[i].given && !g_strv_contains((const char *const *)kinds, what)) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: wanted only by: %s",
                                  rows[i].option, rows[i].needed_by);
        }
    }
    return arg.ca != NULL ||
           (strcmp(what, "server") != 0 && strcmp(what, "client") != 0) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "%s: wanted --ca DIR, the CA that signs it", what);
}

static bool
run(const char *what, const char *dir, GError **error)
{
    static const PkiCommand commands[] = {
        { "ca", run_ca },   { "server", run_server }, { "client", run_client },
        { "all", run_all }, { "psk", run_psk },       { "show", run_show },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].name, what) == 0) {
            return check_options(what, error) && commands[i].run(dir, error);
        }
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "\"%s\", wanted ca, server, client, all, psk or show", what);
}

int
cli_pki(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    arg.days = 365;
    if (!cli_parse(&argc, &argv, entries, "WHAT DIR", description, 2, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    return run(argv[1], argv[2], &error) ? 0 : cli_fail("pki", error, QMIG_OUTCOME_USAGE);
}
