/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Device state by name: the bytes of a section and what the description says of it, as JSON.
 *
 *   state := { "fields": [ field, … ] [, "subsections": [ sub, … ] ] }
 *   field := { "name": text, "type": text, "size": bytes, "value": value }
 *          | { "name": text, "type": text, "size": bytes, "values": [ value, … ] }   an array
 *   sub   := { "name": text, "version": number, "fields": …, … }      as a state
 *   value := number   int*, uint* of up to 64 bits (also "… equal", "… le"); timer: when it
 *                     expires, in ns of its clock, -1: it is not running
 *          | true | false   bool
 *          | null     nullptr: a pointer of an array that is not set
 *          | state    struct, vstruct, tmp
 *          | text     everything else: its bytes in hexadecimal
 *
 * Types are QEMU's (migration/vmstate-types.c, 7.2 to 11.1). `size` is one element's (of structs,
 * the first one's). Fields of one name that follow each other are one entry: an array that QEMU
 * had to describe piecewise, perhaps with pointers in it that are not set.
 */
#ifndef QMIG_STREAM_DEVICE_H
#define QMIG_STREAM_DEVICE_H

#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* The description's text, parsed. Errors: PROTOCOL: no JSON object, or nested
 * too deeply; LIMIT: it would take too much memory. */
JsonObject *qmig_description_parse(const char *json, uint64_t length,
                                   GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Its devices, for qmig_description_device(). Borrows from @description (nullable). */
GHashTable *qmig_description_index(JsonObject *description) G_GNUC_WARN_UNUSED_RESULT;

/* What a description says of one section. Borrowed; NULL when it does not know it. */
JsonObject *qmig_description_device(GHashTable *index, const char *name,
                                    uint32_t instance);

/**
 * qmig_device_decode() - the state of one section
 * @described: of qmig_description_device()
 * @budget:    (inout) what the states of a stream may still cost; QMIG_LIMIT_DEVICE_COST at first
 *
 * Return: the state (transfer full), with each of the @length bytes in exactly one value; or
 *         NULL.
 * Errors: PROTOCOL: bytes and description do not fit (with the field and its offset); LIMIT.
 */
JsonObject *qmig_device_decode(JsonObject *described, const uint8_t *data,
                               uint64_t length, uint64_t *budget,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
