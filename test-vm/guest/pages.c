/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The working set: each page verified before it is written, and by a walk in the background.
 *
 * An instruction takes about half a microsecond where KVM is nested, a comparison of a whole
 * page 0.8 ms. So before a write name and sequence number are verified, which gives stale and
 * misplaced pages away; the walk verifies whole headers, and of every BODY_CHECK_EVERY-th page
 * that it meets one quarter of the body. Writing a word takes some 15 instructions.
 */
#include "pages.h"

#include <stdbool.h>

#include "io.h"
#include "layout.h"
#include "pool.h"
#include "serial.h"

#define BODY_CHECK_EVERY 16u
#define MAX_REPORTS 1000u /* corruption lines; beyond that they are only counted */
#define SUM_STEP 0x9e3779b1u
#define TAKE_PAGES (POOL_TAKE_MAX / PAGE_SIZE)

struct counters counters;

static struct workload w;
static struct page *set;
static uint32_t *const sequences = (uint32_t *)SEQ_ADDRESS;
static uint32_t next_write, next_check, walk_round, touch_round;
static uint32_t random_state = 2463534242u;

static uint32_t
random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return (uint32_t)(((uint64_t)random_state * limit) >> 32);
}

static inline uint32_t
header_sum(const struct page *p)
{
    return p->name + p->sequence * SUM_STEP + p->source[0] + p->source[1] * 3u +
           p->source[2] * 5u + p->source[3] * 7u;
}

static void
report(uint32_t number, const void *where, uint32_t expected, uint32_t got)
{
    if (counters.errors++ >= MAX_REPORTS) {
        return;
    }
    print("\nCORRUPT page=");
    print_number(number);
    print(" at=");
    print_hex((uint32_t)where);
    print(" expected=");
    print_hex(expected);
    print(" got=");
    print_hex(got);
    print_char('\n');
}

static bool
header_is_good(uint32_t number)
{
    const struct page *p = &set[number];

    counters.checked++;
    if (p->name != (number + PAGE_MAGIC)) {
        report(number, &p->name, number + PAGE_MAGIC, p->name);
    } else if (p->sequence != sequences[number]) {
        report(number, &p->sequence, sequences[number], p->sequence);
    } else if (p->sum != header_sum(p)) {
        report(number, &p->sum, header_sum(p), p->sum);
    } else {
        return true;
    }
    return false;
}

static bool
quarter_is_good(uint32_t number, uint32_t quarter)
{
    const struct page *p = &set[number];
    const uint8_t *body = p->body + quarter * QUARTER_BYTES;
    const uint32_t *wrong = pool_differs(body, p->source[quarter], QUARTER_BYTES);
    uint32_t at;

    if (!wrong) {
        return true;
    }
    at = (uint32_t)((const uint8_t *)wrong - body);
    report(number, wrong, pool_word(p->source[quarter] + at), *wrong);
    return false;
}

static void
stamp(uint32_t number)
{
    struct page *p = &set[number];

    p->sequence = ++sequences[number];
    p->sum = header_sum(p);
}

static void
write_body(struct page *p)
{
    uint32_t offset = pool_take(p->body, BODY_BYTES);

    for (uint32_t q = 0; q < QUARTERS; q++) {
        p->source[q] = offset + q * QUARTER_BYTES;
    }
}

/* A wrong page is reported once, then made right. */
static void
repair(uint32_t number)
{
    set[number].name = number + PAGE_MAGIC;
    write_body(&set[number]);
    stamp(number);
}

/* Up to TAKE_PAGES in a row: their bodies by one large transfer, then the headers over them. */
static void
write_pages(uint32_t first, uint32_t n)
{
    uint32_t offset = pool_take(&set[first], n * PAGE_SIZE) + HEADER_WORDS * 4;
    struct page *p = &set[first], *end = p + n;
    uint32_t *sequence = &sequences[first];
    uint32_t name = first + PAGE_MAGIC;

    for (; p != end; p++, name++, offset += PAGE_SIZE) {
        p->name = name;
        p->sequence = ++*sequence;
        p->source[0] = offset;
        p->source[1] = offset + QUARTER_BYTES;
        p->source[2] = offset + 2 * QUARTER_BYTES;
        p->source[3] = offset + 3 * QUARTER_BYTES;
        p->touched = 0;
        /* header_sum() of these, in fewer steps */
        p->sum = name + *sequence++ * SUM_STEP + 16 * offset + 34 * QUARTER_BYTES;
    }
}

void
pages_fill(const struct workload *workload)
{
    w = *workload;
    set = (struct page *)w.base;
    words_fill(sequences, 0, w.n_pages);
    for (uint32_t first = 0; first < w.n_pages; first += TAKE_PAGES) {
        uint32_t left = w.n_pages - first;

        write_pages(first, left < TAKE_PAGES ? left : TAKE_PAGES);
    }
}

/* How often a page was touched follows from where the walk is. */
static bool
touched_is_good(uint32_t number)
{
    struct page *p = &set[number];
    uint32_t expected = touch_round + (number < next_write);

    if (w.pattern != PATTERN_TOUCH || p->touched == expected) {
        return true;
    }
    report(number, &p->touched, expected, p->touched);
    p->touched = expected;
    return false;
}

static inline uint32_t
choose_page(void)
{
    uint32_t tenth = w.n_pages / 10;

    if (w.order == ORDER_RANDOM) {
        return random_below(w.n_pages);
    }
    if (w.order == ORDER_HOT && tenth) {
        return random_below(10) ? random_below(tenth) : random_below(w.n_pages);
    }
    if (next_write == w.n_pages) {
        next_write = 0;
    }
    return next_write++;
}

/* Pages in a row: the loop that decides how fast this guest dirties memory. The sum follows
 * the sequence number by one addition. */
static void
write_words(uint32_t number, uint32_t n)
{
    struct page *p = &set[number], *end = p + n;
    uint32_t *sequence = &sequences[number];
    uint32_t name = number + PAGE_MAGIC;

    for (; p != end; p++, sequence++, name++) {
        uint32_t expected = *sequence;

        if (p->name != name || p->sequence != expected) {
            header_is_good(name - PAGE_MAGIC); /* says what is wrong */
            repair(name - PAGE_MAGIC);
            continue;
        }
        *sequence = p->sequence = expected + 1;
        p->sum += SUM_STEP;
    }
}

/* As fast as it gets: nothing is verified here, but by the walk. */
static void
touch(uint32_t n)
{
    while (n) {
        uint32_t run = w.n_pages - next_write;
        struct page *p = &set[next_write], *end;

        run = run < n ? run : n;
        for (end = p + run; p != end; p++) {
            p->touched++;
        }
        n -= run;
        next_write += run;
        if (next_write == w.n_pages) {
            next_write = 0;
            touch_round++;
        }
    }
}

/* Whole pages in a row, of which each was what it should be. */
static void
rewrite(uint32_t n)
{
    while (n) {
        uint32_t first = choose_page(), run = w.n_pages - first;

        run = run < TAKE_PAGES ? run : TAKE_PAGES;
        run = run < n ? run : n;
        for (uint32_t number = first; number < first + run; number++) {
            if (set[number].name != number + PAGE_MAGIC ||
                set[number].sequence != sequences[number]) {
                header_is_good(number); /* says what is wrong */
            }
        }
        counters.checked += run;
        write_pages(first, run);
        next_write = first + run;
        n -= run;
    }
}

static void
write_content(uint32_t number)
{
    struct page *p = &set[number];
    uint32_t quarter;

    if (!header_is_good(number)) {
        repair(number);
    } else if (w.pattern == PATTERN_PAGE) {
        write_body(p);
        stamp(number);
    } else {
        quarter = p->sequence % QUARTERS;
        p->source[quarter] = pool_take(p->body + quarter * QUARTER_BYTES, QUARTER_BYTES);
        stamp(number);
    }
}

void
pages_write(uint32_t n)
{
    counters.dirtied += n;
    if (w.pattern == PATTERN_TOUCH) {
        touch(n);
        return;
    }
    if (w.pattern == PATTERN_PAGE && w.order == ORDER_SEQUENTIAL) {
        rewrite(n);
        return;
    }
    if (w.pattern != PATTERN_WORD) {
        while (n--) {
            write_content(choose_page());
        }
        return;
    }
    counters.checked += n;
    if (w.order == ORDER_SEQUENTIAL) {
        while (n) {
            uint32_t first = choose_page(), run = w.n_pages - first;

            run = run < n ? run : n;
            write_words(first, run);
            next_write = first + run;
            n -= run;
        }
        return;
    }
    while (n--) {
        write_words(choose_page(), 1);
    }
}

uint32_t
pages_batch(void)
{
    if (w.pattern == PATTERN_TOUCH) {
        return 150;
    }
    if (w.order == ORDER_SEQUENTIAL && w.pattern == PATTERN_PAGE) {
        return TAKE_PAGES;
    }
    return w.pattern != PATTERN_WORD ? 2 : w.order == ORDER_SEQUENTIAL ? 48 : 16;
}

static void
check_one(void)
{
    uint32_t number = next_check++;

    if (number >= w.n_pages) {
        number = 0;
        next_check = 1;
        walk_round++;
    }
    if (!touched_is_good(number)) {
        return;
    }
    if (!header_is_good(number)) {
        repair(number);
    } else if ((number + walk_round) % BODY_CHECK_EVERY == 0) {
        /* Other pages on every round of the walk, and then another quarter. */
        if (!quarter_is_good(number, (walk_round / BODY_CHECK_EVERY) % QUARTERS)) {
            repair(number);
        }
    }
}

void
pages_check(uint32_t n)
{
    while (n--) {
        check_one();
    }
}
