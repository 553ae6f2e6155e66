/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every bound on what a QMP peer may send, with its reason. */
#ifndef QMIG_QMP_LIMITS_H
#define QMIG_QMP_LIMITS_H

/* Bytes of one JSON object. query-qmp-schema, the longest reply in use, has about 0.3 MiB. */
#define QMIG_QMP_MAX_OBJECT (64u << 20)

/* Nesting of one JSON object: QEMU's own replies stay below 16. */
#define QMIG_QMP_MAX_DEPTH 64

/* Events waiting to be fetched, and bytes of their JSON text; the oldest give way. */
#define QMIG_QMP_MAX_EVENTS 4096
#define QMIG_QMP_MAX_EVENT_BYTES (16u << 20)

/* Commands given up whose replies may still come. QEMU itself stops reading after 8. */
#define QMIG_QMP_MAX_ABANDONED 64

/* Bytes of garbage quoted in an error message. */
#define QMIG_QMP_MAX_QUOTE 32

/* Bytes of an error text of QEMU that are kept. */
#define QMIG_QMP_MAX_ERROR_TEXT 4096

#endif
