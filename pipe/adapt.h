/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which codec for the next block? The one that gets most of the stream through: the slower of
 * what the threads pack and what the output takes of it packed. Both are measured all the time;
 * of codecs that are equally good the one that leaves fewer bytes is taken. Now and then a block
 * tries another one, to know.
 */
#ifndef QMIG_PIPE_ADAPT_H
#define QMIG_PIPE_ADAPT_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { QMIG_ADAPT_CHOICES = 4 };

typedef struct {
    uint8_t codec; /* QmigSaveCodec */
    int level;
} QmigAdaptChoice;

/* From fast to small. */
extern const QmigAdaptChoice qmig_adapt_choices[QMIG_ADAPT_CHOICES];

typedef struct {
    pthread_mutex_t lock; /* guards all below */
    unsigned threads;     /* that pack */
    double pack
        [QMIG_ADAPT_CHOICES]; /* bytes of the stream per second and thread; 0: unknown */
    double ratio[QMIG_ADAPT_CHOICES]; /* bytes of the stream for one that is written */
    double output;                    /* bytes written per second; 0: unknown */
    uint64_t blocks;
    unsigned probe; /* which one is tried next */
} QmigAdapt;

void qmig_adapt_init(QmigAdapt *adapt, unsigned threads);
void qmig_adapt_clear(QmigAdapt *adapt);

/* The choice for the next block: an index of qmig_adapt_choices. Threads: any. */
unsigned qmig_adapt_next(QmigAdapt *adapt);
/* A block of @plain bytes became @stored in @us. Threads: any. */
void qmig_adapt_packed(QmigAdapt *adapt, unsigned choice, uint64_t plain, uint64_t stored,
                       uint64_t us);
/* So many bytes were taken by the output in @us. Threads: any. */
void qmig_adapt_written(QmigAdapt *adapt, uint64_t bytes, uint64_t us);

#endif
