/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "proxy/link/hello.h"

#include "util/cursor.h"
#include "util/error.h"
#include "util/writer.h"

#include <string.h>

/* Of the checksum of a name that was cut, digits. */
enum { NAME_SUM = 16 };

/* Fields may be added behind the last one: readers of this version skip them. */

size_t
qmig_hello_write(const QmigHello *h, uint8_t out[static 512])
{
    QmigWriter w = qmig_writer(out, 512);
    bool ok = qmig_writer_be32(&w, QMIG_LINK_MAGIC) &&
              qmig_writer_be16(&w, h->version_min) &&
              qmig_writer_be16(&w, h->version_max) && qmig_writer_be16(&w, h->n_wires) &&
              qmig_writer_be32(&w, h->window) && qmig_writer_be64(&w, h->cache_size) &&
              qmig_writer_be32(&w, h->deadline_ms) &&
              qmig_writer_cstr(&w, h->name, strlen(h->name));

    g_assert(ok);
    return w.len;
}

static bool
truncated(GError **error, const char *what, size_t len)
{
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL, "%s of %zu bytes is cut", what,
                          len);
}

static bool
read_magic(QmigCursor *c, const char *what, GError **error)
{
    uint32_t magic;

    if (!qmig_cursor_be32(c, &magic)) {
        return truncated(error, what, qmig_cursor_left(c));
    }
    return magic == QMIG_LINK_MAGIC ||
           qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "%s begins with %08x, wanted %08x (\"QLNK\")", what, magic,
                          QMIG_LINK_MAGIC);
}

bool
qmig_link_keep_printable(char *text)
{
    bool was_printable = true;

    for (char *p = text; *p != '\0'; p++) {
        if (!g_ascii_isprint(*p)) {
            *p = '?';
            was_printable = false;
        }
    }
    return was_printable;
}

void
qmig_link_name(const char *what, const char *host,
               char name[static QMIG_LINK_NAME_MAX + 1])
{
    g_autofree char *whole = g_strdup_printf("%s@%s", what, host);

    g_strlcpy(name, whole, QMIG_LINK_NAME_MAX + 1);
    if (qmig_link_keep_printable(name) && strlen(whole) <= QMIG_LINK_NAME_MAX) {
        return;
    }
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, whole, -1);
    sum[NAME_SUM] = '\0';
    name[QMIG_LINK_NAME_MAX - 1 - NAME_SUM] = '\0';
    g_strlcat(name, "#", QMIG_LINK_NAME_MAX + 1);
    g_strlcat(name, sum, QMIG_LINK_NAME_MAX + 1);
}

bool
qmig_hello_read(const void *in, size_t len, QmigHello *h, GError **error)
{
    QmigCursor c = qmig_cursor(in, len);
    char name[256];
    uint8_t name_len;

    if (!read_magic(&c, "HELLO", error)) {
        return false;
    }
    if (!(qmig_cursor_be16(&c, &h->version_min) &&
          qmig_cursor_be16(&c, &h->version_max) && qmig_cursor_be16(&c, &h->n_wires) &&
          qmig_cursor_be32(&c, &h->window) && qmig_cursor_be64(&c, &h->cache_size) &&
          qmig_cursor_be32(&c, &h->deadline_ms) &&
          qmig_cursor_cstr(&c, name, &name_len))) {
        return truncated(error, "HELLO", len);
    }
    name[MIN(name_len, QMIG_LINK_NAME_MAX)] = '\0';
    (void)qmig_link_keep_printable(name);
    g_strlcpy(h->name, name, sizeof h->name);
    return true;
}

size_t
qmig_welcome_write(const QmigWelcome *m, uint8_t out[static 512])
{
    QmigWriter w = qmig_writer(out, 512);
    bool ok = qmig_writer_be32(&w, QMIG_LINK_MAGIC) && qmig_writer_be16(&w, m->version) &&
              qmig_writer_be16(&w, m->n_wires) && qmig_writer_be32(&w, m->window) &&
              qmig_writer_be64(&w, m->cache_size) &&
              qmig_writer_be32(&w, m->deadline_ms) &&
              qmig_writer_bytes(&w, m->id, sizeof m->id) &&
              qmig_writer_bytes(&w, m->secret, sizeof m->secret);

    g_assert(ok);
    return w.len;
}

static bool
read_id(QmigCursor *c, uint8_t id[static QMIG_LINK_ID],
        uint8_t secret[static QMIG_LINK_SECRET])
{
    const uint8_t *bytes;

    if (!qmig_cursor_bytes(c, QMIG_LINK_ID + QMIG_LINK_SECRET, &bytes)) {
        return false;
    }
    memcpy(id, bytes, QMIG_LINK_ID);
    memcpy(secret, bytes + QMIG_LINK_ID, QMIG_LINK_SECRET);
    return true;
}

bool
qmig_welcome_read(const void *in, size_t len, QmigWelcome *m, GError **error)
{
    QmigCursor c = qmig_cursor(in, len);

    if (!read_magic(&c, "WELCOME", error)) {
        return false;
    }
    if (!(qmig_cursor_be16(&c, &m->version) && qmig_cursor_be16(&c, &m->n_wires) &&
          qmig_cursor_be32(&c, &m->window) && qmig_cursor_be64(&c, &m->cache_size) &&
          qmig_cursor_be32(&c, &m->deadline_ms) && read_id(&c, m->id, m->secret))) {
        return truncated(error, "WELCOME", len);
    }
    if (m->n_wires == 0 || m->n_wires > QMIG_LINK_WIRES_MAX || m->window == 0 ||
        m->window > QMIG_LINK_WINDOW_MAX) {
        return qmig_set_error(
            error, QMIG_ERROR_LIMIT,
            "WELCOME to %u connections with %u bytes each; limits %d, %d", m->n_wires,
            m->window, QMIG_LINK_WIRES_MAX, QMIG_LINK_WINDOW_MAX);
    }
    return true;
}

size_t
qmig_resume_write(const QmigResume *r, uint8_t out[static 512])
{
    QmigWriter w = qmig_writer(out, 512);
    bool ok = qmig_writer_be32(&w, QMIG_LINK_MAGIC) && qmig_writer_be16(&w, r->wire) &&
              qmig_writer_bytes(&w, r->id, sizeof r->id) &&
              qmig_writer_bytes(&w, r->secret, sizeof r->secret);

    g_assert(ok);
    return w.len;
}

bool
qmig_resume_read(const void *in, size_t len, QmigResume *r, GError **error)
{
    QmigCursor c = qmig_cursor(in, len);

    if (!read_magic(&c, "RESUME", error)) {
        return false;
    }
    if (!qmig_cursor_be16(&c, &r->wire) || !read_id(&c, r->id, r->secret)) {
        return truncated(error, "RESUME", len);
    }
    return true;
}

size_t
qmig_refused_write(QmigRefusal code, const char *reason, uint8_t out[static 512])
{
    QmigWriter w = qmig_writer(out, 512);
    size_t len = MIN(strlen(reason), (size_t)QMIG_LINK_REASON_MAX);
    bool ok = qmig_writer_u8(&w, (uint8_t)code) && qmig_writer_cstr(&w, reason, len);

    g_assert(ok);
    return w.len;
}

bool
qmig_refused_read(const void *in, size_t len, QmigRefusal *code,
                  char reason[static QMIG_LINK_REASON_MAX + 1], GError **error)
{
    QmigCursor c = qmig_cursor(in, len);
    uint8_t number, text_len;
    char text[256];

    if (!qmig_cursor_u8(&c, &number) || !qmig_cursor_cstr(&c, text, &text_len)) {
        return truncated(error, "REFUSED", len);
    }
    *code = (QmigRefusal)number;
    (void)qmig_link_keep_printable(text);
    g_strlcpy(reason, text, QMIG_LINK_REASON_MAX + 1);
    return true;
}
