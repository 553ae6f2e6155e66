/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of options as text, POD and JSON. */
#include "cli/migrate-options.h"
#include "qmp/rules.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 30, N_COLUMNS = 80 };

static const char *const side_names[] = {
    [QMIG_KNOB_SOURCE] = "source",
    [QMIG_KNOB_DESTINATION] = "destination",
    [QMIG_KNOB_BOTH] = "both",
};

/* "--bandwidth=RATE" */
static char *
spelling(const CliOption *row)
{
    return row->arg != NULL ? g_strdup_printf("--%s=%s", row->name, row->arg)
                            : g_strdup_printf("--%s", row->name);
}

/* The names in @row->sets, without "=WORD". */
static char **
knob_names(const CliOption *row)
{
    char **names = g_strsplit(row->sets != NULL ? row->sets : "", " ", 0);

    for (char **name = names; *name != NULL; name++) {
        (*name)[strcspn(*name, "=")] = '\0';
    }
    return names;
}

/* ---- help -------------------------------------------------------------------------------- */

static void
print_help_line(const char *option, const char *help)
{
    int column = 2 + (int)g_utf8_strlen(option, -1);

    if (column >= HELP_COLUMN) {
        printf("  %s\n%*s%s\n", option, HELP_COLUMN, "", help);
    } else {
        printf("  %s%*s%s\n", option, HELP_COLUMN - column, "", help);
    }
}

void
cli_migrate_print_help(void)
{
    size_t n;
    const CliOption *rows = cli_migrate_options(&n);
    CliGroup group = CLI_N_GROUPS;

    printf("Usage:\n  qmig migrate [OPTION…] SOURCE DESTINATION\n\n");
    print_help_line("-h, --help", "say what there is");
    for (size_t i = 0; i < n; i++) {
        g_autofree char *option = spelling(&rows[i]);

        if (rows[i].group != group) {
            group = rows[i].group;
            printf("\n%s:\n", cli_group_title(group));
        }
        print_help_line(option, rows[i].help);
    }
    printf(
        "\nSOURCE and DESTINATION are QMP addresses. Start the destination like the\n"
        "source, with -S -incoming defer. `qmig options` tells more of each option.\n\n"
        "Exit: 0 done, 1 usage, 2 refused, 3 failed, 4 cancelled, 5 deadline,\n"
        "6 post-copy paused, 7 ownership unclear. After 1 to 5 the guest is on the\n"
        "source as before.\n");
}

/* ---- the man page -------------------------------------------------------------------------- */

static void
append_wrapped(GString *out, const char *text)
{
    g_auto(GStrv) words = g_strsplit(text, " ", 0);
    size_t column = 0;

    for (char **word = words; *word != NULL; word++) {
        size_t length = (size_t)g_utf8_strlen(*word, -1);
        if (length == 0) {
            continue;
        }
        if (column > 0 && column + 1 + length > 98) {
            g_string_append_c(out, '\n');
            column = 0;
        } else if (column > 0) {
            g_string_append_c(out, ' ');
            column++;
        }
        g_string_append(out, *word);
        column += length;
    }
    g_string_append(out, "\n");
}

/* "1 to 255", "at least 1"; NULL = any. */
static char *
range_of(const QmigKnob *knob)
{
    if (knob->max != 0) {
        return g_strdup_printf("%" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, knob->min,
                               knob->max);
    }
    return knob->min != 0 ? g_strdup_printf("at least %" G_GINT64_FORMAT, knob->min)
                          : NULL;
}

/* "QEMU's parameter C<multifd-channels> (1 to 255, default 2; both sides)." */
static void
append_knob(GString *text, const CliOption *row, const char *name)
{
    const QmigKnob *knob = qmig_knob_find(name);
    bool is_parameter = knob->kind == QMIG_KNOB_PARAMETER;
    g_autofree char *range = range_of(knob);

    /* What an option implies has an option of its own. */
    if (text->len > 0 && !g_str_has_prefix(row->sets, name)) {
        return;
    }
    g_string_append_printf(text, " QEMU's %s C<%s> (",
                           is_parameter ? "parameter" : "capability", name);
    if (range != NULL) {
        g_string_append_printf(text, "%s, ", range);
    }
    if (is_parameter && knob->default_value[0] != '\0') {
        g_string_append_printf(text, "default %s, ", knob->default_value);
    }
    g_string_append_printf(text, "%s%s",
                           knob->side == QMIG_KNOB_BOTH ? "both sides" : "on the ",
                           knob->side == QMIG_KNOB_BOTH ? "" : side_names[knob->side]);
    if (knob->since != NULL) {
        g_string_append_printf(text, "; QEMU %s and later", knob->since);
    }
    if (knob->removed != NULL) {
        g_string_append_printf(text, "; gone in QEMU %s", knob->removed);
    }
    g_string_append(text, ").");
}

static void
print_item(const CliOption *row)
{
    g_auto(GStrv) names = knob_names(row);
    g_autoptr(GString) text = g_string_new(row->text);
    g_autoptr(GString) out = g_string_new(NULL);

    if (names[0] != NULL) {
        append_knob(text, row, names[0]);
    }
    append_wrapped(out, text->str);
    printf("=item B<--%s>%s%s\n\n%s\n", row->name, row->arg != NULL ? "=" : "",
           row->arg != NULL ? row->arg : "", out->str);
}

void
cli_migrate_print_pod(void)
{
    size_t n;
    const CliOption *rows = cli_migrate_options(&n);
    CliGroup group = CLI_N_GROUPS;

    for (size_t i = 0; i < n; i++) {
        if (rows[i].group != group) {
            if (group != CLI_N_GROUPS) {
                printf("=back\n\n");
            }
            group = rows[i].group;
            printf("I<%s>\n\n=over 4\n\n", cli_group_title(group));
        }
        print_item(&rows[i]);
    }
    printf("=back\n");
}

/* ---- qmig options ---------------------------------------------------------------------------- */

static const char *
unit_name(QmigKnobType type)
{
    static const char *const names[] = {
        [QMIG_KNOB_BOOL] = "on|off",     [QMIG_KNOB_COUNT] = "number",
        [QMIG_KNOB_PERCENT] = "percent", [QMIG_KNOB_BYTES] = "bytes",
        [QMIG_KNOB_RATE] = "bytes/s",    [QMIG_KNOB_RATE_MIB] = "MiB/s",
        [QMIG_KNOB_DURATION_MS] = "ms",  [QMIG_KNOB_ENUM] = "word",
        [QMIG_KNOB_TEXT] = "text",       [QMIG_KNOB_JSON] = "JSON list",
    };

    return names[type];
}

static void
add_text(JsonObject *object, const char *name, const char *text)
{
    json_object_object_add(object, name,
                           text != NULL ? json_object_new_string(text) : NULL);
}

static JsonObject *
knob_json(const QmigKnob *knob, const char *word)
{
    JsonObject *object = json_object_new_object();

    add_text(object, "name", knob->name);
    add_text(object, "kind",
             knob->kind == QMIG_KNOB_CAPABILITY ? "capability" : "parameter");
    add_text(object, "side", side_names[knob->side]);
    add_text(object, "unit", unit_name(knob->type));
    add_text(object, "value", word);
    json_object_object_add(
        object, "min",
        knob->min != 0 || knob->max != 0 ? json_object_new_int64(knob->min) : NULL);
    json_object_object_add(object, "max",
                           knob->max != 0 ? json_object_new_int64(knob->max) : NULL);
    add_text(object, "default", knob->default_value);
    add_text(object, "since", knob->since);
    add_text(object, "removed", knob->removed);
    add_text(object, "instead", knob->instead);
    return object;
}

static JsonObject *
words_json(const char *text)
{
    JsonObject *list = json_object_new_array();
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", 0);

    for (char **word = words; *word != NULL; word++) {
        json_object_array_add(list, json_object_new_string(*word));
    }
    return list;
}

/* Does a rule's side of the row's first knob exclude another? Then "other: why" goes on @list. */
static void
add_rules(JsonObject *list, const char *name, QmigRuleKind kind)
{
    size_t n;
    const QmigRule *rules = qmig_rules(&n);

    for (size_t i = 0; i < n; i++) {
        bool is_first = strcmp(rules[i].first, name) == 0;
        bool is_second = kind == QMIG_RULE_EXCLUDES && strcmp(rules[i].second, name) == 0;

        if (rules[i].kind != kind || (!is_first && !is_second)) {
            continue;
        }
        JsonObject *object = json_object_new_object();
        add_text(object, "with", is_first ? rules[i].second : rules[i].first);
        add_text(object, "since", rules[i].since);
        add_text(object, "removed", rules[i].removed);
        add_text(object, "why", rules[i].why);
        json_object_array_add(list, object);
    }
}

static JsonObject *
row_json(const CliOption *row)
{
    JsonObject *object = json_object_new_object(), *knobs = json_object_new_array();
    JsonObject *conflicts = json_object_new_array(), *needs = json_object_new_array();
    g_auto(GStrv) names = g_strsplit(row->sets != NULL ? row->sets : "", " ", 0);

    for (char **name = names; *name != NULL; name++) {
        char *word = strchr(*name, '=');
        if (word != NULL) {
            *word++ = '\0';
        }
        json_object_array_add(knobs, knob_json(qmig_knob_find(*name), word));
        if (name == names) {
            add_rules(conflicts, *name, QMIG_RULE_EXCLUDES);
            add_rules(needs, *name, QMIG_RULE_NEEDS);
        }
    }
    add_text(object, "option", row->name);
    add_text(object, "argument", row->arg);
    json_object_object_add(
        object, "repeatable",
        json_object_new_boolean(row->kind == CLI_LIST || row->kind == CLI_WORDS));
    add_text(object, "group", cli_group_title(row->group));
    add_text(object, "virsh", row->virsh);
    add_text(object, "help", row->help);
    json_object_object_add(object, "qemu", knobs);
    json_object_object_add(object, "needs_option", words_json(row->needs));
    json_object_object_add(object, "excludes_option", words_json(row->excludes));
    json_object_object_add(object, "needs_qemu", needs);
    json_object_object_add(object, "excludes_qemu", conflicts);
    add_text(object, "why", row->why);
    add_text(object, "refused", row->refused);
    return object;
}

JsonObject *
cli_migrate_options_json(void)
{
    JsonObject *object = json_object_new_object(), *options = json_object_new_array();
    JsonObject *knobs = json_object_new_array();
    size_t n;
    const CliOption *rows = cli_migrate_options(&n);

    for (size_t i = 0; i < n; i++) {
        json_object_array_add(options, row_json(&rows[i]));
    }
    const QmigKnob *table = qmig_knobs(&n);
    for (size_t i = 0; i < n; i++) {
        json_object_array_add(knobs, knob_json(&table[i], NULL));
    }
    json_object_object_add(object, "options", options);
    json_object_object_add(object, "qemu", knobs);
    return object;
}

/* "multifd-channels (source and destination, 1 to 255, since 8.1)" */
static void
print_knob(const QmigKnob *knob, const char *word)
{
    g_autofree char *range = range_of(knob);

    printf("      QEMU's %s%s%s, %s: %s", knob->name, word != NULL ? "=" : "",
           word != NULL ? word : "", unit_name(knob->type), side_names[knob->side]);
    if (range != NULL) {
        printf(", %s", range);
    }
    if (knob->since != NULL) {
        printf(", since %s", knob->since);
    }
    if (knob->removed != NULL) {
        printf(", gone in %s", knob->removed);
    }
    printf("\n");
}

static void
print_rules(const char *name)
{
    size_t n;
    const QmigRule *rules = qmig_rules(&n);

    for (size_t i = 0; i < n; i++) {
        const QmigRule *rule = &rules[i];
        bool is_first = strcmp(rule->first, name) == 0;
        const char *other = is_first ? rule->second : rule->first;

        if (rule->kind == QMIG_RULE_EXCLUDES &&
            (is_first || strcmp(rule->second, name) == 0)) {
            printf("      not with %s%s%s\n", other,
                   rule->removed != NULL ? " before " : "",
                   rule->removed != NULL ? rule->removed : "");
        } else if (rule->kind == QMIG_RULE_NEEDS && is_first) {
            printf("      needs %s\n", other);
        }
    }
}

void
cli_migrate_print_table(void)
{
    size_t n;
    const CliOption *rows = cli_migrate_options(&n);
    CliGroup group = CLI_N_GROUPS;

    for (size_t i = 0; i < n; i++) {
        const CliOption *row = &rows[i];
        g_autofree char *option = spelling(row);
        g_auto(GStrv) names = g_strsplit(row->sets != NULL ? row->sets : "", " ", 0);

        if (row->group != group) {
            group = row->group;
            printf("%s%s\n", i > 0 ? "\n" : "", cli_group_title(group));
        }
        print_help_line(option, row->help);
        for (char **name = names; *name != NULL; name++) {
            char *word = strchr(*name, '=');
            if (word != NULL) {
                *word++ = '\0';
            }
            print_knob(qmig_knob_find(*name), word);
        }
        if (names[0] != NULL) {
            print_rules(names[0]);
        }
    }
}
