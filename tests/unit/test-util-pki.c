/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Certificates and keys: what is made is good, and what is wrong with others is told. */
#include "util/error.h"
#include "util/x509.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    char *dir, *good, *other, *expired;
} Fixture;

static void
make(const char *dir, const char *ca, QmigPkiKind kind, int days)
{
    static const char *const hosts[] = { "b.example", "192.0.2.7", "2001:db8::7", NULL };
    g_autoptr(GError) error = NULL;
    QmigPkiRequest request = {
        .kind = kind, .dir = dir, .ca_dir = ca, .name = "x", .hosts = hosts, .days = days
    };
    bool ok = qmig_pki_make(&request, &error);

    g_assert_no_error(error);
    g_assert_true(ok);
}

static void
set_up(Fixture *f, const void *unused)
{
    (void)unused;
    f->dir = g_dir_make_tmp("qmig-pki-XXXXXX", NULL);
    f->good = g_build_filename(f->dir, "good", NULL);
    f->other = g_build_filename(f->dir, "other", NULL);
    f->expired = g_build_filename(f->dir, "expired", NULL);
    make(f->good, NULL, QMIG_PKI_CA, 10);
    make(f->good, f->good, QMIG_PKI_SERVER, 10);
    make(f->good, f->good, QMIG_PKI_CLIENT, 10);
}

static void
remove_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_unlink(file);
    }
    g_rmdir(path);
}

static void
tear_down(Fixture *f, const void *unused)
{
    (void)unused;
    remove_dir(f->good);
    remove_dir(f->other);
    remove_dir(f->expired);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->dir);
    g_free(f->good);
    g_free(f->other);
    g_free(f->expired);
}

static void
expect_error(bool ok, GError *error, QmigErrorCode code, const char *text)
{
    g_assert_false(ok);
    g_assert_error(error, QMIG_ERROR, (gint)code);
    if (strstr(error->message, text) == NULL) {
        g_error("got \"%s\", wanted \"…%s…\"", error->message, text);
    }
    g_error_free(error);
}

static void
test_what_is_made_is_good(Fixture *f, const void *unused)
{
    static const char *const hosts[] = { "b.example", "192.0.2.7", "2001:db8::7" };
    g_autofree char *key = g_build_filename(f->good, QMIG_PKI_SERVER_KEY, NULL);
    struct stat st;

    (void)unused;
    for (QmigPkiKind end = QMIG_PKI_SERVER; end <= QMIG_PKI_CLIENT; end++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(qmig_x509_check_own(f->good, end, &error));
        g_assert_no_error(error);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(hosts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(
            qmig_x509_check_peer(f->good, f->good, QMIG_PKI_SERVER, hosts[i], &error));
        g_assert_no_error(error);
    }
    g_assert_cmpint(stat(key, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
}

static void
test_nothing_is_overwritten(Fixture *f, const void *unused)
{
    static const char *const hosts[] = { "b", NULL };
    g_autofree char *path = qmig_x509_cert_path(f->good, QMIG_PKI_SERVER);
    g_autofree char *before = NULL, *after = NULL;
    GError *error = NULL;
    QmigPkiRequest request = { .kind = QMIG_PKI_SERVER,
                               .dir = f->good,
                               .ca_dir = f->good,
                               .name = "x",
                               .hosts = hosts,
                               .days = 1 };

    (void)unused;
    g_file_get_contents(path, &before, NULL, NULL);
    bool ok = qmig_pki_make(&request, &error);
    expect_error(ok, error, QMIG_ERROR_CONFIG, "is not overwritten");
    g_file_get_contents(path, &after, NULL, NULL);
    g_assert_cmpstr(before, ==, after);
    /* Nor is another CA's certificate replaced: all that it has signed would be worthless. */
    make(f->other, NULL, QMIG_PKI_CA, 10);
    request.ca_dir = f->other;
    g_unlink(path);
    g_autofree char *key = g_build_filename(f->good, QMIG_PKI_SERVER_KEY, NULL);
    g_unlink(key);
    error = NULL;
    ok = qmig_pki_make(&request, &error);
    expect_error(ok, error, QMIG_ERROR_CONFIG, "is of another CA");
    g_assert_false(g_file_test(key, G_FILE_TEST_EXISTS));
}

static void
test_bad_requests_are_refused(Fixture *f, const void *unused)
{
    static const char *const odd[] = { "a,DNS:b", NULL }, *const none[] = { NULL };
    static const struct {
        const char *name;
        const char *const *hosts;
        int days;
        const char *text;
    } rows[] = {
        { "x", odd, 1, "wanted a DNS name" },
        { "x", none, 1, "needs a host" },
        { "", odd, 1, "name: has 0 bytes" },
        { "x", odd, 0, "days: 0" },
    };

    (void)unused;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        QmigPkiRequest request = { .kind = QMIG_PKI_SERVER,
                                   .dir = f->other,
                                   .ca_dir = f->good,
                                   .name = rows[i].name,
                                   .hosts = rows[i].hosts,
                                   .days = rows[i].days };
        bool ok = qmig_pki_make(&request, &error);
        expect_error(ok, error, QMIG_ERROR_CONFIG, rows[i].text);
        g_assert_false(g_file_test(f->other, G_FILE_TEST_EXISTS));
    }
}

static void
test_expired_is_told(Fixture *f, const void *unused)
{
    GError *error = NULL;

    (void)unused;
    make(f->expired, f->good, QMIG_PKI_SERVER, -3);
    bool ok = qmig_x509_check_own(f->expired, QMIG_PKI_SERVER, &error);
    expect_error(ok, error, QMIG_ERROR_TLS,
                 "server-cert.pem has expired: it (O=qmig,CN=x)");
}

static void
test_another_ca_is_told(Fixture *f, const void *unused)
{
    GError *error = NULL;

    (void)unused;
    make(f->other, NULL, QMIG_PKI_CA, 10);
    make(f->other, f->other, QMIG_PKI_CLIENT, 10);
    bool ok = qmig_x509_check_peer(f->good, f->other, QMIG_PKI_CLIENT, NULL, &error);
    expect_error(ok, error, QMIG_ERROR_TLS, "client-cert.pem is from another CA");
}

static void
test_another_name_is_told(Fixture *f, const void *unused)
{
    static const char *const hosts[] = { "c.example", "192.0.2.8" };

    (void)unused;
    for (size_t i = 0; i < G_N_ELEMENTS(hosts); i++) {
        GError *error = NULL;
        bool ok = qmig_x509_check_peer(f->good, f->good, QMIG_PKI_SERVER, hosts[i],
                                       &error);
        expect_error(ok, error, QMIG_ERROR_TLS,
                     "is for another name: it (O=qmig,CN=x) is "
                     "for DNS:b.example");
    }
}

/* A client's certificate in the place of a server's. */
static void
test_another_purpose_is_told(Fixture *f, const void *unused)
{
    g_autofree char *from = qmig_x509_cert_path(f->good, QMIG_PKI_CLIENT);
    g_autofree char *to = qmig_x509_cert_path(f->good, QMIG_PKI_SERVER);
    GError *error = NULL;

    (void)unused;
    g_assert_cmpint(g_rename(from, to), ==, 0);
    bool ok = qmig_x509_check_peer(f->good, f->good, QMIG_PKI_SERVER, NULL, &error);
    expect_error(ok, error, QMIG_ERROR_TLS, "is not meant for a server");
    error = NULL;
    ok = qmig_x509_check_own(f->good, QMIG_PKI_SERVER, &error);
    expect_error(ok, error, QMIG_ERROR_TLS, "is not the key of");
}

static void
test_missing_files_are_named(Fixture *f, const void *unused)
{
    g_autofree char *path = g_build_filename(f->good, QMIG_PKI_CLIENT_KEY, NULL);
    GError *error = NULL;

    (void)unused;
    bool ok = qmig_x509_check_own(f->other, QMIG_PKI_CLIENT, &error);
    expect_error(ok, error, QMIG_ERROR_CONFIG, "other/ca-cert.pem: No such file");
    g_assert_true(g_file_set_contents(path, "nonsense", -1, NULL));
    error = NULL;
    ok = qmig_x509_check_own(f->good, QMIG_PKI_CLIENT, &error);
    expect_error(ok, error, QMIG_ERROR_CONFIG, "client-key.pem: holds no private key");
}

static void
test_psk(Fixture *f, const void *unused)
{
    g_autoptr(GBytes) first = NULL, again = NULL, second = NULL;
    GError *error = NULL;
    bool ok;

    (void)unused;
    g_assert_true(qmig_pki_make_psk(f->other, "qemu", NULL));
    g_assert_true(qmig_psk_read(f->other, "qemu", &first, NULL));
    g_assert_cmpuint(g_bytes_get_size(first), ==, 32);
    ok = qmig_pki_make_psk(f->other, "qemu", &error);
    expect_error(ok, error, QMIG_ERROR_CONFIG, "has a key already");
    g_assert_true(qmig_pki_make_psk(f->other, "b", NULL));
    g_assert_true(qmig_psk_read(f->other, "qemu", &again, NULL));
    g_assert_true(qmig_psk_read(f->other, "b", &second, NULL));
    g_assert_true(g_bytes_equal(first, again));
    g_assert_false(g_bytes_equal(first, second));
    error = NULL;
    ok = qmig_psk_read(f->other, "nobody", &second, &error);
    expect_error(ok, error, QMIG_ERROR_TLS, "no key for user \"nobody\"");
    error = NULL;
    ok = qmig_pki_make_psk(f->other, "a:b", &error);
    expect_error(ok, error, QMIG_ERROR_CONFIG, "without colon");
}

static void
test_odd_psk_is_refused(Fixture *f, const void *unused)
{
    static const char *const texts[] = { "qemu:", "qemu:0", "qemu:zz", "qemu:0g" };
    g_autofree char *path = g_build_filename(f->good, QMIG_PKI_PSK, NULL);

    (void)unused;
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GBytes) key = NULL;
        GError *error = NULL;
        g_assert_true(g_file_set_contents(path, texts[i], -1, NULL));
        bool ok = qmig_psk_read(f->good, "qemu", &key, &error);
        expect_error(ok, error, QMIG_ERROR_CONFIG, "is no hexadecimal number");
    }
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(Fixture *, const void *);
    } tests[] = {
        { "/pki/what-is-made-is-good", test_what_is_made_is_good },
        { "/pki/nothing-is-overwritten", test_nothing_is_overwritten },
        { "/pki/bad-requests-are-refused", test_bad_requests_are_refused },
        { "/pki/expired-is-told", test_expired_is_told },
        { "/pki/another-ca-is-told", test_another_ca_is_told },
        { "/pki/another-name-is-told", test_another_name_is_told },
        { "/pki/another-purpose-is-told", test_another_purpose_is_told },
        { "/pki/missing-files-are-named", test_missing_files_are_named },
        { "/pki/psk", test_psk },
        { "/pki/odd-psk-is-refused", test_odd_psk_is_refused },
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_test_add(tests[i].name, Fixture, NULL, set_up, tests[i].run, tear_down);
    }
    return g_test_run();
}
