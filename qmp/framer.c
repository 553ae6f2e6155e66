/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lines out of bytes, objects out of lines. */
#include "qmp/framer.h"

#include "util/error.h"

#include <string.h>

struct QmigQmpFramer {
    GByteArray *bytes; /* not yet parsed */
    guint searched;    /* of these, bytes known to hold no newline */
    struct json_tokener *tokener;
};

QmigQmpFramer *
qmig_qmp_framer_new(void)
{
    QmigQmpFramer *framer = g_new0(QmigQmpFramer, 1);

    framer->bytes = g_byte_array_new();
    framer->tokener = json_tokener_new_ex(QMIG_QMP_DEPTH_LIMIT);
    return framer;
}

void
qmig_qmp_framer_free(QmigQmpFramer *framer)
{
    if (framer != NULL) {
        g_byte_array_unref(framer->bytes);
        json_tokener_free(framer->tokener);
        g_free(framer);
    }
}

bool
qmig_qmp_framer_push(QmigQmpFramer *framer, const void *data, size_t len, GError **error)
{
    if (len > QMIG_QMP_LINE_LIMIT - framer->bytes->len) {
        return qmig_set_error(error, QMIG_ERROR_LIMIT,
                              "QMP: a line has more than %d bytes", QMIG_QMP_LINE_LIMIT);
    }
    g_byte_array_append(framer->bytes, data, (guint)len);
    return true;
}

/* The beginning of a line, fit to be shown. */
static char *
show(const char *line, size_t len)
{
    g_autofree char *start = g_strndup(line, MIN(len, 60));

    return g_strescape(start, NULL);
}

static bool
parse_line(QmigQmpFramer *framer, const char *line, size_t len, JsonObject **object,
           GError **error)
{
    g_autoptr(JsonObject) parsed = NULL;
    g_autofree char *shown = NULL;

    /* Not json-c's own check: it passes overlong forms and surrogates. */
    bool is_text = g_utf8_validate_len(line, len, NULL);
    json_tokener_reset(framer->tokener);
    parsed = json_tokener_parse_ex(framer->tokener, line, (int)len);
    enum json_tokener_error status = json_tokener_get_error(framer->tokener);
    if (is_text && status == json_tokener_success &&
        json_object_is_type(parsed, json_type_object) &&
        json_tokener_get_parse_end(framer->tokener) == len) {
        *object = g_steal_pointer(&parsed);
        return true;
    }
    shown = show(line, len);
    return qmig_set_error(error, QMIG_ERROR_PROTOCOL,
                          "QMP: a line of %zu bytes is no JSON object (%s): \"%s…\"", len,
                          !is_text ? "invalid UTF-8"
                          : status != json_tokener_success
                              ? json_tokener_error_desc(status)
                              : "something else follows or is it",
                          shown);
}

bool
qmig_qmp_framer_next(QmigQmpFramer *framer, JsonObject **object, GError **error)
{
    *object = NULL;
    for (;;) {
        const char *bytes = (const char *)framer->bytes->data;
        guint len = framer->bytes->len;
        const char *end = len > framer->searched ? memchr(bytes + framer->searched, '\n',
                                                          len - framer->searched)
                                                 : NULL;
        if (end == NULL) {
            framer->searched = len;
            return true;
        }
        size_t line = (size_t)(end - bytes), text = line;
        while (text > 0 && g_ascii_isspace(bytes[text - 1])) {
            text--;
        }
        bool ok = text == 0 || parse_line(framer, bytes, text, object, error);
        g_byte_array_remove_range(framer->bytes, 0, (guint)line + 1);
        framer->searched = 0;
        if (!ok || *object != NULL) {
            return ok;
        }
    }
}
