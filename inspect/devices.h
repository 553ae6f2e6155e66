/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The device state of a stream, by name; and its description. */
#ifndef QMIG_INSPECT_DEVICES_H
#define QMIG_INSPECT_DEVICES_H

#include "inspect/reader.h"
#include "util/auto.h"

/**
 * qmig_devices_read() - all device sections
 *
 * Return: [ { "name": text, "instance": n, "version": n, "section": id, "channel": text,
 *             "offset": of the state in the channel, "size": bytes,
 *             "checkpoint": n          COLO: from 1 on; absent before
 *             "fields": …, "subsections": …      as in stream/device.h
 *             | "reason": text, "state": hexadecimal      when it cannot be read by name
 *           }, … ] in wire order (transfer full), or NULL.
 * @end: (out) as of qmig_reader_run()
 * Errors: as qmig_reader_run().
 */
JsonObject *qmig_devices_read(const char *path, QmigReaderEnd *end,
                              GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same beside other uses of the events: take() all events of a reading, then finish(). */
typedef struct QmigDevices QmigDevices;

/* @with_bytes: give "state" also with those that can be read by name. */
QmigDevices *qmig_devices_new(bool with_bytes);
void qmig_devices_free(QmigDevices *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigDevices, qmig_devices_free)
bool qmig_devices_take(QmigDevices *d, const QmigReaderChannel *channel,
                       const struct qmig_event *ev,
                       GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* The list; once. (transfer full) */
JsonObject *qmig_devices_finish(QmigDevices *d);

/* The description as it is in the stream (transfer full); NULL with @error: UNSUPPORTED when the
 * stream carries none, or as qmig_reader_run(). */
JsonObject *qmig_description_read(const char *path,
                                  GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
