/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One connection of a migration: a leg to the source, a leg to the destination, two relays. */
#ifndef QMIG_PROXY_CONNECTION_H
#define QMIG_PROXY_CONNECTION_H

#include "proxy/group.h"
#include "proxy/main-stream.h"
#include "proxy/return-stream.h"

typedef enum {
    QMIG_CHANNEL_MAIN,
    QMIG_CHANNEL_MULTIFD,
    QMIG_CHANNEL_PREEMPT,
    QMIG_CHANNEL_TLS, /* beside main; nobody can tell which it is */
} QmigChannelKind;

typedef struct QmigConnectionConfig QmigConnectionConfig;

struct QmigConnectionConfig {
    QmigGroup *group; /* borrowed */
    QmigChannelKind kind;
    unsigned id;     /* MULTIFD: the source's number; TLS: order of arrival */
    int source;      /* owned by the connection from now on */
    int destination; /* likewise; -1: see reach */
    QmigTls *source_tls, *destination_tls; /* (nullable) likewise: TLS that ends here */
    QmigRelaySink
        sink; /* likewise; .put NULL: none. Takes what is written to @destination */
    /*
     * Opens the other leg when the first byte for it is there: sets destination,
     * destination_tls and sink of the connection's own copy of this. NULL: they are open already. On error
     * the group was told. Threads: the forward relay's.
     */
    bool (*reach)(void *self, QmigConnectionConfig *config, GError **error);
    void *reach_self;
    const uint8_t *first; /* bytes read from the source already; copied */
    size_t first_len;
    QmigMainStream *stream;  /* MAIN: borrowed; else NULL */
    QmigMainStream *plugins; /* borrowed: whose plugins pace this channel, too */
    const char *raw_reason;  /* (nullable) MAIN: the stream is not to be read, and why */
    bool encrypted;          /* the return path cannot be read either */
    QmigRecordWay *recorded[2]; /* (nullable) borrowed; by qmig_connection_record() */
    bool is_recovery;           /* MAIN: of a migration that began elsewhere */
};

typedef struct QmigConnection QmigConnection;

/* Record it: its beginning, now, and what both relays carry. @config says what it is. */
void qmig_connection_record(QmigConnectionConfig *config, QmigRecord *record);

/* Start both relays. When both have ended, the legs are closed and the group is woken. */
QmigConnection *qmig_connection_start(const QmigConnectionConfig *config);

/* Join the threads; the group's cancel flag is raised, or has_ended() true. */
void qmig_connection_join(QmigConnection *c);
void qmig_connection_free(QmigConnection *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigConnection, qmig_connection_free)

/* "main", "multifd 3", …: for messages. (transfer full) */
char *qmig_channel_name(QmigChannelKind kind, unsigned id);

/* Threads: any. */
bool qmig_connection_has_started(const QmigConnection *c); /* first bytes were written */
bool qmig_connection_has_ended(const QmigConnection *c);
uint64_t qmig_connection_backlog(const QmigConnection *c);
JsonObject *qmig_connection_describe(QmigConnection *c);             /* transfer full */
JsonObject *qmig_connection_describe_return_path(QmigConnection *c); /* transfer full */

#endif
