/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A reading is a path from the first byte to the end, an item each step. Sections of one id may
 * end at every footer of that id, so the steps are many; but whether a place can be reached, and
 * whether the end can be reached from it, needs for each id only one number:
 *
 *   backward  end_of(id): the last footer behind which the end can be reached
 *   forward   open(id): a section of it has begun and may end at any footer from here on
 *
 * A place is live when it is on some path. A step covers the places between its ends; the
 * longest step of a section covers what its shorter ones do. A live place that no live step
 * covers is on every path; two such places with no live place between them bound one item.
 */
#include "stream/package.h"

#include "stream/format.h"
#include "stream/qmig-event.h"
#include "util/cursor.h"

enum {
    FOOTER_SIZE = 5,
    COMMAND_LAST = QMIG_COMMAND_SWITCHOVER_START,
};

typedef struct {
    const uint8_t *data;
    size_t len;
    uint8_t *to_end; /* a bit for each place: the end can be reached */
    uint8_t *live;   /* a bit for each place: on some reading */
} Package;

/* What may begin at a place. */
typedef struct {
    uint8_t type; /* 0: nothing */
    uint32_t id;
    size_t next; /* section: first place of a footer; command: its end */
} Step;

static bool
get_bit(const uint8_t *bits, size_t i)
{
    return bits[i / 8] >> i % 8 & 1;
}

static void
set_bit(uint8_t *bits, size_t i)
{
    bits[i / 8] |= (uint8_t)(1 << i % 8);
}

static bool
is_printable(const char *name, uint8_t len)
{
    for (uint8_t i = 0; i < len; i++) {
        if (!g_ascii_isprint(name[i])) {
            return false;
        }
    }
    return len > 0;
}

static Step
step_at(const Package *p, size_t at)
{
    QmigCursor c = qmig_cursor(p->data + at, p->len - at);
    Step step = { 0 };
    uint32_t instance, version;
    uint16_t command, n;
    uint8_t type, name_len;
    char name[256];

    if (!qmig_cursor_u8(&c, &type)) {
        return step;
    }
    if (type == QMIG_SECTION_FULL && qmig_cursor_be32(&c, &step.id) &&
        qmig_cursor_cstr(&c, name, &name_len) && is_printable(name, name_len) &&
        qmig_cursor_be32(&c, &instance) && qmig_cursor_be32(&c, &version)) {
        step.type = type;
    } else if (type == WIRE_COMMAND && qmig_cursor_be16(&c, &command) && command > 0 &&
               command <= COMMAND_LAST && qmig_cursor_be16(&c, &n) &&
               qmig_cursor_skip(&c, n)) {
        step.type = type;
    }
    step.next = (size_t)(c.p - p->data);
    return step;
}

/* Does a footer end at @end? */
static bool
footer_before(const Package *p, size_t end, uint32_t *id)
{
    uint8_t mark;

    if (end < FOOTER_SIZE || p->data[end - FOOTER_SIZE] != WIRE_FOOTER) {
        return false;
    }
    QmigCursor c = qmig_cursor(p->data + end - FOOTER_SIZE, FOOTER_SIZE);
    return qmig_cursor_u8(&c, &mark) && qmig_cursor_be32(&c, id);
}

/* Tables id -> place + 1. */
static size_t
look_up(GHashTable *table, uint32_t id)
{
    return GPOINTER_TO_SIZE(g_hash_table_lookup(table, GUINT_TO_POINTER(id)));
}

static void
put(GHashTable *table, uint32_t id, size_t place)
{
    g_hash_table_insert(table, GUINT_TO_POINTER(id), GSIZE_TO_POINTER(place + 1));
}

/* Fill to_end. Return: id -> the last place where a section of it may end. */
static GHashTable *
go_backward(Package *p)
{
    GHashTable *last_end = g_hash_table_new(NULL, NULL);
    uint32_t id;

    for (size_t at = p->len + 1; at-- > 0;) {
        Step step = at < p->len ? step_at(p, at) : (Step){ 0 };
        bool ok = at == p->len;

        if (step.type == WIRE_COMMAND) {
            ok = get_bit(p->to_end, step.next);
        } else if (step.type == QMIG_SECTION_FULL) {
            ok = look_up(last_end, step.id) > step.next + FOOTER_SIZE;
        }
        if (!ok) {
            continue;
        }
        set_bit(p->to_end, at);
        if (footer_before(p, at, &id) && look_up(last_end, id) == 0) {
            put(last_end, id, at);
        }
    }
    return last_end;
}

/* Fill live, going by what can be reached from the first byte. */
static void
go_forward(Package *p)
{
    g_autoptr(GHashTable)
        open = g_hash_table_new(NULL, NULL); /* id -> least footer place */
    g_autofree uint8_t *reached = g_malloc0(p->len / 8 + 1);

    set_bit(reached, 0);
    for (size_t at = 0; at <= p->len; at++) {
        uint32_t id;

        if (footer_before(p, at, &id)) {
            size_t from = look_up(open, id);
            if (from != 0 && from - 1 <= at - FOOTER_SIZE) {
                set_bit(reached, at);
            }
        }
        if (!get_bit(reached, at) || !get_bit(p->to_end, at)) {
            continue;
        }
        set_bit(p->live, at);
        Step step = at < p->len ? step_at(p, at) : (Step){ 0 };
        if (step.type == WIRE_COMMAND) {
            set_bit(reached, step.next);
        } else if (step.type == QMIG_SECTION_FULL && look_up(open, step.id) == 0) {
            put(open, step.id, step.next);
        }
    }
}

/* The items between live places that no step covers. */
static GArray *
list_items(const Package *p, GHashTable *last_end)
{
    GArray *items = g_array_new(FALSE, FALSE, sizeof(QmigPackageItem));
    size_t covered = 0; /* places before this, behind the current one, are covered */
    size_t from = 0;    /* the last live place, when no step covers it */
    bool is_from_proven = true;

    for (size_t at = 0; at <= p->len; at++) {
        if (!get_bit(p->live, at)) {
            continue;
        }
        bool proven = at >= covered;
        if (at > 0 && proven && is_from_proven) {
            QmigPackageItem item = { from, at };
            g_array_append_val(items, item);
        }
        from = at;
        is_from_proven = proven;
        Step step = at < p->len ? step_at(p, at) : (Step){ 0 };
        if (step.type == WIRE_COMMAND) {
            covered = MAX(covered, step.next);
        } else if (step.type == QMIG_SECTION_FULL) {
            covered = MAX(covered, look_up(last_end, step.id) - 1);
        }
    }
    return items;
}

GArray *
qmig_package_split(const uint8_t *data, size_t len)
{
    Package p = { .data = data, .len = len };
    g_autofree uint8_t *to_end = g_malloc0(len / 8 + 1);
    g_autofree uint8_t *live = g_malloc0(len / 8 + 1);

    p.to_end = to_end;
    p.live = live;
    g_autoptr(GHashTable) last_end = go_backward(&p);
    if (!get_bit(to_end, 0)) {
        return g_array_new(FALSE, FALSE, sizeof(QmigPackageItem));
    }
    go_forward(&p);
    return list_items(&p, last_end);
}
