/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes the seeds of the fuzz targets: make-seeds GOLDEN CORPUS. Streams made by hand, and the
 * golden ones made small: a page of each kind and block, a few devices. Run by hand when the
 * format grows (docs/HACKING.md); its files are committed.
 */
#include "compress/codec.h"
#include "compress/inflate.h"
#include "compress/xbzrle.h"
#include "proxy/link/frame.h"
#include "proxy/link/hello.h"
#include "proxy/link/pack.h"
#include "save/record.h"
#include "save/writer.h"
#include "tests/fuzz/thin.h"
#include "tests/lib/golden.h"
#include "tests/lib/sample-stream.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *golden_dir, *corpus_dir;
static GHashTable *saved; /* target and checksum */

static void
save(const char *target, const char *name, const void *data, size_t len)
{
    g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, data, len);

    if (!g_hash_table_add(saved, g_strconcat(target, sum, NULL))) {
        return; /* the machines of one version have the same devices */
    }
    g_autofree char *dir = g_build_filename(corpus_dir, target, NULL);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) error = NULL;

    g_mkdir_with_parents(dir, 0777);
    g_file_set_contents(path, data, (gssize)len, &error);
    g_assert_no_error(error);
    printf("%6zu %s\n", len, path);
}

static void
save_array(const char *target, const char *name, GByteArray *bytes)
{
    save(target, name, bytes->data, bytes->len);
    g_byte_array_unref(bytes);
}

/* A block that claims 8 TiB, one page, and all of it discarded again and again. */
static GByteArray *
terabytes_discarded(void)
{
    const uint64_t length = UINT64_C(8) << 40;
    GByteArray *out = g_byte_array_new();

    put_head(out);
    put_start(out, 1, "ram", 4);
    put_be64(out, length | 0x04);
    put_cstr(out, "pc.ram");
    put_be64(out, length);
    put_be64(out, 0x02);
    put_cstr(out, "pc.ram");
    put_u8(out, 0);
    put_be64(out, 0x10);
    put_footer(out, 1);
    for (int i = 0; i < 100; i++) {
        put_u8(out, 0x08);
        put_be16(out, 6);
        put_be16(out, 25);
        put_u8(out, 0);
        put_cstr(out, "pc.ram");
        put_u8(out, 0);
        put_be64(out, 4096);
        put_be64(out, length - 4096);
    }
    return out;
}

static void
save_samples(void)
{
    save_array("decoder", "sample-precopy", sample_precopy());
    save_array("decoder", "sample-postcopy", sample_postcopy());
    save_array("decoder", "sample-sections", sample_sections());
    save_array("decoder", "sample-mapped-ram", sample_mapped_ram());
    save_array("decoder", "sample-colo", sample_colo());
    save_array("decoder", "sample-bare", sample_bare());
    save_array("decoder", "terabytes-discarded", terabytes_discarded());
    save_array("link-pack", "sample-precopy", sample_precopy());
    save_array("link-pack", "sample-postcopy", sample_postcopy());
    save_array("link-pack", "sample-sections", sample_sections());
    save_array("link-pack", "sample-mapped-ram", sample_mapped_ram());
    save_array("link-pack", "sample-colo", sample_colo());
    save_array("link-pack", "sample-recovery", sample_recovery());
    save_array("recovery", "sample", sample_recovery());
    save_array("preempt", "sample", sample_preempt());
}

static GBytes *
load_golden(const char *name)
{
    g_autofree char *file = g_strconcat(name, ".zst", NULL);
    g_autofree char *path = g_build_filename(golden_dir, file, NULL);

    return golden_unpack(path);
}

/* "captures/11.1-colo/0-main.forward" -> "11.1-colo-0-main" */
static char *
seed_name(const char *golden)
{
    char *name = g_strdup(g_str_has_prefix(golden, "captures/") ? golden + 9 : golden);

    if (g_str_has_suffix(name, ".forward")) {
        name[strlen(name) - 8] = '\0';
    }
    return g_strdelimit(name, "/", '-');
}

/* What a device's description and state are as a seed: the text, a NUL, the bytes. */
static void
save_devices(const ThinStream *s, const char *name)
{
    for (guint i = 0; i < s->devices->len; i++) {
        const ThinDevice *device = &g_array_index(s->devices, ThinDevice, i);
        g_autofree char *seed = g_strdup_printf("%s-%u", name, i);
        GByteArray *bytes = g_byte_array_new();

        put_text(bytes, device->json);
        put_u8(bytes, 0);
        g_byte_array_append(bytes, device->state->data, device->state->len);
        save_array("device", seed, bytes);
    }
}

static void
save_golden(void)
{
    static const char *const names[] = {
        "7.2-return-path",
        "7.2-q35-no-return-path",
        "7.2-compress",
        "11.1-return-path",
        "11.1-xbzrle",
        "11.1-multifd",
        "11.1-postcopy",
        "11.1-ignore-shared",
        "captures/11.1-colo/0-main.forward",
        "captures/7.2-colo/0-main.forward",
        "captures/11.1-recovery/0-main.forward",
        "captures/7.2-recovery/0-main.forward",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GBytes) golden = load_golden(names[i]);
        g_auto(ThinStream) s = thin_stream(golden);
        g_autofree char *name = seed_name(names[i]);

        save("decoder", name, s.bytes->data, s.bytes->len);
        if (s.tail->len > 0) {
            save("tail", name, s.tail->data, s.tail->len);
        }
        if (s.package->len > 0) {
            save("package", name, s.package->data, s.package->len);
        }
        save_devices(&s, name);
    }
}

static void
save_channels(void)
{
    static const char *const multifd[] = {
        "7.2-multifd-none",    "7.2-multifd-zlib",  "7.2-multifd-zstd",
        "11.1-multifd-none",   "11.1-multifd-zlib", "11.1-multifd-zstd",
        "11.1-multifd-legacy",
    };
    static const char *const reverse[] = {
        "11.1-colo/0-main",           "11.1-recovery/0-main", "11.1-recovery/1-recovery",
        "7.2-recovery/0-main",        "7.2-colo/0-main",      "7.2-recovery/1-recovery",
        "11.1-switchover-ack/0-main",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(multifd); i++) {
        g_autofree char *path = g_strdup_printf("captures/%s/1-multifd.forward",
                                                multifd[i]);
        g_autoptr(GBytes) golden = load_golden(path);
        save_array("multifd", multifd[i], thin_multifd(golden));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(reverse); i++) {
        g_autofree char *path = g_strdup_printf("captures/%s.reverse", reverse[i]);
        g_autoptr(GBytes) golden = load_golden(path);
        g_autofree char *name = seed_name(reverse[i]);
        gsize len;
        const void *data = g_bytes_get_data(golden, &len);
        save("return-path", name, data, len);
    }
}

/* ---- not streams ---------------------------------------------------------------------------- */

static void
save_codes(void)
{
    g_autoptr(GByteArray) page = g_byte_array_new(), other = g_byte_array_new();
    QmigCodecState *state = qmig_codec_state_new();
    uint8_t code[8192];

    put_pattern(page, 4096, 1);
    put_pattern(other, 4096, 1);
    memset(other->data + 100, 7, 50);
    memset(other->data + 3000, 7, 500);
    for (const QmigCodec *codec = qmig_codec_table(); codec->name != NULL; codec++) {
        size_t n = codec->compress(state, 0, code, sizeof code, other->data, other->len);
        save("codec", codec->name, code, n);
    }
    qmig_codec_state_free(state);
    ssize_t n = qmig_xbzrle_encode(page->data, other->data, 4096, code, sizeof code);
    save("xbzrle", "two-runs", code, (size_t)n);
    memset(other->data + 4000, 9, 96);
    n = qmig_xbzrle_encode(page->data, other->data, 4096, code, sizeof code);
    save("xbzrle", "to-the-end", code, (size_t)n);
    /* What fuzz-xbzrle.c has as the page before. */
    save("xbzrle", "short", "\x00\x01\xaa\x81\x01\x02\xbb\xcc", 8);
}

static void
save_continuous(void)
{
    for (int kind = 0; kind < 2; kind++) {
        g_autoptr(QmigDeflate)
            s = qmig_deflate_new(kind ? QMIG_CONTINUOUS_ZSTD : QMIG_CONTINUOUS_ZLIB, 1);
        GByteArray *out = g_byte_array_new();

        put_u8(out, (uint8_t)kind);
        for (unsigned i = 0; i < 3; i++) {
            g_autoptr(GByteArray) piece = g_byte_array_new();
            put_pattern(piece, 2000 + i, i);
            size_t cap = qmig_deflate_bound(s, piece->len);
            g_autofree uint8_t *code = g_malloc(cap);
            size_t n = qmig_deflate_piece(s, piece->data, piece->len, code, cap);
            put_be16(out, (uint16_t)n);
            put_be16(out, (uint16_t)piece->len);
            g_byte_array_append(out, code, (guint)n);
        }
        save_array("inflate", kind ? "zstd" : "zlib", out);
    }
}

/* A stream with a row of zero pages, which a save file leaves out. */
static GByteArray *
mostly_zero(void)
{
    GByteArray *out = g_byte_array_new();

    put_head(out);
    put_start(out, 2, "ram", 4);
    put_be64(out, 200 * 4096 | 0x04);
    put_cstr(out, "pc.ram");
    put_be64(out, 200 * 4096);
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_part(out, 0x03, 2);
    put_be64(out, 0x08);
    put_cstr(out, "pc.ram");
    put_pattern(out, 4096, 1);
    for (unsigned i = 1; i < 200; i++) {
        put_be64(out, i * 4096 | 0x02 | 0x20);
        put_u8(out, 0);
    }
    put_be64(out, 0x10);
    put_footer(out, 2);
    put_u8(out, 0);
    return out;
}

/* Small chunks, so that there are several. */
static void
save_save_files(void)
{
    for (unsigned codec = 0; codec < QMIG_SAVE_N_CODECS; codec++) {
        QmigSaveConfig config = { .codec = codec, .threads = 1, .chunk_size = 4096 };
        g_autoptr(GByteArray) stream = mostly_zero();
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_auto(QmigSaveInfo) info = { 0 };
        g_autofree char *doubt = NULL;
        FILE *in = tmpfile(), *out = tmpfile();
        g_autoptr(QmigSaveWriter) w = qmig_save_writer_new(fileno(out), &config, NULL);

        g_assert_cmpint(pwrite(fileno(in), stream->data, stream->len, 0), ==,
                        stream->len);
        qmig_save_info_init(&info);
        g_assert_true(qmig_save_record(fileno(in), w, &info, &doubt, NULL, NULL));
        g_assert_true(qmig_save_writer_finish(w, &info, NULL));
        g_byte_array_set_size(bytes, (guint)qmig_save_writer_written(w));
        g_assert_cmpint(pread(fileno(out), bytes->data, bytes->len, 0), ==, bytes->len);
        save("save", qmig_save_codec_name(codec), bytes->data, bytes->len);
        fclose(in);
        fclose(out);
    }
}

/* Twice the same pages, the second time a little different: all ops. As fuzz-link-batch.c takes
 * them. */
static void
save_batches(void)
{
    QmigPackConfig config = { .cache_size = 128 << 10 };
    g_autoptr(GByteArray) stream = mostly_zero();
    g_autoptr(QmigPack) p = qmig_pack_new(&config, NULL);
    g_autoptr(QmigCancel) now = qmig_cancel_new();
    GByteArray *out = g_byte_array_new();
    size_t end = stream->len - 1;
    uint8_t buf[QMIG_PACK_BATCH_MIN];
    ssize_t n;

    g_byte_array_set_size(stream, (guint)end);
    for (unsigned round = 0; round < 3; round++) {
        put_part(stream, 0x02, 2);
        for (unsigned i = 0; i < 4; i++) {
            put_be64(stream, i * 4096 | 0x08);
            put_cstr(stream, "pc.ram");
            put_pattern(stream, 4096, i / 2);
            stream->data[stream->len - 1 - round * 50] = 0x99;
        }
        put_be64(stream, 5 * 4096 | 0x40 | 0x20);
        put_u8(stream, 1);
        put_be16(stream, 0);
        put_be64(stream, 0x10);
        put_footer(stream, 2);
    }
    qmig_cancel_raise(now);
    for (size_t at = 0; at < stream->len; at += 4000) {
        g_assert_true(
            qmig_pack_put(p, stream->data + at, MIN(4000, stream->len - at), NULL, NULL));
        while ((n = qmig_pack_take(p, buf, sizeof buf, now, NULL)) > 0) {
            put_be16(out, (uint16_t)n);
            g_byte_array_append(out, buf, (guint)n);
        }
    }
    save_array("link-batch", "all-ops", out);
}

static void
save_frame(const char *name, QmigFrameHead head, const void *payload)
{
    g_autoptr(GByteArray) out = g_byte_array_new();

    if (head.codec == QMIG_FRAME_PLAIN) {
        head.plain_length = head.length;
    }
    g_byte_array_set_size(out, QMIG_FRAME_HEAD);
    qmig_frame_seal(&head, payload, out->data);
    g_byte_array_append(out, payload, head.length);
    save("link-frame", name, out->data, out->len);
    /* And as what a stranger says, in pieces of eight bytes. */
    g_byte_array_prepend(out, (const uint8_t[]){ 4, 7 }, 2);
    save("link-handshake", name, out->data, out->len);
}

/* One of each message of the tunnel's beginning; fuzz-link-handshake.c has it after its number. */
static void
save_handshake(void)
{
    QmigHello hello = { .version_min = 1,
                        .version_max = 2,
                        .n_wires = 4,
                        .window = 16 << 20,
                        .cache_size = 256 << 20,
                        .deadline_ms = 120000,
                        .name = "vm1" };
    QmigWelcome welcome = { .version = 1,
                            .n_wires = 2,
                            .window = 1 << 20,
                            .id = { 1, 2, 3 },
                            .secret = { 4, 5 } };
    QmigResume resume = { .wire = 1, .id = { 1, 2, 3 }, .secret = { 4, 5 } };
    uint8_t out[4][513] = { { 0 }, { 1 }, { 2 }, { 3 } };
    size_t len[] = {
        qmig_hello_write(&hello, out[0] + 1), qmig_welcome_write(&welcome, out[1] + 1),
        qmig_resume_write(&resume, out[2] + 1),
        qmig_refused_write(QMIG_REFUSED_FULL, "too many sessions", out[3] + 1)
    };
    static const char *const names[] = { "hello", "welcome", "resume", "refused" };
    static const uint8_t types[] = { QMIG_FRAME_HELLO, QMIG_FRAME_WELCOME,
                                     QMIG_FRAME_RESUME, QMIG_FRAME_REFUSED };
    static const uint8_t data[64] = { 0 };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *name = g_strdup_printf("payload-%s", names[i]);
        save("link-handshake", name, out[i], len[i] + 1);
        save_frame(names[i],
                   (QmigFrameHead){ .type = types[i], .length = (uint32_t)len[i] },
                   out[i] + 1);
    }
    save_frame("ping", (QmigFrameHead){ .type = QMIG_FRAME_PING, .length = 8 }, data);
    save_frame(
        "data",
        (QmigFrameHead){ .type = QMIG_FRAME_DATA, .stream = 1, .seq = 7, .length = 64 },
        data);
    save_frame("compressed",
               (QmigFrameHead){ .type = QMIG_FRAME_BATCH,
                                .codec = QMIG_FRAME_ZSTD,
                                .stream = 2,
                                .length = 64,
                                .plain_length = 4096 },
               data);
    save_frame("end", (QmigFrameHead){ .type = QMIG_FRAME_END, .stream = 1, .seq = 8 },
               data);
}

/* Main and a multifd channel, as fuzz-capture.c takes them. */
static void
save_captures(void)
{
    static const char *const names[] = { "10.0-multifd-zlib", "7.2-multifd-none",
                                         "11.1-multifd-zstd" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *main_path = g_strdup_printf("captures/%s/0-main.forward",
                                                     names[i]);
        g_autofree char *path = g_strdup_printf("captures/%s/1-multifd.forward",
                                                names[i]);
        g_autoptr(GBytes) golden_main = load_golden(main_path),
                          golden = load_golden(path);
        g_autoptr(GByteArray) channel = thin_multifd(golden);
        g_auto(ThinStream) s = thin_stream(golden_main);
        GByteArray *out = g_byte_array_new();

        put_be16(out, (uint16_t)s.bytes->len);
        g_byte_array_append(out, s.bytes->data, s.bytes->len);
        g_byte_array_append(out, channel->data, channel->len);
        save_array("capture", names[i], out);
    }
}

static void
save_timelines(void)
{
    static const char *const lines[] = {
        "{\"format\":\"qmig-capture\",\"version\":1,\"started\":\"2026-11-21T08:00:00Z\"}\n"
        "{\"t\":0,\"channel\":0,\"open\":\"main\"}\n"
        "{\"t\":5,\"channel\":0,\"forward\":600}\n"
        "{\"t\":12,\"channel\":1,\"open\":\"multifd\",\"id\":0}\n"
        "{\"t\":20,\"channel\":1,\"forward\":200}\n"
        "{\"t\":25,\"channel\":0,\"reverse\":24}\n"
        "{\"t\":30,\"channel\":0,\"forward\":400}\n"
        "{\"t\":90,\"channel\":0,\"eof\":\"forward\"}\n"
        "{\"t\":95,\"channel\":1,\"reset\":\"forward\"}\n",
        "{\"format\":\"qmig-capture\",\"version\":1}\n"
        "{\"t\":0,\"channel\":0,\"open\":\"main\"}\n"
        "{\"t\":5,\"channel\":0,\"forward\":60",
    };

    save("timeline", "whole", lines[0], strlen(lines[0]));
    save("timeline", "crashed", lines[1], strlen(lines[1]));
}

static void
save_texts(void)
{
    static const char *const texts[] = {
        "500MiB",      "1.5Gbit/s",        "10m",
        "1e3kB",       "unix:/run/a.sock", "tcp:localhost:4444",
        "tcp:[::1]:0", "tcp::49152",       "./socket",
    };
    static const char *const lines[] = {
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 3, \"minor\": 1, \"major\": 11}, "
        "\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n{\"return\": {}, \"id\": 1}\r\n",
        "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"STOP\"}\n\n"
        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no \\u00e4\"}}\n",
        "[1, 2.5e3, null, true]\n",
        "{\"a\":[[[{},{}]]],\"b\":-9223372036854775808,\"c\":18446744073709551615}\n",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *name = g_strdup_printf("%zu", i);
        save("text", name, texts[i], strlen(texts[i]));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *name = g_strdup_printf("%zu", i);
        save("qmp", name, lines[i], strlen(lines[i]));
    }
    save("classify", "main", "QEVM\0\0\0\3", 8);
    save("classify", "tls", "\x16\x03\x01\x02\x00\x01", 6);
    save("classify", "recovery", "\x08\x00\x0a\x00\x07\x06pc.ram", 12);
    save(
        "classify", "multifd",
        "\x11\x22\x33\x44\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        64);
}

int
main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: make-seeds tests/golden tests/fuzz/corpus\n");
        return 1;
    }
    golden_dir = argv[1];
    corpus_dir = argv[2];
    saved = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    save_samples();
    save_golden();
    save_channels();
    save_codes();
    save_continuous();
    save_save_files();
    save_captures();
    save_batches();
    save_handshake();
    save_timelines();
    save_texts();
    g_hash_table_unref(saved);
    return 0;
}
