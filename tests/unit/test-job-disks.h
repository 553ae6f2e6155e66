/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The disk of a test world's guest: an image on each side, the destination's export, the source's
 * node and mirror. Included by test-job-world.h.
 */
#ifndef QMIG_TESTS_JOB_DISKS_H
#define QMIG_TESTS_JOB_DISKS_H

#include "util/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

typedef struct {
    bool present;
    const char *files[2]; /* of each side's image; NULL: /nowhere/source.img, … */
    int64_t sizes[2];     /* 0: 1 MiB */
    bool leftover;        /* a qmig that was killed has left job and node on the source */

    bool serving, exported, connected;
    const char *job; /* status of the mirror; NULL = none */
    const char *error;
    bool breaks; /* the destination's disk server does, while it copies */
    bool stuck;  /* the mirror does not end before its node is yanked */
    bool stops;  /* it pauses at an error, or it ends */
    bool failed;
    bool gives_up;    /* it was cancelled by force, and ends when it is stuck no more */
    bool synchronous; /* a write of the guest waits for the destination */
    bool torn;        /* it ended under such writes: QEMU's heap is corrupted */
    int n_polls;
    bool equal;
} WorldDisk;

/* What the test world asks the disk for. @running: the source's guest; @there: the destination
 * lives. */
typedef struct {
    bool running, there;
} WorldDiskView;

static char *
disk_query(const WorldDisk *d, int side)
{
    static const char *const usual[] = { "/nowhere/source.img",
                                         "/nowhere/destination.img" };

    if (!d->present) {
        return g_strdup("[]");
    }
    return g_strdup_printf(
        "[{\"device\":\"drive0\",\"qdev\":\"/machine/peripheral/disk0/virtio-backend\","
        "\"inserted\":{\"node-name\":\"#block%d\",\"drv\":\"raw\",\"ro\":false,\"file\":"
        "\"%s\",\"image\":{\"format\":\"raw\",\"virtual-size\":%" G_GINT64_FORMAT "}}}]",
        side, d->files[side] != NULL ? d->files[side] : usual[side],
        d->sizes[side] != 0 ? d->sizes[side] : 1048576);
}

/* It cannot write there any more. */
static void
disk_break(WorldDisk *d, const WorldDiskView *view)
{
    if (d->job == NULL || d->failed || strcmp(d->job, "concluded") == 0) {
        return;
    }
    d->stuck = false;
    d->failed = true;
    if (d->stops && !d->gives_up) {
        d->job = strcmp(d->job, "ready") == 0 ? "standby" : "paused";
    } else {
        d->job = "concluded";
        d->error = "Input/output error";
        d->torn = d->torn || (d->synchronous && view->running);
    }
}

static char *
disk_jobs(WorldDisk *d, const WorldDiskView *view)
{
    if (d->job == NULL) {
        return g_strdup("[]");
    }
    if (!view->there || d->breaks) {
        disk_break(d, view);
    } else if (strcmp(d->job, "running") == 0 && ++d->n_polls > 2 && !d->stuck) {
        d->job = "ready";
    }
    return g_strdup_printf(
        "[{\"id\":\"qmig-disk0\",\"status\":\"%s\",\"current-progress\":"
        "%d,\"total-progress\":3%s%s%s}]",
        d->job, MIN(d->n_polls, 3), d->error != NULL ? ",\"error\":\"" : "",
        d->error != NULL ? d->error : "", d->error != NULL ? "\"" : "");
}

static void
disk_cancel(WorldDisk *d, const WorldDiskView *view, bool force)
{
    if (d->job == NULL || d->stuck || strcmp(d->job, "concluded") == 0) {
        d->gives_up = force;
        return;
    }
    /* Writes of a guest that runs on would be lost. */
    d->equal = !force && strcmp(d->job, "ready") == 0 && !view->running;
    d->job = "concluded";
    d->torn = d->torn || (d->synchronous && view->running);
}

/* What it was asked for with an argument @name. */
static bool
disk_argument_is(JsonObject *args, const char *name, const char *value)
{
    return g_strcmp0(json_object_get_string(json_object_object_get(args, name)), value) ==
           0;
}

static bool
disk_act(WorldDisk *d, const WorldDiskView *view, const char *command, JsonObject *args)
{
    JsonObject *force = NULL;

    if (strcmp(command, "nbd-server-start") == 0) {
        g_assert_false(d->serving);
        d->serving = true;
    } else if (strcmp(command, "block-export-add") == 0) {
        g_assert_true(d->serving);
        d->exported = true;
    } else if (strcmp(command, "block-export-del") == 0) {
        g_assert_true(d->exported);
        d->exported = false;
    } else if (strcmp(command, "nbd-server-stop") == 0) {
        g_assert_false(d->exported);
        d->serving = false;
    } else if (strcmp(command, "blockdev-add") == 0) {
        g_assert_true(d->exported && !d->connected);
        d->connected = true;
    } else if (strcmp(command, "blockdev-mirror") == 0) {
        g_assert_true(d->connected && d->job == NULL);
        d->job = "running";
        d->n_polls = 0;
        d->failed = d->gives_up = false;
        d->stops = disk_argument_is(args, "on-target-error", "stop");
        d->synchronous = disk_argument_is(args, "copy-mode", "write-blocking");
    } else if (strcmp(command, "block-job-cancel") == 0) {
        disk_cancel(d, view,
                    json_object_object_get_ex(args, "force", &force) &&
                        json_object_get_boolean(force));
    } else if (strcmp(command, "job-dismiss") == 0) {
        g_assert_cmpstr(d->job, ==, "concluded");
        d->job = d->error = NULL;
    } else if (strcmp(command, "blockdev-del") == 0) {
        g_assert_true(d->connected && d->job == NULL);
        d->connected = false;
    } else {
        return false;
    }
    return true;
}

/* The value of "return", or NULL: not a command of disks. */
static char *
disk_answer(WorldDisk *d, const WorldDiskView *view, int side, const char *command,
            JsonObject *args)
{
    if (strcmp(command, "query-block") == 0) {
        return disk_query(d, side);
    }
    if (strcmp(command, "query-jobs") == 0) {
        return side == 0 ? disk_jobs(d, view) : g_strdup("[]");
    }
    if (strcmp(command, "query-block-jobs") == 0) {
        return g_strdup_printf("[{\"device\":\"qmig-disk0\",\"io-status\":\"%s\"}]",
                               d->failed ? "failed" : "ok");
    }
    if (strcmp(command, "query-named-block-nodes") == 0) {
        return g_strdup(side == 0 && d->connected
                            ? "[{\"node-name\":\"qmig-disk0\"},{\"node-name\":\"n\"}]"
                            : "[{\"node-name\":\"n\"}]");
    }
    if (strcmp(command, "query-block-exports") == 0) {
        return g_strdup(side == 1 && d->exported ? "[{\"id\":\"qmig-disk0\"}]" : "[]");
    }
    return disk_act(d, view, command, args) ? g_strdup("{}") : NULL;
}

static bool
disk_is_left_alone(const WorldDisk *d)
{
    return !d->connected && d->job == NULL && !d->torn;
}

#endif
