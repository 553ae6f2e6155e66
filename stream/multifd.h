/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A multifd channel: bytes <-> events. Without I/O.
 *
 * The grammar (P: target page size, N = 524288 / P):
 *   channel := init packet*
 *   init    := be32 0x11223344, be32 1, 16 bytes uuid, u8 channel, 39 bytes reserved
 *   packet  := be32 0x11223344, be32 1, be32 flags, ram | device
 *   ram     := be32 pages_alloc, be32 normal, be32 next_packet_size, be64 packet_num,
 *              be32 zero, 28 bytes reserved, 256 bytes block, N * be64 offset,
 *              next_packet_size bytes if normal > 0
 *   device  := 256 bytes idstr, be32 instance, be32 n, n bytes         (flags has 0x40)
 * From QEMU migration/multifd.h: MultiFDInit_t, MultiFDPacket_t, MultiFDPacketDeviceState_t.
 */
#ifndef QMIG_STREAM_MULTIFD_H
#define QMIG_STREAM_MULTIFD_H

#include "stream/decoder.h"
#include "util/writer.h"

/* The longest head qmig_multifd_write_packet() writes, bytes: 1 KiB pages. */
#define QMIG_MULTIFD_HEAD_MAX (320 + 8 * 512)

typedef struct QmigMultifdDecoder QmigMultifdDecoder;

QmigMultifdDecoder *qmig_multifd_decoder_new(void);
void qmig_multifd_decoder_free(QmigMultifdDecoder *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigMultifdDecoder, qmig_multifd_decoder_free)

/* The target's page size, bytes: a power of two from 1 KiB to 64 KiB; 4096 unless said. To be
 * called before the first packet. */
void qmig_multifd_decoder_set_page_size(QmigMultifdDecoder *d, uint32_t page_size);

/* As qmig_decoder_push() and qmig_decoder_eof(). */
void qmig_multifd_decoder_push(QmigMultifdDecoder *d, const void *data, size_t len);
void qmig_multifd_decoder_eof(QmigMultifdDecoder *d);

/**
 * qmig_multifd_decoder_next() - produce the next event
 * @d:     decoder
 * @ev:    (out) MULTIFD_INIT once, then MULTIFD_PACKET each; after eof the note END. What the
 *         packet points to is borrowed until the next call, its payload until the next push.
 * @error: (out) set only when QMIG_DECODE_FAILED is returned
 *
 * A payload that lies whole in the pushed bytes is not copied. A packet with flags that are
 * not known is not understood, nor what follows it: a note RAW, then BYTES.
 * Errors: PROTOCOL, LIMIT; the message names channel, packet (1 is the channel's first) and
 *         stream offset.
 */
QmigDecodeResult qmig_multifd_decoder_next(QmigMultifdDecoder *d, struct qmig_event *ev,
                                           GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Bytes taken in so far that events have accounted for. */
uint64_t qmig_multifd_decoder_offset(const QmigMultifdDecoder *d);

/* The number the channel gave itself, or -1 as long as its first 64 bytes are not there. */
int qmig_multifd_decoder_channel(const QmigMultifdDecoder *d);

/* The 64 bytes a channel begins with. Errors: PROTOCOL: a channel number beyond 255. */
bool qmig_multifd_write_init(QmigWriter *w, const struct qmig_event_multifd_init *init,
                             GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_multifd_write_packet() - a packet's head; its payload follows it as it is
 * @w: has room for QMIG_MULTIFD_HEAD_MAX bytes
 *
 * Errors: PROTOCOL for what no receiver takes: more pages than the table holds, a payload that
 *         does not fit the page count. Nothing is written then.
 */
bool qmig_multifd_write_packet(QmigWriter *w, const struct qmig_multifd_packet *packet,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
