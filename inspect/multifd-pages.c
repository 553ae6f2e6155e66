/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A compressed channel is one stream from its first packet to its last: its state is kept here
 * from packet to packet. The compression is a setting of the whole migration, so one that
 * changes is an error; only packets without pages may leave it out.
 */
#include "inspect/multifd-pages.h"

#include "compress/inflate.h"
#include "util/error.h"

#include <inttypes.h>

struct QmigMultifdPages {
    bool has_kind;
    uint32_t kind;        /* enum qmig_multifd_compression of the channel */
    QmigInflate *inflate; /* owned; NULL until a compressed payload came */
    uint8_t *pages;       /* owned; storage of @cap bytes */
    size_t cap;
};

QmigMultifdPages *
qmig_multifd_pages_new(void)
{
    return g_new0(QmigMultifdPages, 1);
}

void
qmig_multifd_pages_free(QmigMultifdPages *p)
{
    if (p != NULL) {
        qmig_inflate_free(p->inflate);
        g_free(p->pages);
        g_free(p);
    }
}

static const char *
compression_name(uint32_t kind)
{
    switch (kind) {
    case QMIG_MULTIFD_NONE:
        return "none";
    case QMIG_MULTIFD_ZLIB:
        return "zlib";
    case QMIG_MULTIFD_ZSTD:
        return "zstd";
    case QMIG_MULTIFD_QPL:
        return "qpl";
    case QMIG_MULTIFD_UADK:
        return "uadk";
    case QMIG_MULTIFD_QATZIP:
        return "qatzip";
    default:
        return "unknown";
    }
}

/* The channel's compression, once its first payload told it. */
static bool
settle(QmigMultifdPages *p, uint32_t kind, GError **error)
{
    if (p->has_kind) {
        return kind == p->kind ||
               qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "compression \"%s\", but \"%s\" in the packets before",
                              compression_name(kind), compression_name(p->kind));
    }
    if (kind == QMIG_MULTIFD_ZLIB || kind == QMIG_MULTIFD_ZSTD) {
        p->inflate = qmig_inflate_new(kind == QMIG_MULTIFD_ZLIB ? QMIG_CONTINUOUS_ZLIB
                                                                : QMIG_CONTINUOUS_ZSTD);
    } else if (kind != QMIG_MULTIFD_NONE) {
        return qmig_set_error(error, QMIG_ERROR_UNSUPPORTED,
                              "compression \"%s\" (flags 0x%x) cannot be unpacked: only "
                              "none, zlib and zstd can",
                              compression_name(kind), kind);
    }
    p->kind = kind;
    p->has_kind = true;
    return true;
}

static bool
take(QmigMultifdPages *p, const struct qmig_multifd_packet *packet, const uint8_t **pages,
     GError **error)
{
    size_t len = (size_t)packet->normal_pages * packet->page_size;

    if (!settle(p, packet->flags & QMIG_MULTIFD_COMPRESSION, error)) {
        return false;
    }
    if (p->kind == QMIG_MULTIFD_NONE) {
        *pages = packet->payload;
        return true;
    }
    if (p->cap < len) {
        /* The decoder has checked that no packet has more than QEMU's 512 KiB. */
        g_free(p->pages);
        p->pages = g_malloc(len);
        p->cap = len;
    }
    if (!qmig_inflate_piece(p->inflate, packet->payload, packet->payload_length, p->pages,
                            len, error)) {
        return false;
    }
    *pages = p->pages;
    return true;
}

bool
qmig_multifd_pages_take(QmigMultifdPages *p, const struct qmig_multifd_packet *packet,
                        const uint8_t **pages, GError **error)
{
    if ((packet->flags & QMIG_MULTIFD_DEVICE_STATE) || packet->normal_pages == 0) {
        *pages = NULL;
        return true;
    }
    if (!take(p, packet, pages, error)) {
        g_prefix_error(error, "packet %" PRIu64 " of block \"%s\": ", packet->packet_num,
                       packet->block);
        return false;
    }
    return true;
}
