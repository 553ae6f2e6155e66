/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one table of command names: inspect/ prints them, the plugin fault reads them. */
#include "stream/command.h"

#include "stream/qmig-event.h"

#include <glib.h>

static const char *const names[] = {
    [QMIG_COMMAND_OPEN_RETURN_PATH] = "open-return-path",
    [QMIG_COMMAND_PING] = "ping",
    [QMIG_COMMAND_POSTCOPY_ADVISE] = "postcopy-advise",
    [QMIG_COMMAND_POSTCOPY_LISTEN] = "postcopy-listen",
    [QMIG_COMMAND_POSTCOPY_RUN] = "postcopy-run",
    [QMIG_COMMAND_POSTCOPY_RAM_DISCARD] = "postcopy-ram-discard",
    [QMIG_COMMAND_PACKAGED] = "packaged",
    [QMIG_COMMAND_ENABLE_COLO] = "enable-colo",
    [QMIG_COMMAND_POSTCOPY_RESUME] = "postcopy-resume",
    [QMIG_COMMAND_RECV_BITMAP] = "recv-bitmap",
    [QMIG_COMMAND_SWITCHOVER_START] = "switchover-start",
};

const char *
qmig_command_name(unsigned command)
{
    return command < G_N_ELEMENTS(names) ? names[command] : NULL;
}
