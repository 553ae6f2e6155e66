/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which capabilities and parameters go together. QEMU's schema does not tell, and QEMU refuses
 * some of it late, or takes it and does something else; hence a table, with the versions each
 * row holds for (migrate_caps_check() and migrate_params_check() of 7.2 to 11.1).
 */
#include "qmp/rules.h"

#include <stdlib.h>
#include <string.h>

#define EXCLUDES QMIG_RULE_EXCLUDES
#define NEEDS QMIG_RULE_NEEDS
#define IDLE QMIG_RULE_IDLE

static const QmigRule table[] = {
    /* 7.2 takes both, and sends no deltas. */
    { "xbzrle", EXCLUDES, "multifd", NULL, NULL,
      "QEMU sends no deltas over several connections" },
    { "compress", EXCLUDES, "multifd", NULL, "9.1",
      "it is the compression of a single connection" },
    { "multifd", EXCLUDES, "postcopy-ram", NULL, "10.1",
      "QEMU can do both at once since 10.1" },
    { "multifd-compression", NEEDS, "multifd", NULL, NULL,
      "it compresses what travels on several connections" },
    { "zero-copy-send", NEEDS, "multifd", NULL, NULL,
      "QEMU sends without copying on the connections of multifd only" },
    { "zero-copy-send", EXCLUDES, "multifd-compression", NULL, NULL,
      "what is compressed is a copy" },
    { "zero-copy-send", EXCLUDES, "tls-creds", NULL, NULL,
      "what is encrypted is a copy" },
    { "zero-copy-send", EXCLUDES, "compress", NULL, "9.1",
      "what is compressed is a copy" },
    { "zero-copy-send", EXCLUDES, "xbzrle", NULL, NULL, "a delta is a copy" },
    { "postcopy-ram", EXCLUDES, "x-ignore-shared", NULL, NULL,
      "QEMU cannot fetch pages of shared memory one by one" },
    { "postcopy-preempt", NEEDS, "postcopy-ram", NULL, NULL,
      "it is a connection of post-copy" },
    { "postcopy-preempt", EXCLUDES, "compress", NULL, "9.1",
      "QEMU's threads would disorder the pages" },
    { "postcopy-blocktime", NEEDS, "postcopy-ram", NULL, NULL, "it measures post-copy" },
    { "release-ram", NEEDS, "postcopy-ram", NULL, NULL,
      "QEMU frees sent pages in post-copy only" },
    { "dirty-limit", EXCLUDES, "auto-converge", NULL, NULL,
      "both slow the guest down, each in its own way" },
    { "mapped-ram", EXCLUDES, "xbzrle", NULL, NULL,
      "each page has one place in the file" },
    { "mapped-ram", EXCLUDES, "postcopy-ram", NULL, NULL,
      "a file does not ask for pages" },
    { "mapped-ram", EXCLUDES, "multifd-compression", NULL, NULL,
      "each page has one place in the file" },
    { "mapped-ram", EXCLUDES, "tls-creds", NULL, NULL, "QEMU does not encrypt files" },

    { "multifd-channels", IDLE, "multifd", NULL, NULL, NULL },
    { "multifd-zlib-level", IDLE, "multifd-compression=zlib", NULL, NULL, NULL },
    { "multifd-zstd-level", IDLE, "multifd-compression=zstd", NULL, NULL, NULL },
    { "multifd-qatzip-level", IDLE, "multifd-compression=qatzip", NULL, NULL, NULL },
    { "xbzrle-cache-size", IDLE, "xbzrle", NULL, NULL, NULL },
    { "compress-level", IDLE, "compress", NULL, "9.1", NULL },
    { "compress-threads", IDLE, "compress", NULL, "9.1", NULL },
    { "compress-wait-thread", IDLE, "compress", NULL, "9.1", NULL },
    { "decompress-threads", IDLE, "compress", NULL, "9.1", NULL },
    { "cpu-throttle-initial", IDLE, "auto-converge", NULL, NULL, NULL },
    { "cpu-throttle-increment", IDLE, "auto-converge", NULL, NULL, NULL },
    { "cpu-throttle-tailslow", IDLE, "auto-converge", NULL, NULL, NULL },
    { "max-cpu-throttle", IDLE, "auto-converge", NULL, NULL, NULL },
    { "vcpu-dirty-limit", IDLE, "dirty-limit", NULL, NULL, NULL },
    { "x-vcpu-dirty-limit-period", IDLE, "dirty-limit", NULL, NULL, NULL },
    { "max-postcopy-bandwidth", IDLE, "postcopy-ram", NULL, NULL, NULL },
    { "block-bitmap-mapping", IDLE, "dirty-bitmaps", NULL, NULL, NULL },
    { "direct-io", IDLE, "mapped-ram", NULL, NULL, NULL },
    { "x-checkpoint-delay", IDLE, "x-colo", NULL, NULL, NULL },
};

const QmigRule *
qmig_rules(size_t *n)
{
    *n = G_N_ELEMENTS(table);
    return table;
}

typedef struct {
    JsonObject *capabilities, *parameters, *present, *asked_by;
    unsigned version;
    QmigRuleTell tell;
    void *data;
} Check;

/* "10.1" as qmig_qmp_version() tells it. */
static unsigned
version_number(const char *text)
{
    char *end;
    unsigned long major = strtoul(text, &end, 10);
    unsigned long minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;

    return (unsigned)(major * 10000 + minor * 100);
}

static bool
holds(const QmigRule *rule, unsigned version)
{
    if (version == 0) {
        return rule->since == NULL && rule->removed == NULL;
    }
    return (rule->since == NULL || version >= version_number(rule->since)) &&
           (rule->removed == NULL || version < version_number(rule->removed));
}

static bool
is_nothing(const char *word)
{
    static const char *const nothing[] = { "", "none", "off", "false", "no", NULL };

    return word == NULL || g_strv_contains(nothing, word);
}

/* Is it so? As asked for; or as it is, where @or_present. */
static bool
is_so(const Check *check, const char *what, bool or_present)
{
    const char *equals = strchr(what, '=');
    g_autofree char *name = equals != NULL ? g_strndup(what, (gsize)(equals - what))
                                           : g_strdup(what);
    JsonObject *value = NULL;

    if (json_object_object_get_ex(check->capabilities, name, &value)) {
        return json_object_get_boolean(value);
    }
    if (!json_object_object_get_ex(check->parameters, name, &value) &&
        (!or_present || !json_object_object_get_ex(check->present, name, &value))) {
        return false;
    }
    const char *word = json_object_get_string(value);
    return equals != NULL ? g_strcmp0(word, equals + 1) == 0 : !is_nothing(word);
}

/* "xbzrle (--compressed)" */
static char *
describe(const Check *check, const char *what)
{
    g_autofree char *name = g_strndup(what, strcspn(what, "="));
    JsonObject *option = NULL;

    if (!json_object_object_get_ex(check->asked_by, name, &option)) {
        return g_strdup(what);
    }
    return g_strdup_printf("%s (%s)", what, json_object_get_string(option));
}

static void
check_rule(const Check *check, const QmigRule *rule)
{
    bool other = is_so(check, rule->second, true);
    g_autofree char *first = describe(check, rule->first);
    g_autofree char *second = describe(check, rule->second);
    g_autofree char *text = NULL;

    if (rule->kind == QMIG_RULE_EXCLUDES && other) {
        text = g_strdup_printf("%s does not go with %s: %s", first, second, rule->why);
    } else if (rule->kind == QMIG_RULE_NEEDS && !other) {
        text = g_strdup_printf("%s needs %s: %s", first, second, rule->why);
    } else if (rule->kind == QMIG_RULE_IDLE && !other) {
        text = g_strdup_printf("%s does nothing without %s", first, second);
    }
    if (text != NULL) {
        check->tell(check->data, rule->kind != QMIG_RULE_IDLE, text);
    }
}

/* A number among the parameters, asked for or present; or -1. */
static int64_t
number_of(const Check *check, const char *name)
{
    JsonObject *value = NULL;

    return (json_object_object_get_ex(check->parameters, name, &value) ||
            json_object_object_get_ex(check->present, name, &value)) &&
                   json_object_is_type(value, json_type_int)
               ? json_object_get_int64(value)
               : -1;
}

static void
check_values(const Check *check)
{
    int64_t cache = number_of(check, "xbzrle-cache-size");
    int64_t begin = number_of(check, "cpu-throttle-initial");
    int64_t most = number_of(check, "max-cpu-throttle");
    g_autofree char *text = NULL;

    if (cache > 0 && (cache & (cache - 1)) != 0) {
        g_autofree char *who = describe(check, "xbzrle-cache-size");
        g_autofree char *size = g_strdup_printf(
            "%s: %" G_GINT64_FORMAT " bytes are not a power of two", who, cache);
        check->tell(check->data, true, size);
    }
    if (begin >= 0 && most >= 0 && most < begin) {
        text = g_strdup_printf("max-cpu-throttle=%d%% is less than "
                               "cpu-throttle-initial=%d%%",
                               (int)most, (int)begin);
        check->tell(check->data, true, text);
    }
}

void
qmig_rules_check(JsonObject *capabilities, JsonObject *parameters, JsonObject *present,
                 JsonObject *asked_by, unsigned version, QmigRuleTell tell, void *data)
{
    Check check = { capabilities, parameters, present, asked_by, version, tell, data };

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        if (holds(&table[i], version) && is_so(&check, table[i].first, false)) {
            check_rule(&check, &table[i]);
        }
    }
    check_values(&check);
}
