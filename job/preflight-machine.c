/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Machine type and options, accelerator, vCPUs; QEMU versions, and pairs known to be bad. */
#include "job/preflight.h"
#include "qmp/qom.h"
#include "util/units.h"

#include <glib/gstdio.h>
#include <string.h>

enum { QEMU_7_3 = 70300, QEMU_9_0 = 90000 };

/* ---- machine ---------------------------------------------------------------------------- */

static void
compare_basics(QmigPreflight *p)
{
    const QmigSide *source = p->source, *destination = p->destination;

    if (strcmp(source->machine, destination->machine) != 0) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                            "type: source \"%s\", destination \"%s\"", source->machine,
                            destination->machine);
        qmig_preflight_advise(p, "start the destination with -machine %s",
                              source->machine);
    }
    if (source->vcpus != destination->vcpus) {
        qmig_preflight_find(p, QMIG_FINDING_REFUSED, "vCPUs: source %u, destination %u",
                            source->vcpus, destination->vcpus);
        qmig_preflight_advise(p, "start both with the same -smp");
    }
    qmig_preflight_find(p, QMIG_FINDING_NOTE, "source %s, destination %s",
                        source->machine, destination->machine);
}

/* "kvm", "tcg" or "?": QEMU tells about KVM alone in all versions. */
static bool
read_accelerator(const QmigSide *side, const char **name, GError **error)
{
    g_autoptr(JsonObject) answer = NULL;

    if (!qmig_qmp_ask(side->qmp, "query-kvm", NULL, &answer, error)) {
        return false;
    }
    *name = answer == NULL                             ? "?"
            : qmig_json_bool(answer, "enabled", false) ? "kvm"
                                                       : "tcg";
    return true;
}

static bool
compare_accelerators(QmigPreflight *p, GError **error)
{
    const char *source, *destination;

    if (!qmig_preflight_can(p, "query-kvm")) {
        return true;
    }
    if (!read_accelerator(p->source, &source, error) ||
        !read_accelerator(p->destination, &destination, error)) {
        return false;
    }
    if (strcmp(source, destination) != 0) {
        qmig_preflight_find(p, QMIG_FINDING_RISKY,
                            "accelerator: source %s, destination %s", source,
                            destination);
        qmig_preflight_advise(p, "start the destination with -accel %s", source);
    }
    return true;
}

/* One option of the machine, which the guest has seen the effect of. */
static bool
compare_option(QmigPreflight *p, const char *name, GError **error)
{
    g_autoptr(JsonObject) ours = NULL, theirs = NULL;

    if (!qmig_qom_get(p->source->qmp, "/machine", name, &ours, error) ||
        !qmig_qom_get(p->destination->qmp, "/machine", name, &theirs, error)) {
        return false;
    }
    if (ours == NULL || theirs == NULL || json_object_equal(ours, theirs)) {
        return true;
    }
    g_autofree char *a = qmig_preflight_show(ours);
    g_autofree char *b = qmig_preflight_show(theirs);
    bool is_auto = strcmp(a, "auto") == 0 || strcmp(b, "auto") == 0;
    qmig_preflight_find(p, is_auto ? QMIG_FINDING_WARNING : QMIG_FINDING_RISKY,
                        "option %s: source %s, destination %s", name, a, b);
    qmig_preflight_advise(p, "start the destination with -machine %s,%s=%s",
                          p->source->machine, name, a);
    return true;
}

/* {"cpus": 2, "sockets": 2, …}: newer versions know more levels, which are 1 then. */
static void
compare_topology(QmigPreflight *p, JsonObject *ours, JsonObject *theirs)
{
    g_autoptr(GString) wanted = g_string_new(NULL);
    bool differs = false;

    if (!json_object_is_type(ours, json_type_object) ||
        !json_object_is_type(theirs, json_type_object)) {
        return;
    }
    json_object_object_foreach(ours, name, value)
    {
        int64_t count = json_object_get_int64(value);
        if (strcmp(name, "cpus") != 0 && count > 1) {
            g_string_append_printf(wanted, ",%s=%" G_GINT64_FORMAT, name, count);
        }
        differs = differs ||
                  (strcmp(name, "cpus") != 0 && count != qmig_json_int(theirs, name, 1));
    }
    if (differs) {
        qmig_preflight_find(
            p, QMIG_FINDING_RISKY,
            "topology: source %s, "
            "destination %s",
            json_object_to_json_string_ext(ours, JSON_C_TO_STRING_PLAIN),
            json_object_to_json_string_ext(theirs, JSON_C_TO_STRING_PLAIN));
        qmig_preflight_advise(p, "start the destination with -smp %u%s", p->source->vcpus,
                              wanted->str);
    }
}

static bool
compare_options(QmigPreflight *p, GError **error)
{
    static const char *const options[] = { "acpi",   "hpet", "i8042", "max-ram-below-4g",
                                           "nvdimm", "pic",  "pit",   "sata",
                                           "smbus",  "smm",  "usb",   "vmport" };
    g_autoptr(JsonObject) source = NULL, destination = NULL;

    /* Another machine type has other options: one problem is enough. */
    if (!qmig_preflight_can(p, "qom-list") ||
        strcmp(p->source->machine, p->destination->machine) != 0) {
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (!compare_option(p, options[i], error)) {
            return false;
        }
    }
    if (!qmig_qom_get(p->source->qmp, "/machine", "smp", &source, error) ||
        !qmig_qom_get(p->destination->qmp, "/machine", "smp", &destination, error)) {
        return false;
    }
    compare_topology(p, source, destination);
    return true;
}

bool
qmig_preflight_machine(QmigPreflight *p, GError **error)
{
    compare_basics(p);
    return compare_accelerators(p, error) && compare_options(p, error);
}

/* ---- versions --------------------------------------------------------------------------- */

/* 9.0 gave the state of a virtio-gpu another shape; what came after it, its own stable releases
 * too, has a property that says which shape a machine type has. */
static bool
has_odd_gpu(const QmigSide *side, const GPtrArray *devices)
{
    for (guint i = 0; devices != NULL && i < devices->len; i++) {
        const QmigDevice *device = devices->pdata[i];
        if (side->version / 100 == QEMU_9_0 / 100 &&
            strcmp(device->type, "virtio-gpu-device") == 0) {
            return !g_hash_table_contains(device->properties,
                                          "x-scanout-vmstate-version");
        }
    }
    return false;
}

static void
check_gpu(QmigPreflight *p)
{
    /* The machine types of 9.0 itself have that shape in all versions. */
    if (!g_str_has_suffix(p->source->machine, "-9.0") &&
        has_odd_gpu(p->source, p->source_devices) !=
            has_odd_gpu(p->destination, p->destination_devices)) {
        qmig_preflight_find(
            p, QMIG_FINDING_RISKY,
            "one side is a 9.0 that writes and reads a virtio-gpu's state "
            "as no other version does");
        qmig_preflight_advise(p, "take a later 9.0 or another version for it");
    }
}

/* Emulated, a source of 7.2 marks some of the guest's last writes after they were read. */
static bool
check_emulated_source(QmigPreflight *p, GError **error)
{
    const char *accelerator = "?";

    if (p->source->version >= QEMU_7_3 || !p->source->running ||
        !qmig_schema_has_command(p->source->schema, "query-kvm")) {
        return true;
    }
    if (!read_accelerator(p->source, &accelerator, error)) {
        return false;
    }
    if (strcmp(accelerator, "tcg") == 0) {
        qmig_preflight_find(
            p, QMIG_FINDING_RISKY,
            "source: QEMU 7.2 without KVM loses the last writes of a guest "
            "that runs while it is migrated");
        qmig_preflight_advise(p, "stop the guest first (`stop`), or run it by KVM or by "
                                 "a newer QEMU");
    }
    return true;
}

/* Known of nested hosts whose KVM is paravirtual: the state loads, and then nothing runs. */
static void
check_nested(QmigPreflight *p)
{
    unsigned source = p->source->version / 100,
             destination = p->destination->version / 100;

    if (p->same_host && source != destination &&
        g_file_test("/sys/module/kvm_pvm", G_FILE_TEST_IS_DIR)) {
        qmig_preflight_find(p, QMIG_FINDING_WARNING,
                            "on this host KVM is nested and paravirtual (pvm): between "
                            "versions as far apart as %u.%u and %u.%u a guest has been "
                            "seen to arrive and execute nothing",
                            source / 100, source % 100, destination / 100,
                            destination % 100);
        qmig_preflight_advise(p, "use the same version on both sides");
    }
}

bool
qmig_preflight_versions(QmigPreflight *p, GError **error)
{
    const unsigned a = p->source->version, b = p->destination->version;

    qmig_preflight_find(p, QMIG_FINDING_NOTE, "source %u.%u.%u, destination %u.%u.%u",
                        a / 10000, a / 100 % 100, a % 100, b / 10000, b / 100 % 100,
                        b % 100);
    if (b / 100 < a / 100) {
        qmig_preflight_find(p, QMIG_FINDING_NOTE,
                            "the destination is older: QEMU's makers test the other "
                            "direction more");
    }
    check_gpu(p);
    check_nested(p);
    return check_emulated_source(p, error);
}
