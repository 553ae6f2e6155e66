/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parsing and printing of unix: and tcp: addresses. */
#include "util/address.h"

#include "util/error.h"

#include <string.h>
#include <sys/un.h>

#define FORMS "expected unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT"

QmigAddress *
qmig_address_new_unix(const char *path)
{
    QmigAddress *a = g_new0(QmigAddress, 1);

    a->kind = QMIG_ADDRESS_UNIX;
    a->path = g_strdup(path);
    return a;
}

QmigAddress *
qmig_address_new_tcp(const char *host, uint16_t port)
{
    QmigAddress *a = g_new0(QmigAddress, 1);

    a->kind = QMIG_ADDRESS_TCP;
    a->host = g_strdup(host);
    a->port = port;
    return a;
}

static QmigAddress *
parse_unix(const char *path, GError **error)
{
    size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

    if (path[0] == '\0' || strlen(path) > max) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "address: socket path \"%s\" has %zu bytes, wanted 1 to %zu", path,
                       strlen(path), max);
        return NULL;
    }
    return qmig_address_new_unix(path);
}

static QmigAddress *
parse_tcp(const char *text, GError **error)
{
    const char *colon = strrchr(text, ':');
    guint64 port;

    if (colon == NULL ||
        !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port, NULL)) {
        qmig_set_error(error, QMIG_ERROR_CONFIG, "address: \"tcp:%s\": no port; " FORMS,
                       text);
        return NULL;
    }
    g_autofree char *host = g_strndup(text, (gsize)(colon - text));
    size_t n = strlen(host);
    if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        memmove(host, host + 1, n - 1);
        if (strpbrk(host, "[]") != NULL || strchr(host, ':') == NULL) {
            qmig_set_error(
                error, QMIG_ERROR_CONFIG,
                "address: \"tcp:%s\": only an IPv6 address goes into brackets; " FORMS,
                text);
            return NULL;
        }
    } else if (strchr(host, ':') != NULL) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "address: \"tcp:%s\": an IPv6 address needs brackets; " FORMS,
                       text);
        return NULL;
    }
    return qmig_address_new_tcp(host, (uint16_t)port);
}

QmigAddress *
qmig_address_parse(const char *text, GError **error)
{
    if (g_str_has_prefix(text, "unix:")) {
        return parse_unix(text + strlen("unix:"), error);
    }
    if (g_str_has_prefix(text, "tcp:")) {
        return parse_tcp(text + strlen("tcp:"), error);
    }
    if (strchr(text, '/') != NULL) {
        return parse_unix(text, error);
    }
    qmig_set_error(error, QMIG_ERROR_CONFIG, "address: \"%s\": " FORMS, text);
    return NULL;
}

QmigAddress *
qmig_address_copy(const QmigAddress *address)
{
    if (address == NULL) {
        return NULL;
    }
    return address->kind == QMIG_ADDRESS_UNIX
               ? qmig_address_new_unix(address->path)
               : qmig_address_new_tcp(address->host, address->port);
}

void
qmig_address_free(QmigAddress *address)
{
    if (address != NULL) {
        g_free(address->path);
        g_free(address->host);
        g_free(address);
    }
}

char *
qmig_address_to_string(const QmigAddress *a)
{
    if (a->kind == QMIG_ADDRESS_UNIX) {
        return g_strdup_printf("unix:%s", a->path);
    }
    return g_strdup_printf(strchr(a->host, ':') != NULL ? "tcp:[%s]:%u" : "tcp:%s:%u",
                           a->host, a->port);
}
