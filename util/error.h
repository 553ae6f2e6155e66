/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one error domain of qmig: a code says what a caller can do about it. */
#ifndef QMIG_UTIL_ERROR_H
#define QMIG_UTIL_ERROR_H

#include <glib.h>
#include <stdbool.h>

/**
 * enum QmigErrorCode - what a caller can do about a failure
 * @QMIG_ERROR_IO:          a system call failed; the message carries errno's text
 * @QMIG_ERROR_CLOSED:      the peer closed the connection where more was due
 * @QMIG_ERROR_TIMEOUT:     a deadline passed
 * @QMIG_ERROR_CANCELLED:   somebody asked for the end
 * @QMIG_ERROR_PROTOCOL:    the peer sent what the protocol does not allow
 * @QMIG_ERROR_UNSUPPORTED: well-formed, but this build or that QEMU cannot do it
 * @QMIG_ERROR_LIMIT:       a length or count beyond a named limit
 * @QMIG_ERROR_QMP:         QEMU answered a command with an error
 * @QMIG_ERROR_PLUGIN:      a plugin said no
 * @QMIG_ERROR_CONFIG:      wrong usage or configuration
 * @QMIG_ERROR_STATE:       not possible in the present state (of the guest, of the job)
 * @QMIG_ERROR_TLS:         no TLS with this peer: credentials, names or ciphers do not fit
 *
 * Expected outcomes (need more bytes, end of stream) are return values, never errors.
 */
typedef enum {
    QMIG_ERROR_IO,
    QMIG_ERROR_CLOSED,
    QMIG_ERROR_TIMEOUT,
    QMIG_ERROR_CANCELLED,
    QMIG_ERROR_PROTOCOL,
    QMIG_ERROR_UNSUPPORTED,
    QMIG_ERROR_LIMIT,
    QMIG_ERROR_QMP,
    QMIG_ERROR_PLUGIN,
    QMIG_ERROR_CONFIG,
    QMIG_ERROR_STATE,
    QMIG_ERROR_TLS,
} QmigErrorCode;

#define QMIG_ERROR (qmig_error_quark())
GQuark qmig_error_quark(void);

/**
 * qmig_error_name() - the code as a short word for JSON output ("timeout", "protocol", …)
 * @error: any error; one of another domain is "internal"
 *
 * Return: a static string.
 */
const char *qmig_error_name(const GError *error);

/**
 * qmig_set_error() - set @error and return false
 * @error: (out) (nullable)
 * @code:  see QmigErrorCode
 * @fmt:   what, where, got and wanted; no newline, no "failed to"
 *
 * Return: always false, so that a check reads `return qmig_set_error(…)`.
 */
bool qmig_set_error(GError **error, QmigErrorCode code, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/**
 * qmig_set_error_errno() - as qmig_set_error() with QMIG_ERROR_IO; ": <text of @err>" is added
 * @err: an errno value; ETIMEDOUT, ECONNRESET and EPIPE become TIMEOUT and CLOSED
 */
bool qmig_set_error_errno(GError **error, int err, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

#endif
