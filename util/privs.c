/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Capabilities through libcap-ng. */
#include "util/privs.h"

#include "util/error.h"

#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>

bool
qmig_privs_drop(bool keep_file_access, GError **error)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return qmig_set_error_errno(error, errno, "no_new_privs");
    }
    if (capng_get_caps_process() < 0) {
        return qmig_set_error(error, QMIG_ERROR_IO,
                              "capabilities of this process: unreadable");
    }
    if (capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE) {
        return true;
    }
    bool had_override = capng_have_capability(CAPNG_EFFECTIVE, CAP_DAC_OVERRIDE);
    capng_clear(CAPNG_SELECT_CAPS);
    if (keep_file_access && had_override &&
        capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_OVERRIDE) <
            0) {
        return qmig_set_error(error, QMIG_ERROR_IO, "CAP_DAC_OVERRIDE: cannot be kept");
    }
    if (capng_apply(CAPNG_SELECT_CAPS) < 0) {
        return qmig_set_error(error, QMIG_ERROR_IO, "capabilities: cannot be given up");
    }
    return true;
}
