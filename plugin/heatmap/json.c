/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json.h"

#include <inttypes.h>

static void
write_text(FILE *file, const char *text)
{
    putc('"', file);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c >= 0x7f) { /* names of blocks are ASCII */
            fprintf(file, "\\u%04x", c);
        } else {
            fprintf(file, c == '"' || c == '\\' ? "\\%c" : "%c", c);
        }
    }
    putc('"', file);
}

/* What stands before an entry. */
static struct json_file *
begin_entry(struct qmig_report *report, const char *key)
{
    struct json_file *json = report->context;

    if (!json->is_empty) {
        putc(',', json->file);
    }
    json->is_empty = 0;
    if (json->closes[json->depth - 1] == '}') {
        /* A line for each entry of the root. */
        if (json->depth == 1) {
            putc('\n', json->file);
        }
        write_text(json->file, key);
        putc(':', json->file);
    }
    return json;
}

static void
open_container(struct json_file *json, char opens, char closes)
{
    putc(opens, json->file);
    if (json->depth < JSON_DEPTH_MAX) {
        json->closes[json->depth++] = closes;
    }
    json->is_empty = 1;
}

static void
number(struct qmig_report *report, const char *key, uint64_t value)
{
    fprintf(begin_entry(report, key)->file, "%" PRIu64, value);
}

static void
text(struct qmig_report *report, const char *key, const char *value)
{
    write_text(begin_entry(report, key)->file, value);
}

static void
begin_group(struct qmig_report *report, const char *key)
{
    open_container(begin_entry(report, key), '{', '}');
}

static void
begin_list(struct qmig_report *report, const char *key)
{
    open_container(begin_entry(report, key), '[', ']');
}

static void
end(struct qmig_report *report)
{
    struct json_file *json = report->context;

    putc(json->closes[--json->depth], json->file);
    json->is_empty = 0;
}

void
json_begin(struct json_file *json, FILE *file)
{
    *json = (struct json_file){
        .report = { sizeof json->report, json, number, text, begin_group, begin_list,
                    end },
        .file = file,
    };
    open_container(json, '{', '}');
}

void
json_end(struct json_file *json)
{
    putc('\n', json->file);
    end(&json->report);
    putc('\n', json->file);
}
