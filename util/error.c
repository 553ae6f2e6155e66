/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The error domain, and the two functions that set it. */
#include "util/error.h"

#include <errno.h>

/* clang-format off */
G_DEFINE_QUARK(qmig-error-quark, qmig_error)
/* clang-format on */

static const char *const code_names[] = {
    [QMIG_ERROR_IO] = "io",
    [QMIG_ERROR_CLOSED] = "closed",
    [QMIG_ERROR_TIMEOUT] = "timeout",
    [QMIG_ERROR_CANCELLED] = "cancelled",
    [QMIG_ERROR_PROTOCOL] = "protocol",
    [QMIG_ERROR_UNSUPPORTED] = "unsupported",
    [QMIG_ERROR_LIMIT] = "limit",
    [QMIG_ERROR_QMP] = "qmp",
    [QMIG_ERROR_PLUGIN] = "plugin",
    [QMIG_ERROR_CONFIG] = "config",
    [QMIG_ERROR_STATE] = "state",
    [QMIG_ERROR_TLS] = "tls",
};

const char *
qmig_error_name(const GError *error)
{
    if (error->domain != QMIG_ERROR || error->code < 0 ||
        (size_t)error->code >= G_N_ELEMENTS(code_names)) {
        return "internal";
    }
    return code_names[error->code];
}

bool
qmig_set_error(GError **error, QmigErrorCode code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    GError *e = g_error_new_valist(QMIG_ERROR, (int)code, fmt, ap);
    va_end(ap);
    g_propagate_error(error, e);
    return false;
}

bool
qmig_set_error_errno(GError **error, int err, const char *fmt, ...)
{
    QmigErrorCode code = QMIG_ERROR_IO;
    va_list ap;

    if (err == ETIMEDOUT) {
        code = QMIG_ERROR_TIMEOUT;
    } else if (err == ECONNRESET || err == EPIPE) {
        code = QMIG_ERROR_CLOSED;
    }
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return qmig_set_error(error, code, "%s: %s", text, g_strerror(err));
}
