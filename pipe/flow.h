/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One direction of a pipe: bytes are read, packed or unpacked by workers, and written in order.
 *
 *     the caller: read -> ring of blocks -> workers: block.c -> a thread: write
 *
 * What was read is handed on as soon as there is nothing more to read. When the input turns out
 * to be cut or damaged, what came before is still written, and nothing after it.
 */
#ifndef QMIG_PIPE_FLOW_H
#define QMIG_PIPE_FLOW_H

#include "compress/pipeline.h"
#include "pipe/adapt.h"
#include "pipe/block.h"
#include "pipe/watch.h"
#include "util/cancel.h"
#include "util/pace.h"

#include <pthread.h>

typedef struct QmigPipeFlow QmigPipeFlow;

struct QmigPipeFlow {
    /* Set by the owner; all borrowed. */
    int in, out; /* out: non-blocking, where it can be */
    const char *in_name, *out_name;
    QmigCancel *stop; /* ends all waits; raised when writing fails */
    QmigPipeHeader header;
    uint8_t key[QMIG_PIPE_KEY_LENGTH]; /* of the stream, where the header has a cipher */
    uint64_t next_number;              /* of the next record: 1 behind a hello */
    unsigned threads;
    bool automatic;       /* choose the codec for each block */
    uint8_t codec;        /* QmigSaveCodec, else */
    int level;            /* of the codec */
    QmigPace *pace;       /* (nullable) of what is written */
    QmigPipeWatch *watch; /* (nullable) is shown the stream's bytes */
    void *owner;
    /* (nullable) Called before the first of the stream's bytes is written; may set out.
     * Threads: the one that writes. */
    bool (*begin)(QmigPipeFlow *flow, GError **error);
    /* (nullable) Called when all is written: close the output. Threads: as begin(). */
    bool (*end)(QmigPipeFlow *flow, GError **error);

    /* Counters, atomic. */
    uint64_t bytes_in, bytes_out, blocks;
    uint64_t codec_blocks[QMIG_ADAPT_CHOICES]; /* by QmigSaveCodec */
    int ended;                                 /* the end was read */

    /* The flow's own. */
    QmigPipeline *pipeline;
    bool (*write)(QmigPipeFlow *flow, QmigPipeBlock *block, GError **error);
    QmigAdapt adapt;
    bool failed, begun; /* of the writing thread */
    GError *error;      /* the writing thread's; looked at when it is joined */
    uint64_t position;  /* decode: in the coded input */
    uint64_t offset;    /* in the stream */
};

/* The stream's header with a new salt. Errors: IO. */
bool qmig_pipe_flow_new_header(QmigPipeHeader *header, QmigPipeCipher cipher,
                               uint8_t flags, uint32_t block_limit,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_pipe_encode() - from plain to coded, to the end of the input
 *
 * Without QMIG_PIPE_TWO_WAY it begins with the header. Errors: IO, CLOSED, CANCELLED.
 */
bool qmig_pipe_encode(QmigPipeFlow *flow, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_pipe_decode() - from coded to plain, to the end of the stream
 *
 * header, key and next_number are set. Errors: PROTOCOL, LIMIT: damage; CLOSED: it was cut;
 * each with the place in the input and in the stream; IO; CANCELLED.
 */
bool qmig_pipe_decode(QmigPipeFlow *flow, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* As it is, to the end; @head: @len bytes that were read already. */
bool qmig_pipe_copy(QmigPipeFlow *flow, const uint8_t *head, size_t len,
                    GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Put @label and the place before @error's message. Return: false. */
bool qmig_pipe_prefix_place(GError **error, const char *name, uint64_t number,
                            uint64_t position, uint64_t offset);

#endif
