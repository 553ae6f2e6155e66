/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A set of page numbers. Memory, and time to remove a range, go with what is in it, not with how
 * large it could be: a stream may claim terabytes, and discard them again and again.
 */
#ifndef QMIG_INSPECT_PAGE_SET_H
#define QMIG_INSPECT_PAGE_SET_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t n_pages;   /* numbers are below this */
    uint64_t count;     /* in the set */
    GHashTable *groups; /* owned; number / QMIG_PAGE_GROUP -> bits */
} QmigPageSet;

enum { QMIG_PAGE_GROUP = 1 << 15 };

/* Empty. */
void qmig_page_set_init(QmigPageSet *set, uint64_t n_pages);
void qmig_page_set_clear(QmigPageSet *set);

bool qmig_page_set_has(const QmigPageSet *set, uint64_t page);
/* Numbers out of range are passed over. */
void qmig_page_set_add(QmigPageSet *set, uint64_t page);
void qmig_page_set_add_all(QmigPageSet *set);
void qmig_page_set_remove(QmigPageSet *set, uint64_t first, uint64_t n);

#endif
