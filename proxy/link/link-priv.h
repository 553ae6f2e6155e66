/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside of a session: shared by link.c (streams) and link-wires.c (connections). */
#ifndef QMIG_PROXY_LINK_LINK_PRIV_H
#define QMIG_PROXY_LINK_LINK_PRIV_H

#include "compress/codec.h"
#include "compress/history.h"
#include "proxy/link/choose.h"
#include "proxy/link/link.h"
#include "util/cond.h"

enum {
    /* Each connection speaks at least so often … */
    PING_MS = 1000,
    /* … and one that is silent so long is broken. */
    SILENCE_MS = 4000,
    /* Streams of one session, from first to last. */
    STREAMS_MAX = 4096,
    /* What a frame costs beside its payload, as both sides count the window. */
    FRAME_COST = 256,
    /* Frames waiting for each connection: the next one, and one to spare. */
    QUEUE_PER_WIRE = 2,
    /* Streams of one session that keep their past, QMIG_HISTORY_BYTES on either side. */
    HISTORIES_MAX = 8,
    /* So many are taken: the other side may give one back before we do. */
    HISTORIES_TAKEN = 16,
};

/* The past of a stream: link-history.c. */
typedef struct LinkHistory LinkHistory;

typedef struct QmigLinkWire LinkWire;

/* A sequenced frame on its way out. */
typedef struct {
    int refs; /* of the stream's list, and of a writer that has it in hand */
    QmigLinkStream *stream;
    uint8_t type;
    uint64_t seq;
    QmigBuf *buf;       /* owned (nullable); compressed once codec is set */
    uint32_t plain_len; /* bytes */
    uint8_t codec;
    bool tried;     /* to compress */
    bool in_hand;   /* a writer has it */
    bool acked;     /* no longer in the stream's list */
    LinkWire *wire; /* sent over it, last; (nullable) */
} Frame;

/* A frame that arrived. */
typedef struct {
    uint8_t type;
    uint64_t seq;
    uint8_t codec; /* PLAIN, or ZSTD_HISTORY, which is undone when it is read */
    uint32_t plain_len;
    QmigBuf *buf; /* owned (nullable) */
} Arrived;

struct QmigLinkStream {
    QmigLink *link;
    uint16_t id;
    QmigLinkOpen open;
    bool announced; /* far: OPEN has been seen */
    bool freed;     /* by its user */
    bool interrupted;
    bool critical; /* carries the end of a migration */
    bool lean;     /* holds little */
    /* Out. */
    uint64_t send_seq;
    GQueue unacked;     /* Frame *, by seq */
    uint64_t in_flight; /* cost of them, bytes */
    bool end_sent, reset_sent;
    /* In. */
    uint64_t deliver_seq; /* the next one to go to ready */
    GQueue ready;         /* Arrived *, in order */
    GSequence *early;     /* Arrived *, by seq, with gaps before them */
    uint64_t held;    /* cost of ready, early and the one in the reader's hands, bytes */
    uint64_t reading; /* cost of the one in the reader's hands */
    uint64_t consumed_seq;
    bool ack_due;
    uint64_t unacked_in; /* cost of what was consumed and not acknowledged yet, bytes */
    uint64_t bytes_out, bytes_in; /* payloads */
    LinkHistory
        *history; /* (nullable); what it points to is its writer's, its reader's */
    pthread_cond_t arrived;
};

/* A connection of the session. Lives until its two threads have left. */
struct QmigLinkWire {
    QmigLink *link;
    QmigWire *wire;
    unsigned index;
    int threads;
    bool broken;
    QmigCancel *cancel;
    int64_t ping_at;
    bool pong_due;
    uint64_t pong;
    int note_sent; /* the last said; -1: nothing yet */
    QmigCodecState *codec_state;
};

struct QmigLink {
    QmigLinkConfig config;
    pthread_mutex_t lock; /* guards all that follows; never held across a system call */
    pthread_cond_t work;  /* for writers of connections */
    pthread_cond_t room;  /* for writers of streams; also: a thread has left */
    pthread_cond_t opened;
    pthread_cond_t clock_tick;
    LinkWire *wires[QMIG_LINK_WIRES_MAX]; /* those that stand */
    unsigned n_wires, threads;
    QmigLinkStream
        *streams[STREAMS_MAX]; /* by id - 1; kept to the end, for late repetitions */
    unsigned n_streams;
    GQueue accepted;  /* QmigLinkStream *, opened by the other side, not yet taken */
    GQueue queues[2]; /* Frame * to be sent: urgent, all others */
    QmigLinkState state;
    GError *error;
    int64_t dark_since;
    bool critical, peer_critical, bye_due, gives_up;
    QmigChooser chooser;
    unsigned n_histories;
    QmigChoiceMeasure history_measure;
    int history_level;        /* the last one used */
    uint64_t rate_limit;      /* bytes/s; 0: none */
    int64_t send_at;          /* with a limit: when the next frame may go */
    uint64_t wire_bytes_gone; /* of connections that are no more */
    uint64_t blocked_us_gone;
    uint64_t plain_bytes;
    uint64_t acked_bytes;
    double
        goodput; /* payload bytes/s that the other side consumed, of late, when it had any */
    uint64_t queued; /* bytes in queues */
    uint64_t held;   /* of all streams */
    unsigned breaks;
    bool was_up; /* before its first connection it is not dark */
    uint64_t dark_us, rtt_us;
    GThread *clock;
    bool freeing;
};

/* link.c and link-session.c; all with the lock held. */
void link_fail_locked(QmigLink *link, GError *error);
/* A sequenced frame came, decompressed. Takes @buf. false: @error says what is wrong with it. */
bool link_arrived(QmigLink *link, const QmigFrameHead *head, QmigBuf *buf,
                  GError **error);
/* Is this one wanted, or a repetition? */
bool link_wants(QmigLink *link, const QmigFrameHead *head);
bool link_take_ack(QmigLink *link, const QmigBuf *payload, GError **error);
void frame_unref(Frame *f);
bool link_is_over(const QmigLink *link);
void link_wake_all(QmigLink *link);
void link_stream_destroy(QmigLinkStream *s);
/* Does the guest change hosts, as this side knows? */
bool link_is_critical_here(const QmigLink *link);

/*
 * link-history.c. Each stream's reader and writer call it; code and decode without the lock, which
 * they take. free: with the lock held, when neither will come again.
 */
/* Is that frame to be compressed so? With the lock held. */
bool link_history_serves(QmigLinkStream *s, uint8_t type, const QmigBuf *buf);
/* The next frame, of which none may be lost from now on. (transfer full) */
QmigBuf *link_history_code(QmigLinkStream *s, const QmigBuf *plain);
/* Errors: PROTOCOL, LIMIT. (transfer full) */
QmigBuf *link_history_decode(QmigLinkStream *s, const Arrived *a, GError **error);
void link_history_free(QmigLinkStream *s);

/* link-wires.c. */
void *link_clock_thread(void *data);
void link_drop_wires(QmigLink *link); /* with the lock held */
void link_heed_limit(QmigLink *link);
void link_totals(QmigLink *link, uint64_t *wire_bytes, uint64_t *blocked_us);

#endif
