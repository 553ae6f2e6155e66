/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Places and actions of faults, as people write them. */
#include "plugin/fault/fault.h"

#include "stream/command.h"
#include "util/error.h"
#include "util/units.h"

#include <string.h>

#define EVENTS_HELP                                                                        \
    "start, part, end, full (each with :SECTION), command:NAME, page (with :BLOCK), eos, " \
    "flush, package, tail, eof"

static const struct {
    const char *name;
    uint16_t kind;
    uint32_t number;
    bool takes_name;
} events[] = {
    { "start", QMIG_EVENT_SECTION, QMIG_SECTION_START, true },
    { "part", QMIG_EVENT_SECTION, QMIG_SECTION_PART, true },
    { "end", QMIG_EVENT_SECTION, QMIG_SECTION_END, true },
    { "full", QMIG_EVENT_SECTION, QMIG_SECTION_FULL, true },
    { "command", QMIG_EVENT_COMMAND, 0, true },
    { "page", QMIG_EVENT_PAGE, 0, true },
    { "eos", QMIG_EVENT_RAM_EOS, 0, false },
    { "flush", QMIG_EVENT_RAM_FLUSH, 0, false },
    { "package", QMIG_EVENT_BYTES, QMIG_BYTES_PACKAGED, false },
    { "tail", QMIG_EVENT_BYTES, QMIG_BYTES_TAIL, false },
    { "eof", QMIG_EVENT_EOF, 0, false },
};

static bool
parse_command(Fault *fault, GError **error)
{
    const char *name;

    for (uint32_t i = 1; fault->name != NULL && (name = qmig_command_name(i)) != NULL;
         i++) {
        if (strcmp(name, fault->name) == 0) {
            fault->number = i;
            g_clear_pointer(&fault->name, g_free);
            return true;
        }
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "command:%s, wanted one of QEMU's: open-return-path, ping, "
                          "postcopy-advise, postcopy-listen, postcopy-run, packaged, "
                          "switchover-start, …",
                          fault->name != NULL ? fault->name : "");
}

static bool
parse_event(Fault *fault, const char *text, GError **error)
{
    const char *hash = strrchr(text, '#');
    g_autofree char *what = hash != NULL ? g_strndup(text, (size_t)(hash - text))
                                         : g_strdup(text);
    char *colon = strchr(what, ':');

    fault->place = FAULT_AT_EVENT;
    fault->channel = QMIG_PIECE_MAIN;
    fault->nth = 1;
    if (hash != NULL &&
        (!g_ascii_string_to_unsigned(hash + 1, 10, 1, UINT32_MAX, &fault->nth, NULL))) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: wanted a number from 1",
                              hash);
    }
    if (colon != NULL) {
        fault->name = g_strdup(colon + 1);
        *colon = '\0';
    }
    for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
        if (strcmp(events[i].name, what) != 0 ||
            (fault->name != NULL && !events[i].takes_name)) {
            continue;
        }
        fault->kind = events[i].kind;
        fault->number = events[i].number;
        return fault->kind != QMIG_EVENT_COMMAND || parse_command(fault, error);
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "wanted CHANNEL@BYTE, file:PATH, or an event: " EVENTS_HELP);
}

static bool
parse_byte(Fault *fault, const char *text, const char *at, GError **error)
{
    static const struct {
        const char *name;
        uint32_t channel;
        bool takes_id;
    } channels[] = {
        { "main", QMIG_PIECE_MAIN, false },
        { "multifd", QMIG_PIECE_MULTIFD, true },
        { "preempt", QMIG_PIECE_PREEMPT, false },
        { "tls", QMIG_PIECE_OTHER, true },
    };
    g_autofree char *name = g_strndup(text, (size_t)(at - text));
    char *dash = strchr(name, '-');
    guint64 id = FAULT_ANY_ID;

    fault->place = FAULT_AT_BYTE;
    fault->has_offset = true;
    if (!qmig_parse_size(at + 1, &fault->offset, error)) {
        return false;
    }
    if (dash != NULL) {
        *dash = '\0';
        if (!g_ascii_string_to_unsigned(dash + 1, 10, 0, 255, &id, NULL)) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG,
                                  "%s: wanted a channel's number, 0 to 255", dash + 1);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(channels); i++) {
        if (strcmp(channels[i].name, name) == 0 &&
            (dash == NULL || channels[i].takes_id)) {
            fault->channel = channels[i].channel;
            fault->id = (uint32_t)id;
            return true;
        }
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "wanted a channel: main, multifd, multifd-N, preempt, tls-N");
}

bool
fault_parse_place(Fault *fault, const char *text, GError **error)
{
    const char *at = strrchr(text, '@');
    bool ok = true;

    fault->at = g_strdup(text);
    fault->id = FAULT_ANY_ID;
    if (g_str_has_prefix(text, "file:/")) {
        fault->place = FAULT_AT_FILE;
        fault->name = g_strdup(text + strlen("file:"));
    } else {
        ok = at != NULL ? parse_byte(fault, text, at, error)
                        : parse_event(fault, text, error);
    }
    if (!ok) {
        g_prefix_error(error, "at=%s: ", text);
    }
    return ok;
}

bool
fault_parse_action(Fault *fault, const char *text, GError **error)
{
    bool ok = true;

    fault->what = g_strdup(text);
    if (g_str_has_prefix(text, "delay:")) {
        fault->action = FAULT_DO_DELAY;
        ok = qmig_parse_duration(text + strlen("delay:"), &fault->delay_ms, error);
    } else if (strcmp(text, "stall") == 0) {
        fault->action = FAULT_DO_STALL;
    } else if (strcmp(text, "cut") == 0) {
        fault->action = FAULT_DO_CUT;
    } else if (strcmp(text, "corrupt") == 0) {
        fault->action = FAULT_DO_CORRUPT;
    } else if (g_str_has_prefix(text, "corrupt:")) {
        fault->action = FAULT_DO_CORRUPT;
        ok = qmig_parse_size(text + strlen("corrupt:"), &fault->corrupt_at, error);
    } else {
        ok = qmig_set_error(error, QMIG_ERROR_CONFIG,
                            "wanted delay:TIME, stall, cut, corrupt or corrupt:OFFSET");
    }
    if (!ok) {
        g_prefix_error(error, "do=%s: ", text);
    }
    return ok;
}

bool
fault_is_event(const Fault *fault, const struct qmig_event *ev)
{
    if (ev->kind != fault->kind) {
        return false;
    }
    switch (ev->kind) {
    case QMIG_EVENT_SECTION:
        return ev->u.section.type == fault->number &&
               (fault->name == NULL || g_strcmp0(ev->u.section.name, fault->name) == 0);
    case QMIG_EVENT_COMMAND:
        return ev->u.command.command == fault->number;
    case QMIG_EVENT_PAGE:
        return fault->name == NULL || g_strcmp0(ev->u.page.block->name, fault->name) == 0;
    case QMIG_EVENT_BYTES:
        return ev->u.bytes.kind == fault->number;
    default:
        return true;
    }
}

void
fault_free(void *data)
{
    Fault *fault = data;

    g_free(fault->at);
    g_free(fault->what);
    g_free(fault->name);
    g_free(fault);
}
