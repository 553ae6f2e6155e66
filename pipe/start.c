/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See start.h. */
#include "pipe/start.h"

#include "save/io.h"
#include "util/error.h"

#include <errno.h>
#include <poll.h>

/* ---- one way ------------------------------------------------------------------------------ */

/* The stream's key; and does this OpenSSL have the cipher? */
static bool
take_key(QmigPipeFlow *f, const QmigPipeSetup *setup, const QmigPipeHeader *back,
         bool seal, GError **error)
{
    g_autoptr(QmigPipeBlock) probe = NULL;

    if (f->header.cipher != QMIG_PIPE_CLEAR &&
        !qmig_pipe_key_derive(setup->key, &f->header, back, f->key, error)) {
        return false;
    }
    probe = qmig_pipe_block_new(&f->header, f->key, seal, error);
    return probe != NULL;
}

bool
qmig_pipe_start_encode(QmigPipeFlow *f, const QmigPipeSetup *setup, GError **error)
{
    return qmig_pipe_flow_new_header(&f->header, setup->cipher, 0, setup->block_limit,
                                     error) &&
           take_key(f, setup, NULL, true, error);
}

/* Is the stream as safe as this side was told to have it? */
static bool
check_cipher(const QmigPipeFlow *f, const QmigPipeSetup *setup, GError **error)
{
    const char *cipher = qmig_pipe_cipher_name(f->header.cipher);

    if (f->header.cipher == QMIG_PIPE_CLEAR && setup->key != NULL) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: it is not encrypted, and there is a key: refused",
                              f->in_name);
    }
    return f->header.cipher == QMIG_PIPE_CLEAR || setup->key != NULL ||
           qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "%s: it is encrypted (%s): a key is needed (--key)", f->in_name,
                          cipher);
}

static bool
take_header(QmigPipeFlow *f, const QmigPipeSetup *setup, const uint8_t *bytes,
            GError **error)
{
    if (!qmig_pipe_read_header(bytes, &f->header, error)) {
        g_prefix_error(error, "%s: header: ", f->in_name);
        return false;
    }
    if ((f->header.flags & QMIG_PIPE_TWO_WAY) != 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%s: it is one half of a connection of two ways: this side "
                              "needs --connect, --listen or a command, too",
                              f->in_name);
    }
    f->position = QMIG_PIPE_HEADER_LENGTH;
    return check_cipher(f, setup, error) && take_key(f, setup, NULL, false, error);
}

bool
qmig_pipe_start_decode(QmigPipeFlow *f, const QmigPipeSetup *setup, bool *plain,
                       uint8_t head[static QMIG_PIPE_HEADER_LENGTH], size_t *len,
                       GError **error)
{
    size_t got = 0;

    while (got < QMIG_PIPE_HEADER_LENGTH) {
        ssize_t n = qmig_io_read(f->in, head + got, QMIG_PIPE_HEADER_LENGTH - got,
                                 f->stop, error);
        if (n < 0) {
            g_prefix_error(error, "%s: ", f->in_name);
            return false;
        }
        if (n == 0) {
            return qmig_set_error(error, QMIG_ERROR_CLOSED,
                                  "%s: it ends after %zu bytes, in its header",
                                  f->in_name, got);
        }
        got += (size_t)n;
        /* As soon as it cannot become a header it is handed on. */
        if (memcmp(head, QMIG_PIPE_MAGIC, MIN(got, QMIG_PIPE_MAGIC_LENGTH)) != 0) {
            *plain = true;
            *len = got;
            f->header.cipher = QMIG_PIPE_CLEAR;
            return check_cipher(f, setup, error);
        }
    }
    *plain = false;
    __atomic_add_fetch(&f->bytes_in, got, __ATOMIC_RELAXED);
    return take_header(f, setup, head, error);
}

/* ---- two ways ------------------------------------------------------------------------------- */

static bool
read_by(QmigPipeFlow *f, uint8_t *to, size_t len, QmigDeadline deadline, GError **error)
{
    size_t got = 0;

    while (got < len) {
        if (!qmig_wait_fd(f->in, POLLIN, deadline, f->stop, error)) {
            g_prefix_error(error, "%s: it says nothing: ", f->in_name);
            return false;
        }
        ssize_t n = read(f->in, to + got, len - got);
        if (n == 0) {
            return qmig_set_error(error, QMIG_ERROR_CLOSED,
                                  "%s: closed at the start: look at what the other qmig "
                                  "says",
                                  f->in_name);
        }
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return qmig_set_error_errno(error, errno, "%s: read", f->in_name);
        }
        got += n > 0 ? (size_t)n : 0;
    }
    f->position += len;
    __atomic_add_fetch(&f->bytes_in, len, __ATOMIC_RELAXED);
    return true;
}

static bool
write_bytes(QmigPipeFlow *f, const uint8_t *bytes, size_t len, GError **error)
{
    if (!qmig_io_write_all(f->out, bytes, len, f->stop, error)) {
        g_prefix_error(error, "%s: ", f->out_name);
        return false;
    }
    __atomic_add_fetch(&f->bytes_out, len, __ATOMIC_RELAXED);
    return true;
}

static bool
exchange_headers(QmigPipeFlow *encode, QmigPipeFlow *decode, const QmigPipeSetup *setup,
                 QmigDeadline deadline, GError **error)
{
    uint8_t ours[QMIG_PIPE_HEADER_LENGTH], theirs[QMIG_PIPE_HEADER_LENGTH];

    if (!qmig_pipe_flow_new_header(&encode->header, setup->cipher, QMIG_PIPE_TWO_WAY,
                                   setup->block_limit, error)) {
        return false;
    }
    qmig_pipe_write_header(&encode->header, ours);
    if (!write_bytes(encode, ours, sizeof ours, error) ||
        !read_by(decode, theirs, sizeof theirs, deadline, error)) {
        return false;
    }
    if (!qmig_pipe_read_header(theirs, &decode->header, error)) {
        g_prefix_error(error, "%s: header: ", decode->in_name);
        return false;
    }
    return true;
}

static bool
check_theirs(const QmigPipeFlow *encode, const QmigPipeFlow *decode, GError **error)
{
    const QmigPipeHeader *ours = &encode->header, *theirs = &decode->header;

    if ((theirs->flags & QMIG_PIPE_TWO_WAY) == 0) {
        return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                              "%s: it goes one way only: the other qmig needs --connect, "
                              "--listen or a command, too",
                              decode->in_name);
    }
    if (ours->cipher != theirs->cipher) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: its cipher is %s, here it is %s: give both the same "
                              "--key and --cipher",
                              decode->in_name, qmig_pipe_cipher_name(theirs->cipher),
                              qmig_pipe_cipher_name(ours->cipher));
    }
    /* Our own words, thrown back at us, would have the right key. */
    return memcmp(ours->salt, theirs->salt, sizeof ours->salt) != 0 ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%s: it sends back what it is sent",
                          decode->in_name);
}

static bool
send_hello(QmigPipeFlow *f, GError **error)
{
    g_autoptr(QmigPipeBlock) block = qmig_pipe_block_new(&f->header, f->key, true, error);

    if (block == NULL) {
        return false;
    }
    block->head.kind = QMIG_PIPE_HELLO;
    qmig_pipe_block_seal(block, &f->header, NULL);
    f->next_number = 1;
    return write_bytes(f, block->record, qmig_pipe_block_size(block, &f->header), error);
}

static bool
take_hello(QmigPipeFlow *f, QmigDeadline deadline, GError **error)
{
    g_autoptr(QmigPipeBlock)
        block = qmig_pipe_block_new(&f->header, f->key, false, error);
    uint32_t len = QMIG_PIPE_HEAD_LENGTH + qmig_pipe_mark_length(&f->header);

    if (block == NULL || !read_by(f, block->record, len, deadline, error)) {
        return false;
    }
    if (!qmig_pipe_read_head(block->record, &f->header, qmig_pipe_seed(&f->header, 0),
                             &block->head, error) ||
        (block->head.kind != QMIG_PIPE_HELLO &&
         !qmig_set_error(error, QMIG_ERROR_PROTOCOL, "no hello")) ||
        !qmig_pipe_block_unseal(block, &f->header, NULL, error)) {
        return qmig_pipe_prefix_place(error, f->in_name, 0, f->position - len, 0);
    }
    f->next_number = 1;
    return true;
}

bool
qmig_pipe_start_two_way(QmigPipeFlow *encode, QmigPipeFlow *decode,
                        const QmigPipeSetup *setup, QmigDeadline deadline, GError **error)
{
    return exchange_headers(encode, decode, setup, deadline, error) &&
           check_theirs(encode, decode, error) &&
           take_key(encode, setup, &decode->header, true, error) &&
           take_key(decode, setup, &encode->header, false, error) &&
           send_hello(encode, error) && take_hello(decode, deadline, error);
}
