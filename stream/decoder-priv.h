/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Inside the decoder: its state, shared by decoder.c (framing) and ram.c (RAM records). */
#ifndef QMIG_STREAM_DECODER_PRIV_H
#define QMIG_STREAM_DECODER_PRIV_H

#include "stream/decoder.h"
#include "stream/window.h"

/* What the next byte of the stream begins. */
typedef enum {
    STATE_HEADER,
    STATE_AFTER_HEADER, /* configuration or the first item */
    STATE_AFTER_CONFIG, /* configuration subsection or the first item */
    STATE_ITEM,
    STATE_RAM,      /* a RAM record */
    STATE_RAM_LIST, /* an entry of the block list */
    STATE_FOOTER,
    STATE_PACKAGED, /* bulk: `bulk_left` bytes */
    STATE_TAIL,     /* bulk: to the end */
    STATE_RAW,      /* bulk: to the end */
    STATE_DONE,     /* the last note was given */
} QmigDecoderState;

/* One block of the guest, with the storage of its name. */
typedef struct {
    struct qmig_block public;
    char name[256];
} QmigRamBlock;

struct QmigDecoder {
    QmigWindow window;
    QmigDecoderState state;
    uint64_t offset; /* stream position of the next record, bytes */
    uint64_t bulk_left;
    bool eof;

    uint32_t page_size; /* target page, bytes */
    bool ignore_shared; /* block list entries carry gpa */

    bool ram_seen; /* its START went by: a FULL section begins the tail */
    uint32_t ram_id;
    char section_name[256];
    uint32_t section_id; /* the section being read */
    GPtrArray *blocks;   /* QmigRamBlock, owned */
    uint64_t list_left;  /* block list: bytes of guest memory not yet listed */
    bool list_seen;
    const QmigRamBlock *block; /* the current one of CONTINUE; borrowed from blocks */

    uint64_t postcopy_pages;  /* ADVISE: OR of the page sizes in use; 0 = no postcopy */
    uint32_t packaged_length; /* set by a COMMAND PACKAGED */
    bool packaged_next;

    char *raw_reason; /* owned; set once when the stream goes raw */
    bool raw_pending; /* the note is still to be given */

    GByteArray *tail; /* owned copy; NULL once beyond its limit */
    bool eof_seen;    /* the EOF byte was an item: only a description may follow */
    struct QmigNotes *notes;
};

/* Set @ev to an event of @kind that lies at the decoder's present position. */
void qmig_decoder_event(const QmigDecoder *d, struct qmig_event *ev, unsigned kind);

/* From the next byte on the stream is handed on unread, because of @fmt…. */
void qmig_decoder_go_raw(QmigDecoder *d, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* Set @error (PROTOCOL) with the stream offset added, and return QMIG_PARSE_FAILED. */
QmigParse qmig_decoder_fail(const QmigDecoder *d, GError **error, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* Parsers of RAM records (ram.c). */
QmigParse qmig_ram_parse(QmigDecoder *d, QmigCursor *c, size_t *need,
                         struct qmig_event *ev, GError **error);
QmigParse qmig_ram_parse_list(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev,
                              GError **error);

/* The notes after the end of the input (notes.c): devices, description, END. */
typedef struct QmigNotes QmigNotes;
QmigNotes *qmig_notes_new(QmigDecoder *d);
void qmig_notes_free(QmigNotes *notes);
/* Return: false when the last note has been given. */
bool qmig_notes_next(QmigNotes *notes, QmigDecoder *d, struct qmig_event *ev);

#endif
