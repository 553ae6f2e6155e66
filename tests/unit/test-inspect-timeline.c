/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What proxy/record.c writes is what the timeline reads; damage is refused with its place. */
#include "inspect/timeline.h"

#include "proxy/record.h"
#include "util/auto.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <string.h>

#define HEAD \
    "{\"format\":\"qmig-capture\",\"version\":1,\"started\":\"2026-11-21T08:00:00Z\"}\n"
#define OPEN "{\"t\":0,\"channel\":0,\"open\":\"main\"}\n"

typedef struct {
    char *dir;
} Fixture;

static void
set_up(Fixture *f, const void *unused)
{
    g_autoptr(GError) error = NULL;

    (void)unused;
    f->dir = g_dir_make_tmp("qmig-timeline-XXXXXX", &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *f, const void *unused)
{
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
    const char *name;

    (void)unused;
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(f->dir, name, NULL);
        g_assert_cmpint(g_unlink(path), ==, 0);
    }
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->dir);
}

static void
put_file(const Fixture *f, const char *name, const char *text, gssize len)
{
    g_autofree char *path = g_build_filename(f->dir, name, NULL);
    g_autoptr(GError) error = NULL;

    g_file_set_contents(path, text, len, &error);
    g_assert_no_error(error);
}

/* All entries as text, one in each line; then "missing N", or the error. */
static char *
read_all(const Fixture *f)
{
    static const char *const kinds[] = { "open", "data", "eof", "reset", "stopped" };
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigCapture) capture = qmig_capture_open(f->dir, &error);
    g_autoptr(GString) out = g_string_new(NULL);
    QmigTimelineEntry e;

    g_assert_no_error(error);
    g_autoptr(QmigTimeline) t = qmig_timeline_open(capture, &error);
    while (error == NULL && qmig_timeline_next(t, &e, &error) &&
           e.kind != QMIG_TIMELINE_END) {
        g_string_append_printf(out, "%s %u %c", kinds[e.kind], e.channel,
                               e.is_reverse ? 'r' : 'f');
        if (e.kind == QMIG_TIMELINE_DATA) {
            g_string_append_printf(out, " %u+%u", (unsigned)e.offset, (unsigned)e.length);
        } else if (e.kind == QMIG_TIMELINE_OPEN) {
            g_string_append_printf(out, " id %d", e.id);
        } else if (e.kind == QMIG_TIMELINE_STOPPED) {
            g_string_append_printf(out, " %s", e.text);
        }
        g_string_append(out, e.line > 0 ? "\n" : " (file)\n");
    }
    if (error != NULL) {
        g_assert_true(error->domain == QMIG_ERROR);
        g_string_append(out, error->message);
    } else {
        g_string_append_printf(out, "missing %u", (unsigned)qmig_timeline_missing(t));
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static void
assert_reads(const Fixture *f, const char *wanted)
{
    g_autofree char *got = read_all(f);

    g_assert_cmpstr(got, ==, wanted);
}

/* ---- what is in order ------------------------------------------------------------------- */

static void
test_what_was_recorded_is_read(Fixture *f, const void *unused)
{
    QmigGroup group;
    g_autoptr(GError) error = NULL;
    QmigRecordWay *main_forward, *main_reverse, *side_forward, *side_reverse;

    (void)unused;
    qmig_group_init(&group);
    QmigRecord *record = qmig_record_new(f->dir, &group, &error);
    g_assert_no_error(error);
    qmig_record_open(record, "main", -1, &main_forward, &main_reverse);
    qmig_record_note(main_forward, 5);
    qmig_record_note(main_reverse, 3);
    qmig_record_write(main_reverse, "abc", 3);
    qmig_record_write(main_forward, "12345", 5);
    qmig_record_open(record, "multifd", 7, &side_forward, &side_reverse);
    qmig_record_note(side_forward, 2);
    qmig_record_write(side_forward, "xy", 2);
    qmig_record_note(main_forward, 1);
    qmig_record_write(main_forward, "6", 1);
    qmig_record_end(side_forward, true);
    qmig_record_end(main_reverse, false);
    qmig_record_end(main_reverse, false);
    qmig_record_end(main_forward, false);
    qmig_record_free(record);
    qmig_group_clear(&group);
    assert_reads(f, "open 0 f id -1\ndata 0 f 0+5\ndata 0 r 0+3\nopen 1 f id 7\n"
                    "data 1 f 0+2\ndata 0 f 5+1\nreset 1 f\neof 0 r\neof 0 f\nmissing 0");
}

static void
test_without_timeline_the_files_decide(Fixture *f, const void *unused)
{
    (void)unused;
    put_file(f, "0-main.forward", "QEVM", 4);
    put_file(f, "0-main.reverse", "12345678", 8);
    put_file(f, "3-preempt.forward", "", 0);
    assert_reads(f, "open 0 f id -1 (file)\ndata 0 f 0+4 (file)\nopen 1 f id -1 (file)\n"
                    "data 0 r 0+8 (file)\nmissing 0");
}

static void
test_lines_that_are_missing_come_from_the_files(Fixture *f, const void *unused)
{
    (void)unused;
    put_file(f, "0-main.forward", "QEVM45678", 9);
    put_file(f, "timeline.jsonl",
             HEAD OPEN
             "{\"t\":3,\"channel\":0,\"forward\":4}\n{\"t\":4,\"channel\":0,\"forw",
             -1);
    assert_reads(f, "open 0 f id -1\ndata 0 f 0+4\ndata 0 f 4+5 (file)\nmissing 0");
}

static void
test_bytes_that_are_missing_are_counted(Fixture *f, const void *unused)
{
    (void)unused;
    put_file(f, "0-main.forward", "QEVM45", 6);
    put_file(f, "timeline.jsonl",
             HEAD OPEN "{\"t\":3,\"channel\":0,\"forward\":4}\n"
                       "{\"t\":3,\"channel\":0,\"forward\":1000}\n"
                       "{\"t\":3,\"channel\":0,\"forward\":9223372036854775000}\n"
                       "{\"t\":9,\"stopped\":\"disk full\"}\n",
             -1);
    g_autofree char *got = read_all(f);
    g_assert_true(g_str_has_prefix(
        got, "open 0 f id -1\ndata 0 f 0+4\ndata 0 f 4+2\nstopped 0 f disk full\n"
             "missing "));
}

/* ---- what is not ------------------------------------------------------------------------ */

/* @line: after head, main's opening and four bytes. */
static const struct {
    const char *line, *says;
} damages[] = {
    { "", "wanted a JSON object" },
    { "[]", "wanted a JSON object: got something else" },
    { "{\"t\":5", "wanted a JSON object" },
    { "{\"t\":5,\"channel\":0,\"forward\":1} x", "JSON" },
    { "{\"channel\":0,\"forward\":1}", "\"t\" is not there" },
    { "{\"t\":1,\"channel\":0,\"forward\":1}", "\"t\" is 1, wanted a number from 2" },
    { "{\"t\":-5,\"channel\":0,\"forward\":1}", "\"t\" is -5" },
    { "{\"t\":\"5\",\"channel\":0,\"forward\":1}", "\"t\" is \"5\"" },
    { "{\"t\":5,\"forward\":1}", "\"channel\" is not there" },
    { "{\"t\":5,\"channel\":2,\"forward\":1}", "channel 2 has no file" },
    { "{\"t\":5,\"channel\":1,\"forward\":1}", "channel 1 is not open" },
    { "{\"t\":5,\"channel\":0,\"forward\":0}", "\"forward\" is 0" },
    { "{\"t\":5,\"channel\":0,\"reverse\":1.5}", "\"reverse\" is 1.5" },
    { "{\"t\":5,\"channel\":0,\"forward\":99999999999999999999}", "\"forward\" is" },
    { "{\"t\":5,\"channel\":0,\"open\":\"main\"}", "channel 0 is open already" },
    { "{\"t\":5,\"channel\":1,\"open\":\"preempt\"}", "is opened as \"preempt\"" },
    { "{\"t\":5,\"channel\":1,\"open\":7}", "is opened as \"?\"" },
    { "{\"t\":5,\"channel\":1,\"open\":\"multifd\",\"id\":256}", "\"id\" is 256" },
    { "{\"t\":5,\"channel\":0,\"eof\":\"up\"}", "neither \"forward\" nor \"reverse\"" },
    { "{\"t\":5,\"channel\":1,\"eof\":\"forward\"}", "channel 1 is not open" },
    { "{\"t\":5,\"stopped\":1}", "\"stopped\" without a reason" },
    { "{\"t\":5,\"channel\":0}", "nothing happens" },
};

static void
test_damaged_lines_are_refused_with_their_place(Fixture *f, const void *unused)
{
    (void)unused;
    put_file(f, "0-main.forward", "QEVM45", 6);
    put_file(f, "1-multifd.forward", "", 0);
    for (guint i = 0; i < G_N_ELEMENTS(damages); i++) {
        g_autofree char *text = g_strconcat(HEAD OPEN
                                            "{\"t\":2,\"channel\":0,\"forward\":4}\n",
                                            damages[i].line, "\n", NULL);
        put_file(f, "timeline.jsonl", text, -1);
        g_autofree char *got = read_all(f);
        g_assert_nonnull(strstr(got, "/timeline.jsonl:4: "));
        if (strstr(got, damages[i].says) == NULL) {
            g_error("%s: got \"%s\", wanted \"%s\"", damages[i].line, got,
                    damages[i].says);
        }
    }
}

static void
test_data_after_the_end_is_refused(Fixture *f, const void *unused)
{
    (void)unused;
    put_file(f, "0-main.forward", "QEVM", 4);
    put_file(f, "timeline.jsonl",
             HEAD OPEN "{\"t\":2,\"channel\":0,\"eof\":\"forward\"}\n"
                       "{\"t\":2,\"channel\":0,\"forward\":4}\n",
             -1);
    g_autofree char *got = read_all(f);
    g_assert_nonnull(strstr(got, ":4: channel 0: \"forward\" has ended before"));
}

static void
test_other_formats_are_refused(Fixture *f, const void *unused)
{
    (void)unused;
    put_file(f, "0-main.forward", "QEVM", 4);
    put_file(f, "timeline.jsonl", "{\"format\":\"pcap\",\"version\":1}\n", -1);
    g_autofree char *format = read_all(f);
    g_assert_nonnull(strstr(format, ":1: no {\"format\""));
    put_file(f, "timeline.jsonl", "{\"format\":\"qmig-capture\",\"version\":2}\n", -1);
    g_autofree char *version = read_all(f);
    g_assert_nonnull(strstr(version, ":1: version 2 of the format"));
    g_autofree char *long_line = g_strnfill(5000, 'x');
    put_file(f, "timeline.jsonl", long_line, -1);
    g_autofree char *length = read_all(f);
    g_assert_nonnull(strstr(length, ":1: a line of 4096 bytes or more"));
}

/* Every truncation of a timeline is a crash, and every byte of it may be damaged: the first is
 * read, the second read or refused; never more bytes than there are. */
static void
test_every_truncation_and_corruption_ends_well(Fixture *f, const void *unused)
{
    const char whole[] = HEAD OPEN
        "{\"t\":2,\"channel\":0,\"forward\":4}\n"
        "{\"t\":3,\"channel\":1,\"open\":\"multifd\",\"id\":1}\n"
        "{\"t\":5,\"channel\":0,\"reverse\":8}\n"
        "{\"t\":7,\"channel\":0,\"eof\":\"forward\"}\n"
        "{\"t\":9,\"channel\":1,\"reset\":\"forward\"}\n";

    (void)unused;
    put_file(f, "0-main.forward", "QEVM", 4);
    put_file(f, "0-main.reverse", "12345678", 8);
    put_file(f, "1-multifd.forward", "", 0);
    for (size_t len = 0; len < sizeof whole; len++) {
        put_file(f, "timeline.jsonl", whole, (gssize)len);
        g_autofree char *got = read_all(f);
        g_assert_true(g_str_has_suffix(got, "missing 0"));
        g_assert_nonnull(strstr(got, "data 0 f 0+4"));
        g_assert_nonnull(strstr(got, "data 0 r 0+8"));
    }
    for (size_t at = 0; at < sizeof whole - 1; at++) {
        g_autofree char *bad = g_strdup(whole);

        bad[at] = (char)(bad[at] ^ (1 << g_test_rand_int_range(0, 8)));
        put_file(f, "timeline.jsonl", bad, sizeof whole - 1);
        g_free(read_all(f));
    }
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(Fixture *f, const void *unused);
    } tests[] = {
        { "/timeline/what-was-recorded-is-read", test_what_was_recorded_is_read },
        { "/timeline/without-it-the-files-decide",
          test_without_timeline_the_files_decide },
        { "/timeline/missing-lines-come-from-the-files",
          test_lines_that_are_missing_come_from_the_files },
        { "/timeline/missing-bytes-are-counted",
          test_bytes_that_are_missing_are_counted },
        { "/timeline/damaged-lines-are-refused-with-their-place",
          test_damaged_lines_are_refused_with_their_place },
        { "/timeline/data-after-the-end-is-refused", test_data_after_the_end_is_refused },
        { "/timeline/other-formats-are-refused", test_other_formats_are_refused },
        { "/timeline/every-truncation-and-corruption-ends-well",
          test_every_truncation_and_corruption_ends_well },
    };

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].test, tear_down);
    }
    return g_test_run();
}
