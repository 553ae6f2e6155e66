/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qmig stream device, qmig stream desc: device state by name, and what describes it. */
#include "cli/stream.h"
#include "inspect/devices.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    INDENT = 2,
    HEX_SHOWN = 64, /* digits of one value for people */
};

static struct {
    gboolean json;
} arg;

static const GOptionEntry entries[] = { { "json", 0, 0, G_OPTION_ARG_NONE, &arg.json,
                                          "As JSON, whole", NULL },
                                        G_OPTION_ENTRY_NULL };

static void print_state(JsonObject *state, int depth);

static void
print_value(JsonObject *value, const char *type, int depth)
{
    if (json_object_is_type(value, json_type_object)) {
        printf("\n");
        print_state(value, depth + INDENT);
    } else if (value == NULL) {
        printf(" not set\n");
    } else if (json_object_is_type(value, json_type_string)) {
        const char *text = json_object_get_string(value);
        size_t len = strlen(text);

        printf(" %.*s%s\n", HEX_SHOWN, text, len > HEX_SHOWN ? "…" : "");
    } else if (json_object_is_type(value, json_type_int) && type[0] == 'u') {
        uint64_t v = json_object_get_uint64(value);
        printf(" %" PRIu64 " (0x%" PRIx64 ")\n", v, v);
    } else {
        printf(" %s\n", json_object_get_string(value));
    }
}

static void
print_field(JsonObject *field, int depth)
{
    const char *type = qmig_json_string(field, "type");
    JsonObject *values = qmig_json_get(field, "values", json_type_array);
    size_t n = values != NULL ? json_object_array_length(values) : 1;

    for (size_t i = 0; i < n; i++) {
        printf("%*s%s", depth, "", qmig_json_string(field, "name"));
        if (values != NULL) {
            printf("[%zu]", i);
        }
        printf(" %s", type);
        print_value(values != NULL ? json_object_array_get_idx(values, i)
                                   : json_object_object_get(field, "value"),
                    type, depth);
    }
}

static void
print_state(JsonObject *state, int depth)
{
    JsonObject *fields = qmig_json_get(state, "fields", json_type_array);
    JsonObject *subs = qmig_json_get(state, "subsections", json_type_array);

    for (size_t i = 0; fields != NULL && i < json_object_array_length(fields); i++) {
        print_field(json_object_array_get_idx(fields, i), depth);
    }
    for (size_t i = 0; subs != NULL && i < json_object_array_length(subs); i++) {
        JsonObject *sub = json_object_array_get_idx(subs, i);

        printf("%*ssubsection %s version %" PRId64 "\n", depth, "",
               qmig_json_string(sub, "name"), qmig_json_int(sub, "version", 0));
        print_state(sub, depth + INDENT);
    }
}

static void
print_device(JsonObject *device)
{
    const char *reason = qmig_json_string(device, "reason");

    printf("%s", qmig_json_string(device, "name"));
    if (qmig_json_int(device, "checkpoint", 0) > 0) {
        printf(", checkpoint %" PRId64, qmig_json_int(device, "checkpoint", 0));
    }
    printf(", instance %" PRId64 ", version %" PRId64 ", %" PRId64 " bytes\n",
           qmig_json_int(device, "instance", 0), qmig_json_int(device, "version", 0),
           qmig_json_int(device, "size", 0));
    if (reason != NULL) {
        printf("%*snot read by name: %s\n", INDENT, "", reason);
        print_value(json_object_object_get(device, "state"), "", INDENT);
    }
    print_state(device, INDENT);
}

/* Keep the devices that @name matches, with * and ?. */
static JsonObject *
select_devices(JsonObject *all, const char *name)
{
    JsonObject *some = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(all); i++) {
        JsonObject *device = json_object_array_get_idx(all, i);

        if (name == NULL ||
            g_pattern_match_simple(name, qmig_json_string(device, "name"))) {
            json_object_array_add(some, json_object_get(device));
        }
    }
    return some;
}

int
cli_stream_device(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) all = NULL, some = NULL;
    g_auto(QmigReaderEnd) end = { 0 };

    if (!cli_parse(
            &argc, &argv, entries, "[NAME] INPUT",
            "NAME: a section's name, with * and ? for others, e.g. '*/virtio-net'.\n\n"
            "Exit: 0 complete, 1 error or no such device, 3 the stream is not "
            "complete.\n",
            1, 2)) {
        return QMIG_OUTCOME_USAGE;
    }
    const char *name = argc == 3 ? argv[1] : NULL;
    all = qmig_devices_read(argv[argc - 1], &end, &error);
    if (all == NULL) {
        return cli_fail("stream device", error, QMIG_OUTCOME_USAGE);
    }
    some = select_devices(all, name);
    if (name != NULL && json_object_array_length(some) == 0) {
        fprintf(stderr,
                "qmig stream device: no section \"%s\" among the %zu of %s (`qmig stream "
                "show` lists them)\n",
                name, json_object_array_length(all), argv[argc - 1]);
        return QMIG_OUTCOME_USAGE;
    }
    if (arg.json) {
        cli_print_json(some);
    }
    for (size_t i = 0; !arg.json && i < json_object_array_length(some); i++) {
        print_device(json_object_array_get_idx(some, i));
    }
    if (!end.complete) {
        fprintf(stderr, "qmig stream device: the stream is not complete: %s\n",
                end.reason);
    }
    return end.complete ? 0 : QMIG_OUTCOME_FAILED;
}

static void
print_described(JsonObject *state, int depth)
{
    JsonObject *fields = qmig_json_get(state, "fields", json_type_array);
    JsonObject *subs = qmig_json_get(state, "subsections", json_type_array);

    for (size_t i = 0; fields != NULL && i < json_object_array_length(fields); i++) {
        JsonObject *field = json_object_array_get_idx(fields, i);
        const char *type = qmig_json_string(field, "type");
        const char *name = qmig_json_string(field, "name");
        JsonObject *nested = qmig_json_get(field, "struct", json_type_object);
        int64_t n = qmig_json_int(field, "array_len", 0);

        printf("%*s%s", depth, "", name != NULL ? name : "?");
        if (n > 0) {
            printf("[%" PRId64 "]", n);
        }
        printf(" %s, %" PRId64 " bytes\n", type != NULL ? type : "?",
               qmig_json_int(field, "size", 0));
        if (nested != NULL) {
            print_described(nested, depth + INDENT);
        }
    }
    for (size_t i = 0; subs != NULL && i < json_object_array_length(subs); i++) {
        JsonObject *sub = json_object_array_get_idx(subs, i);
        const char *name = qmig_json_string(sub, "vmsd_name");

        printf("%*ssubsection %s version %" PRId64 "\n", depth, "", name ? name : "?",
               qmig_json_int(sub, "version", 0));
        print_described(sub, depth + INDENT);
    }
}

int
cli_stream_desc(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JsonObject) description = NULL;
    JsonObject *devices;

    if (!cli_parse(&argc, &argv, entries, "INPUT", NULL, 1, 1)) {
        return QMIG_OUTCOME_USAGE;
    }
    description = qmig_description_read(argv[1], &error);
    if (description == NULL) {
        return cli_fail("stream desc", error, QMIG_OUTCOME_USAGE);
    }
    if (arg.json) {
        cli_print_json(description);
        return 0;
    }
    devices = qmig_json_get(description, "devices", json_type_array);
    printf("pages of %" PRId64 " bytes\n", qmig_json_int(description, "page_size", 0));
    for (size_t i = 0; devices != NULL && i < json_object_array_length(devices); i++) {
        JsonObject *device = json_object_array_get_idx(devices, i);
        const char *name = qmig_json_string(device, "name");
        const char *vmsd = qmig_json_string(device, "vmsd_name");

        printf("%s, instance %" PRId64 ", %s version %" PRId64 "\n", name ? name : "?",
               qmig_json_int(device, "instance_id", 0), vmsd ? vmsd : "no vmstate",
               qmig_json_int(device, "version", 0));
        print_described(device, INDENT);
    }
    return 0;
}
