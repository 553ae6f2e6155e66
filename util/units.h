/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbers with units, as people write and read them. */
#ifndef QMIG_UTIL_UNITS_H
#define QMIG_UTIL_UNITS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * qmig_parse_size() - bytes: "4096", "64K", "500MiB", "1.5GiB", "10G"
 * @bytes: (out) untouched on error
 *
 * K, M, G, T with or without "iB" are binary (1024), as virsh and QEMU read them;
 * kB, MB, GB, TB are decimal.
 * Errors: CONFIG.
 */
bool qmig_parse_size(const char *text, uint64_t *bytes,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_parse_rate() - bytes per second: "1.5Gbit", "800Mbit/s", "100MiB/s", "100M"
 * @bytes_per_s: (out)
 *
 * kbit, Mbit, Gbit are decimal bits; all else is a size of qmig_parse_size(), "/s" optional.
 */
bool qmig_parse_rate(const char *text, uint64_t *bytes_per_s,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Milliseconds: "300ms", "2s", "1.5s", "10m", "1h"; a bare number is milliseconds. */
bool qmig_parse_duration(const char *text, uint64_t *ms,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* "0 B", "4.0 KiB", "1.46 GiB". (transfer full) */
char *qmig_format_size(uint64_t bytes);
/* "940 Mbit/s", "9.41 Gbit/s". (transfer full) */
char *qmig_format_rate(uint64_t bytes_per_s);
/* "3 ms", "1.42 s", "2 min 05 s". (transfer full) */
char *qmig_format_duration(uint64_t ms);

#endif
