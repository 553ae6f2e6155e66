/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What can be told from the files. Those of a QEMU are looked at where it is on this host and they
 * can be read; else the rehearsal will tell.
 */
#include "job/storage.h"
#include "job/tls.h"
#include "util/error.h"

#include <openssl/x509v3.h>
#include <string.h>

static void
tell(GString *problems, const char *whom, const GError *error)
{
    qmig_job_problem(problems, "%s: TLS: %s", whom, error->message);
}

/* ---- certificates --------------------------------------------------------------------------- */

static bool
lacks_client_cert(const char *dir)
{
    g_autofree char *path = qmig_x509_cert_path(dir, QMIG_PKI_CLIENT);

    return !g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Return: whether its own files are good. */
static bool
check_own(const QmigTlsSide *s, GString *problems)
{
    g_autoptr(GError) error = NULL;

    if (s->end == QMIG_PKI_CLIENT && lacks_client_cert(s->dir)) {
        qmig_job_problem(problems,
                         "%s: TLS: %s/client-cert.pem is missing: it has no client "
                         "certificate to show: make one by `qmig pki client %s --ca DIR`",
                         s->side->label, s->dir, s->dir);
        return false;
    }
    if (!qmig_x509_check_own(s->dir, s->end, &error)) {
        tell(problems, s->side->label, error);
        return false;
    }
    return true;
}

/* Would @whom, who trusts the CA in @dir, take the certificate in @peer_dir? */
static void
check_peer(GString *problems, const char *whom, const char *dir, const char *peer_dir,
           QmigPkiKind end, const char *host)
{
    g_autoptr(GError) error = NULL;

    if (!qmig_x509_check_peer(dir, peer_dir, end, host, &error)) {
        qmig_job_problem(problems, "%s: TLS: it would refuse: %s", whom, error->message);
    }
}

static void
check_certificates(const QmigJob *job, GString *problems)
{
    const QmigJobTls *tls = job->tls;
    /* Disks go from QEMU to QEMU, past the proxy. */
    bool meet = tls->proxy_dir == NULL || qmig_storage_is_asked(job);
    const QmigTlsSide *source = &tls->source, *destination = &tls->destination;
    const char *proxy = tls->server != NULL && tls->client != NULL ? tls->proxy_dir
                                                                   : NULL;
    bool source_good = source->readable && check_own(source, problems);
    bool destination_good = destination->readable && check_own(destination, problems);

    if (meet && source_good && destination_good) {
        check_peer(problems, "source", source->dir, destination->dir, QMIG_PKI_SERVER,
                   tls->hostname);
        check_peer(problems, "destination", destination->dir, source->dir,
                   QMIG_PKI_CLIENT, NULL);
    }
    if (proxy != NULL && source_good) {
        check_peer(problems, "source", source->dir, proxy, QMIG_PKI_SERVER,
                   tls->proxy_hostname);
        check_peer(problems, "proxy", proxy, source->dir, QMIG_PKI_CLIENT, NULL);
    }
    if (proxy != NULL && destination_good) {
        check_peer(problems, "proxy", proxy, destination->dir, QMIG_PKI_SERVER,
                   tls->hostname);
        check_peer(problems, "destination", destination->dir, proxy, QMIG_PKI_CLIENT,
                   NULL);
    }
}

/* ---- pre-shared keys -------------------------------------------------------------------------- */

static GBytes *
read_key(const char *whom, const char *dir, const char *user, GString *problems)
{
    g_autoptr(GError) error = NULL;
    GBytes *key = NULL;

    if (!qmig_psk_read(dir, user, &key, &error)) {
        tell(problems, whom, error);
    }
    return key;
}

static void
compare_keys(GString *problems, const char *user, const char *a, GBytes *key_a,
             const char *b, GBytes *key_b)
{
    if (key_a != NULL && key_b != NULL && !g_bytes_equal(key_a, key_b)) {
        qmig_job_problem(problems,
                         "TLS: %s and %s have different keys for user \"%s\": copy "
                         "keys.psk from one to the other",
                         a, b, user);
    }
}

static void
check_keys(const QmigJobTls *tls, GString *problems)
{
    const char *user = tls->source.user;
    g_autoptr(GBytes) source = NULL, destination = NULL, proxy = NULL;

    if (tls->source.readable) {
        source = read_key("source", tls->source.dir, user, problems);
    }
    if (tls->destination.readable) {
        destination = read_key("destination", tls->destination.dir, user, problems);
    }
    if (tls->server != NULL) {
        proxy = read_key("proxy", tls->proxy_dir, user, problems);
        compare_keys(problems, user, "source", source, "proxy", proxy);
        compare_keys(problems, user, "proxy", proxy, "destination", destination);
    } else {
        compare_keys(problems, user, "source", source, "destination", destination);
    }
}

/* ---- the proxy's own ------------------------------------------------------------------------ */

/* A name in the proxy's certificate, for the source to expect. */
static char *
first_name(const char *dir)
{
    g_autofree char *path = qmig_x509_cert_path(dir, QMIG_PKI_SERVER);
    g_autoptr(X509) cert = qmig_x509_read(path, NULL);
    g_auto(QmigX509Info) info = { 0 };
    char *name = NULL;

    if (cert == NULL) {
        return NULL;
    }
    qmig_x509_info(cert, &info);
    g_auto(GStrv) names = g_strsplit(info.names, ", ", 0);
    for (char **n = names; *n != NULL && name == NULL; n++) {
        if (g_str_has_prefix(*n, "DNS:") && strchr(*n, '*') == NULL) {
            name = g_strdup(*n + strlen("DNS:"));
        } else if (g_str_has_prefix(*n, "IP Address:") && strchr(*n, '.') != NULL) {
            name = g_strdup(*n + strlen("IP Address:"));
        }
    }
    return name;
}

static void
load_proxy(QmigJobTls *tls, GString *problems)
{
    g_autoptr(GError) error = NULL;
    const char *user = tls->psk ? tls->source.user : NULL;

    if (!tls->psk && lacks_client_cert(tls->proxy_dir) &&
        g_file_test(tls->proxy_dir, G_FILE_TEST_IS_DIR)) {
        qmig_job_problem(
            problems,
            "proxy: TLS: %s/client-cert.pem is missing: the proxy has no "
            "client certificate to show to the destination: make one by `qmig "
            "pki client %s --ca DIR`",
            tls->proxy_dir, tls->proxy_dir);
        return;
    }
    tls->server = qmig_tls_creds_new(tls->proxy_dir, QMIG_PKI_SERVER, user, &error);
    if (tls->server == NULL) {
        tell(problems, "proxy", error);
        return;
    }
    tls->client = qmig_tls_creds_new(tls->proxy_dir, QMIG_PKI_CLIENT, user, &error);
    if (tls->client == NULL) {
        tell(problems, "proxy", error);
        return;
    }
    tls->proxy_hostname = tls->psk ? NULL : first_name(tls->proxy_dir);
    if (!tls->psk && tls->proxy_hostname == NULL) {
        qmig_job_problem(
            problems,
            "proxy: TLS: %s/server-cert.pem is for no name the source could be "
            "told: make one with `qmig pki server … --host NAME`",
            tls->proxy_dir);
    }
}

void
qmig_tls_check_files(QmigJob *job, GString *problems)
{
    QmigJobTls *tls = job->tls;

    if (tls->proxy_dir != NULL) {
        load_proxy(tls, problems);
    }
    if (tls->psk) {
        check_keys(tls, problems);
    } else {
        check_certificates(job, problems);
    }
}
