/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Preflight between two QEMUs of a test world: what differs is found, and told with its remedy. */
#include "job/preflight.h"
#include "test-job-world.h"

/* The commands that preflight asks of, besides those of every migration. */
static const char more_schema[] =
    "{\"name\":\"qom-list\",\"meta-type\":\"command\",\"arg-type\":\"9\",\"ret-type\":\"9\"},"
    "{\"name\":\"query-kvm\",\"meta-type\":\"command\",\"arg-type\":\"9\",\"ret-type\":\"9\"},"
    "{\"name\":\"query-block\",\"meta-type\":\"command\",\"arg-type\":\"9\",\"ret-type\":\"9\"},"
    "{\"name\":\"x-query-ramblock\",\"meta-type\":\"command\",\"arg-type\":\"9\","
    "\"ret-type\":\"9\"},"
    "{\"name\":\"human-monitor-command\",\"meta-type\":\"command\",\"arg-type\":\"9\","
    "\"ret-type\":\"9\"},";

static const char qtree[] =
    "bus: main-system-bus\n"
    "  type System\n"
    "  dev: hpet, id \"\"\n"
    "    timers = 3 (0x3)\n"
    "    mmio 00000000fed00000/0000000000000400\n"
    "  dev: i440FX-pcihost, id \"\"\n"
    "    bus: pci.0\n"
    "      type PCI\n"
    "      dev: virtio-blk-pci, id \"vd0\"\n"
    "        vectors = 3 (0x3)\n"
    "        addr = 05.0\n"
    "        bootindex = 1 (0x1)\n"
    "        class SCSI controller, addr 00:05.0, pci id 1af4:1001 "
    "(sub 1af4:0002)\n"
    "        bar 0: i/o at 0xc000 [0xc07f]\n"
    "        bus: virtio-bus\n"
    "          type virtio-pci-bus\n"
    "          dev: virtio-blk-device, id \"\"\n"
    "            drive = \"d0\"\n"
    "            queue-size = 256 (0x100)\n"
    "      dev: pci-bridge, id \"br1\"\n"
    "        addr = 08.0\n"
    "        class PCI bridge, addr 00:08.0, pci id 1b36:0001 (sub 0)\n"
    "        bus: br1\n"
    "          type PCI\n"
    "          dev: virtio-rng-pci, id \"\"\n"
    "            addr = 03.0\n"
    "            class 00ff, addr 00:03.0, pci id 1af4:1005 (sub 0)\n"
    "      dev: piix3-usb-uhci, id \"usb\"\n"
    "        addr = 03.0\n"
    "        bus: usb.0\n"
    "          type usb-bus\n"
    "          dev: usb-tablet, id \"\"\n"
    "            port = \"\"\n"
    "            addr 0.0, port 1, speed 12, name QEMU USB Tablet\n"
    "          dev: usb-kbd, id \"\"\n"
    "            addr 0.0, port 2.1, speed 12, name QEMU USB Keyboard\n"
    "      dev: PIIX3, id \"\"\n"
    "        addr = 01.0\n"
    "        bus: isa.0\n"
    "          type ISA\n"
    "          dev: isa-serial, id \"\"\n"
    "            iobase = 760 (0x2f8)\n"
    "          dev: isa-serial, id \"\"\n"
    "            iobase = 1016 (0x3f8)\n"
    "      dev: virtio-scsi-pci, id \"scsi0\"\n"
    "        addr = 06.0\n"
    "        bus: virtio-bus\n"
    "          type virtio-pci-bus\n"
    "          dev: virtio-scsi-device, id \"\"\n"
    "            bus: scsi0.0\n"
    "              type SCSI\n"
    "              dev: scsi-hd, id \"sd1\"\n"
    "                channel = 0 (0x0)\n"
    "                scsi-id = 2 (0x2)\n"
    "                lun = 1 (0x1)\n";

static const char ramblock[] =
    "              Block Name    PSize              Offset               Used              "
    "Total                HVA  RO\\n"
    "                  pc.ram    4 KiB  0x0000000004000000 0x0000000010000000 "
    "0x0000000010000000 0x00007f92e7e00000  rw\\n"
    "                            4 KiB  0x0000000000000000 0x0000000004000000 "
    "0x0000000004000000 0x00007f92ffe00000  rw\\n"
    "    /rom@etc/acpi/tables    4 KiB  0x00000000140c0000 0x0000000000020000 "
    "0x0000000000200000 0x00007f9314600000  ro\\n"
    "a block with blanks    4 KiB  0x0000000014300000 0x0000000000001000 "
    "0x0000000000001000\\n";

static const char cpu_words[] =
    "[{\"cpuid-register\":\"EDX\",\"cpuid-input-eax\":1,\"features\":%u},"
    "{\"cpuid-register\":\"EBX\",\"cpuid-input-eax\":7,\"cpuid-input-ecx\":0,"
    "\"features\":%u}]";

static void
set(World *w, int side, const char *key, const char *json)
{
    JsonObject *value = json != NULL ? json_tokener_parse(json) : NULL;

    g_assert_true(json == NULL || value != NULL);
    json_object_object_add(w->answers[side], key, value);
}

static void
set_cpu(World *w, int side, unsigned edx, unsigned ebx, bool avx2)
{
    g_autofree char *words = g_strdup_printf(cpu_words, edx, ebx);

    set(w, side, "query-cpus-fast", "[{\"qom-path\":\"/cpu\"}]");
    set(w, side, "qom-get /cpu feature-words", words);
    set(w, side, "qom-get /cpu type", "\"qemu64-x86_64-cpu\"");
    set(w, side, "qom-get /cpu vendor", "\"AuthenticAMD\"");
    set(w, side, "qom-get /cpu phys-bits", "40");
    set(w, side, "qom-get /cpu tsc-frequency", "2445430000");
    set(w, side, "qom-get /cpu avx2", avx2 ? "true" : "false");
    set(w, side, "qom-get /cpu ht", edx >> 28 & 1 ? "true" : "false");
    set(w, side, "qom-list",
        "[{\"name\":\"avx2\",\"type\":\"bool\"},{\"name\":\"ht\",\"type\":\"bool\"}]");
}

static void
set_text(World *w, int side, const char *key, const char *text)
{
    json_object_object_add(w->answers[side], key, json_object_new_string(text));
}

static void
set_side(World *w, int side)
{
    static const char *const silent[] = { "family",   "hv-vendor-id",
                                          "level",    "model",
                                          "model-id", "stepping",
                                          "xlevel",   "unavailable-features" };
    static const char *const options[] = { "acpi",   "i8042", "max-ram-below-4g",
                                           "nvdimm", "pic",   "pit",
                                           "sata",   "smbus", "smm",
                                           "usb",    "vmport" };

    w->answers[side] = json_object_new_object();
    for (size_t i = 0; i < G_N_ELEMENTS(silent); i++) {
        g_autofree char *key = g_strdup_printf("qom-get /cpu %s", silent[i]);
        set(w, side, key, NULL);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autofree char *key = g_strdup_printf("qom-get /machine %s", options[i]);
        set(w, side, key, "true");
    }
    g_autofree char *blocks = g_strdup_printf("{\"human-readable-text\":\"%s\"}",
                                              ramblock);
    set(w, side, "x-query-ramblock", blocks);
    set_text(w, side, "human-monitor-command", qtree);
    set(w, side, "query-kvm", "{\"enabled\":true,\"present\":true}");
    set(w, side, "qom-get /machine hpet", "true");
    set(w, side, "qom-get /machine smp", "{\"cpus\":1,\"sockets\":1,\"cores\":1}");
    set(w, side, "qom-get /machine rtc-time",
        "{\"tm_year\":126,\"tm_mon\":10,\"tm_mday\":21,\"tm_hour\":12,\"tm_min\":35,"
        "\"tm_sec\":45}");
    set(w, side, "query-block",
        "[{\"device\":\"d0\",\"qdev\":\"/machine/peripheral/vd0/virtio-backend\","
        "\"io-status\":\"ok\",\"inserted\":{\"file\":\"nbd://h/a\",\"ro\":false,"
        "\"image\":{\"virtual-size\":1048576,\"format\":\"qcow2\",\"filename\":\"nbd://h/a\","
        "\"backing-image\":{\"filename\":\"nbd://h/base\"}}}}]");
    set_cpu(w, side, 0x078bfbfd, 0, false);
}

static char *schema;

static World *
new_world(void)
{
    World *w = world_new();

    w->schema = schema;
    set_side(w, SRC);
    set_side(w, DST);
    return w;
}

/* The findings, "level theme: text -> advice" a line. The world has ended. */
static char *
check(World *w, bool unsafe, QmigOutcome want)
{
    QmigJobOptions *options = qmig_job_options_new();
    GString *lines = g_string_new(NULL);

    options->source = qmig_address_new_unix(w->paths[SRC]);
    options->destination = qmig_address_new_unix(w->paths[DST]);
    options->unsafe = unsafe;
    options->check_only = true;
    g_autoptr(QmigJob) job = qmig_job_new(options, NULL, NULL, NULL);
    g_autoptr(GError) error = NULL;
    QmigOutcome outcome = qmig_job_run(job, &error);
    if (outcome != want) {
        g_error("outcome %d, wanted %d: %s", (int)outcome, (int)want,
                error != NULL ? error->message : "");
    }
    g_autoptr(JsonObject) report = qmig_preflight_report(job->preflight);
    JsonObject *list = qmig_json_get(report, "findings", json_type_array);
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        JsonObject *finding = json_object_array_get_idx(list, i);
        const char *advice = qmig_json_string(finding, "advice");
        g_string_append_printf(
            lines, "%s %s: %s -> %s\n", qmig_json_string(finding, "level"),
            qmig_json_string(finding, "theme"), qmig_json_string(finding, "text"),
            advice != NULL ? advice : "");
    }
    g_clear_pointer(&job, qmig_job_free);
    world_end(w);
    return g_string_free(lines, FALSE);
}

static bool
has_line(const char *lines, const char *start)
{
    g_auto(GStrv) all = g_strsplit(lines, "\n", 0);

    for (char **line = all; *line != NULL; line++) {
        if (g_str_has_prefix(*line, start)) {
            return true;
        }
    }
    return false;
}

static void
test_equal_sides_fit(void)
{
    World *w = new_world();

    world_start(w);
    g_autofree char *found = check(w, false, QMIG_OUTCOME_DONE);
    g_assert_false(has_line(found, "refused"));
    g_assert_false(has_line(found, "risky"));
    g_assert_false(has_line(found, "warning"));
    g_assert_true(has_line(found, "note host: the free memory"));
    world_free(w);
}

/* A destination that differs in one thing, and the finding of it. */
typedef struct {
    const char *name;
    const char *key, *answer; /* of the destination; JSON */
    const char *from, *to;    /* or: this of the qtree becomes that */
    const char *line;         /* how the finding begins */
    const char *advice;       /* in the same line */
} Row;

static const Row rows[] = {
    { "accelerator", "query-kvm", "{\"enabled\":false,\"present\":true}", NULL, NULL,
      "risky machine: accelerator: source kvm, destination tcg", "-accel kvm" },
    { "machine-option", "qom-get /machine hpet", "false", NULL, NULL,
      "risky machine: option hpet: source on, destination off", "pc-i440fx-7.2,hpet=on" },
    { "machine-option-auto", "qom-get /machine smm", "\"auto\"", NULL, NULL,
      "warning machine: option smm", "smm=on" },
    { "topology", "qom-get /machine smp", "{\"cpus\":1,\"sockets\":1,\"cores\":2}", NULL,
      NULL, "risky machine: topology", "-smp 1" },
    { "newer-topology-levels-are-no-difference", "qom-get /machine smp",
      "{\"cpus\":1,\"sockets\":1,\"cores\":1,\"books\":1}", NULL, NULL, NULL, NULL },
    { "cpu-type", "qom-get /cpu type", "\"EPYC-x86_64-cpu\"", NULL, NULL,
      "risky cpu: type: source qemu64-x86_64-cpu, destination EPYC", "-cpu qemu64" },
    { "cpu-phys-bits", "qom-get /cpu phys-bits", "39", NULL, NULL,
      "risky cpu: phys-bits: source 40, destination 39", "phys-bits=40" },
    { "cpu-clock", "qom-get /cpu tsc-frequency", "3000000000", NULL, NULL,
      "warning cpu: TSC: source 2445430 kHz, destination 3000000 kHz", "scales" },
    { "block-size", "x-query-ramblock",
      "{\"human-readable-text\":\"pc.ram 4 KiB 0x0 0x20000000 0x20000000\"}", NULL, NULL,
      "refused memory: RAM block \"pc.ram\": source 256 MiB, destination 512 MiB",
      "same size" },
    { "block-missing", "x-query-ramblock",
      "{\"human-readable-text\":\"pc.ram 4 KiB 0x0 0x10000000 0x10000000\"}", NULL, NULL,
      "refused memory: RAM block \"a block with blanks\" (4.00 KiB): the destination has none",
      "same ids" },
    { "block-pages", "x-query-ramblock",
      "{\"human-readable-text\":\"pc.ram 2 MiB 0x0 0x10000000 0x10000000\"}", NULL, NULL,
      "warning memory: RAM block \"pc.ram\": pages of 4096 bytes", "page size" },
    { "disk-size", "query-block",
      "[{\"device\":\"d0\",\"qdev\":\"vd0\",\"inserted\":{\"file\":\"nbd://h/a\",\"image\":"
      "{\"virtual-size\":4096,\"format\":\"qcow2\",\"filename\":\"nbd://h/a\","
      "\"backing-image\":{\"filename\":\"nbd://h/base\"}}}}]",
      NULL, NULL,
      "risky disks: virtio-blk-pci \"vd0\": 1048576 bytes on the source, 4096",
      "same size" },
    { "disk-chain", "query-block",
      "[{\"device\":\"d0\",\"qdev\":\"vd0\",\"inserted\":{\"file\":\"nbd://h/a\",\"image\":"
      "{\"virtual-size\":1048576,\"format\":\"qcow2\",\"filename\":\"nbd://h/a\"}}}]",
      NULL, NULL, "risky disks: virtio-blk-pci \"vd0\": backing file 1 is nbd://h/base",
      "same chain" },
    { "disk-without-medium", "query-block", "[{\"device\":\"d0\",\"qdev\":\"vd0\"}]",
      NULL, NULL, "risky disks: virtio-blk-pci \"vd0\": the destination has no medium",
      "as on the source" },
    { "clock", "qom-get /machine rtc-time",
      "{\"tm_year\":126,\"tm_mon\":10,\"tm_mday\":21,\"tm_hour\":12,\"tm_min\":36,"
      "\"tm_sec\":45}",
      NULL, NULL, "warning clocks: the destination's hardware clock is 60 s ahead",
      "NTP" },
    { "listens-already", "query-migrate",
      "{\"socket-address\":[{\"type\":\"unix\",\"path\":\"/x\"}]}", NULL, NULL,
      "refused states: destination: it listens already", "-S -incoming defer" },
    { "device-missing", NULL, NULL, "      dev: virtio-blk-pci, id \"vd0\"\n",
      "      dev: virtio-net-pci, id \"n0\"\n",
      "refused devices: at pci.0/05.0: source virtio-blk-pci \"vd0\", destination",
      "-device virtio-blk-pci,id=vd0,bus=pci.0,addr=05.0" },
    { "device-moved", NULL, NULL, "addr = 05.0", "addr = 07.0",
      "refused devices: virtio-blk-pci \"vd0\" is at pci.0/05.0 on the source, at pci.0/07.0",
      "addr=05.0" },
    { "device-id", NULL, NULL, "id \"usb\"", "id \"usb1\"",
      "warning devices: ids at pci.0/03.0", "same id" },
    { "device-behind-a-bridge", NULL, NULL, "addr = 03.0\n            class",
      "addr = 04.0\n "
      "           class",
      "refused devices: the destination has no virtio-rng-pci at "
      "pci.0/08.0/03.0",
      "addr=03.0" },
    { "name-of-a-bridge-does-not-move-what-is-behind", NULL, NULL, "br1", "bridge",
      "warning devices: ids at pci.0/08.0", "same id" },
    { "usb-port", NULL, NULL, "port 2.1,", "port 3,",
      "refused devices: the destination has no usb-kbd at pci.0/03.0/port=2.1",
      "usb-kbd" },
    { "scsi-address", NULL, NULL, "lun = 1", "lun = 0",
      "refused devices: scsi-hd \"sd1\" is at pci.0/06.0/virtio-scsi-device#0/"
      "channel=0,scsi-id=2,lun=1 on the source",
      "scsi-hd" },
    { "machines-own", NULL, NULL, "dev: hpet", "dev: hpex",
      "refused devices: the destination has no hpet at hpet#0", "-nodefaults" },
    { "property", NULL, NULL, "queue-size = 256", "queue-size = 128",
      "risky devices: virtio-blk-device at pci.0/05.0/virtio-blk-device#0: "
      "queue-size is 256 (0x100) on the source, 128",
      "same queue-size" },
    { "unknown-property-is-a-warning", NULL, NULL, "timers = 3", "timers = 4",
      "warning devices: hpet at hpet#0: timers is 3", "same timers" },
    { "host-property-is-no-difference", NULL, NULL, "bootindex = 1", "bootindex = 2",
      NULL, NULL },
    { "pci-id", NULL, NULL, "pci id 1af4:1001", "pci id 1af4:1042",
      "risky devices: virtio-blk-pci \"vd0\" at pci.0/05.0: pci id is", "pci id" },
};

static char *
replace(const char *text, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(text, from, 0);

    g_assert_cmpuint(g_strv_length(parts), >, 1);
    return g_strjoinv(to, parts);
}

static void
test_difference(gconstpointer data)
{
    const Row *row = data;
    World *w = new_world();

    if (row->key != NULL) {
        set(w, DST, row->key, row->answer);
    } else {
        g_autofree char *changed = replace(qtree, row->from, row->to);
        set_text(w, DST, "human-monitor-command", changed);
    }
    world_start(w);
    bool refused = row->line != NULL && !g_str_has_prefix(row->line, "warning");
    /* A changed size of blocks hides others. */
    g_autofree char *found = check(w, false,
                                   refused || strcmp(row->name, "block-pages") == 0
                                       ? QMIG_OUTCOME_REFUSED
                                       : QMIG_OUTCOME_DONE);
    if (row->line == NULL) {
        g_assert_false(has_line(found, "warning"));
    } else if (!has_line(found, row->line)) {
        g_error("%s: no line begins with \"%s\" in\n%s", row->name, row->line, found);
    } else {
        const char *line = strstr(found, row->line);
        g_autofree char *one = g_strndup(line, strcspn(line, "\n"));
        g_assert_nonnull(strstr(one, row->advice));
    }
    world_free(w);
}

static void
test_features_are_named(void)
{
    World *w = new_world();

    set_cpu(w, SRC, 0x078bfbfd, 1U << 5, true);
    world_start(w);
    g_autofree char *found = check(w, false, QMIG_OUTCOME_REFUSED);
    g_assert_true(has_line(
        found, "risky cpu: the destination lacks features that the guest has: avx2 ->"));
    world_free(w);
}

static void
test_ht_is_no_difference(void)
{
    World *w = new_world();

    set_cpu(w, SRC, 0x178bfbfd, 0, false);
    world_start(w);
    g_autofree char *found = check(w, false, QMIG_OUTCOME_DONE);
    g_assert_false(has_line(found, "warning cpu"));
    /* Not even asked for by name. */
    g_assert_null(strstr(w->log->str, "qom-list"));
    world_free(w);
}

static void
test_unsafe_lets_risks_pass(void)
{
    World *w = new_world();

    set(w, DST, "qom-get /machine hpet", "false");
    world_start(w);
    g_autofree char *found = check(w, true, QMIG_OUTCOME_DONE);
    g_assert_true(has_line(found, "warning machine: option hpet"));
    world_free(w);
}

/* QEMUs that tell nothing are not refused for it. */
static void
test_silence_is_no_difference(void)
{
    static const char *const keys[] = { "query-kvm",
                                        "x-query-ramblock",
                                        "human-monitor-command",
                                        "qom-get /machine rtc-time",
                                        "qom-get /cpu feature-words",
                                        "qom-get /machine smp" };
    World *w = new_world();

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        set(w, DST, keys[i], NULL);
    }
    set(w, SRC, "query-kvm", NULL);
    world_start(w);
    g_autofree char *found = check(w, false, QMIG_OUTCOME_DONE);
    g_assert_true(has_line(found, "note memory: RAM blocks: not told"));
    g_assert_true(has_line(found, "note devices: not told"));
    world_free(w);
}

/* Only questions: both can be used afterwards. */
static void
test_nothing_is_touched(void)
{
    World *w = new_world();

    w->machine[DST] = "pc-q35-7.2";
    w->memory[DST] *= 2;
    world_start(w);
    g_autofree char *found = check(w, false, QMIG_OUTCOME_REFUSED);
    g_assert_true(has_line(found, "refused machine: type: source \"pc-i440fx-7.2\""));
    g_assert_true(has_line(found, "refused memory: source 1.00 MiB"));
    g_auto(GStrv) lines = g_strsplit(w->log->str, "\n", 0);
    for (char **line = lines; **line != '\0'; line++) {
        const char *command = strchr(*line, ' ') + 1;
        g_assert_true(g_str_has_prefix(command, "query-") ||
                      g_str_has_prefix(command, "x-query-") ||
                      g_str_has_prefix(command, "qom-") ||
                      strcmp(command, "human-monitor-command") == 0 ||
                      strcmp(command, "qmp_capabilities") == 0);
    }
    g_assert_true(world_saw(w, "destination query-block"));
    g_assert_true(world_settings_are_as_before(w, SRC));
    g_assert_cmpstr(w->run[DST], ==, "inmigrate");
    world_free(w);
}

static void
test_tree_of_devices(void)
{
    static const char *const locations[] = {
        "hpet#0",
        "i440FX-pcihost#0",
        "pci.0/05.0",
        "pci.0/05.0/virtio-blk-device#0",
        "pci.0/08.0",
        "pci.0/08.0/03.0",
        "pci.0/03.0",
        "pci.0/03.0/port=1",
        "pci.0/03.0/port=2.1",
        "pci.0/01.0",
        "pci.0/01.0/isa-serial#0",
        "pci.0/01.0/isa-serial#1",
        "pci.0/06.0",
        "pci.0/06.0/virtio-scsi-device#0",
        "pci.0/06.0/virtio-scsi-device#0/channel=0,scsi-id=2,lun=1",
    };
    g_autoptr(GPtrArray) devices = qmig_qtree_parse(qtree);

    g_assert_cmpuint(devices->len, ==, G_N_ELEMENTS(locations));
    for (guint i = 0; i < G_N_ELEMENTS(locations); i++) {
        const QmigDevice *device = devices->pdata[i];
        g_assert_cmpstr(device->location, ==, locations[i]);
    }
    const QmigDevice *disk = qmig_device_of_id(devices, "vd0");
    g_assert_cmpstr(g_hash_table_lookup(disk->properties, "pci id"), ==,
                    "1af4:1001 (sub 1af4:0002)");
    g_assert_cmpstr(g_hash_table_lookup(disk->properties, "vectors"), ==, "3 (0x3)");
}

/* Whatever a peer prints. */
static void
test_odd_trees_are_survived(void)
{
    static const char *const texts[] = {
        "",
        "dev: , id \"\"",
        "dev: x",
        "bus: \n dev: a, id \"\n  bus: b",
        "  addr = 1.0\n",
        "bus: a\n dev: b, id \"c\"\n  lun = \n  scsi-id = x\n  nr = \n  = \n =",
        "class , pci id \naddr , port ",
    };
    GString *deep = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_ptr_array_unref(qmig_qtree_parse(texts[i]));
    }
    for (int i = 0; i < 300; i++) {
        g_string_append_printf(deep, "%*sbus: b\n%*sdev: d, id \"\"\n", 2 * i, "",
                               2 * i + 1, "");
    }
    g_autoptr(GPtrArray) devices = qmig_qtree_parse(deep->str);
    g_assert_cmpuint(devices->len, <=, 300);
    g_string_free(deep, TRUE);
}

int
main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    g_autofree char *rest = g_strdup(world_schema + 1);
    schema = g_strdup_printf("[%s%s", more_schema, rest);
    g_test_add_func("/preflight/equal-sides-fit", test_equal_sides_fit);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/preflight/%s", rows[i].name);
        g_test_add_data_func(path, &rows[i], test_difference);
    }
    g_test_add_func("/preflight/features-are-named", test_features_are_named);
    g_test_add_func("/preflight/ht-is-no-difference", test_ht_is_no_difference);
    g_test_add_func("/preflight/unsafe-lets-risks-pass", test_unsafe_lets_risks_pass);
    g_test_add_func("/preflight/silence-is-no-difference", test_silence_is_no_difference);
    g_test_add_func("/preflight/nothing-is-touched", test_nothing_is_touched);
    g_test_add_func("/preflight/tree-of-devices", test_tree_of_devices);
    g_test_add_func("/preflight/odd-trees-are-survived", test_odd_trees_are_survived);
    result = g_test_run();
    g_free(schema);
    return result;
}
