/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which codec the next frame gets: the one that brings most bytes over, as measured of late.
 *
 *     throughput(codec) = min(threads x speed(codec), rate of the wire / ratio(codec))
 *
 * No clock, no I/O, no lock: the session asks with its lock held.
 */
#ifndef QMIG_PROXY_LINK_CHOOSE_H
#define QMIG_PROXY_LINK_CHOOSE_H

#include <stdbool.h>
#include <stdint.h>

enum { QMIG_CHOICES = 6 };

typedef struct {
    uint64_t n;    /* frames measured */
    uint64_t wins; /* frames chosen for */
    double speed;  /* plain bytes a second of one thread */
    double ratio;  /* wire bytes a plain byte */
} QmigChoiceMeasure;

typedef struct {
    QmigChoiceMeasure measures[QMIG_CHOICES];
    double rate; /* bytes/s the wire takes; 0: it was never seen to be what holds us up */
    unsigned threads;     /* that compress side by side */
    unsigned first, last; /* the choices that are allowed */
    uint64_t asked;
} QmigChooser;

typedef struct {
    uint8_t codec; /* QmigFrameCodec */
    int level;
} QmigChoice;

/* @fixed: only this codec, of the level next below (0: of any), or NULL for all. */
void qmig_chooser_init(QmigChooser *c, const QmigChoice *fixed);
/* Return: which of the choices. */
unsigned qmig_chooser_pick(QmigChooser *c);
QmigChoice qmig_chooser_choice(const QmigChooser *c, unsigned which);
/* It made @coded bytes of @plain in @us microseconds. */
void qmig_chooser_learn(QmigChooser *c, unsigned which, uint32_t plain, uint32_t coded,
                        int64_t us);
/**
 * qmig_chooser_watch() - what the wire took
 * @bytes:   in the last @us microseconds, all connections
 * @blocked: share of that time that writers stood waiting for the wire, 0 to 1
 */
void qmig_chooser_watch(QmigChooser *c, uint64_t bytes, int64_t us, double blocked);

#endif
