/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a QEMU takes; see accepts.h. Numbers that a description lacks are -1. */
#include "plugin/guard/accepts.h"

#include "util/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FILE_MAX = 64 << 20 };

#define FORMAT "qmig-accepts"

typedef struct {
    int64_t min, max;
} Versions;

struct QmigAccepts {
    char *machine;            /* owned; NULL: any */
    int64_t vcpus;            /* -1: any */
    GHashTable *blocks;       /* name -> int64_t *; NULL: any */
    GHashTable *pci;          /* "1f.3": a set; NULL: any */
    GHashTable *capabilities; /* name -> GINT_TO_POINTER(2: set, 1: not); NULL: any */
    GHashTable *sections;     /* "name#instance" -> int64_t *version; NULL: any */
    GHashTable *vmstates;     /* name -> Versions * */
};

QmigAccepts *
qmig_accepts_new(void)
{
    QmigAccepts *a = g_new0(QmigAccepts, 1);

    a->vcpus = -1;
    a->vmstates = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return a;
}

void
qmig_accepts_free(QmigAccepts *a)
{
    if (a == NULL) {
        return;
    }
    g_free(a->machine);
    g_clear_pointer(&a->blocks, g_hash_table_unref);
    g_clear_pointer(&a->pci, g_hash_table_unref);
    g_clear_pointer(&a->capabilities, g_hash_table_unref);
    g_clear_pointer(&a->sections, g_hash_table_unref);
    g_hash_table_unref(a->vmstates);
    g_free(a);
}

/* ---- reading ---------------------------------------------------------------------------- */

static JsonObject *
member(JsonObject *object, const char *name, json_type type)
{
    JsonObject *value = NULL;

    return json_object_is_type(object, json_type_object) &&
                   json_object_object_get_ex(object, name, &value) &&
                   json_object_is_type(value, type)
               ? value
               : NULL;
}

static const char *
text_of(JsonObject *object, const char *name)
{
    JsonObject *value = member(object, name, json_type_string);

    return value != NULL ? json_object_get_string(value) : NULL;
}

static int64_t
number_of(JsonObject *object, const char *name)
{
    JsonObject *value = member(object, name, json_type_int);

    return value != NULL ? json_object_get_int64(value) : -1;
}

static int64_t *
boxed(int64_t value)
{
    int64_t *box = g_new(int64_t, 1);

    *box = value;
    return box;
}

static GHashTable *
fresh(GHashTable **table)
{
    g_clear_pointer(table, g_hash_table_unref);
    *table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return *table;
}

static char *
section_key(const char *name, int64_t instance)
{
    return g_strdup_printf("%s#%" PRId64, name, instance);
}

static void
add_lists(QmigAccepts *a, JsonObject *from)
{
    JsonObject *list = member(from, "blocks", json_type_array);

    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *block = json_object_array_get_idx(list, i);
        GHashTable *into = i == 0 ? fresh(&a->blocks) : a->blocks;

        g_hash_table_insert(into, g_strdup(text_of(block, "name") ?: ""),
                            boxed(number_of(block, "length")));
    }
    list = member(from, "sections", json_type_array);
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        JsonObject *section = json_object_array_get_idx(list, i);
        GHashTable *into = i == 0 ? fresh(&a->sections) : a->sections;

        g_hash_table_insert(
            into,
            section_key(text_of(section, "name") ?: "", number_of(section, "instance")),
            boxed(number_of(section, "version")));
    }
    list = member(from, "pci", json_type_array);
    if (list != NULL) {
        fresh(&a->pci);
    }
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        const char *slot = json_object_get_string(json_object_array_get_idx(list, i));
        g_hash_table_insert(a->pci, g_strdup(slot != NULL ? slot : ""), NULL);
    }
}

static void
add_tables(QmigAccepts *a, JsonObject *from)
{
    JsonObject *capabilities = member(from, "capabilities", json_type_object);
    JsonObject *vmstates = member(from, "vmstates", json_type_object);

    if (capabilities != NULL) {
        fresh(&a->capabilities);
        json_object_object_foreach(capabilities, name, state)
        {
            g_hash_table_insert(a->capabilities, g_strdup(name),
                                boxed(json_object_get_boolean(state)));
        }
    }
    if (vmstates != NULL) {
        json_object_object_foreach(vmstates, name, versions)
        {
            Versions *v = g_new0(Versions, 1);

            v->min = number_of(versions, "min");
            v->max = number_of(versions, "max");
            g_hash_table_insert(a->vmstates, g_strdup(name), v);
        }
    }
}

static void
add_description(QmigAccepts *a, JsonObject *from)
{
    const char *machine = text_of(from, "machine");

    if (machine != NULL) {
        g_free(a->machine);
        a->machine = g_strdup(machine);
    }
    if (number_of(from, "vcpus") >= 0) {
        a->vcpus = number_of(from, "vcpus");
    }
    add_lists(a, from);
    add_tables(a, from);
}

/* Devices that share a state's name need not share its versions: the widest range is kept, for
   nothing may be refused that would be taken. */
static void
widen(JsonObject *vmstates, const char *name, int64_t min, int64_t max)
{
    JsonObject *versions = member(vmstates, name, json_type_object);

    if (versions != NULL) {
        min = MIN(min, number_of(versions, "min"));
        max = MAX(max, number_of(versions, "max"));
    }
    versions = json_object_new_object();
    json_object_object_add(versions, "min", json_object_new_int64(min));
    json_object_object_add(versions, "max", json_object_new_int64(max));
    json_object_object_add(vmstates, name, versions);
}

JsonObject *
qmig_accepts_of_dump(JsonObject *dump, GError **error)
{
    g_autoptr(JsonObject) accepts = json_object_new_object();
    JsonObject *machine = member(dump, "vmschkmachine", json_type_object);
    JsonObject *vmstates = json_object_new_object();

    json_object_object_add(accepts, "vmstates", vmstates);
    if (machine == NULL) {
        qmig_set_error(error, QMIG_ERROR_PROTOCOL, "no output of -dump-vmstate");
        return NULL;
    }
    if (text_of(machine, "Name") != NULL) {
        json_object_object_add(
            accepts, "machine",
            json_object_get(member(machine, "Name", json_type_string)));
    }
    /* "device": { "Description": { "name": of the state, "version_id", "minimum_version_id" } } */
    json_object_object_foreach(dump, device, entry)
    {
        JsonObject *description = member(entry, "Description", json_type_object);
        const char *name = text_of(description, "name");

        (void)device;
        if (name != NULL) {
            widen(vmstates, name, number_of(description, "minimum_version_id"),
                  number_of(description, "version_id"));
        }
    }
    return g_steal_pointer(&accepts);
}

bool
qmig_accepts_add(QmigAccepts *a, JsonObject *json, GError **error)
{
    JsonObject *needs = member(json, "needs", json_type_object);

    if (g_strcmp0(text_of(json, "format"), FORMAT) == 0) {
        if (number_of(json, "version") != 1) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  FORMAT " of version %" PRId64 ", wanted 1",
                                  number_of(json, "version"));
        }
        add_description(a, json);
        return true;
    }
    if (needs != NULL) {
        add_description(a, needs);
        return true;
    }
    g_autoptr(JsonObject) accepts = qmig_accepts_of_dump(json, NULL);
    if (accepts == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "neither a description (qmig stream accepts), nor QEMU's "
                              "-dump-vmstate, nor of qmig stream check --json");
    }
    add_description(a, accepts);
    return true;
}

bool
qmig_accepts_read(QmigAccepts *a, const char *path, GError **error)
{
    g_autoptr(GMappedFile) file = NULL;
    g_autoptr(GError) local = NULL;

    file = g_mapped_file_new(path, FALSE, &local);
    if (file == NULL) {
        return qmig_set_error(error, QMIG_ERROR_IO, "%s", local->message);
    }
    size_t length = g_mapped_file_get_length(file);
    if (length > FILE_MAX) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT, "%s: %zu bytes, limit %d", path,
                              length, FILE_MAX);
    }
    g_autofree char *text = g_strndup(g_mapped_file_get_contents(file) ?: "", length);
    g_autoptr(JsonObject) json = json_tokener_parse(text);
    if (!qmig_accepts_add(a, json, error)) {
        g_prefix_error(error, "%s: ", path);
        return false;
    }
    return true;
}

/* ---- judging ---------------------------------------------------------------------------- */

char *
qmig_accepts_machine(const QmigAccepts *a, const char *machine)
{
    if (a->machine == NULL || strcmp(a->machine, machine) == 0) {
        return NULL;
    }
    return g_strdup_printf("the stream is of a %s, the QEMU has a %s: use -machine %s",
                           machine, a->machine, machine);
}

char *
qmig_accepts_block(const QmigAccepts *a, const char *name, uint64_t length)
{
    const int64_t *has = a->blocks != NULL ? g_hash_table_lookup(a->blocks, name) : NULL;

    if (a->blocks == NULL || (has != NULL && (*has < 0 || (uint64_t)*has >= length))) {
        return NULL;
    }
    return has == NULL ? g_strdup_printf("RAM block of %" PRIu64
                                         " bytes: the QEMU has none of this name",
                                         length)
                       : g_strdup_printf("RAM block of %" PRIu64
                                         " bytes: the QEMU's has %" PRId64,
                                         length, *has);
}

/* Behind a bridge the path goes on with a colon; the first hop is enough. */
static char *
judge_address(const QmigAccepts *a, const char *name)
{
    unsigned domain, bus, slot, function;
    int end = 0;

    if (a->pci == NULL ||
        sscanf(name, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) != 4 ||
        end == 0) {
        return NULL;
    }
    g_autofree char *address = g_strdup_printf("%02x.%x", slot, function);
    return g_hash_table_contains(a->pci, address)
               ? NULL
               : g_strdup_printf("the QEMU has no PCI device at %s", address);
}

static char *
judge_version(int64_t version, int64_t min, int64_t max)
{
    if ((max < 0 || version <= max) && version >= min) {
        return NULL;
    }
    return min < 0 ? g_strdup_printf("state of version %" PRId64
                                     ", the QEMU takes up to %" PRId64,
                                     version, max)
                   : g_strdup_printf("state of version %" PRId64
                                     ", the QEMU takes %" PRId64 " to %" PRId64,
                                     version, min, max);
}

char *
qmig_accepts_section(const QmigAccepts *a, const char *name, uint32_t instance,
                     uint32_t version, const char *vmsd)
{
    g_autofree char *key = section_key(name, instance);
    const int64_t *newest = NULL;
    char *refusal = judge_address(a, name);

    if (refusal != NULL) {
        return refusal;
    }
    if (a->sections != NULL &&
        !g_hash_table_lookup_extended(a->sections, key, NULL, (gpointer *)&newest)) {
        return g_strdup_printf("the QEMU has no such device (instance %u)", instance);
    }
    /* "0000:00:03.0/virtio-net": a path and the state's name. */
    const char *slash = strrchr(name, '/');
    const char *state = vmsd != NULL ? vmsd : slash != NULL ? slash + 1 : name;
    const Versions *v = g_hash_table_lookup(a->vmstates, state);
    if (v != NULL) {
        return judge_version(version, v->min, v->max);
    }
    return newest != NULL ? judge_version(version, -1, *newest) : NULL;
}

char *
qmig_accepts_vcpus(const QmigAccepts *a, unsigned vcpus)
{
    if (a->vcpus < 0 || vcpus == 0 || (int64_t)vcpus == a->vcpus) {
        return NULL;
    }
    return g_strdup_printf("the stream is of a guest with %u vCPUs, the QEMU has %" PRId64
                           ": use -smp %u",
                           vcpus, a->vcpus, vcpus);
}

char *
qmig_accepts_capability(const QmigAccepts *a, const char *name)
{
    const int64_t *state = a->capabilities != NULL
                               ? g_hash_table_lookup(a->capabilities, name)
                               : NULL;

    if (a->capabilities == NULL || (state != NULL && *state != 0)) {
        return NULL;
    }
    return state == NULL
               ? g_strdup_printf("the QEMU does not know the capability %s", name)
               : g_strdup_printf(
                     "the QEMU has the capability %s, but it is off: switch it "
                     "on before migrate-incoming",
                     name);
}
