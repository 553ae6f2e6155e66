/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Streams made by hand for tests: every record kind, written without the encoder under test. */
#ifndef QMIG_TESTS_SAMPLE_STREAM_H
#define QMIG_TESTS_SAMPLE_STREAM_H

#include <glib.h>
#include <stdint.h>

/* Big-endian appenders. */
void put_u8(GByteArray *out, uint8_t v);
void put_be16(GByteArray *out, uint16_t v);
void put_be32(GByteArray *out, uint32_t v);
void put_be64(GByteArray *out, uint64_t v);
void put_cstr(GByteArray *out, const char *s);
void put_text(GByteArray *out, const char *s);
/* @n bytes that differ from place to place. */
void put_pattern(GByteArray *out, size_t n, unsigned seed);

/* Header and configuration of machine "pc-test-1.0". */
void put_head(GByteArray *out);
void put_start(GByteArray *out, uint32_t id, const char *name, uint32_t version);
void put_part(GByteArray *out, uint8_t type, uint32_t id);
void put_footer(GByteArray *out, uint32_t id);
/* MEM_SIZE with two blocks: "pc.ram" of 16 pages, "rom" of 4. */
void put_block_list(GByteArray *out);

/* A whole precopy stream: commands, all configuration subsections but capabilities, all kinds
 * of RAM records, two devices (one with subsection), description. */
GByteArray *sample_precopy(void);
/* A postcopy stream: ADVISE, discards, PACKAGED, pages after it, EOF. */
GByteArray *sample_postcopy(void);
/* A virtio-mem device before RAM, dirty bitmaps, a disk (zero blocks only), a VFIO device, a
 * block of huge pages. */
GByteArray *sample_sections(void);
/* A mapped-ram file of two blocks that begins 64 bytes into its file. */
GByteArray *sample_mapped_ram(void);
/* sample_precopy() and two COLO checkpoints. */
GByteArray *sample_colo(void);
/* Without footers and description. */
GByteArray *sample_bare(void);
/* The recovery connection and the preempt channel that belong to sample_postcopy(). */
GByteArray *sample_recovery(void);
GByteArray *sample_preempt(void);

#endif
