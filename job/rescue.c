/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A destination that has everything, for a source that cannot leave post-copy otherwise.
 *
 *     source                              here
 *     RECV_BITMAP block, of each block    RECV_BITMAP block, all bits set
 *     RESUME                              RESUME_ACK
 *     end of RAM, EOF                     SHUT 0
 *     completed
 *
 * QEMU 7.2 and 11.1 do so; the guest then goes on as after a failed switchover.
 */
#include "job/rescue.h"

#include "stream/return-path.h"
#include "util/cursor.h"
#include "util/error.h"
#include "util/socket.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    /* A source whose destination is gone notices at once, or is told. */
    PAUSE_TIMEOUT_MS = 5000,
    TALK_TIMEOUT_MS = 15000,
    /* What follows RESUME are a few bytes; then the source waits. */
    QUIET_MS = 300,
    POLL_MS = 20,
    COMMAND_BYTE = 0x08,
    COMMAND_RESUME = 9,
    COMMAND_RECV_BITMAP = 10,
    DEFAULT_PAGE_BYTES = 4096,
    /* Of one command; a block's name is the longest thing in it. */
    BUFFER_BYTES = 4096,
};

typedef struct {
    QmigJob *job;
    QmigDeadline deadline;
    GHashTable *blocks; /* name -> uint64_t *: bytes */
    uint64_t page_bytes;
    QmigFd fd;
    uint8_t buffer[BUFFER_BYTES];
    size_t length; /* bytes in it */
} Sink;

/* ---- the source ------------------------------------------------------------------------- */

static bool
ask_status(QmigJob *job, GError **error)
{
    qmig_migration_info_clear(&job->info);
    return qmig_qmp_query_migrate(job->source.qmp, &job->info, NULL, error);
}

/* Wait until the source says that its post-copy is paused, or over. */
static bool
await_pause(QmigJob *job, GError **error)
{
    QmigDeadline deadline = qmig_deadline_in_ms(PAUSE_TIMEOUT_MS);
    bool told = false;

    for (;;) {
        if (!ask_status(job, error)) {
            return false;
        }
        if (job->info.status != QMIG_STATUS_POSTCOPY ||
            strcmp(job->info.status_text, "postcopy-paused") == 0) {
            return true;
        }
        if (qmig_now_us() >= deadline) {
            if (told) {
                return qmig_set_error(error, QMIG_ERROR_TIMEOUT,
                                      "source: it stays \"%s\" though its destination is "
                                      "gone",
                                      job->info.status_text);
            }
            told = true;
            deadline = qmig_deadline_in_ms(PAUSE_TIMEOUT_MS);
            if (!qmig_qmp_migrate_pause(job->source.qmp, error)) {
                return false;
            }
        }
        g_usleep(POLL_MS * 1000);
    }
}

static bool
read_blocks(Sink *sink, GError **error)
{
    JsonObject *arguments = json_object_new_object();
    g_autoptr(JsonObject) answer = NULL;

    json_object_object_add(arguments, "command-line",
                           json_object_new_string("info ramblock"));
    if (!qmig_qmp_execute(sink->job->source.qmp, "human-monitor-command", arguments,
                          &answer, NULL, error)) {
        return false;
    }
    g_auto(GStrv) lines = g_strsplit(json_object_get_string(answer), "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        char name[256];
        uint64_t offset, used;

        if (sscanf(*line, " %255s %*u %*s 0x%" SCNx64 " 0x%" SCNx64, name, &offset,
                   &used) == 3) {
            g_hash_table_insert(sink->blocks, g_strdup(name),
                                g_memdup2(&used, sizeof used));
        }
    }
    return true;
}

/* ---- the talk --------------------------------------------------------------------------- */

static bool
send_message(Sink *sink, const QmigRpMessage *message, GError **error)
{
    uint8_t bytes[QMIG_RP_WRITE_MAX + BUFFER_BYTES];
    QmigWriter w = qmig_writer(bytes, sizeof bytes);

    return qmig_rp_write(&w, message, error) &&
           qmig_socket_write_all(sink->fd, bytes, w.len, sink->deadline, NULL, error);
}

static bool
claim_block(Sink *sink, const char *name, uint8_t name_length, GError **error)
{
    static const uint8_t ones[BUFFER_BYTES] = { [0 ... BUFFER_BYTES - 1] = 0xff };
    const uint64_t *used = g_hash_table_lookup(sink->blocks, name);
    QmigRpMessage message = { .type = QMIG_RP_RECV_BITMAP, .block_length = name_length };
    uint64_t left;

    if (used == NULL) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "source: it asks for RAM block \"%s\", and lists none such",
                              name);
    }
    memcpy(message.block, name, name_length);
    left = message.bitmap_size = (*used / sink->page_bytes + 63) / 64 * 8;
    if (!send_message(sink, &message, error)) {
        return false;
    }
    while (left > 0) {
        QmigRpMessage piece = { .type = QMIG_RP_BITMAP, .bitmap = ones };

        piece.bitmap_length = MIN(left, sizeof ones);
        left -= piece.bitmap_length;
        if (!send_message(sink, &piece, error)) {
            return false;
        }
    }
    return send_message(sink, &(QmigRpMessage){ .type = QMIG_RP_BITMAP_END }, error);
}

/* The next whole command, out of the buffer. */
static bool
next_command(Sink *sink, uint16_t *command, char name[static 256], uint8_t *name_length,
             GError **error)
{
    for (;;) {
        QmigCursor c = qmig_cursor(sink->buffer, sink->length);
        const uint8_t *payload;
        uint16_t length;
        uint8_t type;

        if (qmig_cursor_u8(&c, &type) && type != COMMAND_BYTE) {
            return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                  "source: byte 0x%02x in place of a command", type);
        }
        if (qmig_cursor_be16(&c, command) && qmig_cursor_be16(&c, &length) &&
            qmig_cursor_bytes(&c, length, &payload)) {
            QmigCursor body = qmig_cursor(payload, length);
            size_t used = sink->length - qmig_cursor_left(&c);

            *name_length = 0;
            name[0] = '\0';
            if (*command == COMMAND_RECV_BITMAP &&
                !qmig_cursor_cstr(&body, name, name_length)) {
                return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                                      "source: RECV_BITMAP without a block");
            }
            sink->length -= used;
            memmove(sink->buffer, sink->buffer + used, sink->length);
            return true;
        }
        if (sink->length == sizeof sink->buffer) {
            return qmig_set_error(error, QMIG_ERROR_LIMIT,
                                  "source: a command of more than %u bytes",
                                  (unsigned)BUFFER_BYTES);
        }
        ssize_t n = qmig_socket_read(sink->fd, sink->buffer + sink->length,
                                     sizeof sink->buffer - sink->length, sink->deadline,
                                     NULL, error);
        if (n <= 0) {
            return n == 0 && qmig_set_error(error, QMIG_ERROR_CLOSED,
                                            "source: it closed the resumed connection");
        }
        sink->length += (size_t)n;
    }
}

/* Take what comes until the source is silent for @quiet_ms or closes. */
static void
drain(Sink *sink, uint32_t quiet_ms)
{
    while (qmig_now_us() < sink->deadline &&
           qmig_socket_read(sink->fd, sink->buffer, sizeof sink->buffer,
                            qmig_deadline_in_ms(quiet_ms), NULL, NULL) > 0) {
    }
}

static bool
talk(Sink *sink, GError **error)
{
    for (;;) {
        uint8_t name_length = 0;
        uint16_t command = 0;
        char name[256];

        if (!next_command(sink, &command, name, &name_length, error)) {
            return false;
        }
        if (command == COMMAND_RECV_BITMAP) {
            if (!claim_block(sink, name, name_length, error)) {
                return false;
            }
        } else if (command == COMMAND_RESUME) {
            break;
        }
    }
    if (!send_message(sink, &(QmigRpMessage){ .type = QMIG_RP_RESUME_ACK, .value = 1 },
                      error)) {
        return false;
    }
    drain(sink, QUIET_MS);
    return send_message(sink, &(QmigRpMessage){ .type = QMIG_RP_SHUT, .value = 0 },
                        error);
}

/* ---- the place -------------------------------------------------------------------------- */

/* A private socket where the source's monitor is one, else a port the source can reach. */
static QmigAddress *
choose_place(QmigJob *job, char **dir, GError **error)
{
    g_autofree char *path = NULL;

    if (job->options->source->kind != QMIG_ADDRESS_UNIX) {
        return qmig_qmp_local_address(job->source.qmp);
    }
    *dir = g_dir_make_tmp("qmig-XXXXXX", error);
    if (*dir == NULL) {
        return NULL;
    }
    path = g_build_filename(*dir, "migrate.sock", NULL);
    return qmig_address_new_unix(path);
}

/* Only the source's user may connect. */
static bool
admit_source(QmigJob *job, const QmigAddress *address, const char *dir, GError **error)
{
    struct ucred peer;

    if (dir == NULL || geteuid() != 0 || !qmig_qmp_peer(job->source.qmp, &peer)) {
        return true;
    }
    return (chmod(dir, 0711) == 0 && chown(address->path, peer.uid, (gid_t)-1) == 0) ||
           qmig_set_error_errno(error, errno, "%s", address->path);
}

static bool
resume_to(Sink *sink, const QmigAddress *address, const char *dir, GError **error)
{
    g_autoptr(QmigAddress) actual = NULL;
    g_auto(QmigFd) listener = qmig_socket_listen(address, 1, &actual, error);
    g_autofree char *uri = NULL;
    bool done;

    if (listener < 0) {
        return false;
    }
    uri = qmig_address_to_string(actual);
    done = admit_source(sink->job, address, dir, error) &&
           qmig_qmp_migrate_resume(sink->job->source.qmp, uri, error) &&
           (sink->fd = qmig_socket_accept(listener, sink->deadline, NULL, error)) >= 0 &&
           talk(sink, error);
    if (address->kind == QMIG_ADDRESS_UNIX) {
        g_unlink(address->path);
    }
    return done;
}

/* Its TLS would want a certificate of us. */
static bool
without_tls(QmigJob *job, GError **error)
{
    g_autoptr(JsonObject) none = json_object_new_object();

    if (!job->options->tls) {
        return true;
    }
    json_object_object_add(none, "tls-creds", json_object_new_string(""));
    return qmig_qmp_set_parameters(job->source.qmp, none, error);
}

static bool
play_destination(QmigJob *job, GError **error)
{
    g_autofree char *dir = NULL;
    g_autoptr(QmigAddress) address = choose_place(job, &dir, error);
    g_autoptr(GHashTable)
        blocks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    Sink sink = { .job = job, .blocks = blocks, .fd = -1 };
    bool done;

    sink.deadline = qmig_deadline_in_ms(TALK_TIMEOUT_MS);
    sink.page_bytes = job->info.page_size > 0 ? job->info.page_size : DEFAULT_PAGE_BYTES;
    done = address != NULL && without_tls(job, error) && read_blocks(&sink, error) &&
           resume_to(&sink, address, dir, error);
    /* It closes as it completes. */
    while (done && qmig_now_us() < sink.deadline && ask_status(job, NULL) &&
           job->info.status == QMIG_STATUS_POSTCOPY) {
        drain(&sink, POLL_MS);
        g_usleep(POLL_MS * 1000);
    }
    qmig_fd_clear(&sink.fd);
    if (dir != NULL) {
        g_rmdir(dir);
    }
    return done;
}

bool
qmig_rescue_source(QmigJob *job, GError **error)
{
    if (!ask_status(job, error)) {
        return false;
    }
    if (job->info.status != QMIG_STATUS_POSTCOPY) {
        return true;
    }
    if (!await_pause(job, error)) {
        return false;
    }
    if (job->info.status != QMIG_STATUS_POSTCOPY) {
        return true;
    }
    qmig_job_decide(job, "end post-copy",
                    "the destination is gone and never ran the guest: the source has all "
                    "of it, and is told that its pages have arrived");
    if (!play_destination(job, error)) {
        return false;
    }
    return job->info.status == QMIG_STATUS_COMPLETED ||
           qmig_set_error(error, QMIG_ERROR_STATE,
                          "source: in place of completing its post-copy has become "
                          "\"%s\"",
                          job->info.status_text);
}
