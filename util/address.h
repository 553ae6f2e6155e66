/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Socket addresses as users and QEMU write them: unix:PATH, tcp:HOST:PORT. */
#ifndef QMIG_UTIL_ADDRESS_H
#define QMIG_UTIL_ADDRESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum {
    QMIG_ADDRESS_UNIX,
    QMIG_ADDRESS_TCP,
} QmigAddressKind;

typedef struct {
    QmigAddressKind kind;
    char *path;    /* unix: file system path, shorter than sockaddr_un allows */
    char *host;    /* tcp: name or number, IPv6 without brackets; "" = any */
    uint16_t port; /* tcp; 0 = let the kernel choose when listening */
} QmigAddress;

/**
 * qmig_address_parse() - read an address
 * @text:  unix:PATH, tcp:HOST:PORT, tcp:[V6]:PORT; a text with a slash and no scheme is a path
 *
 * Errors: CONFIG, with the accepted forms.
 * Return: (transfer full) the address, or NULL.
 */
QmigAddress *qmig_address_parse(const char *text,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;
QmigAddress *qmig_address_new_unix(const char *path);
QmigAddress *qmig_address_new_tcp(const char *host, uint16_t port);
QmigAddress *qmig_address_copy(const QmigAddress *address);
void qmig_address_free(QmigAddress *address);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigAddress, qmig_address_free)

/* The address as qmig_address_parse() and QEMU's migrate command read it. (transfer full) */
char *qmig_address_to_string(const QmigAddress *address);

#endif
