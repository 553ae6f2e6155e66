/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The encoder on events that no decoder made: block names, rejection, its own bounds. */
#include "stream/encoder.h"
#include "util/error.h"

#include <string.h>

static const struct qmig_block ram = {
    .size = sizeof ram,
    .index = 0,
    .name = "pc.ram",
    .name_length = 6,
    .page_size = 4096,
    .used_length = 16 * 4096,
};
static const struct qmig_block rom = {
    .size = sizeof rom,
    .index = 1,
    .name = "rom",
    .name_length = 3,
    .page_size = 4096,
    .used_length = 4096,
};
static const uint8_t page[4096] = { 0x42 };
static const uint8_t fill;

static struct qmig_event
page_event(const struct qmig_block *block, uint64_t offset, uint16_t kind,
           uint32_t length)
{
    return (struct qmig_event){
        .size = sizeof(struct qmig_event),
        .kind = QMIG_EVENT_PAGE,
        .u.page = { .block = block,
                    .offset = offset,
                    .kind = kind,
                    .length = length,
                    .data = kind == QMIG_PAGE_ZERO ? &fill : page,
                    .continued = 1 },
    };
}

static size_t
pending(QmigEncoder *e)
{
    const struct iovec *iov;
    size_t bytes;

    qmig_encoder_pending(e, &iov, &bytes);
    return bytes;
}

/* "continued" is a wish: the name is written when this encoder did not name the block last. */
static void
test_names(void)
{
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    struct qmig_event a = page_event(&ram, 0, QMIG_PAGE_ZERO, 1);
    struct qmig_event b = page_event(&rom, 0, QMIG_PAGE_ZERO, 1);

    g_assert_true(qmig_encoder_put(e, &a, NULL));
    g_assert_cmpuint(pending(e), ==, 8 + 1 + 6 + 1);
    qmig_encoder_clear(e);
    g_assert_true(qmig_encoder_put(e, &a, NULL));
    g_assert_cmpuint(pending(e), ==, 8 + 1);
    qmig_encoder_clear(e);
    g_assert_true(qmig_encoder_put(e, &b, NULL));
    g_assert_cmpuint(pending(e), ==, 8 + 1 + 3 + 1);
    qmig_encoder_clear(e);
    g_assert_true(qmig_encoder_put(e, &a, NULL));
    g_assert_cmpuint(pending(e), ==, 8 + 1 + 6 + 1);
}

static void
reject(struct qmig_event ev, const char *text)
{
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    g_autoptr(GError) error = NULL;

    g_assert_false(qmig_encoder_put(e, &ev, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, text));
    g_assert_cmpuint(pending(e), ==, 0);
}

static void
test_rejects(void)
{
    reject(page_event(&ram, 16 * 4096, QMIG_PAGE_NORMAL, 4096), "offset 0x10000");
    reject(page_event(&ram, 100, QMIG_PAGE_NORMAL, 4096), "offset 0x64");
    reject(page_event(&ram, 0, QMIG_PAGE_NORMAL, 4095), "kind 0x8 with 4095 bytes");
    reject(page_event(&ram, 0, QMIG_PAGE_XBZRLE, 4097), "kind 0x40 with 4097 bytes");
    reject(page_event(&ram, 0, QMIG_PAGE_ZERO, 2), "kind 0x2 with 2 bytes");
    reject(page_event(&ram, 0, 0x10, 1), "page kind 0x10");
    reject((struct qmig_event){ .kind = 40 }, "event kind 40");
    reject((struct qmig_event){ .kind = QMIG_EVENT_SECTION, .u.section.type = 9 },
           "section type 0x9");
    reject((struct qmig_event){ .kind = QMIG_EVENT_COMMAND, .u.command.length = 65536 },
           "65536 bytes");
}

/* A user who flushes whenever it says full never loses a byte, whatever the mix. */
static void
test_full(void)
{
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    uint64_t want = 0, got = 0;

    for (unsigned i = 0; i < 20000; i++) {
        bool zero = i % 3 != 0;
        struct qmig_event ev = zero ? page_event(&ram, 0, QMIG_PAGE_ZERO, 1)
                                    : page_event(&ram, 4096, QMIG_PAGE_NORMAL, 4096);
        if (qmig_encoder_is_full(e)) {
            got += pending(e);
            qmig_encoder_clear(e);
        }
        g_assert_true(qmig_encoder_put(e, &ev, NULL));
        want += 8 + (i == 0 ? 7 : 0) + (zero ? 1 : 4096);
    }
    got += pending(e);
    g_assert_cmpuint(got, ==, want);
}

static void
test_notes(void)
{
    g_autoptr(QmigEncoder) e = qmig_encoder_new();
    struct qmig_event ev = { .kind = 99, .flags = QMIG_EVENT_NOTE };

    g_assert_true(qmig_encoder_put(e, &ev, NULL));
    g_assert_cmpuint(pending(e), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/encoder/names-a-block-unless-it-named-it-last", test_names);
    g_test_add_func("/encoder/rejects-what-the-format-cannot-say", test_rejects);
    g_test_add_func("/encoder/flush-when-full-keeps-every-byte", test_full);
    g_test_add_func("/encoder/notes-add-nothing", test_notes);
    return g_test_run();
}
