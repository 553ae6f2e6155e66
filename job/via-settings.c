/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the options of the tunnel say, and how the journal keeps them. */
#include "job/via-priv.h"

#include "qmp/client.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

enum {
    DEFAULT_WIRES = 2,
    DEFAULT_CACHE = 1 << 30,
    CACHE_MAX_GIB = 64,
    MIN_DEADLINE_MS = 1000,
    DEFAULT_DEADLINE_MS = 120000,
    MAX_DEADLINE_MS = 24 * 3600 * 1000,
    MAX_LEVEL = 19,
};

/* ---- where the far end is ---------------------------------------------------------------- */

/* HOST or [V6], without a port. */
static bool
has_no_port(const char *text)
{
    const char *colon = strrchr(text, ':');

    return text[0] == '[' ? text[strlen(text) - 1] == ']' : colon == NULL;
}

QmigAddress *
qmig_via_parse_far(const char *text, GError **error)
{
    g_autofree char *full = NULL;

    if (text[0] == '\0') {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "an empty address, wanted HOST or HOST:PORT");
        return NULL;
    }
    if (strchr(text, '/') != NULL || g_str_has_prefix(text, "tcp:") ||
        g_str_has_prefix(text, "unix:")) {
        return qmig_address_parse(text, error);
    }
    full = has_no_port(text) ? g_strdup_printf("tcp:%s:%d", text, QMIG_VIA_PORT)
                             : g_strdup_printf("tcp:%s", text);
    return qmig_address_parse(full, error);
}

static bool
read_far(const QmigJobOptions *options, QmigViaSettings *s, GError **error)
{
    s->far = g_ptr_array_new_with_free_func((GDestroyNotify)qmig_address_free);
    for (guint i = 0; i < options->via->len; i++) {
        QmigAddress *address = qmig_via_parse_far(options->via->pdata[i], error);
        if (address == NULL) {
            g_prefix_error(error, "--via: ");
            return false;
        }
        g_ptr_array_add(s->far, address);
    }
    g_ptr_array_add(s->far, NULL);
    return true;
}

/* ---- the others ---------------------------------------------------------------------------- */

static bool
read_wires(const char *text, unsigned *n, GError **error)
{
    guint64 value = DEFAULT_WIRES;

    if (text != NULL &&
        !g_ascii_string_to_unsigned(text, 10, 1, QMIG_LINK_WIRES_MAX, &value, NULL)) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "--via-connections: \"%s\", wanted a number from 1 to %d",
                              text, QMIG_LINK_WIRES_MAX);
    }
    *n = (unsigned)value;
    return true;
}

static bool
read_codec(const char *text, QmigViaSettings *s, GError **error)
{
    static const char *const names[] = {
        [QMIG_CODEC_AUTO] = "auto",
        [QMIG_CODEC_NONE] = "none",
        [QMIG_CODEC_LZ4] = "lz4",
        [QMIG_CODEC_ZSTD] = "zstd",
    };
    guint64 level = 0;

    if (text == NULL) {
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            s->codec = (QmigLinkCodec)i;
            return true;
        }
    }
    if (g_str_has_prefix(text, "zstd:") &&
        g_ascii_string_to_unsigned(text + strlen("zstd:"), 10, 1, MAX_LEVEL, &level,
                                   NULL)) {
        s->codec = QMIG_CODEC_ZSTD;
        s->level = (int)level;
        return true;
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--via-compression: \"%s\", wanted auto, none, lz4, zstd or "
                          "zstd:LEVEL, 1 to %d",
                          text, MAX_LEVEL);
}

static bool
read_cache(const char *text, uint64_t *size, GError **error)
{
    *size = DEFAULT_CACHE;
    if (text == NULL) {
        return true;
    }
    if (!qmig_parse_size(text, size, error)) {
        g_prefix_error(error, "--via-cache: ");
        return false;
    }
    return *size <= (uint64_t)CACHE_MAX_GIB << 30 ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--via-cache: \"%s\", wanted %d GiB at most", text,
                          CACHE_MAX_GIB);
}

static bool
read_deadline(uint64_t ms, uint32_t *deadline_ms, GError **error)
{
    *deadline_ms = ms > 0 ? (uint32_t)MIN(ms, UINT32_MAX) : DEFAULT_DEADLINE_MS;
    return (*deadline_ms >= MIN_DEADLINE_MS && *deadline_ms <= MAX_DEADLINE_MS) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--via-deadline: %" G_GUINT64_FORMAT
                          " ms, wanted 1 second to 24 hours",
                          ms);
}

static bool
read_standstill(uint64_t ms, QmigViaSettings *s, GError **error)
{
    s->standstill_ms = (uint32_t)MIN(ms, UINT32_MAX);
    return ms == 0 || (ms >= MIN_DEADLINE_MS && ms <= s->deadline_ms) ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "--via-standstill: %" G_GUINT64_FORMAT
                          " ms, wanted 1 second to --via-deadline, which is %u ms",
                          ms, s->deadline_ms);
}

static bool
read_rate(const char *text, uint64_t *rate, GError **error)
{
    if (text != NULL && !qmig_parse_rate(text, rate, error)) {
        g_prefix_error(error, "--via-bandwidth: ");
        return false;
    }
    return true;
}

bool
qmig_via_settings_read(const QmigJobOptions *options, QmigViaSettings *s, GError **error)
{
    *s = (QmigViaSettings){ .codec = QMIG_CODEC_AUTO };
    return read_far(options, s, error) &&
           read_wires(options->via_connections, &s->n_wires, error) &&
           read_codec(options->via_compression, s, error) &&
           read_cache(options->via_cache, &s->cache_size, error) &&
           read_rate(options->via_bandwidth, &s->rate, error) &&
           read_deadline(options->via_deadline_ms, &s->deadline_ms, error) &&
           read_standstill(options->via_standstill_ms, s, error);
}

void
qmig_via_name_session(const QmigJob *job, char name[static QMIG_LINK_NAME_MAX + 1])
{
    static const char no_uuid[] = "00000000-0000-0000-0000-000000000000";
    const char *guest = job->source.name, *uuid = job->source.uuid;
    g_autofree char *source = qmig_address_to_string(job->options->source);

    if (guest == NULL || guest[0] == '\0') {
        guest = uuid != NULL && uuid[0] != '\0' && strcmp(uuid, no_uuid) != 0 ? uuid
                                                                              : source;
    }
    qmig_link_name(guest, g_get_host_name(), name);
}

void
qmig_via_settings_clear(QmigViaSettings *s)
{
    g_clear_pointer(&s->far, g_ptr_array_unref);
}

char *
qmig_via_destination_text(const QmigJobOptions *options)
{
    g_autofree char *text = qmig_address_to_string(options->destination);

    return options->destination_via ? g_strdup_printf("via:%s", text)
                                    : g_steal_pointer(&text);
}

/* ---- the journal --------------------------------------------------------------------------- */

/* The texts among the options. */
static const struct {
    const char *name;
    size_t offset;
} texts[] = {
    { "connections", offsetof(QmigJobOptions, via_connections) },
    { "compression", offsetof(QmigJobOptions, via_compression) },
    { "cache", offsetof(QmigJobOptions, via_cache) },
    { "bandwidth", offsetof(QmigJobOptions, via_bandwidth) },
    { "tls_dir", offsetof(QmigJobOptions, via_tls_dir) },
    { "tls_user", offsetof(QmigJobOptions, via_tls_user) },
    { "tls_destination", offsetof(QmigJobOptions, via_tls_destination) },
};

static char **
text_of(QmigJobOptions *options, size_t i)
{
    return (char **)(void *)((char *)options + texts[i].offset);
}

JsonObject *
qmig_via_options_to_journal(QmigJobOptions *options)
{
    JsonObject *o, *far;

    if (options->via->len == 0) {
        return NULL;
    }
    o = json_object_new_object();
    far = json_object_new_array();
    for (guint i = 0; i < options->via->len; i++) {
        json_object_array_add(far, json_object_new_string(options->via->pdata[i]));
    }
    json_object_object_add(o, "far", far);
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *text = *text_of(options, i);
        if (text != NULL) {
            json_object_object_add(o, texts[i].name, json_object_new_string(text));
        }
    }
    json_object_object_add(o, "deadline_ms",
                           json_object_new_uint64(options->via_deadline_ms));
    json_object_object_add(o, "tls_psk", json_object_new_boolean(options->via_tls_psk));
    json_object_object_add(o, "insecure", json_object_new_boolean(options->via_insecure));
    return o;
}

bool
qmig_via_options_from_journal(QmigJobOptions *options, JsonObject *record, GError **error)
{
    JsonObject *far = qmig_json_get(record, "far", json_type_array);

    if (record == NULL) {
        return true;
    }
    if (far == NULL || json_object_array_length(far) == 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "journal: its tunnel (\"via\") has no address");
    }
    for (size_t i = 0; i < json_object_array_length(far); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(far, i));
        g_ptr_array_add(options->via, g_strdup(text));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        *text_of(options, i) = g_strdup(qmig_json_string(record, texts[i].name));
    }
    options->via_deadline_ms = (uint64_t)MAX(qmig_json_int(record, "deadline_ms", 0), 0);
    options->via_tls_psk = qmig_json_bool(record, "tls_psk", false);
    options->via_insecure = qmig_json_bool(record, "insecure", false);
    return true;
}

/* ---- what does not go together -------------------------------------------------------------------- */

/* Is the plugin @name asked for? A spec is NAME or NAME:OPTIONS. */
static bool
has_plugin(const QmigJobOptions *options, const char *name)
{
    size_t len = strlen(name);

    for (guint i = 0; i < options->plugins->len; i++) {
        const char *spec = options->plugins->pdata[i];
        if (spec != NULL && strncmp(spec, name, len) == 0 &&
            (spec[len] == '\0' || spec[len] == ':')) {
            return true;
        }
    }
    return false;
}

/* QEMU's own ways to make less of it leave nothing for the tunnel to find. */
void
qmig_via_check(QmigJob *job, GString *problems)
{
    const QmigJobOptions *o = job->options;
    JsonObject *method = NULL;

    (void)problems;
    if (job->via == NULL) {
        return;
    }
    if (o->tls) {
        qmig_job_message(job,
                         "tunnel: with --tls it carries what QEMU has encrypted, which "
                         "cannot be made smaller; it encrypts all by itself");
    }
    if (has_plugin(o, "xbzrle") ||
        json_object_object_get_ex(o->capabilities, "xbzrle", NULL) ||
        json_object_object_get_ex(o->capabilities, "compress", NULL) ||
        (json_object_object_get_ex(o->parameters, "multifd-compression", &method) &&
         strcmp(json_object_get_string(method), "none") != 0)) {
        qmig_job_message(
            job, "tunnel: pages that are compressed already cannot be made much "
                 "smaller; without --compressed or the plugin xbzrle it does that "
                 "itself, for all connections");
    }
}
