/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parse the workload: ws=64M:rate=2000:pattern=word:order=seq:content=text:base=16M:disk=8M:… */
#include "workload.h"

#include <stdbool.h>
#include <stddef.h>

#include "layout.h"
#include "text.h"

static bool
parse_size(const char *text, uint32_t *size)
{
    uint32_t number = 0;

    if (*text < '0' || *text > '9') {
        return false;
    }
    while (*text >= '0' && *text <= '9') {
        number = number * 10 + (uint32_t)(*text++ - '0');
    }
    if (*text == 'K' || *text == 'M' || *text == 'G') {
        number <<= *text == 'K' ? 10 : *text == 'M' ? 20 : 30;
        text++;
    }
    *size = number;
    return *text == '\0';
}

/* The place of a word in a list ending with NULL, -1 if it is not there. */
static int
word_index(const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++) {
        if (same_text(word, words[i])) {
            return i;
        }
    }
    return -1;
}

static bool
set(const char *key, const char *value, struct workload *w)
{
    static const char *const patterns[] = { "word", "part", "page", "touch", NULL };
    static const char *const orders[] = { "seq", "random", "hot", NULL };
    static const char *const contents[] = { "zero", "text", "random", NULL };
    uint32_t size;
    int index;

    if (same_text(key, "rate") && same_text(value, "max")) {
        w->rate = RATE_MAX;
        return true;
    }
    if (same_text(key, "rate")) {
        return parse_size(value, &w->rate);
    }
    if (same_text(key, "ws") && parse_size(value, &size)) {
        w->n_pages = size / PAGE_SIZE;
        return w->n_pages > 0 && w->n_pages <= SEQ_ENTRIES;
    }
    if (same_text(key, "disk") && parse_size(value, &size)) {
        w->n_disk_blocks = size / PAGE_SIZE;
        return w->n_disk_blocks <= DISK_SEQ_ENTRIES;
    }
    if (same_text(key, "drate")) {
        return parse_size(value, &w->disk_rate);
    }
    if (same_text(key, "base") && parse_size(value, &size)) {
        w->base = size & ~(PAGE_SIZE - 1);
        return w->base >= DEFAULT_BASE;
    }
    if (same_text(key, "pattern") && (index = word_index(value, patterns)) >= 0) {
        w->pattern = (enum pattern)index;
        return true;
    }
    if (same_text(key, "order") && (index = word_index(value, orders)) >= 0) {
        w->order = (enum order)index;
        return true;
    }
    if (same_text(key, "content") && (index = word_index(value, contents)) >= 0) {
        w->content = (enum content)index;
        return true;
    }
    return false;
}

const char *
workload_parse(char *text, struct workload *w)
{
    while (*text) {
        char *key = text, *value = NULL;

        for (; *text && *text != ':'; text++) {
            if (*text == '=' && !value) {
                *text = '\0';
                value = text + 1;
            }
        }
        if (*text) {
            *text++ = '\0';
        }
        if (!value || !set(key, value, w)) {
            return key;
        }
    }
    return NULL;
}
