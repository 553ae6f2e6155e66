/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside the decoder: its state, shared by decoder.c (sequence), config.c, ram.c (RAM records),
 * blocks.c (block list, mapped-ram), iterable.c (other sections), notes.c (what is learnt).
 */
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
    STATE_RAM,         /* a RAM record */
    STATE_RAM_LIST,    /* an entry of the block list */
    STATE_MAPPED_PAGE, /* mapped-ram: a page, or the gap of pages that are not there */
    STATE_BITMAP,      /* a chunk of section "dirty-bitmap" */
    STATE_DISK,        /* a record of section "block" */
    STATE_VFIO,        /* a tag of a section "…/vfio" */
    STATE_FOOTER,
    STATE_COLO, /* after the first tail: a COLO message, or the end */
    STATE_BULK, /* `bulk_left` bytes of `bulk_kind`, then `bulk_next` */
    STATE_TAIL, /* bulk, up to the end of the description */
    STATE_RAW,  /* bulk, to the end */
    STATE_DONE, /* the END note was given */
} QmigDecoderState;

/* One block of the guest, with the storage of its name. */
typedef struct {
    struct qmig_block public;
    char name[256];
} QmigRamBlock;

/* A name off the wire. NUL-terminated, but nothing forbids more NULs in it. */
typedef struct {
    char text[256];
    uint8_t length;
} QmigName;

/* An iterable section that has started. */
typedef struct {
    uint32_t id;
    uint32_t instance;
    uint32_t version;
    QmigDecoderState body; /* what its body consists of */
    QmigName name;
} QmigSection;

/* Where a description of the tail may begin (its EOF byte) and would end. */
typedef struct {
    size_t at, end;
} QmigTailCandidate;

/* How sections end in this stream (machine property send-section-footer). */
typedef enum { FOOTERS_UNKNOWN, FOOTERS_ON, FOOTERS_OFF } QmigFooters;

struct QmigDecoder {
    QmigWindow window;
    QmigDecoderState state;
    uint64_t offset; /* stream position of the next record, bytes */
    bool eof;

    enum qmig_bytes_kind bulk_kind;
    uint64_t bulk_left;
    QmigDecoderState bulk_next;

    uint32_t page_size; /* target page, bytes */
    bool ignore_shared; /* block list entries carry gpa */
    bool mapped_ram;    /* block list entries carry their pages */
    QmigFooters footers;

    GArray *sections; /* QmigSection */
    QmigName section_name;
    uint32_t section_id; /* the section being read */
    bool ram_seen;       /* its START went by: a FULL section begins the tail */
    bool preempt;        /* RAM records only, without sections */
    bool orphan;         /* a recovery connection, and what came before it is not known */
    bool colo;           /* a tail went by: sections end with EOF, and messages follow */

    GPtrArray *blocks;  /* QmigRamBlock, owned; shared by continuations */
    uint64_t list_left; /* block list: bytes of guest memory not yet listed */
    bool list_seen;
    const QmigRamBlock *block; /* the current one of CONTINUE; borrowed from blocks */

    const QmigRamBlock *mapped; /* the block whose pages are being read */
    GByteArray *mapped_bits;    /* owned; its bitmap */
    uint64_t mapped_next;       /* page number */
    uint64_t mapped_padding;    /* bytes between bitmap and pages */
    uint64_t mapped_base;       /* file offset of the stream's first byte */
    bool mapped_base_known;     /* a block with pages went by */

    QmigName node; /* dirty-bitmap and block: the current names */
    QmigName bitmap;

    uint64_t postcopy_pages;  /* ADVISE: OR of the page sizes in use; 0 = no postcopy */
    uint32_t packaged_length; /* set by a COMMAND PACKAGED */

    char *raw_reason; /* owned; set once when the stream goes raw */
    bool raw_pending; /* the note is still to be given */

    GByteArray
        *kept; /* owned copy of tail, package, vmstate; NULL once beyond its limit */
    uint64_t kept_at;   /* stream offset of its first byte */
    size_t searched;    /* tail: a description that begins before this is a candidate */
    GArray *candidates; /* QmigTailCandidate: not yet whole */
    unsigned n_candidates; /* that were found, ever */
    GError *tail_error;    /* owned; why the last candidate was none */
    bool eof_seen;         /* the EOF byte was an item: only a description may follow */
    struct QmigNotes *notes;
};

/* Set @ev to an event of @kind that lies at the decoder's present position. */
void qmig_decoder_event(const QmigDecoder *d, struct qmig_event *ev, unsigned kind);

/* From the next byte on the stream is handed on unread, because of @fmt…. */
void qmig_decoder_go_raw(QmigDecoder *d, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* The next @length bytes are of @kind, then comes @next. */
void qmig_decoder_bulk(QmigDecoder *d, enum qmig_bytes_kind kind, uint64_t length,
                       QmigDecoderState next);

/* Set @error (PROTOCOL) with the stream offset added, and return QMIG_PARSE_FAILED. */
QmigParse qmig_decoder_fail(const QmigDecoder *d, GError **error, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* The state after the body of a section. */
QmigDecoderState qmig_decoder_after_body(const QmigDecoder *d);

/* Configuration (config.c); the type byte has been taken. */
QmigParse qmig_config_parse(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev,
                            GError **error);
QmigParse qmig_config_parse_sub(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev,
                                GError **error);

/* RAM records (ram.c). */
QmigParse qmig_ram_parse(QmigDecoder *d, QmigCursor *c, size_t *need,
                         struct qmig_event *ev, GError **error);

/* The block list and the pages of mapped-ram (blocks.c). */
const QmigRamBlock *qmig_blocks_find(const QmigDecoder *d, const uint8_t *name,
                                     size_t len);
QmigParse qmig_blocks_parse_size(QmigDecoder *d, uint64_t word, struct qmig_event *ev,
                                 GError **error);
QmigParse qmig_blocks_parse_entry(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev,
                                  GError **error);
QmigParse qmig_mapped_parse_page(QmigDecoder *d, QmigCursor *c, size_t *need,
                                 struct qmig_event *ev);
/* The bitmap of the current block is complete. */
void qmig_mapped_begin_pages(QmigDecoder *d);
/* Step over pages that are not there. */
void qmig_mapped_skip(QmigDecoder *d);

/* Sections other than RAM (iterable.c). */
QmigDecoderState qmig_iterable_state(const char *name, uint32_t instance,
                                     uint32_t version); /* STATE_RAW: not known */
QmigParse qmig_iterable_parse(QmigDecoder *d, QmigCursor *c, struct qmig_event *ev,
                              GError **error);
/* Bytes of the state of a device section before RAM; @c stands at its first byte.
   SHORT: more bytes wanted; FAILED without @error: not known. */
QmigParse qmig_early_length(const char *name, QmigCursor c, uint64_t *length);

/* What is learnt (notes.c). Each call lists the notes to be given next. */
typedef struct QmigNotes QmigNotes;
void qmig_notes_free(QmigNotes *notes);
/* Is what lies in kept, up to @end, a tail whose EOF byte is at @eof_at? Return: false when not;
   then tail_error tells, and nothing is listed. */
bool qmig_notes_tail(QmigDecoder *d, size_t eof_at, size_t end);
/* The first @len bytes in kept are sections and commands without a description. */
void qmig_notes_package(QmigDecoder *d, size_t len);
/* The input has ended. */
void qmig_notes_end(QmigDecoder *d);
/* Return: false when there is none left. */
bool qmig_notes_next(QmigDecoder *d, struct qmig_event *ev);

#endif
