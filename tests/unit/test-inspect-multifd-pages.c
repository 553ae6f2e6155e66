/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pages out of a multifd channel's packets, by every compression. */
#include "compress/inflate.h"
#include "inspect/multifd-pages.h"
#include "util/error.h"

#include <stdint.h>
#include <string.h>

enum { PAGE = 4096, N_PAGES = 5, LEN = PAGE * N_PAGES };

static struct qmig_multifd_packet
packet(uint32_t flags, const uint8_t *payload, size_t len)
{
    return (struct qmig_multifd_packet){
        .size = sizeof(struct qmig_multifd_packet),
        .flags = flags,
        .page_size = PAGE,
        .pages_alloc = 128,
        .normal_pages = N_PAGES,
        .next_packet_size = (uint32_t)len,
        .packet_num = 9,
        .block = "pc.ram",
        .payload = payload,
        .payload_length = len,
    };
}

static void
fill(uint8_t *pages, unsigned seed)
{
    for (size_t i = 0; i < LEN; i++) {
        pages[i] = (uint8_t)(i * seed + (i >> 9));
    }
}

static void
test_compressed(void)
{
    static const uint32_t flags[] = { QMIG_MULTIFD_ZLIB, QMIG_MULTIFD_ZSTD };
    uint8_t in[LEN], code[LEN + 1000];

    for (unsigned i = 0; i < G_N_ELEMENTS(flags); i++) {
        g_autoptr(QmigMultifdPages) p = qmig_multifd_pages_new();
        g_autoptr(QmigDeflate) packer = qmig_deflate_new((QmigContinuous)i, 1);

        for (unsigned j = 0; j < 10; j++) {
            struct qmig_multifd_packet sync = packet(QMIG_MULTIFD_SYNC, NULL, 0);
            const uint8_t *pages = in;
            fill(in, j);
            size_t n = qmig_deflate_piece(packer, in, LEN, code, sizeof code);
            struct qmig_multifd_packet data = packet(flags[i] | (j & 1), code, n);

            g_assert_true(qmig_multifd_pages_take(p, &data, &pages, NULL));
            g_assert_cmpmem(pages, LEN, in, LEN);
            sync.normal_pages = 0; /* between two others: it has no compression */
            g_assert_true(qmig_multifd_pages_take(p, &sync, &pages, NULL));
            g_assert_null(pages);
        }
    }
}

static void
test_plain(void)
{
    g_autoptr(QmigMultifdPages) p = qmig_multifd_pages_new();
    struct qmig_multifd_packet device = { .flags = QMIG_MULTIFD_DEVICE_STATE,
                                          .device = "vfio",
                                          .payload_length = 7 };
    uint8_t in[LEN];
    struct qmig_multifd_packet data = packet(0, in, LEN);
    const uint8_t *pages = NULL;

    fill(in, 1);
    g_assert_true(qmig_multifd_pages_take(p, &device, &pages, NULL));
    g_assert_null(pages);
    g_assert_true(qmig_multifd_pages_take(p, &data, &pages, NULL));
    g_assert_true(pages == in); /* not copied */
}

static void
expect_refused(QmigMultifdPages *p, uint32_t flags, int code, const char *text)
{
    uint8_t payload[100] = { 1 };
    struct qmig_multifd_packet data = packet(flags, payload, sizeof payload);
    g_autoptr(GError) error = NULL;
    const uint8_t *pages;

    g_assert_false(qmig_multifd_pages_take(p, &data, &pages, &error));
    g_assert_error(error, QMIG_ERROR, code);
    if (strstr(error->message, text) == NULL) {
        g_error("expected \"%s\" in \"%s\"", text, error->message);
    }
}

static void
test_refused(void)
{
    static const struct {
        uint32_t flags;
        const char *text;
    } hardware[] = {
        { QMIG_MULTIFD_QPL, "packet 9 of block \"pc.ram\": compression \"qpl\"" },
        { QMIG_MULTIFD_UADK, "\"uadk\" (flags 0x10) cannot be unpacked" },
        { QMIG_MULTIFD_QATZIP, "\"qatzip\" (flags 0x20)" },
        { 0x3e, "\"unknown\" (flags 0x3e)" },
    };
    uint8_t in[LEN];
    struct qmig_multifd_packet plain = packet(0, in, LEN);
    const uint8_t *pages;

    fill(in, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(hardware); i++) {
        g_autoptr(QmigMultifdPages) p = qmig_multifd_pages_new();
        expect_refused(p, hardware[i].flags, QMIG_ERROR_UNSUPPORTED, hardware[i].text);
    }
    g_autoptr(QmigMultifdPages) p = qmig_multifd_pages_new();
    g_assert_true(qmig_multifd_pages_take(p, &plain, &pages, NULL));
    expect_refused(p, QMIG_MULTIFD_ZSTD, QMIG_ERROR_PROTOCOL,
                   "compression \"zstd\", but \"none\" in the packets before");
    g_autoptr(QmigMultifdPages) q = qmig_multifd_pages_new();
    expect_refused(q, QMIG_MULTIFD_ZLIB, QMIG_ERROR_PROTOCOL,
                   "zlib stream: piece of 100 bytes for 20480");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/multifd-pages/compressed-channels-are-unpacked", test_compressed);
    g_test_add_func("/multifd-pages/plain-pages-are-lent", test_plain);
    g_test_add_func("/multifd-pages/what-cannot-be-unpacked-is-refused", test_refused);
    return g_test_run();
}
