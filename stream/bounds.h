/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every bound on what a peer may ask of the decoders, with its reason. */
#ifndef QMIG_STREAM_BOUNDS_H
#define QMIG_STREAM_BOUNDS_H

enum {
    /* QEMU's machine type names have some 20 characters. */
    QMIG_LIMIT_MACHINE_NAME = 255,
    /* Some 25 capabilities exist; each name is a cstr. */
    QMIG_LIMIT_CONFIG_CAPABILITIES = 128,
    /* Arm can have 64 KiB target pages; no target has larger ones. */
    QMIG_LIMIT_PAGE_BITS = 16,
    QMIG_LIMIT_PAGE_BITS_MIN = 10,
    /* A PC has 8 blocks; hundreds of hot-plugged DIMMs and ROMs stay below. */
    QMIG_LIMIT_RAM_BLOCKS = 4096,
    /* Iterable sections of one guest: RAM, bitmaps, and one for each VFIO device. */
    QMIG_LIMIT_SECTIONS = 1024,
    /* Bitmap of one block of a mapped-ram file: 2 TiB of 4 KiB pages. */
    QMIG_LIMIT_MAPPED_BITMAP = 64 << 20,
    /* Bits of one dirty-bitmap chunk. QEMU serializes about 1 KiB at a time. */
    QMIG_LIMIT_DIRTY_BITMAP = 64 << 20,
    /* State of one virtio-mem device: a bit for each 4 KiB of 16 TiB. */
    QMIG_LIMIT_EARLY_STATE = 512 << 20,
    /* One record that must be in one piece: a command (be16 length) is the largest beside a
       page; zlib's bound for a page adds a few bytes. */
    QMIG_LIMIT_RECORD = (1 << QMIG_LIMIT_PAGE_BITS) + 1024,
    /* Copy of device state and description. A PC's is some 200 KiB, a 255-vCPU guest's a few
       MiB, one with a large virtio-gpu or VFIO device tens of MiB. Beyond, the stream still
       passes; only the device sections are not split. */
    QMIG_LIMIT_TAIL = 64 << 20,
    /* Places in device state that look like the beginning of the description. By chance there is
       one in 1 GiB; each costs an attempt to read it. */
    QMIG_LIMIT_DESCRIPTIONS = 64,
    /* Nesting of the description's JSON: structs in structs, subsections. Seen: 12. */
    QMIG_LIMIT_DESCRIPTION_DEPTH = 100,
    /* The description's JSON in memory: 16 for each object, 8 for each list, 1 for each comma; some
       50 bytes each (an empty object, three bytes of text, takes 800). A PC's costs 35000, each
       vCPU 3000 of them. */
    QMIG_LIMIT_DESCRIPTION_COST = 8 << 20,
    /* Device states by name of one stream, as JSON in memory: 1 for each value (16 for one without
       bytes), 16 for each field and structure; some 90 bytes each. A PC costs 100000, each vCPU
       5000 of them. */
    QMIG_LIMIT_DEVICE_COST = 8 << 20,
    /* QEMU's source refuses return-path messages over 512 bytes. */
    QMIG_LIMIT_RP_MESSAGE = 512,
    /* A received-bitmap has at most 2^so many bytes: 2^35 pages, 128 TiB of 4 KiB ones. It is
       handed out in pieces: the limit ends nonsense early, it does not save memory. */
    QMIG_LIMIT_RP_BITMAP_BITS = 32,
    /* Pages of one multifd packet, bytes: QEMU's MULTIFD_PACKET_SIZE. A packet lists at most
       that many bytes' worth of pages. */
    QMIG_LIMIT_MULTIFD_DATA = 512 << 10,
    /* Payload of a compressed packet: QEMU's receivers have a buffer of twice the data. */
    QMIG_LIMIT_MULTIFD_PAYLOAD = 2 * QMIG_LIMIT_MULTIFD_DATA,
    /* One device-state packet: VFIO sends pieces of at most 1 MiB and a small head, and the
       device's own configuration as one piece. */
    QMIG_LIMIT_MULTIFD_DEVICE = 16 << 20,
};

#endif
