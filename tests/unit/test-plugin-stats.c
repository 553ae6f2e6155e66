/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The stats plugin, fed with events made by hand: every number of its report. */
#include "plugin/chain.h"
#include "plugin/qmig-plugin.h"

#include <glib.h>
#include <string.h>

struct qmig_plugin *qmig_plugin_init_stats(void);

enum { PAGE = 4096 };

static const struct qmig_block ram = { sizeof ram, 0, "pc.ram", 6, PAGE, 1024 * PAGE, 0 };
static const struct qmig_block rom = { sizeof rom, 1, "rom", 3, PAGE, 16 * PAGE, 0 };

/* ---- a stream by hand ----------------------------------------------------------------- */

static void
push(QmigChain *chain, uint16_t kind, uint64_t wire_size, struct qmig_event ev)
{
    g_autoptr(GError) error = NULL;

    ev.size = sizeof ev;
    ev.kind = kind;
    ev.wire_size = wire_size;
    g_assert_true(qmig_chain_push(chain, &ev, &error));
    g_assert_no_error(error);
}

static void
push_page(QmigChain *chain, const struct qmig_block *block, uint64_t number,
          uint16_t kind)
{
    static const uint8_t data[PAGE] = { 1 };
    uint64_t wire_size = kind == QMIG_PAGE_ZERO     ? 9
                         : kind == QMIG_PAGE_NORMAL ? 8 + PAGE
                                                    : 30;
    struct qmig_event ev = { 0 };

    ev.u.page.block = block;
    ev.u.page.offset = number * PAGE;
    ev.u.page.data = data;
    ev.u.page.length = kind == QMIG_PAGE_NORMAL ? PAGE : 1;
    ev.u.page.kind = kind;
    push(chain, QMIG_EVENT_PAGE, wire_size, ev);
}

static void
push_section(QmigChain *chain, uint32_t type, const char *name)
{
    struct qmig_event ev = { .u.section = { .type = type, .id = 2, .name = name } };

    push(chain, QMIG_EVENT_SECTION, 5, ev);
}

static void
push_plain(QmigChain *chain, uint16_t kind)
{
    struct qmig_event ev = { .u.footer = { .id = 2 } };

    push(chain, kind, kind == QMIG_EVENT_FOOTER ? 5 : 8, ev);
}

static void
push_start(QmigChain *chain)
{
    struct qmig_event header = { .u.header = { 3 } };
    struct qmig_event config = { .u.config = { "pc-test-1.0 and beyond", 11 } };
    struct qmig_event size = { .u.ram_size = { 1040 * PAGE } };
    struct qmig_event block = { .u.ram_block = { &ram, 0 } };

    push(chain, QMIG_EVENT_HEADER, 8, header);
    push(chain, QMIG_EVENT_CONFIG, 16, config);
    push_section(chain, QMIG_SECTION_START, "ram");
    push(chain, QMIG_EVENT_RAM_SIZE, 8, size);
    push(chain, QMIG_EVENT_RAM_BLOCK, 15, block);
    block.u.ram_block.block = &rom;
    push(chain, QMIG_EVENT_RAM_BLOCK, 12, block);
    push_plain(chain, QMIG_EVENT_RAM_EOS);
    push_plain(chain, QMIG_EVENT_FOOTER);
}

static void
push_end(QmigChain *chain)
{
    push_section(chain, QMIG_SECTION_END, "ram");
    push_plain(chain, QMIG_EVENT_RAM_EOS);
    push_plain(chain, QMIG_EVENT_FOOTER);
}

/* ---- reading the report --------------------------------------------------------------- */

static QmigChain *
new_chain(const char *spec)
{
    const char *specs[] = { spec, NULL };
    g_autoptr(GError) error = NULL;
    QmigChain *chain = qmig_chain_new(specs, NULL, NULL, &error);

    g_assert_no_error(error);
    return chain;
}

/* The value at @path of the report: names and numbers of list entries, with slashes. */
static int64_t
value_at(QmigChain *chain, const char *path)
{
    g_autoptr(JsonObject) all = qmig_chain_report(chain);
    g_auto(GStrv) steps = g_strsplit(path, "/", -1);
    struct json_object *at = NULL;

    g_assert_true(json_object_object_get_ex(all, "stats", &at));
    for (char **step = steps; *step != NULL; step++) {
        if (json_object_is_type(at, json_type_array)) {
            at = json_object_array_get_idx(at, (size_t)g_ascii_strtoull(*step, NULL, 10));
        } else if (!json_object_object_get_ex(at, *step, &at)) {
            g_error("no \"%s\" in the report", path);
        }
        g_assert_nonnull(at);
    }
    return json_object_is_type(at, json_type_array)
               ? (int64_t)json_object_array_length(at)
               : json_object_get_int64(at);
}

#define ASSERT_VALUE(chain, path, want) g_assert_cmpint(value_at(chain, path), ==, want)

static void
assert_text(QmigChain *chain, const char *want)
{
    g_autoptr(JsonObject) all = qmig_chain_report(chain);
    const char *text = json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN);

    if (strstr(text, want) == NULL) {
        g_error("no %s in %s", want, text);
    }
}

/* ---- tests ---------------------------------------------------------------------------- */

static void
test_report_has_every_name_before_the_first_event(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");
    static const char *const paths[] = {
        "bytes",
        "pages/zero",
        "pages/normal",
        "pages/xbzrle",
        "pages/zlib",
        "pages/resent",
        "page_bytes/zero",
        "page_bytes/normal",
        "page_bytes/xbzrle",
        "page_bytes/zlib",
        "ram_total",
        "iteration",
        "iterations",
        "blocks",
        "devices",
        "device_bytes",
        "tail_bytes",
        "description_bytes",
        "commands",
        "raw_bytes",
        "complete",
        "sampled/pages",
        "sampled/lz4_bytes",
        "sampled/zstd_bytes",
        "sampled/raw_bytes",
        "iterations_merged",
        "untracked_blocks",
        "devices_unlisted",
        "packaged_bytes",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        ASSERT_VALUE(chain, paths[i], 0);
    }
    assert_text(chain, "\"machine\":\"\"");
}

/* Each byte belongs to a record of some kind. */
static void
assert_records_add_up(QmigChain *chain)
{
    static const char *const names[] = {
        "other",     "header",       "config",     "config_sub", "section",
        "footer",    "ram_size",     "ram_block",  "page",       "ram_eos",
        "ram_flush", "ram_hook",     "command",    "bytes",      "eof",
        "colo",      "dirty_bitmap", "disk_block", "vfio",
    };
    int64_t sum = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("records/%s/bytes", names[i]);
        sum += value_at(chain, path);
    }
    ASSERT_VALUE(chain, "bytes", sum);
}

static void
test_pages_are_counted_by_kind_and_block(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");

    push_start(chain);
    push_section(chain, QMIG_SECTION_PART, "ram");
    push_page(chain, &ram, 0, QMIG_PAGE_ZERO);
    push_page(chain, &ram, 1, QMIG_PAGE_NORMAL);
    push_page(chain, &ram, 2, QMIG_PAGE_NORMAL);
    push_page(chain, &rom, 0, QMIG_PAGE_ZLIB);
    push_page(chain, &rom, 15, QMIG_PAGE_XBZRLE);
    push_page(chain, &rom, 1,
              0x400); /* a kind of the future: bytes, but no page we know */

    assert_text(chain, "\"machine\":\"pc-test-1.0\"");
    ASSERT_VALUE(chain, "ram_total", 1040 * PAGE);
    ASSERT_VALUE(chain, "pages/zero", 1);
    ASSERT_VALUE(chain, "pages/normal", 2);
    ASSERT_VALUE(chain, "pages/zlib", 1);
    ASSERT_VALUE(chain, "pages/xbzrle", 1);
    ASSERT_VALUE(chain, "pages/resent", 0);
    ASSERT_VALUE(chain, "page_bytes/zero", 9);
    ASSERT_VALUE(chain, "page_bytes/normal", 2 * (8 + PAGE));
    ASSERT_VALUE(chain, "page_bytes/zlib", 30);
    ASSERT_VALUE(chain, "page_bytes/xbzrle", 30);
    ASSERT_VALUE(chain, "blocks", 2);
    assert_text(chain,
                "{\"name\":\"pc.ram\",\"length\":4194304,\"bytes\":8217,\"zero\":1,"
                "\"normal\":2,\"xbzrle\":0,\"zlib\":0,\"resent\":0,\"page_bytes\":{"
                "\"zero\":9,\"normal\":8208,\"xbzrle\":0,\"zlib\":0,\"resent\":0}}");
    assert_text(chain,
                "{\"name\":\"rom\",\"length\":65536,\"bytes\":60,\"zero\":0,"
                "\"normal\":0,\"xbzrle\":1,\"zlib\":1,\"resent\":0,\"page_bytes\":{"
                "\"zero\":0,\"normal\":0,\"xbzrle\":30,\"zlib\":30,\"resent\":0}}");
    /* head 8 + 16, START 5 + 8 + 15 + 12 + 8 + 5, PART 5, pages */
    ASSERT_VALUE(chain, "bytes", 24 + 53 + 5 + 9 + 2 * (8 + PAGE) + 60 + 30);
    assert_records_add_up(chain);
}

static void
test_page_sent_before_is_resent_whatever_its_kind(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");

    push_start(chain);
    push_page(chain, &ram, 5, QMIG_PAGE_ZERO);
    push_page(chain, &rom, 5, QMIG_PAGE_NORMAL); /* same offset, other block */
    ASSERT_VALUE(chain, "pages/resent", 0);
    push_page(chain, &ram, 5, QMIG_PAGE_NORMAL);
    push_page(chain, &ram, 5, QMIG_PAGE_XBZRLE);
    ASSERT_VALUE(chain, "pages/resent", 2);
    ASSERT_VALUE(chain, "page_bytes/resent", 8 + PAGE + 30);
    ASSERT_VALUE(chain, "records/page/count", 4);
    ASSERT_VALUE(chain, "records/section/count", 1);
    ASSERT_VALUE(chain, "records/ram_block/count", 2);
    ASSERT_VALUE(chain, "blocks/0/page_bytes/resent", 8 + PAGE + 30);
    ASSERT_VALUE(chain, "blocks/0/resent", 2);
    ASSERT_VALUE(chain, "blocks/1/resent", 0);
}

static void
test_pass_begins_when_a_page_comes_again(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");

    push_start(chain);
    ASSERT_VALUE(chain, "iteration", 0);
    for (uint64_t page = 0; page < 1024; page++) {
        push_page(chain, &ram, page, QMIG_PAGE_ZERO);
    }
    push_page(chain, &rom, 3, QMIG_PAGE_NORMAL);
    ASSERT_VALUE(chain, "iteration", 1);
    push_page(chain, &ram, 600, QMIG_PAGE_NORMAL); /* second pass: sent in the first */
    push_page(chain, &ram, 700, QMIG_PAGE_NORMAL);
    push_page(chain, &ram, 10, QMIG_PAGE_NORMAL); /* the walk may wrap inside a pass */
    ASSERT_VALUE(chain, "iteration", 2);
    push_page(chain, &ram, 700, QMIG_PAGE_XBZRLE);
    ASSERT_VALUE(chain, "iteration", 3);

    ASSERT_VALUE(chain, "iterations", 3);
    ASSERT_VALUE(chain, "iterations/0/number", 1);
    ASSERT_VALUE(chain, "iterations/0/zero", 1024);
    ASSERT_VALUE(chain, "iterations/0/normal", 1);
    ASSERT_VALUE(chain, "iterations/0/resent", 0);
    ASSERT_VALUE(chain, "iterations/0/bytes", 1024 * 9 + 8 + PAGE);
    ASSERT_VALUE(chain, "iterations/0/page_bytes/zero", 1024 * 9);
    ASSERT_VALUE(chain, "iterations/0/page_bytes/normal", 8 + PAGE);
    ASSERT_VALUE(chain, "iterations/1/page_bytes/zero", 0);
    ASSERT_VALUE(chain, "iterations/1/page_bytes/resent", 3 * (8 + PAGE));
    ASSERT_VALUE(chain, "iterations/1/number", 2);
    ASSERT_VALUE(chain, "iterations/1/zero", 0);
    ASSERT_VALUE(chain, "iterations/1/normal", 3);
    ASSERT_VALUE(chain, "iterations/1/resent", 3);
    ASSERT_VALUE(chain, "iterations/2/xbzrle", 1);
    ASSERT_VALUE(chain, "iterations/2/resent", 1);
    ASSERT_VALUE(chain, "iterations/2/bytes", 30);
}

static void
test_end_section_of_ram_is_a_pass_of_its_own(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");

    push_start(chain);
    push_section(chain, QMIG_SECTION_PART, "ram");
    push_page(chain, &ram, 0, QMIG_PAGE_NORMAL);
    push_section(chain, QMIG_SECTION_END, "dirty-bitmap"); /* not ram's */
    push_page(chain, &ram, 1, QMIG_PAGE_NORMAL);
    ASSERT_VALUE(chain, "iteration", 1);
    push_section(chain, QMIG_SECTION_END, "ram");
    push_page(chain, &ram, 2,
              QMIG_PAGE_NORMAL); /* never sent before, yet the last pass */
    push_plain(chain, QMIG_EVENT_RAM_EOS);
    push_plain(chain, QMIG_EVENT_FOOTER);
    ASSERT_VALUE(chain, "iteration", 2);
    ASSERT_VALUE(chain, "iterations/0/normal", 2);
    ASSERT_VALUE(chain, "iterations/1/normal", 1);
    ASSERT_VALUE(chain, "iterations/1/resent", 0);
}

static void
test_postcopy_has_no_last_pass(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");
    struct qmig_event command = { .u.command = { .command = QMIG_COMMAND_PACKAGED } };
    struct qmig_event bytes = { .u.bytes = { QMIG_BYTES_PACKAGED, NULL, 900 } };

    push_start(chain);
    push_page(chain, &ram, 0, QMIG_PAGE_NORMAL);
    push(chain, QMIG_EVENT_COMMAND, 9, command);
    push(chain, QMIG_EVENT_BYTES, 900, bytes);
    push_section(chain, QMIG_SECTION_PART, "ram");
    push_page(chain, &ram, 1, QMIG_PAGE_NORMAL);
    push_end(chain);
    ASSERT_VALUE(chain, "iteration", 1);
    ASSERT_VALUE(chain, "packaged_bytes", 900);
    ASSERT_VALUE(chain, "commands", 1);
}

static void
test_flush_ends_a_round_but_not_in_start(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");

    push_start(chain);
    push_plain(chain, QMIG_EVENT_RAM_FLUSH); /* that of setup */
    push_section(chain, QMIG_SECTION_PART, "ram");
    push_page(chain, &ram, 0, QMIG_PAGE_ZERO);
    ASSERT_VALUE(chain, "iteration", 1);
    push_plain(chain, QMIG_EVENT_RAM_FLUSH);
    ASSERT_VALUE(chain, "iteration", 1); /* not before something follows */
    push_page(chain, &ram, 1, QMIG_PAGE_ZERO);
    ASSERT_VALUE(chain, "iteration", 2);
    push_plain(chain, QMIG_EVENT_RAM_FLUSH);
    push_section(chain, QMIG_SECTION_PART, "ram"); /* all pages on other channels */
    ASSERT_VALUE(chain, "iteration", 3);
    push_plain(chain, QMIG_EVENT_RAM_FLUSH);
    push_section(chain, QMIG_SECTION_END, "ram"); /* two reasons, one pass */
    push_plain(chain, QMIG_EVENT_RAM_FLUSH);
    push_plain(chain, QMIG_EVENT_RAM_FLUSH);
    push_plain(chain, QMIG_EVENT_FOOTER);
    ASSERT_VALUE(chain, "iteration", 4);
}

static void
test_list_of_passes_is_bounded(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");

    push_start(chain);
    for (unsigned i = 0; i < 5000; i++) {
        push_page(chain, &ram, 77, QMIG_PAGE_ZERO);
    }
    ASSERT_VALUE(chain, "iteration", 5000);
    ASSERT_VALUE(chain, "iterations", 4096);
    ASSERT_VALUE(chain, "iterations_merged", 5000 - 4096);
    ASSERT_VALUE(chain, "iterations/4094/zero", 1);
    ASSERT_VALUE(chain, "iterations/4095/zero", 5000 - 4095);
    ASSERT_VALUE(chain, "pages/resent", 4999);
}

static void
test_devices_and_the_tail(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");
    struct qmig_event tail = { .u.bytes = { QMIG_BYTES_TAIL, NULL, 1000 } };
    struct qmig_event raw = { .u.bytes = { QMIG_BYTES_RAW, NULL, 50 } };
    struct qmig_event device = { .u.device = { .name = "timer", .length = 300 } };
    struct qmig_event description = { .u.description = { "{}", 2 } };
    struct qmig_event end = { .u.end = { 1, "" } };

    push_start(chain);
    push(chain, QMIG_EVENT_BYTES, 1000, tail);
    push(chain, QMIG_EVENT_BYTES, 1000, tail);
    push(chain, QMIG_EVENT_BYTES, 50, raw);
    push(chain, QMIG_EVENT_DEVICE, 0, device);
    device.u.device.name = "dma";
    device.u.device.instance = 1;
    device.u.device.length = 44;
    push(chain, QMIG_EVENT_DEVICE, 0, device);
    push(chain, QMIG_EVENT_DESCRIPTION, 0, description);
    ASSERT_VALUE(chain, "complete", 0);
    push(chain, QMIG_EVENT_END, 0, end);
    ASSERT_VALUE(chain, "complete", 1);
    ASSERT_VALUE(chain, "tail_bytes", 2000);
    ASSERT_VALUE(chain, "raw_bytes", 50);
    ASSERT_VALUE(chain, "device_bytes", 344);
    ASSERT_VALUE(chain, "description_bytes", 2);
    ASSERT_VALUE(chain, "bytes", 24 + 53 + 2050);
    assert_text(chain, "\"devices\":[{\"name\":\"timer\",\"instance\":0,\"bytes\":300},"
                       "{\"name\":\"dma\",\"instance\":1,\"bytes\":44}]");
}

static void
test_page_outside_of_what_was_announced_is_counted_safely(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats");
    struct qmig_block late = { sizeof late, 7, "late", 4, PAGE, 2 * PAGE, 0 };
    struct qmig_block far = { sizeof far, UINT32_MAX, "far", 3, PAGE, PAGE, 0 };
    struct qmig_block odd = { sizeof odd, 2, "odd", 3, 3000, 30000, 0 };
    struct qmig_block huge = {
        sizeof huge, 3, "huge", 4, PAGE, UINT64_MAX - PAGE + 1, 0
    };

    push_start(chain);
    for (int twice = 0; twice < 2; twice++) {
        push_page(chain, &ram, 1024, QMIG_PAGE_ZERO); /* just beyond */
        push_page(chain, &ram, UINT64_MAX / PAGE, QMIG_PAGE_ZERO);
        push_page(chain, &far, 0, QMIG_PAGE_ZERO);
        push_page(chain, &odd, 0, QMIG_PAGE_ZERO);
        push_page(chain, &huge, 12345678, QMIG_PAGE_ZERO);
    }
    ASSERT_VALUE(chain, "pages/zero", 10);
    ASSERT_VALUE(chain, "pages/resent", 0);
    ASSERT_VALUE(chain, "iteration", 1);
    push_page(chain, &late, 1, QMIG_PAGE_ZERO);
    push_page(chain, &late, 1, QMIG_PAGE_ZERO);
    ASSERT_VALUE(chain, "pages/resent", 1);
    ASSERT_VALUE(chain, "blocks", 5); /* far has no place in the list */
    g_assert_cmpint(value_at(chain, "untracked_blocks"), >=, 2);
}

static void
test_sample_takes_every_nth_normal_page(void)
{
    g_autoptr(QmigChain) chain = new_chain("stats:sample=3");

    push_start(chain);
    for (uint64_t page = 0; page < 10; page++) {
        push_page(chain, &ram, 2 * page, QMIG_PAGE_NORMAL);
        push_page(chain, &ram, 2 * page + 1, QMIG_PAGE_ZERO);
    }
    ASSERT_VALUE(chain, "sampled/pages", 3);
    ASSERT_VALUE(chain, "sampled/raw_bytes", 3 * PAGE);
    g_assert_cmpint(value_at(chain, "sampled/lz4_bytes"), >, 3);
    g_assert_cmpint(value_at(chain, "sampled/lz4_bytes"), <, 3 * 100);
    g_assert_cmpint(value_at(chain, "sampled/zstd_bytes"), >, 3);
    g_assert_cmpint(value_at(chain, "sampled/zstd_bytes"), <, 3 * 100);
}

/* ---- times, with a clock of the test's own --------------------------------------------- */

static uint64_t fake_now_ns;

static uint64_t
fake_clock(struct qmig_host *host)
{
    (void)host;
    return fake_now_ns;
}

typedef struct {
    uint64_t start_ms[4], duration_ms[4];
    unsigned n_starts, n_durations;
} Times;

static void
take_number(struct qmig_report *report, const char *key, uint64_t value)
{
    Times *times = report->context;

    if (key != NULL && strcmp(key, "start_ms") == 0) {
        times->start_ms[times->n_starts++] = value;
    } else if (key != NULL && strcmp(key, "duration_ms") == 0) {
        times->duration_ms[times->n_durations++] = value;
    }
}

static void
take_text(struct qmig_report *report, const char *key, const char *value)
{
    (void)report, (void)key, (void)value;
}

static void
take_begin(struct qmig_report *report, const char *key)
{
    (void)report, (void)key;
}

static void
take_end(struct qmig_report *report)
{
    (void)report;
}

static Times
times_of(const struct qmig_plugin *api, void *handle)
{
    Times times = { 0 };
    struct qmig_report report = { sizeof report, &times,     take_number, take_text,
                                  take_begin,    take_begin, take_end };

    api->report(handle, &report);
    return times;
}

static void
observe_at(const struct qmig_plugin *api, void *handle, uint64_t ms, struct qmig_event ev)
{
    fake_now_ns = (7000 + ms) * 1000000;
    ev.size = sizeof ev;
    api->observe(handle, &ev, 0);
}

static void
test_times_begin_with_the_first_event_and_stop_with_ram(void)
{
    const struct qmig_plugin *api = qmig_plugin_init_stats();
    struct qmig_host host = { sizeof host, NULL, NULL, NULL, fake_clock };
    void *handle = api->open(&host);
    struct qmig_event header = { .kind = QMIG_EVENT_HEADER };
    struct qmig_event page = { .kind = QMIG_EVENT_PAGE,
                               .u.page = { .block = &ram, .kind = QMIG_PAGE_ZERO } };
    struct qmig_event end = { .kind = QMIG_EVENT_SECTION,
                              .u.section = { .type = QMIG_SECTION_END, .name = "ram" } };
    struct qmig_event footer = { .kind = QMIG_EVENT_FOOTER };

    observe_at(api, handle, 0, header);
    observe_at(api, handle, 100, page);
    observe_at(api, handle, 350, page);
    fake_now_ns += 50 * 1000000; /* a report in the middle of the second pass */
    Times times = times_of(api, handle);
    g_assert_cmpuint(times.n_starts, ==, 2);
    g_assert_cmpuint(times.start_ms[0], ==, 100);
    g_assert_cmpuint(times.duration_ms[0], ==, 250);
    g_assert_cmpuint(times.start_ms[1], ==, 350);
    g_assert_cmpuint(times.duration_ms[1], ==, 50);

    observe_at(api, handle, 500, end);
    observe_at(api, handle, 530, footer);
    fake_now_ns += (uint64_t)3600 * 1000000000; /* an hour later */
    times = times_of(api, handle);
    g_assert_cmpuint(times.duration_ms[1], ==, 150);
    g_assert_cmpuint(times.start_ms[2], ==, 500);
    g_assert_cmpuint(times.duration_ms[2], ==, 30);
    api->close(handle);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stats/report-has-every-name-before-the-first-event",
                    test_report_has_every_name_before_the_first_event);
    g_test_add_func("/stats/pages-are-counted-by-kind-and-block",
                    test_pages_are_counted_by_kind_and_block);
    g_test_add_func("/stats/page-sent-before-is-resent-whatever-its-kind",
                    test_page_sent_before_is_resent_whatever_its_kind);
    g_test_add_func("/stats/pass-begins-when-a-page-comes-again",
                    test_pass_begins_when_a_page_comes_again);
    g_test_add_func("/stats/end-section-of-ram-is-a-pass-of-its-own",
                    test_end_section_of_ram_is_a_pass_of_its_own);
    g_test_add_func("/stats/postcopy-has-no-last-pass", test_postcopy_has_no_last_pass);
    g_test_add_func("/stats/flush-ends-a-round-but-not-in-start",
                    test_flush_ends_a_round_but_not_in_start);
    g_test_add_func("/stats/list-of-passes-is-bounded", test_list_of_passes_is_bounded);
    g_test_add_func("/stats/devices-and-the-tail", test_devices_and_the_tail);
    g_test_add_func("/stats/page-outside-of-what-was-announced-is-counted-safely",
                    test_page_outside_of_what_was_announced_is_counted_safely);
    g_test_add_func("/stats/sample-takes-every-nth-normal-page",
                    test_sample_takes_every_nth_normal_page);
    g_test_add_func("/stats/times-begin-with-the-first-event-and-stop-with-ram",
                    test_times_begin_with_the_first_event_and_stop_with_ram);
    return g_test_run();
}
