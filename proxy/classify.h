/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What kind of connection this is, from the first bytes its opener sent. Pure. */
#ifndef QMIG_PROXY_CLASSIFY_H
#define QMIG_PROXY_CLASSIFY_H

#include <stddef.h>
#include <stdint.h>

/* A multifd channel begins with a packet of this size; its receiver waits for all of it. */
#define QMIG_FIRST_BYTES_MAX 64

typedef enum {
    QMIG_FIRST_NEED_MORE, /* not enough bytes to tell, or to open the other leg with */
    QMIG_FIRST_MAIN,      /* "QEVM": the main channel */
    QMIG_FIRST_MULTIFD,   /* multifd magic, and its 64 bytes are all here */
    QMIG_FIRST_TLS,       /* a TLS handshake record */
    QMIG_FIRST_RECOVERY,  /* a migration command without a head: postcopy recovery */
    QMIG_FIRST_UNKNOWN,   /* none of these: a preempt channel, or nothing of QEMU's */
} QmigFirstBytes;

typedef struct {
    QmigFirstBytes kind;
    uint8_t multifd_id; /* MULTIFD: the channel number the source gave it */
} QmigFirst;

/* Judge the first @len bytes. A longer start of the same bytes never contradicts an answer
   other than NEED_MORE. */
QmigFirst qmig_classify(const uint8_t *data, size_t len);

#endif
