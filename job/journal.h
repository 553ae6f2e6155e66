/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal of one migration: what is about to be done, on disk before it is done.
 *
 * A file of JSON lines, each an object with "n" (from 0), "time" and "step", and what belongs to
 * the step. Room is taken when it is made, so that a disk that fills up later does not matter;
 * what follows the last line is zeros. The file is locked as long as its process lives.
 */
#ifndef QMIG_JOB_JOURNAL_H
#define QMIG_JOB_JOURNAL_H

#include "util/auto.h"

#include <stdbool.h>

typedef struct QmigJournal QmigJournal;

/**
 * qmig_journal_create() - a new journal
 * @path: a file; one that is there is overwritten only if it is a journal that has ended clear
 *
 * The file, its room and its name are on disk when this returns.
 * Errors: CONFIG: @path is something else, or tells of a migration that has not ended;
 *         STATE: a running qmig holds it; IO.
 */
QmigJournal *qmig_journal_create(const char *path,
                                 GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_journal_open() - a journal that is there, to read it and to go on
 * @records: (out) (transfer full) a list of its objects; a torn last line is left out
 *
 * Errors: STATE: its qmig runs; PROTOCOL: no journal, or damaged before its end; LIMIT; IO.
 */
QmigJournal *qmig_journal_open(const char *path, JsonObject **records,
                               GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Close it; the file stays. */
void qmig_journal_free(QmigJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmigJournal, qmig_journal_free)

/**
 * qmig_journal_append() - write one step, and wait until it is on disk
 * @members: (transfer full) (nullable) what belongs to the step
 *
 * Errors: LIMIT: the record or the file would be too long; IO. What is there stays readable.
 */
bool qmig_journal_append(QmigJournal *journal, const char *step, JsonObject *members,
                         GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The same without waiting for the disk: it survives this process, and the next append takes it
 * to the disk with its own. */
bool qmig_journal_put(QmigJournal *journal, const char *step, JsonObject *members,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Remove the file of a migration that has ended clear. */
void qmig_journal_remove(QmigJournal *journal);

const char *qmig_journal_path(const QmigJournal *journal);

/* Where journals are without an option: $XDG_STATE_HOME/qmig, else for root /var/lib/qmig, else
 * ~/.local/state/qmig. (transfer full) */
char *qmig_journal_default_dir(void);

/**
 * qmig_journal_default_path() - a new name in that directory, which is made
 * @guest: part of the name; any text
 */
char *qmig_journal_default_path(const char *guest,
                                GError **error) G_GNUC_WARN_UNUSED_RESULT;

/**
 * qmig_journal_find() - the newest journal in the default directory that has not ended clear and
 *                       names a QMP address as its source or destination
 * @qmp: as qmig_address_to_string() writes it
 *
 * Errors: STATE when there is none.
 */
char *qmig_journal_find(const char *qmp, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- reading records ---- */

/* The last record of a step, borrowed; NULL = the step was not reached. */
JsonObject *qmig_journal_last(JsonObject *records, const char *step);

/* It says of itself that the migration is over and where the guest is. */
bool qmig_journal_has_ended(JsonObject *records);

#endif
