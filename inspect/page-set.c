/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See page-set.h. */
#include "inspect/page-set.h"

typedef struct {
    uint32_t count; /* bits that are set */
    uint8_t bits[QMIG_PAGE_GROUP / 8];
} Group;

static gpointer
key_of(uint64_t group)
{
    return GSIZE_TO_POINTER(group);
}

static Group *
find(const QmigPageSet *set, uint64_t page)
{
    return g_hash_table_lookup(set->groups, key_of(page / QMIG_PAGE_GROUP));
}

static bool
get(const Group *group, uint64_t page)
{
    unsigned bit = page % QMIG_PAGE_GROUP;

    return group->bits[bit / 8] >> bit % 8 & 1;
}

void
qmig_page_set_init(QmigPageSet *set, uint64_t n_pages)
{
    *set = (QmigPageSet){ .n_pages = n_pages };
    set->groups = g_hash_table_new_full(NULL, NULL, NULL, g_free);
}

void
qmig_page_set_clear(QmigPageSet *set)
{
    g_clear_pointer(&set->groups, g_hash_table_unref);
    *set = (QmigPageSet){ 0 };
}

bool
qmig_page_set_has(const QmigPageSet *set, uint64_t page)
{
    const Group *group = page < set->n_pages ? find(set, page) : NULL;

    return group != NULL && get(group, page);
}

void
qmig_page_set_add(QmigPageSet *set, uint64_t page)
{
    unsigned bit = page % QMIG_PAGE_GROUP;
    Group *group;

    if (page >= set->n_pages) {
        return;
    }
    group = find(set, page);
    if (group == NULL) {
        group = g_new0(Group, 1);
        g_hash_table_insert(set->groups, key_of(page / QMIG_PAGE_GROUP), group);
    }
    if (!get(group, page)) {
        group->bits[bit / 8] |= (uint8_t)(1 << bit % 8);
        group->count++;
        set->count++;
    }
}

void
qmig_page_set_add_all(QmigPageSet *set)
{
    for (uint64_t page = 0; page < set->n_pages && set->count < set->n_pages; page++) {
        qmig_page_set_add(set, page);
    }
}

/* Of group number @at those from @first up to before @end. */
static void
remove_from(QmigPageSet *set, Group *group, uint64_t at, uint64_t first, uint64_t end)
{
    uint64_t start = at * QMIG_PAGE_GROUP;

    end = MIN(end, start + QMIG_PAGE_GROUP);
    for (uint64_t page = MAX(first, start); page < end && group->count > 0; page++) {
        unsigned bit = page % QMIG_PAGE_GROUP;

        if (get(group, page)) {
            group->bits[bit / 8] &= (uint8_t) ~(1 << bit % 8);
            group->count--;
            set->count--;
        }
    }
}

void
qmig_page_set_remove(QmigPageSet *set, uint64_t first, uint64_t n)
{
    GHashTableIter iter;
    gpointer key, value;

    if (first >= set->n_pages || n == 0) {
        return;
    }
    uint64_t end = first + MIN(n, set->n_pages - first);
    uint64_t from = first / QMIG_PAGE_GROUP, to = (end - 1) / QMIG_PAGE_GROUP;
    if (to - from < g_hash_table_size(set->groups)) {
        for (uint64_t at = from; at <= to; at++) {
            Group *group = g_hash_table_lookup(set->groups, key_of(at));
            if (group != NULL) {
                remove_from(set, group, at, first, end);
            }
        }
        return;
    }
    g_hash_table_iter_init(&iter, set->groups);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        uint64_t at = GPOINTER_TO_SIZE(key);
        if (at >= from && at <= to) {
            remove_from(set, value, at, first, end);
        }
    }
}
