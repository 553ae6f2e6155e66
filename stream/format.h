/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The wire format of the main channel: its grammar and its numbers.
 *
 *   stream  := header config? item* tail
 *   header  := be32 "QEVM", be32 3
 *   config  := 07, be32 n, n bytes machine name, config-sub*
 *   csub    := 05, cstr name, be32 version, fields (known by name)
 *   item    := START | PART | END | FULL | command
 *   START   := 01, be32 id, cstr idstr, be32 instance, be32 version, body, footer
 *   FULL    := 04, …as START
 *   PART    := 02, be32 id, body, footer
 *   END     := 03, be32 id, body, footer
 *   footer  := 7e, be32 id
 *   command := 08, be16 command, be16 n, n bytes [PACKAGED: be32 m as data, then m bytes]
 *   tail    := 00 [06, be32 n, n bytes JSON]
 *   cstr    := u8 n, n bytes
 *
 *   body of "ram" := record* be64 10           (P: page size; all words big-endian)
 *   record  := be64 total|04, entry*                               until the sum is total
 *            | be64 offset|kind[|20] [, cstr block unless 20 is set], payload
 *   payload := ZERO 02: u8 | PAGE 08: P bytes | XBZRLE 40: 01, be16 n, n bytes
 *            | ZLIB 100: be32 n, n bytes
 *            | be64 200 (flush) | be64 80 (hook)
 *   entry   := cstr block, be64 length [, be64 page size: huge pages under postcopy]
 *              [, be64 gpa: x-ignore-shared] [, mapped: mapped-ram]
 *   mapped  := be32 1, be64 P, be64 bitmap offset, be64 pages offset
 *              [, bitmap, padding, pages unless both are 0: shared, under x-ignore-shared]
 *
 *   body of "dirty-bitmap" := chunk* ending with one that has flag 01
 *   chunk   := u8 flags [08: cstr node] [04: cstr bitmap]
 *              [10: be32 granularity, u8 flags]
 *              [40: be64 first sector, be32 sectors [, unless 02: be64 n, n bytes]]
 *   body of "block" := disk* ending with one that has flag 02
 *   disk    := be64 sector << 9 | flags [01: cstr device [, unless 08: 1 MiB of data]]
 *   body of "…/vfio" := ( be64 tag [DATA: be64 n, n bytes] )* ending with END or INIT_DATA_SENT
 *
 *   After tail, COLO:  ( be32 1, be32 3, item*, 00, be32 4, be64 n, n bytes )*
 *   A recovery connection is item* 00, a preempt channel record*: neither has a header.
 *
 * Nothing on the wire gives the length of a FULL body: see stream/tail.h. Among the STARTs only
 * "…/virtio-mem-device-early" may come, known by its fields:
 *   be64 address, be64 region, be64 block, be32 node, be64 size, bit for each block of the
 *   region in be64 words
 */
#ifndef QMIG_STREAM_FORMAT_H
#define QMIG_STREAM_FORMAT_H

/* QEMU migration/savevm.h, migration/qemu-file-types.h: QEMU_VM_* */
enum {
    WIRE_MAGIC = 0x5145564d, /* "QEVM" */
    WIRE_VERSION = 3,
    WIRE_EOF = 0x00,
    WIRE_SUBSECTION = 0x05,
    WIRE_DESCRIPTION = 0x06,
    WIRE_CONFIGURATION = 0x07,
    WIRE_COMMAND = 0x08,
    WIRE_FOOTER = 0x7e,
    WIRE_NULL_POINTER = '0', /* in an array of pointers: VMS_NULLPTR_MARKER */
};

/* QEMU migration/ram.c: RAM_SAVE_FLAG_*. The page kinds are in qmig-event.h. */
enum {
    WIRE_RAM_MEM_SIZE = 0x004,
    WIRE_RAM_EOS = 0x010,
    WIRE_RAM_CONTINUE = 0x020,
    WIRE_RAM_HOOK = 0x080,
    WIRE_RAM_FLUSH = 0x200, /* 8.1 and later */
};

enum {
    WIRE_RAM_VERSION = 4,     /* version_id of section "ram" */
    WIRE_XBZRLE_ENCODING = 1, /* ENCODING_FLAG_XBZRLE */
    WIRE_PAGE_BITS = 12, /* x86, s390, ppc, riscv; others say so in the configuration */
    WIRE_MAPPED_VERSION = 1,   /* MAPPED_RAM_HDR_VERSION */
    WIRE_DISK_BLOCK = 1 << 20, /* QEMU 7.2 migration/block.c: BLK_MIG_BLOCK_SIZE */
    WIRE_SECTOR_BITS = 9,
};

/* QEMU hw/vfio/migration.c: what every tag begins with. */
#define WIRE_VFIO_TAG UINT64_C(0xffffffffef100000)

#endif
