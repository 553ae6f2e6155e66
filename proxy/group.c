/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The shared end of a migration. Threads of the data path come here only when something
 * unusual happens, so one mutex does.
 */
#include "proxy/group.h"

#include "util/error.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
    /* Strays on a TCP port can be many; people read the first ones. */
    NOTICES_MAX = 64,
    /* From a side channel's end to main's, an orderly end takes QEMU some ms, more on a busy
       host. The broken channel itself was closed at once: nobody waits for this verdict. */
    SUSPECT_MS = 2000,
};

void
qmig_group_init(QmigGroup *group)
{
    memset(group, 0, sizeof *group);
    pthread_mutex_init(&group->lock, NULL);
    group->cancel = qmig_cancel_new();
    group->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (group->wake_fd < 0) {
        g_error("eventfd: %s", g_strerror(errno));
    }
    group->notices = g_ptr_array_new_with_free_func(g_free);
}

void
qmig_group_clear(QmigGroup *group)
{
    qmig_cancel_free(group->cancel);
    qmig_fd_clear(&group->wake_fd);
    g_clear_error(&group->error);
    g_clear_error(&group->suspect);
    g_ptr_array_unref(group->notices);
    pthread_mutex_destroy(&group->lock);
}

void
qmig_group_wake(QmigGroup *group)
{
    /* Fails only when the counter is full: then it is readable anyway. */
    (void)!eventfd_write(group->wake_fd, 1);
}

void
qmig_group_fail(QmigGroup *group, GError *error)
{
    pthread_mutex_lock(&group->lock);
    bool first = group->error == NULL;
    if (first) {
        group->error = error;
    }
    pthread_mutex_unlock(&group->lock);
    if (!first) {
        g_error_free(error);
    }
    qmig_cancel_raise(group->cancel);
}

void
qmig_group_suspect(QmigGroup *group, GError *error)
{
    pthread_mutex_lock(&group->lock);
    bool first = group->suspect == NULL;
    if (first) {
        group->suspect = error;
        group->suspect_at = qmig_deadline_in_ms(SUSPECT_MS);
    }
    pthread_mutex_unlock(&group->lock);
    if (!first) {
        g_error_free(error);
    }
    qmig_group_wake(group);
}

QmigDeadline
qmig_group_judge_suspect(QmigGroup *group)
{
    GError *due = NULL;
    QmigDeadline again = QMIG_DEADLINE_NEVER;

    pthread_mutex_lock(&group->lock);
    if (group->suspect != NULL && qmig_now_us() >= group->suspect_at) {
        due = g_steal_pointer(&group->suspect);
    } else if (group->suspect != NULL) {
        again = group->suspect_at;
    }
    pthread_mutex_unlock(&group->lock);
    if (due != NULL) {
        qmig_group_fail(group, due);
    }
    return again;
}

void
qmig_group_notice(QmigGroup *group, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_debug("%s", text);
    pthread_mutex_lock(&group->lock);
    if (group->notices->len < NOTICES_MAX) {
        g_ptr_array_add(group->notices, g_steal_pointer(&text));
    }
    pthread_mutex_unlock(&group->lock);
}

GError *
qmig_group_error(QmigGroup *group)
{
    pthread_mutex_lock(&group->lock);
    GError *copy = group->error != NULL ? g_error_copy(group->error) : NULL;
    pthread_mutex_unlock(&group->lock);
    return copy;
}

JsonObject *
qmig_group_notices(QmigGroup *group)
{
    JsonObject *list = json_object_new_array();

    pthread_mutex_lock(&group->lock);
    for (guint i = 0; i < group->notices->len; i++) {
        json_object_array_add(list, json_object_new_string(group->notices->pdata[i]));
    }
    pthread_mutex_unlock(&group->lock);
    return list;
}
