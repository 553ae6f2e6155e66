/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people call the commands of a migration stream. */
#ifndef QMIG_STREAM_COMMAND_H
#define QMIG_STREAM_COMMAND_H

/**
 * qmig_command_name() - QEMU's name of a command, in small letters
 * @command: enum qmig_command, or any number off a wire
 *
 * The known ones are 1, 2, … without a gap: who looks for a name ends at the first NULL.
 * Return: as in "postcopy-listen", static; NULL for 0 and what is not known.
 */
const char *qmig_command_name(unsigned command);

#endif
