/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/lib/pki.h"

#include <glib/gstdio.h>

static const char user[] = "qemu";

static void
make(const char *dir, const char *ca_dir, QmigPkiKind kind)
{
    static const char *const hosts[] = { TEST_PKI_HOST, "proxy.example", NULL };
    g_autoptr(GError) error = NULL;
    QmigPkiRequest request = { .kind = kind,
                               .dir = dir,
                               .ca_dir = ca_dir,
                               .name = kind == QMIG_PKI_CA ? "a CA" : TEST_PKI_HOST,
                               .hosts = kind == QMIG_PKI_SERVER ? hosts : NULL,
                               .days = 10 };
    bool ok = qmig_pki_make(&request, &error);

    g_assert_no_error(error);
    g_assert_true(ok);
}

void
test_pki_make(TestPki *pki)
{
    g_autoptr(GError) error = NULL;

    pki->dir = g_dir_make_tmp("qmig-pki-XXXXXX", &error);
    g_assert_no_error(error);
    pki->good = g_build_filename(pki->dir, "good", NULL);
    pki->other = g_build_filename(pki->dir, "other", NULL);
    pki->bare = g_build_filename(pki->dir, "bare", NULL);
    pki->psk = g_build_filename(pki->dir, "psk", NULL);
    pki->psk_other = g_build_filename(pki->dir, "psk-other", NULL);
    for (int i = 0; i < 2; i++) {
        const char *dir = i == 0 ? pki->good : pki->other;
        make(dir, NULL, QMIG_PKI_CA);
        make(dir, dir, QMIG_PKI_SERVER);
        make(dir, dir, QMIG_PKI_CLIENT);
    }
    /* A server's directory has the CA's certificate, and none of a client. */
    make(pki->bare, pki->good, QMIG_PKI_SERVER);
    g_assert_true(qmig_pki_make_psk(pki->psk, user, NULL));
    g_assert_true(qmig_pki_make_psk(pki->psk_other, user, NULL));
}

static void
remove_dir(char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_unlink(file);
    }
    g_rmdir(path);
    g_free(path);
}

void
test_pki_remove(TestPki *pki)
{
    remove_dir(pki->good);
    remove_dir(pki->other);
    remove_dir(pki->bare);
    remove_dir(pki->psk);
    remove_dir(pki->psk_other);
    remove_dir(pki->dir);
}

QmigTlsCreds *
test_pki_creds(const char *dir, QmigPkiKind end)
{
    g_autofree char *keys = g_build_filename(dir, QMIG_PKI_PSK, NULL);
    bool psk = g_file_test(keys, G_FILE_TEST_EXISTS);
    g_autoptr(GError) error = NULL;
    QmigTlsCreds *creds = qmig_tls_creds_new(dir, end, psk ? user : NULL, &error);

    g_assert_no_error(error);
    return creds;
}
