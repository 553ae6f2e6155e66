/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table, and user texts to JSON values. A new capability or parameter is one row here.
 * QEMU wants numbers as JSON numbers in its own unit, never "10M".
 */
#include "qmp/knobs.h"

#include "util/error.h"
#include "util/units.h"

#include <math.h>
#include <string.h>

#define SRC QMIG_KNOB_SOURCE
#define DST QMIG_KNOB_DESTINATION
#define BOTH QMIG_KNOB_BOTH

/* After the help may follow what to use instead. */
#define CAP(name, side, since, removed, help, ...)                                     \
    {                                                                                  \
        name, QMIG_KNOB_CAPABILITY, QMIG_KNOB_BOOL, side, since, removed, 0, 0, "off", \
            help, ##__VA_ARGS__                                                        \
    }
#define PAR(name, type, side, since, removed, min, max, value, help, ...)            \
    {                                                                                \
        name, QMIG_KNOB_PARAMETER, QMIG_KNOB_##type, side, since, removed, min, max, \
            value, help, ##__VA_ARGS__                                               \
    }

static const QmigKnob table[] = {
    CAP("auto-converge", SRC, NULL, NULL, "slow the guest down when it dirties too fast"),
    CAP("background-snapshot", SRC, NULL, NULL, "write a snapshot while the guest runs"),
    CAP("block", SRC, NULL, "9.1", "migrate disks in the stream",
        "storage that both hosts reach, or blockdev-mirror to an NBD export"),
    CAP("compress", BOTH, NULL, "9.1", "compress pages by threads of QEMU",
        "multifd with multifd-compression (--comp-methods zstd or zlib)"),
    CAP("dirty-bitmaps", BOTH, NULL, NULL, "migrate dirty bitmaps of disks"),
    CAP("dirty-limit", SRC, "8.1", NULL,
        "limit each vCPU's dirty rate; needs a dirty ring", "auto-converge"),
    CAP("events", BOTH, NULL, NULL, "send MIGRATION events"),
    CAP("late-block-activate", DST, NULL, NULL,
        "take disk locks at cont only; always so since 10.0"),
    CAP("mapped-ram", BOTH, "9.0", NULL, "fixed page offsets in a file"),
    CAP("multifd", BOTH, NULL, NULL, "send pages over several connections"),
    CAP("pause-before-switchover", SRC, NULL, NULL,
        "wait for migrate-continue before the last phase"),
    CAP("postcopy-blocktime", DST, NULL, NULL, "measure how long postcopy blocks vCPUs"),
    CAP("postcopy-preempt", BOTH, NULL, NULL,
        "urgent postcopy pages get their own connection"),
    CAP("postcopy-ram", BOTH, NULL, NULL, "allow the switch to postcopy"),
    CAP("rdma-pin-all", BOTH, NULL, NULL, "pin all memory for RDMA"),
    CAP("release-ram", SRC, NULL, NULL, "free sent pages in postcopy; forbids recovery"),
    CAP("return-path", SRC, NULL, NULL, "let the destination answer"),
    CAP("switchover-ack", BOTH, "8.1", NULL, "the destination must agree to switch over"),
    CAP("validate-uuid", SRC, NULL, NULL, "the destination must have the same UUID"),
    CAP("x-colo", BOTH, NULL, NULL, "continuous replication"),
    CAP("x-ignore-shared", BOTH, NULL, NULL, "skip shared memory"),
    CAP("xbzrle", SRC, NULL, NULL, "send changes of pages"),
    CAP("zero-blocks", SRC, NULL, "11.1", "detect zero blocks of disks"),
    CAP("zero-copy-send", SRC, NULL, NULL,
        "send without copying; needs multifd and locked memory"),

    PAR("announce-initial", DURATION_MS, BOTH, NULL, NULL, 0, 100000, "50ms",
        "delay of the first announcement"),
    PAR("announce-max", DURATION_MS, BOTH, NULL, NULL, 0, 100000, "550ms",
        "longest delay between announcements"),
    PAR("announce-rounds", COUNT, BOTH, NULL, NULL, 0, 1000, "5", "announcements sent"),
    PAR("announce-step", DURATION_MS, BOTH, NULL, NULL, 1, 10000, "100ms",
        "growth of the delay"),
    PAR("avail-switchover-bandwidth", RATE, SRC, "8.2", NULL, 0, 0, "0",
        "bandwidth to reckon the downtime with; 0 = measure",
        "a downtime-limit that fits what QEMU measures"),
    PAR("block-bitmap-mapping", JSON, BOTH, NULL, NULL, 0, 0, "",
        "node and bitmap names of the other side"),
    PAR("block-incremental", BOOL, SRC, NULL, "9.1", 0, 0, "off",
        "migrate disks without backing files", "blockdev-mirror with sync=top"),
    PAR("compress-level", COUNT, SRC, NULL, "9.1", 0, 9, "1",
        "zlib level of capability compress",
        "multifd-zlib-level or multifd-zstd-level (--comp-zlib-level, --comp-zstd-level)"),
    PAR("compress-threads", COUNT, SRC, NULL, "9.1", 1, 255, "8",
        "threads of capability compress", "multifd-channels (--parallel-connections)"),
    PAR("compress-wait-thread", BOOL, SRC, NULL, "9.1", 0, 0, "on",
        "wait for a thread instead of sending raw"),
    PAR("cpr-exec-command", JSON, SRC, "10.2", NULL, 0, 0, "",
        "command line of mode cpr-exec"),
    PAR("cpu-throttle-increment", PERCENT, SRC, NULL, NULL, 1, 99, "10",
        "auto-converge slows further by"),
    PAR("cpu-throttle-initial", PERCENT, SRC, NULL, NULL, 1, 99, "20",
        "auto-converge begins with"),
    PAR("cpu-throttle-tailslow", BOOL, SRC, NULL, NULL, 0, 0, "off",
        "smaller steps of auto-converge at the end"),
    PAR("decompress-threads", COUNT, DST, NULL, "9.1", 1, 255, "2",
        "threads of capability compress", "multifd-channels (--parallel-connections)"),
    PAR("direct-io", BOOL, BOTH, "9.1", NULL, 0, 0, "off", "O_DIRECT for files"),
    PAR("downtime-limit", DURATION_MS, SRC, NULL, NULL, 0, 2000000, "300ms",
        "switch over when the rest takes no longer"),
    PAR("max-bandwidth", RATE, SRC, NULL, NULL, 0, 0, "128MiB/s",
        "limit in precopy; 0 = none"),
    PAR("max-cpu-throttle", PERCENT, SRC, NULL, NULL, 1, 99, "99",
        "auto-converge slows at most by"),
    PAR("max-postcopy-bandwidth", RATE, SRC, NULL, NULL, 0, 0, "0",
        "limit of background pages in postcopy; 0 = none"),
    PAR("mode", ENUM, BOTH, "8.2", NULL, 0, 0, "normal",
        "normal, or update of QEMU in place"),
    PAR("multifd-channels", COUNT, BOTH, NULL, NULL, 1, 255, "2",
        "connections of multifd"),
    PAR("multifd-compression", ENUM, BOTH, NULL, NULL, 0, 0, "none",
        "compression of multifd"),
    PAR("multifd-qatzip-level", COUNT, SRC, "9.2", NULL, 1, 9, "1",
        "level of multifd-compression qatzip",
        "multifd-zlib-level or multifd-zstd-level"),
    PAR("multifd-zlib-level", COUNT, SRC, NULL, NULL, 0, 9, "1",
        "level of multifd-compression zlib"),
    PAR("multifd-zstd-level", COUNT, SRC, NULL, NULL, 0, 20, "1",
        "level of multifd-compression zstd"),
    PAR("throttle-trigger-threshold", PERCENT, SRC, NULL, NULL, 1, 100, "50",
        "dirtied share of sent bytes that starts auto-converge"),
    PAR("tls-authz", TEXT, DST, NULL, NULL, 0, 0, "",
        "object that authorizes the source"),
    PAR("tls-creds", TEXT, BOTH, NULL, NULL, 0, 0, "", "object with TLS credentials"),
    PAR("tls-hostname", TEXT, SRC, NULL, NULL, 0, 0, "",
        "name the destination's certificate must have"),
    PAR("vcpu-dirty-limit", RATE_MIB, SRC, "8.1", NULL, 1, 0, "1",
        "dirty rate of each vCPU, of dirty-limit", "auto-converge with max-cpu-throttle"),
    PAR("x-checkpoint-delay", DURATION_MS, SRC, NULL, NULL, 0, 0, "20s",
        "time between COLO checkpoints"),
    PAR("x-rdma-chunk-size", BYTES, BOTH, "11.1", NULL, 0, 0, "1MiB", "chunk of RDMA"),
    PAR("x-vcpu-dirty-limit-period", DURATION_MS, SRC, "8.1", NULL, 1, 1000, "1s",
        "period of dirty-limit"),
    PAR("xbzrle-cache-size", BYTES, SRC, NULL, NULL, 4096, 0, "64MiB",
        "page cache of xbzrle, a power of two"),
    PAR("zero-page-detection", ENUM, SRC, "9.0", NULL, 0, 0, "multifd",
        "who looks for zero pages"),
};

const QmigKnob *
qmig_knobs(size_t *n)
{
    *n = G_N_ELEMENTS(table);
    return table;
}

const QmigKnob *
qmig_knob_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* ---- what a QEMU has -------------------------------------------------------------------- */

static bool
is_offered(const QmigSchema *schema, QmigKnobKind kind, const char *name)
{
    return kind == QMIG_KNOB_CAPABILITY ? qmig_schema_has_capability(schema, name)
                                        : qmig_schema_has_parameter(schema, name);
}

static void
entry_free(gpointer data)
{
    QmigKnobEntry *entry = data;

    g_free(entry->name);
    g_free(entry);
}

static void
add_entry(GPtrArray *entries, const char *name, QmigKnobKind kind, const QmigKnob *knob,
          bool offered)
{
    QmigKnobEntry *entry = g_new0(QmigKnobEntry, 1);

    *entry = (QmigKnobEntry){ g_strdup(name), kind, knob, offered };
    g_ptr_array_add(entries, entry);
}

static void
add_unknown(GPtrArray *entries, char *const *names, QmigKnobKind kind)
{
    for (; *names != NULL; names++) {
        const QmigKnob *knob = qmig_knob_find(*names);

        if (knob == NULL || knob->kind != kind) {
            add_entry(entries, *names, kind, NULL, true);
        }
    }
}

GPtrArray *
qmig_knob_entries(const QmigSchema *schema)
{
    GPtrArray *entries = g_ptr_array_new_with_free_func(entry_free);
    g_auto(GStrv) capabilities = qmig_schema_capabilities(schema);
    g_auto(GStrv) parameters = qmig_schema_parameters(schema);

    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        add_entry(entries, table[i].name, table[i].kind, &table[i],
                  is_offered(schema, table[i].kind, table[i].name));
    }
    add_unknown(entries, capabilities, QMIG_KNOB_CAPABILITY);
    add_unknown(entries, parameters, QMIG_KNOB_PARAMETER);
    return entries;
}

/* "compress: this QEMU lacks it (removed in 9.1): use multifd …"; @knob is nullable. */
static bool
tell_lack(const char *name, const QmigKnob *knob, GError **error)
{
    const char *since = knob != NULL ? knob->since : NULL;
    const char *removed = knob != NULL ? knob->removed : NULL;
    const char *instead = knob != NULL ? knob->instead : NULL;
    g_autofree char *new = since != NULL ? g_strdup_printf(" (new in %s)", since) : NULL;
    g_autofree char *gone = removed != NULL ? g_strdup_printf(" (removed in %s)", removed)
                                            : NULL;

    return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED, "%s: this QEMU lacks it%s%s%s%s",
                          name, new != NULL ? new : "", gone != NULL ? gone : "",
                          instead != NULL ? ": use " : "",
                          instead != NULL ? instead : "");
}

bool
qmig_knob_check(QmigKnobKind kind, const char *name, JsonObject *have, const char *label,
                GError **error)
{
    const QmigKnob *knob = qmig_knob_find(name);

    if (knob != NULL && knob->kind != kind) {
        knob = NULL;
    }
    if ((have != NULL && json_object_object_get_ex(have, name, NULL)) ||
        (knob != NULL && knob->type == QMIG_KNOB_JSON)) {
        return true;
    }
    tell_lack(name, knob, error);
    g_prefix_error(error, "%s: %s ", label,
                   kind == QMIG_KNOB_CAPABILITY ? "capability" : "parameter");
    return false;
}

/* ---- text to value ---------------------------------------------------------------------- */

static JsonObject *
parse_bool(const char *name, const char *text, GError **error)
{
    static const char *const yes[] = { "on", "true", "yes", NULL };
    static const char *const no[] = { "off", "false", "no", NULL };

    if (g_strv_contains(yes, text)) {
        return json_object_new_boolean(true);
    }
    if (g_strv_contains(no, text)) {
        return json_object_new_boolean(false);
    }
    qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: \"%s\" is neither on nor off", name,
                   text);
    return NULL;
}

/* A whole number, "%" allowed after a percentage. */
static bool
parse_whole(const char *name, const char *text, bool is_percent, uint64_t *value,
            GError **error)
{
    size_t len = strlen(text);
    guint64 number;

    if (is_percent && len > 0 && text[len - 1] == '%') {
        len--;
    }
    g_autofree char *digits = g_strndup(text, len);
    if (!g_ascii_string_to_unsigned(digits, 10, 0, INT64_MAX, &number, NULL)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: \"%s\" is no whole number%s",
                              name, text, is_percent ? " of percent" : "");
    }
    *value = number;
    return true;
}

static bool
is_bare_number(const char *text)
{
    return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* The number in QEMU's unit. */
static bool
parse_number(const QmigKnob *knob, const char *text, uint64_t *value, GError **error)
{
    QmigKnobType type = knob->type;
    bool ok;

    if (type == QMIG_KNOB_COUNT || type == QMIG_KNOB_PERCENT ||
        (type == QMIG_KNOB_RATE_MIB && is_bare_number(text))) {
        return parse_whole(knob->name, text, type == QMIG_KNOB_PERCENT, value, error);
    }
    if (type == QMIG_KNOB_BYTES) {
        ok = qmig_parse_size(text, value, error);
    } else if (type == QMIG_KNOB_DURATION_MS) {
        ok = qmig_parse_duration(text, value, error);
    } else {
        ok = qmig_parse_rate(text, value, error);
    }
    if (!ok) {
        g_prefix_error(error, "%s: ", knob->name);
        return false;
    }
    if (type == QMIG_KNOB_RATE_MIB) {
        *value >>= 20;
    }
    return true;
}

static JsonObject *
parse_ranged(const QmigKnob *knob, const char *text, GError **error)
{
    uint64_t value = 0;

    if (!parse_number(knob, text, &value, error)) {
        return NULL;
    }
    if (value < (uint64_t)knob->min || (knob->max != 0 && value > (uint64_t)knob->max)) {
        g_autofree char *max = knob->max != 0
                                   ? g_strdup_printf("%" G_GINT64_FORMAT, knob->max)
                                   : g_strdup("any");
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: %" G_GUINT64_FORMAT " is out of range %" G_GINT64_FORMAT
                       " to %s",
                       knob->name, value, knob->min, max);
        return NULL;
    }
    return json_object_new_int64((int64_t)value);
}

static JsonObject *
parse_enum(const char *name, const char *text, const QmigSchema *schema, GError **error)
{
    if (schema != NULL &&
        !qmig_schema_command_arg_enum_has(schema, "migrate-set-parameters", name, text)) {
        g_auto(GStrv) values = qmig_schema_command_arg_enum_values(
            schema, "migrate-set-parameters", name);
        g_autofree char *list = g_strjoinv(", ", values);
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: \"%s\" is none of: %s", name, text,
                       list);
        return NULL;
    }
    return json_object_new_string(text);
}

static JsonObject *
parse_json(const char *name, const char *text, GError **error)
{
    enum json_tokener_error code;
    g_autoptr(JsonObject) value = json_tokener_parse_verbose(text, &code);

    if (!json_object_is_type(value, json_type_array)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: wanted a JSON list, got \"%s\"",
                       name, text);
        return NULL;
    }
    return g_steal_pointer(&value);
}

static JsonObject *
parse_known(const QmigKnob *knob, const char *text, const QmigSchema *schema,
            GError **error)
{
    switch (knob->type) {
    case QMIG_KNOB_BOOL:
        return parse_bool(knob->name, text, error);
    case QMIG_KNOB_COUNT:
    case QMIG_KNOB_PERCENT:
    case QMIG_KNOB_BYTES:
    case QMIG_KNOB_RATE:
    case QMIG_KNOB_RATE_MIB:
    case QMIG_KNOB_DURATION_MS:
        return parse_ranged(knob, text, error);
    case QMIG_KNOB_ENUM:
        return parse_enum(knob->name, text, schema, error);
    case QMIG_KNOB_TEXT:
        return json_object_new_string(text);
    case QMIG_KNOB_JSON:
        return parse_json(knob->name, text, error);
    }
    g_assert_not_reached();
}

static JsonObject *
parse_any_int(const char *name, const char *text, GError **error)
{
    gint64 number;

    if (!g_ascii_string_to_signed(text, 10, INT64_MIN, INT64_MAX, &number, NULL)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: \"%s\" is no whole number", name,
                       text);
        return NULL;
    }
    return json_object_new_int64(number);
}

static JsonObject *
parse_any_number(const char *name, const char *text, GError **error)
{
    char *end;
    double number = g_ascii_strtod(text, &end);

    if (end == text || *end != '\0' || !isfinite(number)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: \"%s\" is no number", name, text);
        return NULL;
    }
    return json_object_new_double(number);
}

/* What only a newer QEMU has: its schema tells the type, nobody the unit. */
static JsonObject *
parse_unknown(const char *name, const char *text, const QmigSchema *schema,
              GError **error)
{
    if (qmig_schema_has_capability(schema, name)) {
        return parse_bool(name, text, error);
    }
    switch (qmig_schema_command_arg_type(schema, "migrate-set-parameters", name)) {
    case QMIG_SCHEMA_BOOL:
        return parse_bool(name, text, error);
    case QMIG_SCHEMA_INT:
        return parse_any_int(name, text, error);
    case QMIG_SCHEMA_NUMBER:
        return parse_any_number(name, text, error);
    case QMIG_SCHEMA_STRING:
        return json_object_new_string(text);
    case QMIG_SCHEMA_ENUM:
        return parse_enum(name, text, schema, error);
    case QMIG_SCHEMA_ARRAY:
        return parse_json(name, text, error);
    case QMIG_SCHEMA_NONE:
    case QMIG_SCHEMA_OBJECT:
    case QMIG_SCHEMA_OTHER:
        break;
    }
    qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                   "%s: %s, and its type cannot be written as text", name,
                   QMIG_KNOB_UNKNOWN_HELP);
    return NULL;
}

JsonObject *
qmig_knob_parse_value(const char *name, const char *text, const QmigSchema *schema,
                      GError **error)
{
    const QmigKnob *knob = qmig_knob_find(name);

    if (knob != NULL) {
        if (schema != NULL && !is_offered(schema, knob->kind, name)) {
            tell_lack(name, knob, error);
            return NULL;
        }
        return parse_known(knob, text, schema, error);
    }
    if (schema == NULL || (!qmig_schema_has_capability(schema, name) &&
                           !qmig_schema_has_parameter(schema, name))) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "%s: neither a capability nor a parameter", name);
        return NULL;
    }
    return parse_unknown(name, text, schema, error);
}

/* ---- value to text ---------------------------------------------------------------------- */

char *
qmig_knob_format_value(const char *name, JsonObject *value)
{
    const QmigKnob *knob = qmig_knob_find(name);
    const char *unit = "";

    if (json_object_is_type(value, json_type_boolean)) {
        return g_strdup(json_object_get_boolean(value) ? "on" : "off");
    }
    if (!json_object_is_type(value, json_type_int) || knob == NULL ||
        json_object_get_int64(value) < 0) {
        return g_strdup(json_object_is_type(value, json_type_string)
                            ? json_object_get_string(value)
                            : json_object_to_json_string(value));
    }
    uint64_t number = json_object_get_uint64(value);
    if (knob->type == QMIG_KNOB_BYTES) {
        return qmig_format_size(number);
    }
    if (knob->type == QMIG_KNOB_RATE) {
        return qmig_format_rate(number);
    }
    if (knob->type == QMIG_KNOB_DURATION_MS) {
        return qmig_format_duration(number);
    }
    if (knob->type == QMIG_KNOB_PERCENT) {
        unit = "%";
    } else if (knob->type == QMIG_KNOB_RATE_MIB) {
        unit = " MiB/s";
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT "%s", number, unit);
}
