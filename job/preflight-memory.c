/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest's memory, block by block, and room for it on the destination's host. */
#include "job/preflight.h"
#include "qmp/qom.h"
#include "util/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- RAM blocks -------------------------------------------------------------------------- */

typedef struct {
    uint64_t page_size, used, total; /* bytes */
} Block;

static uint64_t
unit_of(const char *text)
{
    return strcmp(text, "KiB") == 0   ? 1024
           : strcmp(text, "MiB") == 0 ? 1024 * 1024
           : strcmp(text, "GiB") == 0 ? 1024 * 1024 * 1024
                                      : 1;
}

/* "pc.ram  4 KiB  0x…offset 0x…used 0x…total …"; one without name is not migrated. */
static void
take_line(GHashTable *blocks, GRegex *pattern, const char *line)
{
    g_autoptr(GMatchInfo) match = NULL;

    if (!g_regex_match(pattern, line, 0, &match)) {
        return;
    }
    g_autofree char *name = g_match_info_fetch(match, 1);
    g_autofree char *size = g_match_info_fetch(match, 2);
    g_autofree char *unit = g_match_info_fetch(match, 3);
    g_autofree char *used = g_match_info_fetch(match, 4);
    g_autofree char *total = g_match_info_fetch(match, 5);
    if (name[0] != '\0') {
        Block *block = g_new(Block, 1);
        *block = (Block){ g_ascii_strtoull(size, NULL, 10) * unit_of(unit),
                          g_ascii_strtoull(used, NULL, 16),
                          g_ascii_strtoull(total, NULL, 16) };
        g_hash_table_replace(blocks, g_steal_pointer(&name), block);
    }
}

/* {name: Block}; NULL: this QEMU does not tell. */
static bool
read_blocks(const QmigSide *side, GHashTable **blocks, GError **error)
{
    g_autoptr(JsonObject) answer = NULL;
    g_autoptr(GRegex) pattern = g_regex_new(
        "^\\s*(\\S.*?|)\\s+(\\d+) ([KMGT]?i?B)\\s+0x[0-9a-f]+\\s+0x([0-9a-f]+)\\s+0x([0-9a-f]+)",
        0, 0, NULL);

    if (!qmig_qmp_ask(side->qmp, "x-query-ramblock", NULL, &answer, error)) {
        return false;
    }
    const char *text = qmig_json_string(answer, "human-readable-text");
    *blocks = NULL;
    if (text != NULL) {
        g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
        *blocks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        for (char **line = lines; *line != NULL; line++) {
            take_line(*blocks, pattern, *line);
        }
    }
    return true;
}

static void
judge_block(QmigPreflight *p, const char *name, const Block *ours, const Block *theirs)
{
    g_autofree char *size = qmig_format_size(ours->used);

    if (theirs == NULL) {
        qmig_preflight_find(
            p, QMIG_FINDING_REFUSED,
            "RAM block \"%s\" (%s): the destination has none of this name", name, size);
        qmig_preflight_advise(p,
                              "give it the same devices, firmware and memory backends, "
                              "with the same ids");
        return;
    }
    /* A block may be resized up to its total; the rest must be equal. */
    if (ours->used != theirs->used &&
        (ours->used > theirs->total || theirs->used == theirs->total)) {
        g_autofree char *there = qmig_format_size(theirs->used);
        qmig_preflight_find(p, QMIG_FINDING_REFUSED,
                            "RAM block \"%s\": source %s, destination %s", name, size,
                            there);
        qmig_preflight_advise(p, "give both the same size, or firmware file");
    }
    if (ours->page_size != theirs->page_size) {
        qmig_preflight_find(
            p, p->job->options->postcopy ? QMIG_FINDING_REFUSED : QMIG_FINDING_WARNING,
            "RAM block \"%s\": pages of %" PRIu64 " bytes on the source, of %" PRIu64
            " on the destination, which post-copy cannot do",
            name, ours->page_size, theirs->page_size);
        qmig_preflight_advise(p, "use backends of the same page size");
    }
}

static void
compare_blocks(QmigPreflight *p, GHashTable *source, GHashTable *destination)
{
    GHashTableIter iter;
    void *name, *block;

    g_hash_table_iter_init(&iter, source);
    while (g_hash_table_iter_next(&iter, &name, &block)) {
        judge_block(p, name, block, g_hash_table_lookup(destination, name));
    }
    g_hash_table_iter_init(&iter, destination);
    while (g_hash_table_iter_next(&iter, &name, &block)) {
        if (!g_hash_table_contains(source, name)) {
            qmig_preflight_find(p, QMIG_FINDING_WARNING,
                                "RAM block \"%s\" is on the destination alone",
                                (const char *)name);
            qmig_preflight_advise(p, "leave out there what the source does not have");
        }
    }
}

bool
qmig_preflight_memory(QmigPreflight *p, GError **error)
{
    g_autoptr(GHashTable) source = NULL, destination = NULL;

    if (p->source->memory != p->destination->memory) {
        g_autofree char *a = qmig_format_size(p->source->memory);
        g_autofree char *b = qmig_format_size(p->destination->memory);
        qmig_preflight_find(p, QMIG_FINDING_REFUSED, "source %s, destination %s", a, b);
        qmig_preflight_advise(p, "start both with the same -m");
    }
    if (!qmig_preflight_can(p, "x-query-ramblock")) {
        return true;
    }
    if (!read_blocks(p->source, &source, error) ||
        !read_blocks(p->destination, &destination, error)) {
        return false;
    }
    if (source != NULL && destination != NULL) {
        compare_blocks(p, source, destination);
    } else {
        qmig_preflight_find(p, QMIG_FINDING_NOTE, "RAM blocks: not told by one of them");
    }
    return true;
}

/* ---- the host ---------------------------------------------------------------------------- */

/* A line "NAME:  123 kB" of a file below /proc, in bytes; 0 = there is none. */
static uint64_t
read_kib(const char *path, const char *name)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return 0;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line != NULL; line++) {
        if (g_str_has_prefix(*line, name) && (*line)[strlen(name)] == ':') {
            return g_ascii_strtoull(*line + strlen(name) + 1, NULL, 10) * 1024;
        }
    }
    return 0;
}

/* What a QEMU of this host holds in memory already. */
static uint64_t
resident(const QmigSide *side)
{
    struct ucred peer;

    if (side->pidfd < 0 || !qmig_qmp_peer(side->qmp, &peer)) {
        return 0;
    }
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int)peer.pid);
    return read_kib(path, "VmRSS");
}

/* What the limit of the destination's control group leaves; UINT64_MAX = there is none. */
static uint64_t
group_room(const QmigSide *side)
{
    g_autofree char *text = NULL, *path = NULL, *max = NULL, *current = NULL;
    struct ucred peer;

    if (!qmig_qmp_peer(side->qmp, &peer)) {
        return UINT64_MAX;
    }
    path = g_strdup_printf("/proc/%d/cgroup", (int)peer.pid);
    if (!g_file_get_contents(path, &text, NULL, NULL) || !g_str_has_prefix(text, "0::")) {
        return UINT64_MAX;
    }
    g_strchomp(text);
    g_autofree char *max_path = g_strdup_printf("/sys/fs/cgroup%s/memory.max", text + 3);
    g_autofree char *now_path = g_strdup_printf("/sys/fs/cgroup%s/memory.current",
                                                text + 3);
    if (!g_file_get_contents(max_path, &max, NULL, NULL) ||
        !g_file_get_contents(now_path, &current, NULL, NULL) ||
        g_str_has_prefix(max, "max")) {
        return UINT64_MAX;
    }
    uint64_t limit = g_ascii_strtoull(max, NULL, 10);
    uint64_t used = g_ascii_strtoull(current, NULL, 10);
    return limit > used ? limit - used : 0;
}

/*
 * Room for the guest, where the destination's host is this one. What the source really uses, if
 * it is here too, is what will come; else all of its memory may. Swap counts as room, with a
 * warning.
 */
bool
qmig_preflight_host(QmigPreflight *p, GError **error)
{
    uint64_t memory = p->source->memory, used = resident(p->source);
    uint64_t there = resident(p->destination);

    (void)error;
    if (p->destination->pidfd < 0) {
        qmig_preflight_find(p, QMIG_FINDING_NOTE,
                            "the free memory of the destination's host cannot be seen "
                            "from here");
        return true;
    }
    uint64_t coming = used > 0 ? MIN(used, memory) : memory;
    uint64_t needed = coming > there ? coming - there : 0;
    uint64_t available = read_kib("/proc/meminfo", "MemAvailable");
    uint64_t swap = read_kib("/proc/meminfo", "SwapFree");
    uint64_t room = group_room(p->destination);
    uint64_t free_now = MIN(available, room);
    g_autofree char *want = qmig_format_size(needed);
    g_autofree char *have = qmig_format_size(free_now);

    if (available > 0 && needed > free_now) {
        qmig_preflight_find(
            p,
            needed > room || needed > available + swap ? QMIG_FINDING_RISKY
                                                       : QMIG_FINDING_WARNING,
            "destination: the guest will take %s more, and its host has "
            "%s free%s",
            want, have, room < available ? " (by the limit of its control group)" : "");
        qmig_preflight_advise(p, "make room, or take another host");
    } else {
        qmig_preflight_find(p, QMIG_FINDING_NOTE, "destination: %s needed, %s free", want,
                            have);
    }
    return true;
}
