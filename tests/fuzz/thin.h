/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A recorded stream made small, with something of everything that is in it. */
#ifndef QMIG_TESTS_THIN_H
#define QMIG_TESTS_THIN_H

#include <glib.h>

/* A device that was kept. */
typedef struct {
    GByteArray *state;
    char *json; /* its part of the description */
} ThinDevice;

typedef struct {
    GByteArray *bytes;   /* the small stream; still a whole one */
    GByteArray *tail;    /* of it */
    GByteArray *package; /* the same of PACKAGED, or of the last checkpoint */
    GArray *devices;     /* ThinDevice */
} ThinStream;

void thin_stream_clear(ThinStream *s);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ThinStream, thin_stream_clear)

/* A main channel. */
ThinStream thin_stream(GBytes *golden);
/* A multifd channel: its first packets, uncompressed ones with one page each. */
GByteArray *thin_multifd(GBytes *golden);

#endif
