/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The events of a QEMU migration stream. Public: C99, usable from C++, needs only <stdint.h>.
 *
 * The decoder turns bytes into events, the encoder events into bytes, and for every stream
 * encode(decode(x)) == x. Events with QMIG_EVENT_NOTE stand for no bytes: they tell what was
 * learnt. All pointers are borrowed: they are good until the receiving function returns, but
 * for `block`, which lives as long as the stream.
 *
 * Rules of growth: enum values are never reused; structures grow at the end only; `size` says
 * how much of an event is there. A receiver ignores kinds it does not know (and, when it
 * rewrites, passes them on).
 *
 * Sources of the wire facts: QEMU 7.2 and 10.x, migration/savevm.c (sections, commands),
 * migration/ram.c (RAM records), migration/savevm.h and qemu-file-types.h (numbers), confirmed
 * on recorded streams of 7.2 and 11.1.
 */
#ifndef QMIG_EVENT_H
#define QMIG_EVENT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum qmig_event_kind {
    QMIG_EVENT_HEADER = 1,        /* u.header: be32 "QEVM", be32 version */
    QMIG_EVENT_CONFIG = 2,        /* u.config: 0x07, be32 length, machine type name */
    QMIG_EVENT_CONFIG_SUB = 3,    /* u.config_sub: 0x05, name, be32 version, data */
    QMIG_EVENT_SECTION = 4,       /* u.section: head of START, PART, END */
    QMIG_EVENT_FOOTER = 5,        /* u.footer: 0x7e, be32 section id */
    QMIG_EVENT_RAM_SIZE = 6,      /* u.ram_size: be64 total | 0x04 */
    QMIG_EVENT_RAM_BLOCK = 7,     /* u.ram_block: one entry of the block list */
    QMIG_EVENT_PAGE = 8,          /* u.page: one page record */
    QMIG_EVENT_RAM_EOS = 9,       /* be64 0x10: end of a RAM section's body */
    QMIG_EVENT_RAM_FLUSH = 10,    /* be64 0x200: multifd flush, QEMU 8.1 and later */
    QMIG_EVENT_RAM_HOOK = 11,     /* be64 0x80: RDMA hook */
    QMIG_EVENT_COMMAND = 12,      /* u.command: 0x08, be16 command, be16 length, data */
    QMIG_EVENT_BYTES = 13,        /* u.bytes: bytes handed on as they are */
    QMIG_EVENT_EOF = 14,          /* 0x00: no more sections */
    QMIG_EVENT_DIRTY_BITMAP = 15, /* u.dirty_bitmap: a chunk of section "dirty-bitmap" */
    QMIG_EVENT_DISK_BLOCK =
        16,               /* u.disk_block: a record of section "block", QEMU <= 9.0 */
    QMIG_EVENT_COLO = 17, /* u.colo: be32 message between checkpoints */
    QMIG_EVENT_VFIO = 18, /* u.vfio: be64 tag in a section of a VFIO device */

    /* Of a multifd channel, never of the main one. */
    QMIG_EVENT_MULTIFD_INIT = 20, /* u.multifd_init: the 64 bytes a channel begins with */
    QMIG_EVENT_MULTIFD_PACKET = 21, /* u.multifd_packet: head and payload of one packet */

    /* Notes: no bytes of their own. */
    QMIG_EVENT_RAW = 64,    /* u.raw: from here the stream is not understood, and why */
    QMIG_EVENT_DEVICE = 65, /* u.device: one device section found in the tail */
    QMIG_EVENT_DESCRIPTION =
        66,             /* u.description: the JSON text describing device state */
    QMIG_EVENT_END = 67 /* the input ended; u.end says whether that was complete */
};

/* qmig_event.flags */
#define QMIG_EVENT_NOTE \
    0x0001u /* stands for no bytes on the wire; any kind may carry it */

/* Type bytes of sections. */
enum qmig_section_type {
    QMIG_SECTION_START = 0x01,
    QMIG_SECTION_PART = 0x02,
    QMIG_SECTION_END = 0x03,
    QMIG_SECTION_FULL = 0x04
};

/* How a page travels; the values are the wire's flag bits. */
enum qmig_page_kind {
    QMIG_PAGE_MAPPED = 0x001, /* lies at its place in a mapped-ram file, without a head */
    QMIG_PAGE_ZERO = 0x002,   /* one fill byte, in practice 0 */
    QMIG_PAGE_NORMAL = 0x008, /* the page as it is */
    QMIG_PAGE_XBZRLE = 0x040, /* new bytes over the page the destination has */
    QMIG_PAGE_ZLIB = 0x100    /* one zlib stream; QEMU 9.0 and older */
};

/* Commands (MIG_CMD_*). */
enum qmig_command {
    QMIG_COMMAND_OPEN_RETURN_PATH = 1,
    QMIG_COMMAND_PING = 2,
    QMIG_COMMAND_POSTCOPY_ADVISE = 3,
    QMIG_COMMAND_POSTCOPY_LISTEN = 4,
    QMIG_COMMAND_POSTCOPY_RUN = 5,
    QMIG_COMMAND_POSTCOPY_RAM_DISCARD = 6,
    QMIG_COMMAND_PACKAGED = 7, /* be32 n; n bytes follow outside the command's length */
    QMIG_COMMAND_ENABLE_COLO = 8,
    QMIG_COMMAND_POSTCOPY_RESUME = 9,
    QMIG_COMMAND_RECV_BITMAP = 10,
    QMIG_COMMAND_SWITCHOVER_START = 11
};

/* What QMIG_EVENT_BYTES carries. */
enum qmig_bytes_kind {
    QMIG_BYTES_TAIL = 1, /* device state, EOF, description: has no lengths on the wire */
    QMIG_BYTES_PACKAGED = 2, /* the blob behind COMMAND PACKAGED */
    QMIG_BYTES_RAW = 3,      /* everything behind a QMIG_EVENT_RAW note */
    QMIG_BYTES_PADDING =
        4, /* mapped-ram: before a block's pages, and in place of zero pages */
    QMIG_BYTES_DEVICE = 5,  /* state of a device section before RAM */
    QMIG_BYTES_VMSTATE = 6, /* COLO: device state of a checkpoint, with its EOF byte */
    QMIG_BYTES_DISK = 7,    /* data of a QMIG_EVENT_DISK_BLOCK */
    QMIG_BYTES_BITMAP = 8,  /* bits of a QMIG_EVENT_DIRTY_BITMAP; little-endian */
    QMIG_BYTES_MAPPED_BITMAP = 9, /* mapped-ram: which pages are there; little-endian */
    QMIG_BYTES_VFIO = 10          /* data of a QMIG_EVENT_VFIO */
};

/* qmig_event_dirty_bitmap.flags (DIRTY_BITMAP_MIG_FLAG_*, QEMU migration/block-dirty-bitmap.c) */
enum qmig_dirty_bitmap_flag {
    QMIG_BITMAP_EOS = 0x01,
    QMIG_BITMAP_ZEROES = 0x02, /* BITS without data: all clear */
    QMIG_BITMAP_NAME = 0x04,   /* the bitmap's name comes with it */
    QMIG_BITMAP_NODE = 0x08,   /* the node's name comes with it */
    QMIG_BITMAP_START = 0x10,
    QMIG_BITMAP_COMPLETE = 0x20,
    QMIG_BITMAP_BITS = 0x40
};

/* qmig_event_disk_block.flags (BLK_MIG_FLAG_*, QEMU 7.2 migration/block.c) */
enum qmig_disk_flag {
    QMIG_DISK_DATA = 0x01, /* the device's name comes with it, and 1 MiB unless ZERO */
    QMIG_DISK_EOS = 0x02,
    QMIG_DISK_PROGRESS = 0x04, /* sector is a percentage */
    QMIG_DISK_ZERO = 0x08
};

/* Messages source -> destination (COLO_MESSAGE_*, QEMU qapi/migration.json). */
enum qmig_colo_message {
    QMIG_COLO_CHECKPOINT_REQUEST = 1,
    QMIG_COLO_VMSTATE_SEND = 3, /* sections follow, to an EOF */
    QMIG_COLO_VMSTATE_SIZE = 4  /* be64 n; n bytes of device state follow */
};

/* VFIO_MIG_FLAG_*, QEMU hw/vfio/migration.c: on the wire be64 0xffffffffef100000 + tag. */
enum qmig_vfio_tag {
    QMIG_VFIO_END_OF_STATE = 1,
    QMIG_VFIO_CONFIG_STATE = 2,
    QMIG_VFIO_SETUP_STATE = 3,
    QMIG_VFIO_DATA_STATE = 4, /* be64 n; n bytes follow */
    QMIG_VFIO_INIT_DATA_SENT = 5
};

/* Flags of a multifd packet. */
#define QMIG_MULTIFD_SYNC 0x01u         /* the end of a round on this channel */
#define QMIG_MULTIFD_COMPRESSION 0x3eu  /* field: enum qmig_multifd_compression */
#define QMIG_MULTIFD_DEVICE_STATE 0x40u /* not RAM; QEMU 10.0 and later */

/* How a multifd packet's payload travels; the values are the wire's. */
enum qmig_multifd_compression {
    QMIG_MULTIFD_NONE = 0x00,  /* the pages as they are */
    QMIG_MULTIFD_ZLIB = 0x02,  /* one zlib stream for the channel's whole life */
    QMIG_MULTIFD_ZSTD = 0x04,  /* one zstd stream, likewise */
    QMIG_MULTIFD_QPL = 0x08,   /* 9.1 and later */
    QMIG_MULTIFD_UADK = 0x10,  /* 9.1 and later */
    QMIG_MULTIFD_QATZIP = 0x20 /* 9.2 and later */
};

/* A RAM block, as the block list announced it. Never changes once announced. */
struct qmig_block {
    uint32_t size;        /* of this structure, bytes */
    uint32_t index;       /* 0, 1, … in the order of the list */
    const char *name;     /* NUL-terminated; QEMU's idstr */
    uint32_t name_length; /* bytes, at most 255 */
    uint32_t page_size;   /* target page size, bytes */
    uint64_t used_length; /* bytes */
    uint64_t gpa;         /* guest physical address; only with x-ignore-shared, else 0 */
};

struct qmig_event_header {
    uint32_t version; /* 3 */
};

struct qmig_event_config {
    const char *machine; /* not NUL-terminated, e.g. "pc-i440fx-7.2" */
    uint32_t length;     /* bytes */
};

struct qmig_event_config_sub {
    const char *name; /* NUL-terminated, e.g. "configuration/uuid" */
    uint32_t name_length;
    uint32_t version;
    const uint8_t *data; /* the fields, as on the wire */
    uint64_t length;
};

struct qmig_event_section {
    uint32_t type;        /* enum qmig_section_type */
    uint32_t id;          /* chosen by the source */
    const char *name;     /* NUL-terminated; known for PART and END from their START */
    uint32_t name_length; /* bytes */
    uint32_t instance;
    uint32_t version;
};

struct qmig_event_footer {
    uint32_t id;
};

struct qmig_event_ram_size {
    uint64_t total; /* sum of used_length over the list that follows, bytes */
};

struct qmig_event_ram_block {
    const struct qmig_block *block;
    uint32_t has_gpa; /* the entry carries a guest physical address */
    /* The entry's own page size, bytes: with postcopy, for a block of huge pages; else 0. */
    uint64_t host_page_size;
    /* Of a mapped-ram file; all 0 elsewhere. Offsets in the file, bytes. */
    uint32_t mapped_version;
    uint64_t mapped_page_size;
    uint64_t bitmap_offset;
    uint64_t pages_offset;
};

struct qmig_event_page {
    const struct qmig_block *block;
    uint64_t offset; /* inside the block, a multiple of the page size */
    const uint8_t
        *data; /* payload: page, XBZRLE code or zlib stream; for ZERO the fill byte */
    uint32_t length; /* of data, bytes */
    uint16_t kind;   /* enum qmig_page_kind */
    uint8_t
        continued; /* the wire left the block's name out. The encoder leaves it out only
                            where that is allowed, whatever this says */
};

struct qmig_event_command {
    uint32_t command; /* enum qmig_command, or one this version does not know */
    uint32_t length;
    const uint8_t *data;
};

struct qmig_event_bytes {
    uint32_t kind; /* enum qmig_bytes_kind */
    const uint8_t *data;
    uint64_t length;
};

struct qmig_event_dirty_bitmap {
    uint32_t flags; /* enum qmig_dirty_bitmap_flag */
    const char
        *node; /* NUL-terminated; the current one when the chunk does not name it */
    uint32_t node_length; /* bytes */
    uint32_t bitmap_length;
    const char *bitmap;    /* likewise */
    uint32_t granularity;  /* START: bytes */
    uint32_t bitmap_flags; /* START: 1 enabled, 2 persistent */
    uint64_t first_sector; /* BITS */
    uint32_t n_sectors;    /* BITS: of 512 bytes */
    uint64_t length;       /* BITS: bytes of QMIG_BYTES_BITMAP that follow */
};

struct qmig_event_disk_block {
    uint32_t flags;         /* enum qmig_disk_flag */
    uint64_t sector;        /* of 512 bytes; of PROGRESS: percent */
    const char *device;     /* NUL-terminated; "" when the record names none */
    uint32_t device_length; /* bytes */
    uint64_t length;        /* bytes of QMIG_BYTES_DISK that follow */
};

struct qmig_event_colo {
    uint32_t message; /* enum qmig_colo_message */
    uint64_t length;  /* VMSTATE_SIZE: bytes of QMIG_BYTES_VMSTATE that follow */
};

struct qmig_event_vfio {
    uint32_t tag;    /* enum qmig_vfio_tag */
    uint64_t length; /* bytes of QMIG_BYTES_VFIO that follow */
};

struct qmig_event_raw {
    const char *reason; /* NUL-terminated, for people */
};

struct qmig_event_device {
    const char *name; /* NUL-terminated, e.g. "0000:00:02.0/virtio-net" */
    uint32_t instance;
    uint32_t version;
    uint32_t section_id;
    uint64_t length;     /* of the state: without head and footer, bytes */
    const uint8_t *data; /* the state */
};

struct qmig_event_description {
    const char *json; /* not NUL-terminated */
    uint64_t length;
};

struct qmig_event_end {
    uint32_t complete;  /* 1: everything a stream needs was there */
    const char *reason; /* NUL-terminated: what was missing; "" when complete */
};

struct qmig_event_multifd_init {
    uint32_t version;        /* 1 */
    uint32_t channel;        /* 0, 1, …; the source's number, at most 255 */
    const uint8_t *uuid;     /* 16 bytes: the guest's, zeros when it has none */
    const uint8_t *reserved; /* the other 39 bytes, zeros so far; NULL: zeros */
};

/*
 * One packet of a multifd channel. The wire always carries the whole table of offsets: entries
 * without a page behind them are zeros, or left over from earlier packets (QEMU 8.2 and older;
 * the same holds for `block_bytes` and `next_packet_size` of a packet without pages).
 *
 * The compression is named by every packet with pages, be they only zero pages: receivers end
 * the migration when it is not theirs. A SYNC packet without pages does not name it.
 */
struct qmig_multifd_packet {
    uint32_t size;  /* of this structure, bytes */
    uint32_t flags; /* QMIG_MULTIFD_* */

    /* RAM: without QMIG_MULTIFD_DEVICE_STATE. */
    uint32_t page_size;    /* target page size, bytes */
    uint32_t pages_alloc;  /* table's capacity as the source says; 9.0+: 0 with SYNC */
    uint32_t normal_pages; /* pages in the payload */
    uint32_t zero_pages;   /* pages that are all zero; always 0 before 9.0 */
    uint32_t next_packet_size; /* as on the wire; tells nothing when normal_pages is 0 */
    uint32_t n_offsets;  /* entries of the table; a writer adds zeros up to its end */
    uint64_t packet_num; /* counted over all channels */
    const uint64_t
        *offsets;      /* inside the block: the normal pages, the zero ones, the rest */
    const char *block; /* NUL-terminated; "" when there are no pages */
    const uint8_t *block_bytes; /* the 256 bytes of the name; NULL: `block` and zeros */
    const uint8_t *reserved;    /* 28 bytes, zeros so far; NULL: zeros */

    /* Device state: with QMIG_MULTIFD_DEVICE_STATE. */
    const char *device;          /* NUL-terminated idstr, else NULL */
    const uint8_t *device_bytes; /* the 256 bytes of it; NULL: `device` and zeros */
    uint32_t instance;

    /* Both. */
    const uint8_t *payload;
    uint64_t payload_length; /* bytes; 0 without normal pages */
};

struct qmig_event_multifd_packet {
    const struct qmig_multifd_packet *packet;
};

struct qmig_event {
    uint32_t size;      /* of this structure as the sender knows it, bytes */
    uint16_t kind;      /* enum qmig_event_kind */
    uint16_t flags;     /* QMIG_EVENT_NOTE */
    uint64_t offset;    /* position of the record's first byte in the stream, bytes */
    uint64_t wire_size; /* bytes the record took on the wire; 0 for a note */
    union {
        struct qmig_event_header header;
        struct qmig_event_config config;
        struct qmig_event_config_sub config_sub;
        struct qmig_event_section section;
        struct qmig_event_footer footer;
        struct qmig_event_ram_size ram_size;
        struct qmig_event_ram_block ram_block;
        struct qmig_event_page page;
        struct qmig_event_command command;
        struct qmig_event_bytes bytes;
        struct qmig_event_raw raw;
        struct qmig_event_device device;
        struct qmig_event_description description;
        struct qmig_event_end end;
        struct qmig_event_dirty_bitmap dirty_bitmap;
        struct qmig_event_disk_block disk_block;
        struct qmig_event_colo colo;
        struct qmig_event_vfio vfio;
        struct qmig_event_multifd_init multifd_init;
        struct qmig_event_multifd_packet multifd_packet;
    } u;
};

#ifdef __cplusplus
}
#endif

#endif
