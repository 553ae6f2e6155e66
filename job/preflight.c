/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Running the themes of preflight, and telling what they found. */
#include "job/preflight.h"

#include "util/error.h"

#include <string.h>

typedef struct {
    const char *name;
    bool (*run)(QmigPreflight *p, GError **error);
} Theme;

/* In the order in which one would put things right. */
static const Theme themes[] = {
    { "states", qmig_preflight_states },
    { "machine", qmig_preflight_machine },
    { "cpu", qmig_preflight_cpu },
    { "memory", qmig_preflight_memory },
    { "devices", qmig_preflight_devices },
    { "disks", qmig_preflight_disks },
    { "versions", qmig_preflight_versions },
    { "host", qmig_preflight_host },
    { "clocks", qmig_preflight_clocks },
    /* What was asked for, and what it takes: found by others. */
    { "settings", NULL },
};

const char *
qmig_finding_level_name(QmigFindingLevel level)
{
    static const char *const names[] = { "refused", "risky", "warning", "note" };

    return level < G_N_ELEMENTS(names) ? names[level] : "?";
}

static void
finding_free(void *data)
{
    QmigFinding *finding = data;

    g_free(finding->text);
    g_free(finding->advice);
    g_free(finding);
}

void
qmig_preflight_find(QmigPreflight *p, QmigFindingLevel level, const char *text_fmt, ...)
{
    QmigFinding *finding = g_new0(QmigFinding, 1);
    va_list ap;

    va_start(ap, text_fmt);
    finding->text = g_strdup_vprintf(text_fmt, ap);
    va_end(ap);
    finding->theme = p->theme;
    finding->level = level == QMIG_FINDING_RISKY && p->job->options->unsafe
                         ? QMIG_FINDING_WARNING
                         : level;
    g_ptr_array_add(p->findings, finding);
}

void
qmig_preflight_advise(QmigPreflight *p, const char *fmt, ...)
{
    QmigFinding *finding = p->findings->pdata[p->findings->len - 1];
    va_list ap;

    va_start(ap, fmt);
    g_free(finding->advice);
    finding->advice = g_strdup_vprintf(fmt, ap);
    va_end(ap);
}

bool
qmig_preflight_can(const QmigPreflight *p, const char *command)
{
    return qmig_schema_has_command(p->source->schema, command) &&
           qmig_schema_has_command(p->destination->schema, command);
}

char *
qmig_preflight_show(JsonObject *value)
{
    if (json_object_is_type(value, json_type_boolean)) {
        return g_strdup(json_object_get_boolean(value) ? "on" : "off");
    }
    if (json_object_is_type(value, json_type_string)) {
        return g_strdup(json_object_get_string(value));
    }
    return g_strndup(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN), 200);
}

/* "memory: TEXT: ADVICE"; what begins with a side says enough. */
static char *
finding_line(const QmigFinding *finding)
{
    return g_strdup_printf(
        "%s: %s%s%s%s", finding->theme, finding->text,
        finding->advice != NULL ? ": " : "",
        finding->advice != NULL ? finding->advice : "",
        finding->level == QMIG_FINDING_RISKY ? " (or --unsafe, if you know better)" : "");
}

static void
tell(const QmigPreflight *p, GString *problems)
{
    for (guint i = 0; i < p->findings->len; i++) {
        const QmigFinding *finding = p->findings->pdata[i];
        g_autofree char *line = finding_line(finding);

        if (finding->level <= QMIG_FINDING_RISKY) {
            qmig_job_problem(problems, "%s", line);
        } else if (finding->level == QMIG_FINDING_WARNING) {
            qmig_job_message(p->job, "%s", line);
        }
    }
}

QmigPreflight *
qmig_preflight_run(QmigJob *job, GString *problems)
{
    QmigPreflight *p = g_new0(QmigPreflight, 1);
    g_autoptr(GError) error = NULL;

    p->job = job;
    p->source = &job->source;
    p->destination = &job->destination;
    p->same_host = job->source.pidfd >= 0 && job->destination.pidfd >= 0;
    p->findings = g_ptr_array_new_with_free_func(finding_free);
    for (size_t i = 0; i < G_N_ELEMENTS(themes) && error == NULL; i++) {
        p->theme = themes[i].name;
        if (themes[i].run != NULL && !themes[i].run(p, &error)) {
            qmig_preflight_find(p, QMIG_FINDING_REFUSED, "%s", error->message);
        }
    }
    tell(p, problems);
    return p;
}

void
qmig_preflight_add_problems(QmigPreflight *p, const char *problems)
{
    g_auto(GStrv) lines = g_strsplit(problems, "\n  ", 0);

    p->theme = "settings";
    for (char **line = lines; *line != NULL; line++) {
        if (**line != '\0') {
            qmig_preflight_find(p, QMIG_FINDING_REFUSED, "%s", *line);
        }
    }
}

void
qmig_preflight_free(QmigPreflight *p)
{
    if (p == NULL) {
        return;
    }
    g_ptr_array_unref(p->findings);
    g_clear_pointer(&p->source_devices, g_ptr_array_unref);
    g_clear_pointer(&p->destination_devices, g_ptr_array_unref);
    g_free(p);
}

/* ---- the report -------------------------------------------------------------------------- */

static void
add_text(JsonObject *object, const char *key, const char *text)
{
    json_object_object_add(object, key,
                           text != NULL ? json_object_new_string(text) : NULL);
}

/* The worst that was found about a theme; "ok" when there is nothing to change. */
static const char *
verdict(const QmigPreflight *p, const char *theme)
{
    QmigFindingLevel worst = QMIG_FINDING_NOTE;

    for (guint i = 0; i < p->findings->len; i++) {
        const QmigFinding *finding = p->findings->pdata[i];
        if (strcmp(finding->theme, theme) == 0) {
            worst = MIN(worst, finding->level);
        }
    }
    return worst == QMIG_FINDING_NOTE ? "ok" : qmig_finding_level_name(worst);
}

JsonObject *
qmig_preflight_report(const QmigPreflight *p)
{
    JsonObject *report = json_object_new_object();
    JsonObject *list = json_object_new_array();

    for (size_t i = 0; i < G_N_ELEMENTS(themes); i++) {
        JsonObject *theme = json_object_new_object();
        add_text(theme, "name", themes[i].name);
        add_text(theme, "level", verdict(p, themes[i].name));
        json_object_array_add(list, theme);
    }
    json_object_object_add(report, "themes", list);
    list = json_object_new_array();
    for (guint i = 0; i < p->findings->len; i++) {
        const QmigFinding *finding = p->findings->pdata[i];
        JsonObject *object = json_object_new_object();
        add_text(object, "level", qmig_finding_level_name(finding->level));
        add_text(object, "theme", finding->theme);
        add_text(object, "text", finding->text);
        add_text(object, "advice", finding->advice);
        json_object_array_add(list, object);
    }
    json_object_object_add(report, "findings", list);
    return report;
}
