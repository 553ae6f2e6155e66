/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A report (qmig-plugin.h) that goes into a file, as JSON, however long it becomes. */
#ifndef QMIG_HEATMAP_JSON_H
#define QMIG_HEATMAP_JSON_H

#include "qmig-plugin.h"

#include <stdio.h>

enum { JSON_DEPTH_MAX = 8 };

struct json_file {
    struct qmig_report report; /* write into this one */
    FILE *file;
    unsigned depth;
    char closes[JSON_DEPTH_MAX]; /* of each open group or list */
    int is_empty;                /* nothing stands in the innermost one yet */
};

/* The root is a group; it is ended by json_end(). Errors of the file: ask ferror(). */
void json_begin(struct json_file *json, FILE *file);
void json_end(struct json_file *json);

#endif
