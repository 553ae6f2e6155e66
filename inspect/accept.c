/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Would this QEMU take the stream? Its needs against facts, a running QEMU, a binary's devices. */
#include "inspect/check.h"

#include "plugin/guard/accepts.h"
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

/* ---- a running QEMU, described ------------------------------------------------------------- */

static void
add(JsonObject *object, const char *key, JsonObject *value)
{
    json_object_object_add(object, key, value);
}

/* Lines of `info ramblock`: name, page size, unit, offset, used, total, … */
static bool
describe_blocks(JsonObject *accepts, QmigQmp *qmp, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    JsonObject *blocks = json_object_new_array();
    g_autoptr(JsonObject) answer = NULL;

    add(accepts, "blocks", blocks);
    add(arguments, "command-line", json_object_new_string("info ramblock"));
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
            JsonObject *block = json_object_new_object();

            add(block, "name", json_object_new_string(name));
            add(block, "length", json_object_new_uint64(total));
            json_object_array_add(blocks, block);
        }
    }
    return true;
}

/* The addresses of PCI devices, of buses behind bridges, too. */
static void
collect_pci(JsonObject *devices, JsonObject *found)
{
    for (size_t i = 0; devices != NULL && i < json_object_array_length(devices); i++) {
        JsonObject *device = json_object_array_get_idx(devices, i);
        JsonObject *bridge = qmig_json_get(device, "pci_bridge", json_type_object);
        g_autofree char *slot = g_strdup_printf(
            "%02x.%x", (unsigned)qmig_json_int(device, "slot", 0),
            (unsigned)qmig_json_int(device, "function", 0));

        json_object_array_add(found, json_object_new_string(slot));
        if (bridge != NULL) {
            collect_pci(qmig_json_get(bridge, "devices", json_type_array), found);
        }
    }
}

static bool
describe_pci(JsonObject *accepts, QmigQmp *qmp, GError **error)
{
    JsonObject *found = json_object_new_array();
    g_autoptr(JsonObject) buses = NULL;

    add(accepts, "pci", found);
    if (!qmig_qmp_execute(qmp, "query-pci", NULL, &buses, NULL, error)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(buses); i++) {
        collect_pci(qmig_json_get(json_object_array_get_idx(buses, i), "devices",
                                  json_type_array),
                    found);
    }
    return true;
}

static bool
describe_capabilities(JsonObject *accepts, QmigQmp *qmp, GError **error)
{
    JsonObject *states = json_object_new_object();
    g_autoptr(JsonObject) has = NULL;

    add(accepts, "capabilities", states);
    if (!qmig_qmp_execute(qmp, "query-migrate-capabilities", NULL, &has, NULL, error)) {
        return false;
    }
    for (size_t i = 0; i < json_object_array_length(has); i++) {
        JsonObject *one = json_object_array_get_idx(has, i);
        const char *name = qmig_json_string(one, "capability");

        if (name != NULL) {
            add(states, name,
                json_object_new_boolean(qmig_json_bool(one, "state", false)));
        }
    }
    return true;
}

JsonObject *
qmig_accepts_new_description(void)
{
    JsonObject *accepts = json_object_new_object();

    add(accepts, "format", json_object_new_string("qmig-accepts"));
    add(accepts, "version", json_object_new_int(1));
    return accepts;
}

bool
qmig_accepts_of_qmp(JsonObject *accepts, QmigQmp *qmp, GError **error)
{
    g_autofree char *machine = qmig_qmp_query_machine(qmp, error);
    unsigned vcpus;

    if (machine == NULL) {
        return false;
    }
    add(accepts, "machine", json_object_new_string(machine));
    add(accepts, "qemu", json_object_new_int64(qmig_qmp_version(qmp)));
    if (!describe_blocks(accepts, qmp, error) ||
        !qmig_qmp_query_vcpus(qmp, &vcpus, error)) {
        return false;
    }
    add(accepts, "vcpus", json_object_new_int64(vcpus));
    return describe_pci(accepts, qmp, error) &&
           describe_capabilities(accepts, qmp, error);
}

/* ---- compared ------------------------------------------------------------------------------- */

/* @text: (transfer full) (nullable) */
static void
refuse_if(JsonObject *check, const char *where, char *text)
{
    if (text != NULL) {
        refuse(check, where, text);
        g_free(text);
    }
}

static void
compare_sections(JsonObject *check, const QmigAccepts *accepts)
{
    JsonObject *sections = qmig_json_get(needs_of(check), "sections", json_type_array);
    unsigned vcpus = 0;

    for (size_t i = 0; i < json_object_array_length(sections); i++) {
        JsonObject *section = json_object_array_get_idx(sections, i);
        const char *name = qmig_json_string(section, "name");

        vcpus += strcmp(name, "cpu") == 0;
        refuse_if(check, name,
                  qmig_accepts_section(accepts, name,
                                       (uint32_t)qmig_json_int(section, "instance", 0),
                                       (uint32_t)qmig_json_int(section, "version", 0),
                                       qmig_json_string(section, "vmsd")));
    }
    refuse_if(check, "cpu", qmig_accepts_vcpus(accepts, vcpus));
}

static void
compare(JsonObject *check, const QmigAccepts *accepts)
{
    JsonObject *blocks = qmig_json_get(needs_of(check), "blocks", json_type_array);
    JsonObject *wanted = qmig_json_get(needs_of(check), "capabilities", json_type_array);

    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        JsonObject *block = json_object_array_get_idx(blocks, i);
        const char *name = qmig_json_string(block, "name");

        refuse_if(check, name,
                  qmig_accepts_block(accepts, name,
                                     (uint64_t)qmig_json_int(block, "length", 0)));
    }
    compare_sections(check, accepts);
    for (size_t i = 0; i < json_object_array_length(wanted); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(wanted, i));

        refuse_if(check, name, qmig_accepts_capability(accepts, name));
    }
}

bool
qmig_check_against_qmp(JsonObject *check, QmigQmp *qmp, GError **error)
{
    g_autoptr(JsonObject) description = qmig_accepts_new_description();
    g_autoptr(QmigAccepts) accepts = qmig_accepts_new();

    if (!qmig_accepts_of_qmp(description, qmp, error) ||
        !qmig_accepts_add(accepts, description, error)) {
        return false;
    }
    qmig_check_against_facts(check, qmig_json_string(description, "machine"),
                             qmig_qmp_version(qmp));
    compare(check, accepts);
    return true;
}

/* ---- a binary's devices --------------------------------------------------------------------- */

bool
qmig_accepts_of_vmstate(JsonObject *accepts, const char *json, size_t length,
                        GError **error)
{
    g_autoptr(JsonObject) dump = json_tokener_parse(json);
    g_autoptr(JsonObject) found = qmig_accepts_of_dump(dump, NULL);

    if (found == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%zu bytes that are no output of -dump-vmstate", length);
    }
    add(accepts, "vmstates",
        json_object_get(qmig_json_get(found, "vmstates", json_type_object)));
    return true;
}

bool
qmig_check_against_vmstate(JsonObject *check, const char *json, size_t length,
                           GError **error)
{
    g_autoptr(JsonObject) description = qmig_accepts_new_description();
    g_autoptr(QmigAccepts) accepts = qmig_accepts_new();

    if (!qmig_accepts_of_vmstate(description, json, length, error) ||
        !qmig_accepts_add(accepts, description, error)) {
        return false;
    }
    compare_sections(check, accepts);
    return true;
}
