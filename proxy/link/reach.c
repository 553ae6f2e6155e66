/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/reach.h"

#include "util/error.h"
#include "util/socket.h"

#include <poll.h>
#include <string.h>

enum {
    CONNECT_MS = 10000,
    CONNECT_AGAIN_MS = 100,
};

/* The kernel goes up a path's "..", a pattern does not see that. */
static bool
is_plain(const QmigAddress *address)
{
    g_autofree char *plain = address->kind == QMIG_ADDRESS_UNIX
                                 ? g_canonicalize_filename(address->path, "/")
                                 : NULL;

    return plain == NULL || strcmp(plain, address->path) == 0;
}

/* Does @pattern allow @address, whose text is @text? */
static bool
allows(const char *pattern, const QmigAddress *address, const char *text)
{
    static const char tcp[] = "tcp:";
    bool has_number = g_str_has_prefix(pattern, tcp) &&
                      (g_ascii_isdigit(pattern[strlen(tcp)]) ||
                       pattern[strlen(tcp)] == '[');

    /* 192.0.2.* means no name that only begins so. */
    return g_pattern_match_simple(pattern, text) &&
           (!has_number || g_hostname_is_ip_address(address->host));
}

QmigAddress *
qmig_reach_allowed(const QmigAddress *destination, const char *const *patterns,
                   const char *wanted, GError **error)
{
    if (wanted[0] == '\0' && destination != NULL) {
        return qmig_address_copy(destination);
    }
    if (wanted[0] == '\0') {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "the far end was not told where to connect (--connect)");
        return NULL;
    }
    g_autoptr(QmigAddress) address = qmig_address_parse(wanted, error);
    if (address == NULL) {
        return NULL;
    }
    g_autofree char *text = qmig_address_to_string(address);
    g_autofree char *own = destination != NULL ? qmig_address_to_string(destination)
                                               : NULL;
    bool is_own = g_strcmp0(text, own) == 0, allowed = is_own;
    for (const char *const *p = patterns; p != NULL && *p != NULL; p++) {
        allowed = allowed || allows(*p, address, text);
    }
    if (!allowed) {
        qmig_set_error(error, QMIG_ERROR_CONFIG,
                       "the far end may not connect to %s (its --connect and --allow)",
                       text);
        return NULL;
    }
    if (!is_own && !is_plain(address)) {
        qmig_set_error(
            error, QMIG_ERROR_CONFIG,
            "the far end does not connect to %s: wanted an absolute path without "
            "\".\" and \"..\"",
            text);
        return NULL;
    }
    return g_steal_pointer(&address);
}

int
qmig_reach(const QmigAddress *address, bool may_come, const QmigCancel *cancel,
           GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(CONNECT_MS);

    for (;;) {
        g_autoptr(GError) local = NULL;
        int fd = qmig_socket_connect(address, deadline, cancel, &local);
        if (fd >= 0) {
            return fd;
        }
        if (!may_come || qmig_cancel_is_raised(cancel) ||
            qmig_now_us() + CONNECT_AGAIN_MS * 1000 >= deadline) {
            g_propagate_error(error, g_steal_pointer(&local));
            return -1;
        }
        (void)!qmig_wait_fd(qmig_cancel_fd(cancel), POLLIN,
                            qmig_deadline_in_ms(CONNECT_AGAIN_MS), NULL, NULL);
    }
}
