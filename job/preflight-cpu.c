/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The CPU as the guest sees it. QEMU does not compare: a guest that uses a feature which the
 * destination lacks dies there. What counts is the vCPU itself, after the host's limits, not the
 * model's name: the first vCPU's CPUID bits, and if those differ, every feature by its name.
 */
#include "job/preflight.h"
#include "qmp/qom.h"

#include <math.h>
#include <string.h>

/* 10.0 and newer report these from the topology, older ones without: no difference at all. */
static const char *const from_topology[] = { "ht", "cmp-legacy", NULL };

/* Other names of features, how QEMU itself behaves, or what it was told and not what came of it. */
static const char *const not_features[] = { "check",
                                            "cpuid-0xb",
                                            "crash-information",
                                            "enforce",
                                            "ffxsr",
                                            "fill-mtrr-mask",
                                            "full-cpuid-auto-level",
                                            "hotpluggable",
                                            "hotplugged",
                                            "hv-apicv",
                                            "i64",
                                            "kvm",
                                            "legacy-memory",
                                            "legacy-multi-node",
                                            "migratable",
                                            "pclmuldq",
                                            "realized",
                                            "sse3",
                                            "sse4-1",
                                            "sse4-2",
                                            "start-powered-off",
                                            "tcg-cpuid",
                                            "vmware-cpuid-freq",
                                            "xd",
                                            NULL };

/* What is compared besides features. */
static const char *const facts[] = {
    "family",
    "feature-words",
    "hv-vendor-id",
    "level",
    "model",
    "model-id",
    "phys-bits",
    "stepping",
    "tsc-frequency",
    "type",
    "unavailable-features",
    "vendor",
    "xlevel",
};

/* The first vCPU's place in the object tree; NULL = this QEMU does not tell. */
static bool
find_cpu(const QmigSide *side, char **path, GError **error)
{
    g_autoptr(JsonObject) cpus = NULL;

    if (!qmig_qmp_ask(side->qmp, "query-cpus-fast", NULL, &cpus, error)) {
        return false;
    }
    *path =
        json_object_is_type(cpus, json_type_array) && json_object_array_length(cpus) > 0
            ? g_strdup(qmig_json_string(json_object_array_get_idx(cpus, 0), "qom-path"))
            : NULL;
    return true;
}

static bool
read_facts(const QmigSide *side, const char *path, JsonObject **cpu, GError **error)
{
    g_autoptr(JsonObject) found = json_object_new_object();

    for (size_t i = 0; i < G_N_ELEMENTS(facts); i++) {
        JsonObject *value = NULL;
        if (!qmig_qom_get(side->qmp, path, facts[i], &value, error)) {
            return false;
        }
        if (value != NULL) {
            json_object_object_add(found, facts[i], value);
        }
    }
    *cpu = g_steal_pointer(&found);
    return true;
}

/* The bits of a CPUID register that tell a guest's features: 0 where there are none. */
static uint32_t
find_word(JsonObject *words, JsonObject *like)
{
    int64_t leaf = qmig_json_int(like, "cpuid-input-eax", -1);
    int64_t sub = qmig_json_int(like, "cpuid-input-ecx", -1);
    const char *cpuid = qmig_json_string(like, "cpuid-register");

    for (size_t i = 0; i < json_object_array_length(words); i++) {
        JsonObject *word = json_object_array_get_idx(words, i);
        if (qmig_json_int(word, "cpuid-input-eax", -1) == leaf &&
            qmig_json_int(word, "cpuid-input-ecx", -1) == sub &&
            g_strcmp0(qmig_json_string(word, "cpuid-register"), cpuid) == 0) {
            uint32_t bits = (uint32_t)qmig_json_int(word, "features", 0);
            /* As from_topology: ht, cmp-legacy. */
            bits &= leaf == 1 && g_strcmp0(cpuid, "EDX") == 0 ? ~(1U << 28) : ~0U;
            return bits &
                   (leaf == 0x80000001 && g_strcmp0(cpuid, "ECX") == 0 ? ~2U : ~0U);
        }
    }
    return 0;
}

static bool
has_all_words(JsonObject *of, JsonObject *in)
{
    for (size_t i = 0; i < json_object_array_length(of); i++) {
        JsonObject *word = json_object_array_get_idx(of, i);
        if (find_word(of, word) != find_word(in, word)) {
            return false;
        }
    }
    return true;
}

/* The same features, by their bits: then nobody need ask for them by name. */
static bool
have_same_words(JsonObject *source, JsonObject *destination)
{
    JsonObject *a = qmig_json_get(source, "feature-words", json_type_array);
    JsonObject *b = qmig_json_get(destination, "feature-words", json_type_array);

    return a != NULL && b != NULL && has_all_words(a, b) && has_all_words(b, a);
}

static bool
is_feature(const char *name, JsonObject *value)
{
    return json_object_is_type(value, json_type_boolean) && strchr(name, '_') == NULL &&
           !g_str_has_prefix(name, "x-") && !g_strv_contains(not_features, name) &&
           !g_strv_contains(from_topology, name);
}

static int
compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Features that @has has on and @lacks has not: "avx, avx2"; NULL = none. (transfer full) */
static char *
list_missing(JsonObject *has, JsonObject *lacks)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    json_object_object_foreach(has, name, value)
    {
        if (is_feature(name, value) && json_object_get_boolean(value) &&
            !qmig_json_bool(lacks, name, false)) {
            g_ptr_array_add(names, name);
        }
    }
    if (names->len == 0) {
        return NULL;
    }
    g_ptr_array_sort(names, compare_texts);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(", ", (char **)names->pdata);
}

static void
compare_models(QmigPreflight *p, const char *source, const char *destination)
{
    static const char suffix[] = "-x86_64-cpu";

    if (source == NULL || destination == NULL || strcmp(source, destination) == 0) {
        return;
    }
    size_t len = strlen(source);
    len -= g_str_has_suffix(source, suffix) ? strlen(suffix) : 0;
    qmig_preflight_find(p, QMIG_FINDING_RISKY, "type: source %s, destination %s", source,
                        destination);
    qmig_preflight_advise(p, "start the destination with -cpu %.*s", (int)len, source);
}

/* By name: hundreds of questions. @unavailable: what the destination's host could not give. */
static bool
compare_features(QmigPreflight *p, const char *here, const char *there,
                 JsonObject *unavailable, GError **error)
{
    g_autoptr(JsonObject) source = NULL, destination = NULL;

    if (!qmig_qom_properties(p->source->qmp, here, &source, error) ||
        !qmig_qom_properties(p->destination->qmp, there, &destination, error)) {
        return false;
    }
    g_autofree char *missing = list_missing(source, destination);
    g_autofree char *added = list_missing(destination, source);

    if (missing != NULL) {
        bool by_host = unavailable != NULL && json_object_array_length(unavailable) > 0;
        qmig_preflight_find(p, QMIG_FINDING_RISKY,
                            "the destination lacks features that the guest has: %s",
                            missing);
        qmig_preflight_advise(
            p, "give both the same -cpu%s",
            by_host ? ", one that the destination's host can do: it lacks some that were "
                      "asked for there"
                    : "");
    }
    if (added != NULL) {
        qmig_preflight_find(p, QMIG_FINDING_WARNING,
                            "the destination adds features in the midst of the guest's "
                            "life: %s",
                            added);
        qmig_preflight_advise(p, "give both the same -cpu");
    }
    return true;
}

/* Numbers and texts of the CPU: what the guest may have read once and relies on. */
static void
compare_numbers(QmigPreflight *p, JsonObject *source, JsonObject *destination)
{
    static const struct {
        const char *name;
        QmigFindingLevel level;
    } rows[] = {
        { "vendor", QMIG_FINDING_RISKY },         { "family", QMIG_FINDING_RISKY },
        { "model", QMIG_FINDING_RISKY },          { "stepping", QMIG_FINDING_WARNING },
        { "model-id", QMIG_FINDING_WARNING },     { "phys-bits", QMIG_FINDING_RISKY },
        { "level", QMIG_FINDING_WARNING },        { "xlevel", QMIG_FINDING_WARNING },
        { "hv-vendor-id", QMIG_FINDING_WARNING },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        JsonObject *ours, *theirs;
        if (!json_object_object_get_ex(source, rows[i].name, &ours) ||
            !json_object_object_get_ex(destination, rows[i].name, &theirs) ||
            json_object_equal(ours, theirs)) {
            continue;
        }
        g_autofree char *a = qmig_preflight_show(ours);
        g_autofree char *b = qmig_preflight_show(theirs);
        qmig_preflight_find(p, rows[i].level, "%s: source %s, destination %s",
                            rows[i].name, a, b);
        qmig_preflight_advise(p, "give both the same -cpu, with %s=%s", rows[i].name, a);
    }
}

/* KVM scales where the hardware can; a guest that calibrated once sees the difference else. */
static void
compare_clock_rates(QmigPreflight *p, JsonObject *source, JsonObject *destination)
{
    double a = (double)qmig_json_int(source, "tsc-frequency", 0);
    double b = (double)qmig_json_int(destination, "tsc-frequency", 0);

    if (a > 0 && b > 0 && fabs(a - b) > a / 1000) {
        qmig_preflight_find(p, QMIG_FINDING_WARNING,
                            "TSC: source %.0f kHz, destination %.0f kHz", a / 1000,
                            b / 1000);
        qmig_preflight_advise(p, "be sure that the destination's host scales it, or "
                                 "that the guest uses another clock");
    }
}

bool
qmig_preflight_cpu(QmigPreflight *p, GError **error)
{
    g_autoptr(JsonObject) source = NULL, destination = NULL;
    g_autofree char *here = NULL, *there = NULL;

    if (!qmig_preflight_can(p, "qom-list")) {
        return true;
    }
    if (!find_cpu(p->source, &here, error) || !find_cpu(p->destination, &there, error)) {
        return false;
    }
    if (here == NULL || there == NULL) {
        qmig_preflight_find(p, QMIG_FINDING_NOTE, "not told by one of them");
        return true;
    }
    if (!read_facts(p->source, here, &source, error) ||
        !read_facts(p->destination, there, &destination, error)) {
        return false;
    }
    compare_models(p, qmig_json_string(source, "type"),
                   qmig_json_string(destination, "type"));
    compare_numbers(p, source, destination);
    compare_clock_rates(p, source, destination);
    return have_same_words(source, destination) ||
           compare_features(
               p, here, there,
               qmig_json_get(destination, "unavailable-features", json_type_array),
               error);
}
