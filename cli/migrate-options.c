/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a command line to the options of a job, by the table. First each option is put where its
 * row says; then all that does not go together is told at once.
 */
#include "cli/migrate-options.h"

#include "cli/cli.h"
#include "job/hook.h"
#include "job/via.h"
#include "qmp/rules.h"
#include "util/error.h"
#include "util/units.h"

#include <stdlib.h>
#include <string.h>

/* What the command line said; which of the three, the row's kind tells. */
typedef struct {
    gboolean flag;
    char *text;
    char **list;
} Value;

static Value *values; /* as many as there are rows */

static Value *
value_of(const char *name)
{
    const CliOption *row = cli_migrate_option(name);
    size_t n;

    g_assert(row != NULL && values != NULL);
    return &values[row - cli_migrate_options(&n)];
}

bool
cli_option_given(const char *name)
{
    const Value *value = value_of(name);

    return value->flag || value->text != NULL || value->list != NULL;
}

const char *
cli_option_text(const char *name)
{
    return value_of(name)->text;
}

char **
cli_option_list(const char *name)
{
    return value_of(name)->list;
}

/* ---- parsing --------------------------------------------------------------------------- */

static GOptionEntry
entry_of(const CliOption *row, Value *value)
{
    GOptionEntry entry = { .long_name = row->name };

    switch (row->kind) {
    case CLI_FLAG:
        entry.arg = G_OPTION_ARG_NONE;
        entry.arg_data = &value->flag;
        break;
    case CLI_LIST:
    case CLI_WORDS:
        entry.arg = G_OPTION_ARG_STRING_ARRAY;
        entry.arg_data = &value->list;
        break;
    case CLI_FILE:
        entry.arg = G_OPTION_ARG_FILENAME;
        entry.arg_data = &value->text;
        break;
    case CLI_TEXT:
    case CLI_DURATION:
    case CLI_ADDRESS:
        entry.arg = G_OPTION_ARG_STRING;
        entry.arg_data = &value->text;
        break;
    }
    return entry;
}

/* As cli_parse(), but the help is the table's. */
bool
cli_migrate_parse(int *argc, char ***argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GArray) entries = g_array_new(TRUE, TRUE, sizeof(GOptionEntry));
    g_autoptr(GError) error = NULL;
    gboolean help = FALSE;
    GOptionEntry help_entry = { "help", 'h', 0, G_OPTION_ARG_NONE, &help, NULL, NULL };
    g_autofree char *program = g_strdup_printf("qmig %s", (*argv)[0]);
    bool is_check = strcmp((*argv)[0], "check") == 0;
    size_t n;
    const CliOption *rows = cli_migrate_options(&n);

    values = g_new0(Value, n); /* for as long as the process */
    g_array_append_val(entries, help_entry);
    for (size_t i = 0; i < n; i++) {
        GOptionEntry entry = entry_of(&rows[i], &values[i]);
        g_array_append_val(entries, entry);
    }
    g_set_prgname(program);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_add_main_entries(context, (GOptionEntry *)(void *)entries->data,
                                      NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        fprintf(stderr, "%s: %s\nTry `%s --help`.\n", program, error->message, program);
        return false;
    }
    if (help) {
        is_check ? cli_check_print_help() : cli_migrate_print_help();
        exit(EXIT_SUCCESS);
    }
    if (*argc != 3) {
        fprintf(stderr,
                "%s: %d arguments given\n"
                "usage: %s [OPTION…] SOURCE DESTINATION\n",
                program, *argc - 1, program);
        return false;
    }
    return true;
}

/* ---- what QEMU is asked for --------------------------------------------------------------- */

typedef struct {
    QmigJobOptions *options;
    GString *problems; /* one a line */
} Taking;

static void G_GNUC_PRINTF(2, 3) problem(Taking *taking, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_string_append(taking->problems, taking->problems->len > 0 ? "\n  " : "");
    g_string_append_vprintf(taking->problems, fmt, ap);
    va_end(ap);
}

static void
note_asker(Taking *taking, const char *knob, const char *option)
{
    JsonObject *known = NULL;

    /* The option of that very name says it better than one that implies it. */
    if (!json_object_object_get_ex(taking->options->asked_by, knob, &known) ||
        cli_migrate_option(option)->sets == NULL ||
        g_str_has_prefix(cli_migrate_option(option)->sets, knob)) {
        g_autofree char *text = g_strdup_printf("--%s", option);
        json_object_object_add(taking->options->asked_by, knob,
                               json_object_new_string(text));
    }
}

static void
ask_capability(Taking *taking, const char *name, const char *option)
{
    json_object_object_add(taking->options->capabilities, name,
                           json_object_new_boolean(true));
    note_asker(taking, name, option);
}

static void
ask_parameter(Taking *taking, const char *name, const char *text, const char *option)
{
    JsonObject *parameters = taking->options->parameters, *there = NULL, *by = NULL;

    if (json_object_object_get_ex(parameters, name, &there) &&
        strcmp(json_object_get_string(there), text) != 0) {
        json_object_object_get_ex(taking->options->asked_by, name, &by);
        problem(taking, "--%s: %s would be \"%s\", and by %s \"%s\"", option, name, text,
                json_object_get_string(by), json_object_get_string(there));
        return;
    }
    json_object_object_add(parameters, name, json_object_new_string(text));
    note_asker(taking, name, option);
}

/* What the row's `sets` names. */
static void
ask_of_row(Taking *taking, const CliOption *row, const char *value)
{
    g_auto(GStrv) names = g_strsplit(row->sets, " ", 0);

    for (char **name = names; *name != NULL; name++) {
        char *word = strchr(*name, '=');
        const QmigKnob *knob;

        if (word != NULL) {
            *word++ = '\0';
        }
        knob = qmig_knob_find(*name);
        g_assert(knob != NULL);
        if (knob->kind == QMIG_KNOB_CAPABILITY) {
            ask_capability(taking, *name, row->name);
        } else {
            ask_parameter(taking, *name, word != NULL ? word : value, row->name);
        }
    }
}

static void
take_method(Taking *taking, const char *name)
{
    static const char *const of_multifd[] = { "zlib", "zstd", "qatzip",
                                              "qpl",  "uadk", NULL };

    if (strcmp(name, "xbzrle") == 0) {
        ask_capability(taking, "xbzrle", "comp-methods");
    } else if (strcmp(name, "mt") == 0) {
        ask_capability(taking, "compress", "comp-methods");
    } else if (g_strv_contains(of_multifd, name)) {
        ask_parameter(taking, "multifd-compression", name, "comp-methods");
        ask_capability(taking, "multifd", "comp-methods");
    } else {
        problem(taking,
                "--comp-methods: \"%s\", wanted xbzrle, mt, zlib, zstd, qatzip, qpl or "
                "uadk",
                name);
    }
}

static void
take_methods(Taking *taking)
{
    JsonObject *caps = taking->options->capabilities;

    for (char **list = cli_option_list("comp-methods"); list != NULL && *list != NULL;
         list++) {
        g_auto(GStrv) names = g_strsplit(*list, ",", 0);
        for (char **name = names; *name != NULL; name++) {
            take_method(taking, *name);
        }
    }
    if (cli_option_given("compressed") && !cli_option_given("comp-methods") &&
        !json_object_object_get_ex(caps, "xbzrle", NULL) &&
        !json_object_object_get_ex(caps, "compress", NULL) &&
        !json_object_object_get_ex(taking->options->parameters, "multifd-compression",
                                   NULL)) {
        ask_capability(taking, "xbzrle", "compressed");
    }
}

/* --cap and --set: of the right kind, and they win. */
static void
take_any(Taking *taking)
{
    for (char **name = cli_option_list("cap"); name != NULL && *name != NULL; name++) {
        const QmigKnob *knob = qmig_knob_find(*name);
        if (knob != NULL && knob->kind != QMIG_KNOB_CAPABILITY) {
            problem(taking, "--cap: \"%s\" is a parameter: give it by --set", *name);
        } else {
            ask_capability(taking, *name, "cap");
        }
    }
    for (char **pair = cli_option_list("set"); pair != NULL && *pair != NULL; pair++) {
        char *value = strchr(*pair, '=');
        if (value == NULL || value == *pair) {
            problem(taking, "--set: \"%s\", wanted NAME=VALUE", *pair);
            continue;
        }
        g_autofree char *name = g_strndup(*pair, (gsize)(value - *pair));
        const QmigKnob *knob = qmig_knob_find(name);
        if (knob != NULL && knob->kind != QMIG_KNOB_PARAMETER) {
            problem(taking, "--set: \"%s\" is a capability: give it by --cap", name);
            continue;
        }
        json_object_object_del(taking->options->parameters, name);
        json_object_object_del(taking->options->asked_by, name);
        ask_parameter(taking, name, value + 1, "set");
    }
}

/* rdma:HOST:PORT is read like tcp:HOST:PORT. */
static QmigAddress *
parse_address(Taking *taking, const CliOption *row, const char *text, GError **error)
{
    g_autofree char *tcp = NULL;

    if (strcmp(row->name, "migrateuri") == 0 && g_str_has_prefix(text, "rdma:")) {
        taking->options->rdma = true;
        tcp = g_strdup_printf("tcp:%s", text + strlen("rdma:"));
    }
    return qmig_address_parse(tcp != NULL ? tcp : text, error);
}

/* ---- the rows ------------------------------------------------------------------------------ */

static void
take_field(Taking *taking, const CliOption *row, const Value *value)
{
    void *field = (char *)taking->options + row->field - 1;
    g_autoptr(GError) error = NULL;

    switch (row->kind) {
    case CLI_FLAG:
        *(bool *)field = value->flag;
        break;
    case CLI_TEXT:
    case CLI_FILE:
        *(char **)field = g_strdup(value->text);
        break;
    case CLI_LIST:
        for (char **item = value->list; *item != NULL; item++) {
            g_ptr_array_add(*(GPtrArray **)field, g_strdup(*item));
        }
        break;
    case CLI_WORDS:
        for (char **item = value->list; *item != NULL; item++) {
            g_auto(GStrv) words = g_strsplit(*item, ",", 0);
            for (char **word = words; *word != NULL; word++) {
                g_ptr_array_add(*(GPtrArray **)field, g_strdup(*word));
            }
        }
        break;
    case CLI_DURATION:
        if (!qmig_parse_duration(value->text, field, &error)) {
            problem(taking, "--%s: %s", row->name, error->message);
        }
        break;
    case CLI_ADDRESS:
        *(QmigAddress **)field = parse_address(taking, row, value->text, &error);
        if (error != NULL) {
            problem(taking, "--%s: %s", row->name, error->message);
        }
        break;
    }
}

/* Is one of the options, parted by blanks, given? */
static const char *
first_given(char **names)
{
    for (; *names != NULL; names++) {
        if (cli_option_given(*names)) {
            return *names;
        }
    }
    return NULL;
}

static void
check_row(Taking *taking, const CliOption *row)
{
    g_auto(GStrv) needs = g_strsplit(row->needs != NULL ? row->needs : "", " ", 0);
    g_auto(GStrv)
        excludes = g_strsplit(row->excludes != NULL ? row->excludes : "", " ", 0);
    const char *other = first_given(excludes);

    if (row->refused != NULL) {
        problem(taking, "--%s: %s", row->name, row->refused);
    }
    if (needs[0] != NULL && first_given(needs) == NULL) {
        g_autofree char *list = g_strjoinv(" or --", needs);
        problem(taking, "--%s needs --%s: %s", row->name, list, row->why);
    }
    if (other != NULL) {
        problem(taking, "--%s does not go with --%s: %s", row->name, other, row->why);
    }
}

static void
take_rows(Taking *taking)
{
    size_t n;
    const CliOption *rows = cli_migrate_options(&n);

    for (size_t i = 0; i < n; i++) {
        if (!cli_option_given(rows[i].name)) {
            continue;
        }
        check_row(taking, &rows[i]);
        if (rows[i].field != 0) {
            take_field(taking, &rows[i], &values[i]);
        }
        if (rows[i].sets != NULL) {
            ask_of_row(taking, &rows[i], values[i].text);
        }
    }
}

static void
check_hooks(Taking *taking)
{
    for (guint i = 0; i < taking->options->hooks->len; i++) {
        g_autoptr(GError) error = NULL;

        if (!qmig_hook_check(taking->options->hooks->pdata[i], &error)) {
            problem(taking, "%s", error->message);
        }
    }
}

/* What it resumes has its options. */
static void
check_resume(Taking *taking)
{
    static const char *const with[] = { "postcopy-resume", "fence", "progress", "json",
                                        NULL };
    size_t n;
    const CliOption *rows = cli_migrate_options(&n);

    for (size_t i = 0; i < n; i++) {
        if (cli_option_given(rows[i].name) && !g_strv_contains(with, rows[i].name)) {
            problem(taking,
                    "--postcopy-resume does not go with --%s: what it resumes has its "
                    "options already",
                    rows[i].name);
        }
    }
}

static void
check_via(Taking *taking)
{
    const QmigJobOptions *options = taking->options;
    g_auto(QmigViaSettings) settings = { 0 };
    g_autoptr(GError) error = NULL;

    if (options->via->len > 0 && !qmig_via_settings_read(options, &settings, &error)) {
        problem(taking, "%s", error->message);
    }
    if (options->via->len > 0 && options->rdma) {
        problem(taking, "--via: it carries no RDMA");
    }
    if (options->destination_via && options->via->len == 0) {
        problem(taking,
                "DESTINATION: via: is for an address beyond a tunnel: say by --via "
                "where that ends");
    }
}

/* What rows cannot say. */
static void
take_rest(Taking *taking)
{
    QmigJobOptions *options = taking->options;

    if (cli_option_given("timeout-suspend")) {
        options->on_timeout = QMIG_ON_TIMEOUT_SUSPEND;
    } else if (cli_option_given("timeout-postcopy")) {
        options->on_timeout = QMIG_ON_TIMEOUT_POSTCOPY;
    }
    if (json_object_object_get_ex(options->capabilities, "postcopy-ram", NULL)) {
        options->postcopy = true;
    }
    options->journal_by_default = !cli_option_given("no-journal");
    check_hooks(taking);
    if (cli_option_given("postcopy-resume")) {
        check_resume(taking);
    }
    check_via(taking);
    if (options->rdma && !options->direct) {
        problem(taking, "--migrateuri: no proxy can stand in RDMA: add --direct");
    }
}

/* ---- does it go together? -------------------------------------------------------------------- */

static void
on_rule(void *data, bool is_fatal, const char *text)
{
    if (is_fatal) {
        problem(data, "%s", text);
    }
}

/* Well-formed, and not against a rule that holds for every QEMU. */
static void
check_knobs(Taking *taking)
{
    g_autoptr(JsonObject) parameters = json_object_new_object();

    json_object_object_foreach(taking->options->parameters, name, text)
    {
        const QmigKnob *knob = qmig_knob_find(name);
        g_autoptr(GError) error = NULL;
        JsonObject *value = knob != NULL
                                ? qmig_knob_parse_value(
                                      name, json_object_get_string(text), NULL, &error)
                                : json_object_get(text);
        if (error != NULL) {
            problem(taking, "%s", error->message);
        } else {
            json_object_object_add(parameters, name, value);
        }
    }
    if (taking->problems->len == 0) {
        qmig_rules_check(taking->options->capabilities, parameters, NULL,
                         taking->options->asked_by, 0, on_rule, taking);
    }
}

QmigJobOptions *
cli_migrate_take(char **argv, GError **error)
{
    g_autoptr(QmigJobOptions) options = qmig_job_options_new();
    g_autoptr(GString) problems = g_string_new(NULL);
    Taking taking = { options, problems };

    options->source = qmig_address_parse(argv[1], error);
    options->destination_via = g_str_has_prefix(argv[2], "via:");
    options->destination =
        options->source != NULL
            ? qmig_address_parse(
                  argv[2] + (options->destination_via ? strlen("via:") : 0), error)
            : NULL;
    if (options->destination == NULL) {
        return NULL;
    }
    take_rows(&taking);
    take_methods(&taking);
    take_any(&taking);
    take_rest(&taking);
    check_knobs(&taking);
    if (problems->len > 0) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s", problems->str);
        return NULL;
    }
    return g_steal_pointer(&options);
}
