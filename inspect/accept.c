/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Would this QEMU take the stream? Its needs against facts, a running QEMU, a binary's devices. */
#include "inspect/check.h"

#include "qmp/commands.h"
#include "util/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static JsonObject *
needs_of(JsonObject *check)
{
    return json_object_object_get(check, "needs");
}

static void
refuse(JsonObject *check, const char *where, const char *text)
{
    qmig_check_add(check, "refused", "", 0, where, "%s", text);
}

static void G_GNUC_PRINTF(3, 4)
    refusef(JsonObject *check, const char *where, const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    refuse(check, where, text);
}

void
qmig_check_against_facts(JsonObject *check, const char *machine, unsigned version)
{
    JsonObject *needs = needs_of(check);
    const char *wanted = qmig_json_string(needs, "machine");
    int64_t since = qmig_json_int(needs, "since", 0);
    int64_t until = qmig_json_int(needs, "until", 0);
    unsigned series = version / 100 * 100;

    if (machine != NULL && wanted != NULL && strcmp(machine, wanted) != 0) {
        refusef(check, "machine",
                "the stream is of a %s, the QEMU has a %s: use -machine %s", wanted,
                machine, wanted);
    }
    if (version != 0 && series < since) {
        refusef(check, "version",
                "the stream has records that QEMU %" PRId64 ".%" PRId64
                " brought, the QEMU is %u.%u",
                since / 10000, since / 100 % 100, version / 10000, version / 100 % 100);
    }
    if (version != 0 && until != 0 && series > until) {
        refusef(check, "version",
                "the stream has records that no QEMU after %" PRId64 ".%" PRId64
                " reads, the QEMU is %u.%u",
                until / 10000, until / 100 % 100, version / 10000, version / 100 % 100);
    }
}

/* ---- a running QEMU ------------------------------------------------------------------------ */

static bool
compare_machine(JsonObject *check, QmigQmp *qmp, GError **error)
{
    g_autofree char *machine = qmig_qmp_query_machine(qmp, error);

    if (machine == NULL) {
        return false;
    }
    qmig_check_against_facts(check, machine, qmig_qmp_version(qmp));
    return true;
}

/* Lines of `info ramblock`: name, page size, unit, offset, used, total, … */
static bool
compare_blocks(JsonObject *check, QmigQmp *qmp, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    JsonObject *blocks = qmig_json_get(needs_of(check), "blocks", json_type_array);
    g_autoptr(JsonObject) answer = NULL;
    g_autoptr(GHashTable)
        used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    json_object_object_add(arguments, "command-line",
                           json_object_new_string("info ramblock"));
    if (!qmig_qmp_execute(qmp, "human-monitor-command", arguments, &answer, NULL,
                          error)) {
        return false;
    }
    g_auto(GStrv) lines = g_strsplit(json_object_get_string(answer), "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        char name[256];
        uint64_t offset, length, total;

        if (sscanf(*line, " %255s %*u %*s 0x%" SCNx64 " 0x%" SCNx64 " 0x%" SCNx64, name,
                   &offset, &length, &total) == 4) {
            g_hash_table_insert(used, g_strdup(name), g_strdup_printf("%" PRIu64, total));
        }
    }
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        JsonObject *block = json_object_array_get_idx(blocks, i);
        const char *name = qmig_json_string(block, "name");
        int64_t length = qmig_json_int(block, "length", 0);
        const char *total = g_hash_table_lookup(used, name);

        if (total == NULL) {
            refusef(check, name,
                    "RAM block of %" PRId64 " bytes: the QEMU has none of this name",
                    length);
        } else if (g_ascii_strtoll(total, NULL, 10) < length) {
            refusef(check, name, "RAM block of %" PRId64 " bytes: the QEMU's has %s",
                    length, total);
        }
    }
    return true;
}

/* The addresses of PCI devices, of buses behind bridges, too. */
static void
collect_pci(JsonObject *devices, GHashTable *found)
{
    for (size_t i = 0; devices != NULL && i < json_object_array_length(devices); i++) {
        JsonObject *device = json_object_array_get_idx(devices, i);
        JsonObject *bridge = qmig_json_get(device, "pci_bridge", json_type_object);

        g_hash_table_add(
            found, g_strdup_printf("%02x.%x", (unsigned)qmig_json_int(device, "slot", 0),
                                   (unsigned)qmig_json_int(device, "function", 0)));
        if (bridge != NULL) {
            collect_pci(qmig_json_get(bridge, "devices", json_type_array), found);
        }
    }
}

static bool
compare_pci(JsonObject *check, QmigQmp *qmp, GError **error)
{
    JsonObject *sections = qmig_json_get(needs_of(check), "sections", json_type_array);
    g_autoptr(GHashTable)
        found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(JsonObject) buses = NULL;

    if (!qmig_qmp_execute(qmp, "query-pci", NULL, &buses, NULL, error)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(buses); i++) {
        collect_pci(qmig_json_get(json_object_array_get_idx(buses, i), "devices",
                                  json_type_array),
                    found);
    }
    for (size_t i = 0; i < json_object_array_length(sections); i++) {
        const char *name = qmig_json_string(json_object_array_get_idx(sections, i),
                                            "name");
        unsigned domain, bus, slot, function;
        int end = 0;

        /* Behind a bridge the path goes on with a colon; the first hop is enough. */
        if (sscanf(name, "%4x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) ==
                4 &&
            end > 0) {
            g_autofree char *address = g_strdup_printf("%02x.%x", slot, function);
            if (!g_hash_table_contains(found, address)) {
                refusef(check, name, "the QEMU has no PCI device at %s", address);
            }
        }
    }
    return true;
}

static bool
compare_vcpus(JsonObject *check, QmigQmp *qmp, GError **error)
{
    JsonObject *sections = qmig_json_get(needs_of(check), "sections", json_type_array);
    unsigned has, wanted = 0;

    if (!qmig_qmp_query_vcpus(qmp, &has, error)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(sections); i++) {
        const char *name = qmig_json_string(json_object_array_get_idx(sections, i),
                                            "name");
        wanted += strcmp(name, "cpu") == 0;
    }
    if (wanted != 0 && wanted != has) {
        refusef(check, "cpu",
                "the stream is of a guest with %u vCPUs, the QEMU has %u: use "
                "-smp %u",
                wanted, has, wanted);
    }
    return true;
}

/* Those in the configuration must be set exactly; the others at least be there. */
static bool
compare_capabilities(JsonObject *check, QmigQmp *qmp, GError **error)
{
    JsonObject *wanted = qmig_json_get(needs_of(check), "capabilities", json_type_array);
    g_autoptr(JsonObject) has = NULL;

    if (!qmig_qmp_execute(qmp, "query-migrate-capabilities", NULL, &has, NULL, error)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(wanted); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(wanted, i));
        bool known = false, set = false;

        for (size_t k = 0; k < json_object_array_length(has); k++) {
            JsonObject *capability = json_object_array_get_idx(has, k);

            if (strcmp(qmig_json_string(capability, "capability"), name) == 0) {
                known = true;
                set = qmig_json_bool(capability, "state", false);
            }
        }
        if (!known) {
            refusef(check, name, "the QEMU does not know the capability %s", name);
        } else if (!set) {
            refusef(check, name,
                    "the QEMU has the capability %s, but it is off: switch it on before "
                    "migrate-incoming",
                    name);
        }
    }
    return true;
}

bool
qmig_check_against_qmp(JsonObject *check, QmigQmp *qmp, GError **error)
{
    return compare_machine(check, qmp, error) && compare_blocks(check, qmp, error) &&
           compare_vcpus(check, qmp, error) && compare_pci(check, qmp, error) &&
           compare_capabilities(check, qmp, error);
}

/* ---- a binary's devices --------------------------------------------------------------------- */

/* Note the vmstates of a dump: { "name": device or machine: { "Description": { "vmsd_name",
 * "version_id", "minimum_version_id", … } } }. */
static GHashTable *
list_vmstates(JsonObject *dump)
{
    GHashTable *found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    json_object_object_foreach(dump, device, entry)
    {
        JsonObject *description = qmig_json_get(entry, "Description", json_type_object);
        const char *name = description != NULL
                               ? qmig_json_string(description, "vmsd_name")
                               : NULL;

        (void)device;
        if (name != NULL) {
            /* Borrowed: the dump outlives the table. */
            g_hash_table_insert(found, g_strdup(name), description);
        }
    }
    return found;
}

bool
qmig_check_against_vmstate(JsonObject *check, const char *json, size_t length,
                           GError **error)
{
    g_autoptr(JsonObject) dump = json_tokener_parse(json);
    JsonObject *sections = qmig_json_get(needs_of(check), "sections", json_type_array);

    if (!json_object_is_type(dump, json_type_object)) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%zu bytes that are no output of -dump-vmstate", length);
    }
    g_autoptr(GHashTable) vmstates = list_vmstates(dump);
    for (size_t i = 0; i < json_object_array_length(sections); i++) {
        JsonObject *section = json_object_array_get_idx(sections, i);
        const char *vmsd = qmig_json_string(section, "vmsd");
        JsonObject *known = vmsd != NULL ? g_hash_table_lookup(vmstates, vmsd) : NULL;
        int64_t version = qmig_json_int(section, "version", 0);

        if (known != NULL &&
            (version > qmig_json_int(known, "version_id", version) ||
             version < qmig_json_int(known, "minimum_version_id", version))) {
            refusef(check, qmig_json_string(section, "name"),
                    "state of version %" PRId64 ", the QEMU takes %" PRId64
                    " to %" PRId64,
                    version, qmig_json_int(known, "minimum_version_id", 0),
                    qmig_json_int(known, "version_id", 0));
        }
    }
    return true;
}
