/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal's file: what is written is read again, whatever a crash or a full disk did to it. */
#include "job/journal.h"

#include "qmp/client.h"
#include "util/error.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

typedef struct {
    char *dir, *path;
} Place;

static void
set_up(Place *p, gconstpointer data)
{
    (void)data;
    p->dir = g_dir_make_tmp("qmig-test-XXXXXX", NULL);
    p->path = g_build_filename(p->dir, "a.journal", NULL);
}

static void
tear_down(Place *p, gconstpointer data)
{
    (void)data;
    g_unlink(p->path);
    g_rmdir(p->dir);
    g_free(p->dir);
    g_free(p->path);
}

static JsonObject *
member(const char *key, const char *text)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, key, json_object_new_string(text));
    return o;
}

static void
append(QmigJournal *j, const char *step, JsonObject *members)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_journal_append(j, step, members, &error));
    g_assert_no_error(error);
}

static void
write_three(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigJournal) j = qmig_journal_create(path, &error);

    g_assert_no_error(error);
    append(j, "begin", NULL);
    append(j, "migrate", member("uri", "unix:/x"));
    append(j, "cont", NULL);
}

static size_t
count(const char *path)
{
    g_autoptr(JsonObject) records = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(QmigJournal) j = qmig_journal_open(path, &records, &error);

    g_assert_no_error(error);
    return json_object_array_length(records);
}

static void
test_read_again(Place *p, gconstpointer data)
{
    g_autoptr(JsonObject) records = NULL;
    struct stat st;

    (void)data;
    write_three(p->path);
    g_assert_cmpint(stat(p->path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    {
        g_autoptr(QmigJournal) j = qmig_journal_open(p->path, &records, NULL);
        append(j, "end", NULL);
    }
    g_assert_cmpuint(json_object_array_length(records), ==, 3);
    JsonObject *migrate = qmig_journal_last(records, "migrate");
    g_assert_cmpstr(qmig_json_string(migrate, "uri"), ==, "unix:/x");
    g_assert_null(qmig_journal_last(records, "end"));
    g_assert_cmpuint(count(p->path), ==, 4);
}

/* Cut at every byte: what was whole is read, and it can be gone on with. */
static void
test_torn(Place *p, gconstpointer data)
{
    g_autofree char *text = NULL;
    gsize size;

    (void)data;
    write_three(p->path);
    g_assert_true(g_file_get_contents(p->path, &text, &size, NULL));
    size_t len = strlen(text), first = (size_t)(strchr(text, '\n') - text) + 1;
    for (size_t cut = first; cut <= len; cut++) {
        g_autoptr(JsonObject) records = NULL;
        size_t lines = 0;

        for (size_t i = 0; i < cut; i++) {
            lines += text[i] == '\n';
        }
        g_assert_true(g_file_set_contents(p->path, text, (gssize)cut, NULL));
        {
            g_autoptr(QmigJournal) j = qmig_journal_open(p->path, &records, NULL);
            g_assert_cmpuint(json_object_array_length(records), ==, lines);
            append(j, "x", NULL);
        }
        g_assert_cmpuint(count(p->path), ==, lines + 1);
    }
}

static void
test_damaged(Place *p, gconstpointer data)
{
    static const char *const texts[] = { "", "no journal\n", "{\"n\":0}\n",
                                         "{\"n\":1,\"step\":\"begin\"}\n",
                                         "{\"n\":0,\"step\":\"begin\"}\n[]\n" };

    (void)data;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JsonObject) records = NULL;
        g_file_set_contents(p->path, texts[i], -1, NULL);
        g_assert_null(qmig_journal_open(p->path, &records, &error));
        g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    }
}

static void
test_unfinished_is_kept(Place *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    (void)data;
    write_three(p->path);
    g_assert_null(qmig_journal_create(p->path, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_CONFIG);
    g_assert_nonnull(strstr(error->message, "qmig recover"));
    g_assert_cmpuint(count(p->path), ==, 3);
    {
        g_autoptr(JsonObject) records = NULL;
        g_autoptr(QmigJournal) j = qmig_journal_open(p->path, &records, NULL);
        JsonObject *end = json_object_new_object();
        json_object_object_add(end, "clear", json_object_new_boolean(true));
        append(j, "end", end);
    }
    write_three(p->path);
    g_assert_cmpuint(count(p->path), ==, 3);
}

static void
test_strange_file_is_kept(Place *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    (void)data;
    g_file_set_contents(p->path, "my notes\n", -1, NULL);
    g_assert_null(qmig_journal_create(p->path, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_file_get_contents(p->path, &text, NULL, NULL);
    g_assert_cmpstr(text, ==, "my notes\n");
}

static void
test_locked(Place *p, gconstpointer data)
{
    g_autoptr(QmigJournal) j = qmig_journal_create(p->path, NULL);
    g_autoptr(JsonObject) records = NULL;
    g_autoptr(GError) error = NULL;

    (void)data;
    append(j, "begin", NULL);
    g_assert_null(qmig_journal_open(p->path, &records, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
    g_assert_nonnull(strstr(error->message, "still runs"));
}

/* As if the disk were full: no file may grow. The room was taken before. */
static void
test_full_disk(Place *p, gconstpointer data)
{
    g_autoptr(QmigJournal) j = qmig_journal_create(p->path, NULL);
    g_autofree char *other = g_build_filename(p->dir, "b.journal", NULL);
    struct rlimit before, tight;
    g_autoptr(GError) error = NULL;

    (void)data;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    tight = before;
    tight.rlim_cur = 0;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &tight), ==, 0);
    bool grew = g_file_set_contents(other, "x", 1, NULL);
    QmigJournal *none = qmig_journal_create(other, &error);
    tight.rlim_cur = 128 * 1024;
    setrlimit(RLIMIT_FSIZE, &tight);
    for (int i = 0; i < 100; i++) {
        append(j, "step",
               member("text", "a hundred steps, and none of them makes it grow"));
    }
    setrlimit(RLIMIT_FSIZE, &before);
    g_assert_false(grew);
    g_assert_null(none);
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_IO);
    g_assert_false(g_file_test(other, G_FILE_TEST_EXISTS));
}

static void
test_limits(Place *p, gconstpointer data)
{
    g_autoptr(QmigJournal) j = qmig_journal_create(p->path, NULL);
    g_autofree char *text = g_strnfill(100000, 'x');
    g_autoptr(GError) error = NULL;

    (void)data;
    append(j, "begin", NULL);
    g_assert_false(qmig_journal_append(j, "long", member("text", text), &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
    append(j, "next", NULL);
    g_clear_pointer(&j, qmig_journal_free);
    g_assert_cmpuint(count(p->path), ==, 2);
}

static JsonObject *
begin_of(const char *source, const char *destination)
{
    JsonObject *o = json_object_new_object();

    json_object_object_add(o, "source", member("qmp", source));
    json_object_object_add(o, "destination", member("qmp", destination));
    return o;
}

static char *
write_default(const char *guest, const char *source, bool ended)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = qmig_journal_default_path(guest, &error);
    g_autoptr(QmigJournal) j = NULL;

    g_assert_no_error(error);
    j = qmig_journal_create(path, &error);
    g_assert_no_error(error);
    append(j, "begin", begin_of(source, "unix:/d"));
    if (ended) {
        JsonObject *end = json_object_new_object();
        json_object_object_add(end, "clear", json_object_new_boolean(true));
        append(j, "end", end);
    }
    return g_steal_pointer(&path);
}

static void
test_find(Place *p, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    (void)data;
    g_setenv("XDG_STATE_HOME", p->dir, TRUE);
    g_autofree char *older = write_default("a/../b", "unix:/s", false);
    g_autofree char *newer = write_default("", "unix:/s", false);
    g_autofree char *other = write_default("c", "unix:/t", false);
    g_autofree char *ended = write_default("d", "unix:/s", true);
    g_autofree char *found = qmig_journal_find("unix:/s", &error);
    g_assert_cmpstr(found, ==, newer);
    g_autofree char *by_destination = qmig_journal_find("unix:/d", &error);
    g_assert_cmpstr(by_destination, ==, other);
    g_assert_null(qmig_journal_find("unix:/u", &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_STATE);
    g_autofree char *dir = g_path_get_dirname(older);
    g_autofree char *wanted = g_build_filename(p->dir, "qmig", NULL);
    g_assert_cmpstr(dir, ==, wanted);
    g_unlink(older);
    g_unlink(newer);
    g_unlink(other);
    g_unlink(ended);
    g_rmdir(dir);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(Place *, gconstpointer);
    } tests[] = {
        { "/job/journal/what-is-written-is-read-again", test_read_again },
        { "/job/journal/torn-at-every-byte", test_torn },
        { "/job/journal/damaged-is-refused", test_damaged },
        { "/job/journal/an-unfinished-one-is-not-overwritten", test_unfinished_is_kept },
        { "/job/journal/another-file-is-not-overwritten", test_strange_file_is_kept },
        { "/job/journal/locked-while-its-qmig-runs", test_locked },
        { "/job/journal/a-full-disk-does-not-matter-once-it-is-made", test_full_disk },
        { "/job/journal/a-step-too-long-is-refused", test_limits },
        { "/job/journal/found-by-qmp-address", test_find },
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, Place, NULL, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
