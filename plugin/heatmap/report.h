/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a map says, in a few entries or in all its pages. */
#ifndef QMIG_HEATMAP_REPORT_H
#define QMIG_HEATMAP_REPORT_H

#include "map.h"
#include "qmig-plugin.h"

/* Cheap enough for several times a second. */
void report_summary(const struct map *m, struct qmig_report *r);
/* Passes, slices of time, all pages that were sent. */
void report_whole(const struct map *m, struct qmig_report *r);

#endif
