/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A session between two proxies: streams over connections that may break.
 *
 *     stream writers --> queue --> wire writers ==connections==> wire readers --> order --> stream readers
 *                          ^  kept until acknowledged                              |
 *                          +-------------------- ACK: consumed <-------------------+
 *
 * A frame stays with its sender until the reader of its stream has consumed it. When a connection
 * breaks, what was under way on it goes out again on another; readers see neither loss nor repetition.
 * So both QEMUs see a pause, no more. Without any connection for longer than the deadline a session
 * fails, and with it all its streams.
 *
 * Threads: every function may be called from any, but a stream has one reader and one writer.
 */
#ifndef QMIG_PROXY_LINK_LINK_H
#define QMIG_PROXY_LINK_LINK_H

#include "proxy/link/hello.h"
#include "proxy/link/wire.h"
#include "util/auto.h"

#include <json-c/json.h>

typedef struct QmigLink QmigLink;
typedef struct QmigLinkStream QmigLinkStream;

typedef enum {
    QMIG_STREAM_MIGRATION =
        1,                /* a connection of a migration; the first of a group is main */
    QMIG_STREAM_DISK = 2, /* NBD */
    QMIG_STREAM_CONTROL = 3, /* QMP */
} QmigStreamKind;

/* Payload of OPEN: u8 kind, u8 urgent, be16 group, be16 index, u8 length, address. */
typedef struct {
    QmigStreamKind kind;
    bool urgent;       /* its frames go before all others */
    uint16_t group;    /* connections that belong together: one migration */
    uint16_t index;    /* 0, 1, … in the order they were made */
    char address[256]; /* what the far side shall connect to; "": what it was told */
} QmigLinkOpen;

typedef enum {
    QMIG_LINK_UP,     /* at least one connection stands */
    QMIG_LINK_DARK,   /* none; waiting for one */
    QMIG_LINK_CLOSED, /* ended in order (BYE) */
    QMIG_LINK_FAILED, /* given up; qmig_link_error() */
} QmigLinkState;

/* Bytes a second: a wire that is slower leaves time for whatever makes the bytes fewer. */
#define QMIG_LINK_SLOW (40 << 20)

typedef enum {
    QMIG_CODEC_AUTO,
    QMIG_CODEC_NONE,
    QMIG_CODEC_LZ4,
    QMIG_CODEC_ZSTD
} QmigLinkCodec;

typedef struct {
    bool near;
    QmigWelcome agreed; /* what both sides know */
    QmigLinkCodec codec;
    int level; /* of zstd; 0: chosen */
    char name[QMIG_LINK_NAME_MAX + 1];
    /* Called by any thread, without locks, when the state changed or a connection came or went. */
    void (*changed)(void *data);
    void *data;
} QmigLinkConfig;

QmigLink *qmig_link_new(const QmigLinkConfig *config);
/* Ends everything at once, joins its threads. No stream of it may be in use any more. */
void qmig_link_free(QmigLink *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigLink, qmig_link_free)

/**
 * qmig_link_attach() - one more connection
 * @wire:  (transfer full) both sides have said welcome
 * @index: its number, below agreed.n_wires; one that has it already is dropped
 */
void qmig_link_attach(QmigLink *link, QmigWire *wire, unsigned index);
/* The lowest number without connection; -1: all stand. For the side that dials. */
int qmig_link_missing_wire(QmigLink *link);

QmigLinkState qmig_link_state(QmigLink *link);
/* Why it FAILED. (transfer full) (nullable) */
GError *qmig_link_error(QmigLink *link);
/* Give it up: every stream ends with @error (transfer full). */
void qmig_link_fail(QmigLink *link, GError *error);
/* Say BYE once everything written has been consumed, within the deadline. Return: it was. */
bool qmig_link_close(QmigLink *link, QmigDeadline deadline);

/* Tell the other side that nothing more will come, so that it need not wait for it. */
void qmig_link_give_up(QmigLink *link, QmigDeadline deadline);

/* Tell the other side that the guest is changing hosts (or is not any more). */
void qmig_link_set_critical(QmigLink *link, bool critical);
/* So does a stream that carries the end of a migration, until it is freed. */
void qmig_link_stream_set_critical(QmigLinkStream *stream);
/* Has the other side said so? */
bool qmig_link_is_critical(QmigLink *link);
/* Of bytes on the wire, a second, all connections together; 0: none. */
void qmig_link_set_rate(QmigLink *link, uint64_t bytes_per_s);

/* Near: a new stream. Return: (transfer full) NULL with @error: LIMIT, CLOSED. */
QmigLinkStream *qmig_link_open(QmigLink *link, const QmigLinkOpen *open, GError **error);
/* Far: the next stream that was opened. Errors: CLOSED, CANCELLED, or what FAILED. (transfer full) */
QmigLinkStream *qmig_link_accept(QmigLink *link, const QmigCancel *cancel,
                                 GError **error);
const QmigLinkOpen *qmig_link_stream_open(const QmigLinkStream *stream);

/**
 * qmig_link_stream_write() - one frame
 * @type: DATA, BATCH, END, RESET
 * @buf:  (transfer full) (nullable)
 *
 * After END only RESET counts, after RESET nothing: what else is written is dropped.
 * Waits while the queue is full: two frames a connection are enough to keep it busy, and what waits
 * before the queue can still be replaced. Errors: CLOSED (session or stream), CANCELLED (interrupt).
 */
bool qmig_link_stream_write(QmigLinkStream *stream, QmigFrameType type, QmigBuf *buf,
                            GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Say why the stream breaks off here; kept to QMIG_LINK_REASON_MAX bytes. Never waits. */
void qmig_link_stream_reset(QmigLinkStream *stream, const char *reason);
/* Bytes a second the wire takes; 0: it never was what held us up. */
uint64_t qmig_link_stream_rate(QmigLinkStream *stream);
/* Payload bytes a second that are consumed over there, as of late; 0: not known. */
uint64_t qmig_link_stream_goodput(QmigLinkStream *stream);
/**
 * qmig_link_stream_hold_little() - no more under way than keeps the link busy
 *
 * In post-copy: what the tunnel holds when it is given up counts as sent in the source. A QEMU whose
 * last pages were lost so cannot always be helped.
 */
void qmig_link_stream_hold_little(QmigLinkStream *stream);
/* Wait until a frame would go into the queue at once: to make it no sooner. Errors: as write. */
bool qmig_link_stream_wait_room(QmigLinkStream *stream,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_link_stream_read() - the next frame, in order
 * @type: (out) DATA, BATCH, END or RESET; after END only RESET may come
 * @buf:  (out) (transfer full) (nullable) as it was before compression
 *
 * The frame before counts as consumed (is acknowledged) now; so does END at once.
 */
bool qmig_link_stream_read(QmigLinkStream *stream, QmigFrameType *type, QmigBuf **buf,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Wait until there is something to read, and leave it. Errors: as read. */
bool qmig_link_stream_wait(QmigLinkStream *stream,
                           GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The frame last read is consumed. */
void qmig_link_stream_consumed(QmigLinkStream *stream);
/* End the waits of its reader and its writer with CANCELLED. */
void qmig_link_stream_interrupt(QmigLinkStream *stream);
/* Neither side of ours will use it again. What was written is still delivered. */
void qmig_link_stream_free(QmigLinkStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigLinkStream, qmig_link_stream_free)

typedef struct {
    uint64_t queued; /* bytes written to streams and not yet sent, as they were */
    uint64_t
        unconsumed; /* bytes the other side has not consumed: queued, under way, waiting there */
    uint64_t
        wire_bytes; /* written to connections since the beginning, repetitions included */
    uint64_t plain_bytes; /* payload of streams, before compression */
    uint64_t rate; /* bytes a second the wire takes; 0: it never was the bottleneck */
    uint64_t
        goodput;  /* payload bytes a second that are consumed over there; 0: not known */
    double ratio; /* plain bytes a wire byte, of late */
    unsigned wires;   /* connections that stand */
    unsigned breaks;  /* connections that broke */
    uint64_t dark_ms; /* time without any connection, all together */
    uint64_t rtt_us;  /* 0: not measured */
} QmigLinkStats;

void qmig_link_stats(QmigLink *link, QmigLinkStats *stats);
/* { "name", "id", "state", "wires": [ … ], "streams": [ … ], the numbers above, "codecs": { … } } */
JsonObject *qmig_link_describe(QmigLink *link);

#endif
