/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a connection of the tunnel begins, as payloads of frames. Without I/O.
 *
 *     near                                       far
 *     HELLO   a new session           ------->
 *                                     <-------   WELCOME, or REFUSED and the end
 *     RESUME  one more connection     ------->
 *                                     <-------   WELCOME, or REFUSED and the end
 */
#ifndef QMIG_PROXY_LINK_HELLO_H
#define QMIG_PROXY_LINK_HELLO_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QMIG_LINK_MAGIC 0x514c4e4bu /* "QLNK" */

enum {
    QMIG_LINK_ID = 16,     /* bytes that name a session */
    QMIG_LINK_SECRET = 32, /* bytes that only its two ends know */
    QMIG_LINK_NAME_MAX = 128,
    QMIG_LINK_REASON_MAX = 255,
    QMIG_LINK_WIRES_MAX = 16,
    QMIG_LINK_WINDOW_MAX = 256 << 20,
};

typedef struct {
    uint16_t version_min, version_max;
    uint16_t n_wires;    /* connections the near side will make */
    uint32_t window;     /* bytes in flight it would like, each stream and direction */
    uint64_t cache_size; /* bytes of page cache it would like */
    uint32_t
        deadline_ms; /* how long a session without connection lives, as it would like */
    char name[QMIG_LINK_NAME_MAX + 1]; /* of the session, for people */
} QmigHello;

typedef struct {
    uint16_t version; /* both speak from now on */
    uint16_t
        n_wires; /* at most so many connections; what the far side grants, as all below */
    uint32_t window;
    uint64_t cache_size;
    uint32_t deadline_ms;
    uint8_t id[QMIG_LINK_ID];
    uint8_t secret[QMIG_LINK_SECRET];
} QmigWelcome;

typedef struct {
    uint16_t wire; /* which connection this is; an older one of that number is dropped */
    uint8_t id[QMIG_LINK_ID];
    uint8_t secret[QMIG_LINK_SECRET];
} QmigResume;

typedef enum {
    QMIG_REFUSED_VERSION = 1,
    QMIG_REFUSED_UNKNOWN = 2, /* no such session (any more) */
    QMIG_REFUSED_FULL = 3,
    QMIG_REFUSED_LEAVING = 4, /* it is about to end */
    QMIG_REFUSED_PROTOCOL = 5,
} QmigRefusal;

/* What people will see, whoever said it: "?" for all else, control characters say. Return: there was
   none. */
bool qmig_link_keep_printable(char *text);

/**
 * qmig_link_name() - of a session: WHAT@HOST
 * @what: it is for, the same when its near end comes again, and on this host for nothing else
 * @host: where the near end is: others have the same unit files and templates
 *
 * What does not fit, or not all of which the other side would see, is cut and has a checksum behind.
 */
void qmig_link_name(const char *what, const char *host,
                    char name[static QMIG_LINK_NAME_MAX + 1]);

/* Each writes the payload to @out. Return: its length, bytes. */
size_t qmig_hello_write(const QmigHello *h, uint8_t out[static 512]);
size_t qmig_welcome_write(const QmigWelcome *w, uint8_t out[static 512]);
size_t qmig_resume_write(const QmigResume *r, uint8_t out[static 512]);
size_t qmig_refused_write(QmigRefusal code, const char *reason, uint8_t out[static 512]);

/* Errors: PROTOCOL. */
bool qmig_hello_read(const void *in, size_t len, QmigHello *h,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_welcome_read(const void *in, size_t len, QmigWelcome *w,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool qmig_resume_read(const void *in, size_t len, QmigResume *r,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* @reason: printable, whatever came. */
bool qmig_refused_read(const void *in, size_t len, QmigRefusal *code,
                       char reason[static QMIG_LINK_REASON_MAX + 1],
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
