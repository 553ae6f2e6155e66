/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * First bytes -> kind of connection.
 *
 * The destination peeks four bytes of each plain connection, and blocks its main loop until
 * they are there; of a multifd connection it reads 64 bytes at once. So no kind is told before
 * that many bytes are in hand: the connection to the destination is opened on the answer.
 */
#include "proxy/classify.h"

#include "stream/qmig-event.h"
#include "util/cursor.h"

enum {
    FIRST_PEEK = 4,
    MAIN_MAGIC = 0x5145564d,    /* QEMU migration/savevm.h: QEMU_VM_FILE_MAGIC, "QEVM" */
    MULTIFD_MAGIC = 0x11223344, /* QEMU migration/multifd.c: MULTIFD_MAGIC */
    MULTIFD_ID_OFFSET = 24,     /* after magic, version and 16 bytes of uuid */
    COMMAND = 0x08,             /* QEMU migration/savevm.h: QEMU_VM_COMMAND */
    TLS_HANDSHAKE = 0x16,       /* RFC 8446: ContentType handshake, then version 3.x */
    TLS_MAJOR = 0x03,
};

QmigFirst
qmig_classify(const uint8_t *data, size_t len)
{
    QmigCursor c = qmig_cursor(data, len);
    uint32_t magic;

    if (len < FIRST_PEEK || !qmig_cursor_be32(&c, &magic)) {
        return (QmigFirst){ .kind = QMIG_FIRST_NEED_MORE };
    }
    if (magic == MAIN_MAGIC) {
        return (QmigFirst){ .kind = QMIG_FIRST_MAIN };
    }
    if (magic == MULTIFD_MAGIC) {
        if (len < QMIG_FIRST_BYTES_MAX) {
            return (QmigFirst){ .kind = QMIG_FIRST_NEED_MORE };
        }
        return (QmigFirst){ QMIG_FIRST_MULTIFD, data[MULTIFD_ID_OFFSET] };
    }
    if (data[0] == TLS_HANDSHAKE && data[1] == TLS_MAJOR) {
        return (QmigFirst){ .kind = QMIG_FIRST_TLS };
    }
    /* be16 command: a number of those QEMU has, so that not every stray 08 passes. */
    if (data[0] == COMMAND && data[1] == 0 && data[2] >= QMIG_COMMAND_OPEN_RETURN_PATH &&
        data[2] <= QMIG_COMMAND_SWITCHOVER_START) {
        return (QmigFirst){ .kind = QMIG_FIRST_RECOVERY };
    }
    return (QmigFirst){ .kind = QMIG_FIRST_UNKNOWN };
}
