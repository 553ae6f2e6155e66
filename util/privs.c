/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Capabilities through libcap-ng. */
#include "util/privs.h"

#include "util/error.h"

#include <cap-ng.h>
#include <errno.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

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

bool
qmig_privs_become(const char *user, GError **error)
{
    const struct passwd *entry;
    int number;

    errno = 0;
    entry = getpwnam(user);
    if (entry == NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG, "user \"%s\": %s", user,
                              errno != 0 ? g_strerror(errno)
                                         : "there is none of that name");
    }
    if (entry->pw_uid == 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "user \"%s\" is root, wanted an ordinary one", user);
    }
    if (geteuid() != 0) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "user \"%s\": only root can become another user", user);
    }
    capng_clear(CAPNG_SELECT_BOTH);
    number = capng_change_id((int)entry->pw_uid, (int)entry->pw_gid,
                             (capng_flags_t)(CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING));
    if (number < 0) {
        return qmig_set_error(error, QMIG_ERROR_IO,
                              "user \"%s\": cannot be changed to (libcap-ng: %d)", user,
                              number);
    }
    return qmig_privs_drop(false, error);
}
