/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a pipe writes: it comes back, no damage passes, keys fit one stream only. */
#include "pipe/adapt.h"
#include "pipe/block.h"
#include "save/format.h"
#include "util/auto.h"
#include "util/error.h"
#include "util/pki.h"

#include <stdio.h>
#include <string.h>

enum { LENGTH = 10000, LIMIT = 16 << 10 };

static GBytes *
new_shared(uint8_t byte)
{
    uint8_t bytes[QMIG_PIPE_KEY_LENGTH];

    memset(bytes, byte, sizeof bytes);
    return g_bytes_new(bytes, sizeof bytes);
}

static QmigPipeHeader
new_header(QmigPipeCipher cipher, uint8_t salt)
{
    QmigPipeHeader header = { .cipher = (uint8_t)cipher, .block_limit = LIMIT };

    memset(header.salt, salt, sizeof header.salt);
    return header;
}

/* A block of a stream with that header, filled. */
static QmigPipeBlock *
new_block(const QmigPipeHeader *header, bool seal)
{
    g_autoptr(GBytes) shared = new_shared(1);
    g_autoptr(GError) error = NULL;
    uint8_t key[QMIG_PIPE_KEY_LENGTH];

    g_assert_true(qmig_pipe_key_derive(shared, header, NULL, key, &error));
    QmigPipeBlock *block = qmig_pipe_block_new(header, key, seal, &error);
    g_assert_no_error(error);
    return block;
}

static void
fill(QmigPipeBlock *block, QmigSaveCodec codec, uint64_t number)
{
    block->head = (QmigPipeHead){ QMIG_PIPE_DATA, (uint8_t)codec, LENGTH, 0 };
    block->number = number;
    block->level = 0;
    for (unsigned i = 0; i < LENGTH; i++) {
        block->plain[i] = (uint8_t)(i / 64);
    }
}

/* What the other side does with a record's bytes. */
static bool
take(const QmigPipeHeader *header, const QmigPipeBlock *sent, uint64_t number,
     QmigPipeBlock *taken, GError **error)
{
    QmigCodecState *state = qmig_codec_state_new();

    memcpy(taken->record, sent->record, qmig_pipe_block_size(sent, header));
    taken->number = number;
    bool ok = qmig_pipe_read_head(taken->record, header, qmig_pipe_seed(header, number),
                                  &taken->head, error) &&
              qmig_pipe_block_unseal(taken, header, state, error);
    qmig_codec_state_free(state);
    return ok;
}

static void
comes_back(void)
{
    QmigCodecState *state = qmig_codec_state_new();

    for (uint32_t cipher = 0; cipher < QMIG_PIPE_N_CIPHERS; cipher++) {
        for (uint32_t codec = 0; codec < QMIG_SAVE_N_CODECS; codec++) {
            QmigPipeHeader header = new_header((QmigPipeCipher)cipher, 7);
            g_autoptr(QmigPipeBlock) block = new_block(&header, true);
            g_autoptr(QmigPipeBlock) taken = new_block(&header, false);
            g_autoptr(GError) error = NULL;

            fill(block, (QmigSaveCodec)codec, 5);
            qmig_pipe_block_seal(block, &header, state);
            g_assert_cmpuint(block->head.codec, ==, codec);
            g_assert_true(codec == 0 ? block->head.stored == LENGTH
                                     : block->head.stored < LENGTH / 2);
            if (cipher != QMIG_PIPE_CLEAR) {
                g_assert_cmpint(
                    memcmp(block->record + QMIG_PIPE_HEAD_LENGTH, block->plain, 64), !=,
                    0);
            }
            g_assert_true(take(&header, block, 5, taken, &error));
            g_assert_no_error(error);
            g_assert_cmpmem(taken->plain, taken->head.length, block->plain, LENGTH);
        }
    }
    qmig_codec_state_free(state);
}

static void
what_does_not_shrink(void)
{
    QmigPipeHeader header = new_header(QMIG_PIPE_CLEAR, 7);
    g_autoptr(QmigPipeBlock) block = new_block(&header, true);
    g_autoptr(QmigPipeBlock) taken = new_block(&header, false);
    QmigCodecState *state = qmig_codec_state_new();
    g_autoptr(GRand) random = g_rand_new_with_seed(1);

    fill(block, QMIG_SAVE_CODEC_ZSTD, 0);
    for (unsigned i = 0; i < LENGTH; i++) {
        block->plain[i] = (uint8_t)g_rand_int(random);
    }
    qmig_pipe_block_seal(block, &header, state);
    g_assert_cmpuint(block->head.codec, ==, QMIG_SAVE_CODEC_NONE);
    g_assert_true(take(&header, block, 0, taken, NULL));
    g_assert_cmpmem(taken->plain, taken->head.length, block->plain, LENGTH);
    qmig_codec_state_free(state);
}

/* Every bit of a record counts, and its place. */
static void
no_damage_passes(void)
{
    QmigCodecState *state = qmig_codec_state_new();

    for (uint32_t cipher = 0; cipher < QMIG_PIPE_N_CIPHERS; cipher++) {
        QmigPipeHeader header = new_header((QmigPipeCipher)cipher, 7);
        g_autoptr(QmigPipeBlock) block = new_block(&header, true);
        g_autoptr(QmigPipeBlock) taken = new_block(&header, false);

        fill(block, QMIG_SAVE_CODEC_ZSTD, 5);
        qmig_pipe_block_seal(block, &header, state);
        uint32_t size = qmig_pipe_block_size(block, &header);
        for (uint32_t at = 0; at < size; at++) {
            g_autoptr(GError) error = NULL;

            block->record[at] ^= (uint8_t)(1 << at % 8);
            g_assert_false(take(&header, block, 5, taken, &error));
            g_assert_true(g_error_matches(error, QMIG_ERROR, QMIG_ERROR_PROTOCOL) ||
                          g_error_matches(error, QMIG_ERROR, QMIG_ERROR_LIMIT));
            block->record[at] ^= (uint8_t)(1 << at % 8);
        }
        g_assert_false(take(&header, block, 4, taken, NULL));
        g_assert_false(take(&header, block, 6, taken, NULL));
        QmigPipeHeader other = new_header((QmigPipeCipher)cipher, 8);
        g_autoptr(QmigPipeBlock) stranger = new_block(&other, false);
        g_assert_false(take(&other, block, 5, stranger, NULL));
        g_assert_true(take(&header, block, 5, taken, NULL));
    }
    qmig_codec_state_free(state);
}

/* A forger who can make the checksums right cannot make the tag right. */
static void
the_head_is_authentic(void)
{
    QmigPipeHeader header = new_header(QMIG_PIPE_AES_256_GCM, 7);
    g_autoptr(QmigPipeBlock) block = new_block(&header, true);
    g_autoptr(QmigPipeBlock) taken = new_block(&header, false);
    QmigCodecState *state = qmig_codec_state_new();
    QmigPipeHead forged;

    fill(block, QMIG_SAVE_CODEC_ZSTD, 0);
    qmig_pipe_block_seal(block, &header, state);
    forged = block->head;
    forged.length++;
    qmig_pipe_write_head(&forged, qmig_pipe_seed(&header, 0), block->record);
    g_autoptr(GError) error = NULL;
    g_assert_false(take(&header, block, 0, taken, &error));
    g_assert_nonnull(strstr(error->message, "cannot be decrypted"));
    qmig_codec_state_free(state);
}

static void
end_counts(void)
{
    QmigPipeHeader header = new_header(QMIG_PIPE_CHACHA20_POLY1305, 7);
    g_autoptr(QmigPipeBlock) block = new_block(&header, true);
    g_autoptr(QmigPipeBlock) taken = new_block(&header, false);
    g_autoptr(GError) error = NULL;

    block->head.kind = QMIG_PIPE_END;
    block->number = 3;
    block->offset = 1000;
    qmig_pipe_block_seal(block, &header, NULL);
    taken->offset = 1000;
    g_assert_true(take(&header, block, 3, taken, NULL));
    taken->offset = 999;
    g_assert_false(take(&header, block, 3, taken, &error));
    g_assert_nonnull(strstr(error->message, "1000 bytes, 999 came"));
}

static void
headers(void)
{
    QmigPipeHeader header = new_header(QMIG_PIPE_AES_256_GCM, 9), read = { 0 };
    uint8_t bytes[QMIG_PIPE_HEADER_LENGTH];

    qmig_pipe_write_header(&header, bytes);
    g_assert_true(qmig_pipe_read_header(bytes, &read, NULL));
    g_assert_cmpmem(&read, sizeof read, &header, sizeof header);
    for (size_t at = 0; at < sizeof bytes; at++) {
        bytes[at] ^= 4;
        g_assert_false(qmig_pipe_read_header(bytes, &read, NULL));
        bytes[at] ^= 4;
    }
    header.block_limit = QMIG_PIPE_BLOCK_MAX + 1;
    qmig_pipe_write_header(&header, bytes);
    g_autoptr(GError) error = NULL;
    g_assert_false(qmig_pipe_read_header(bytes, &read, &error));
    g_assert_error(error, QMIG_ERROR, QMIG_ERROR_LIMIT);
}

/* ---- keys ----------------------------------------------------------------------------------- */

static void
keys_differ(void)
{
    g_autoptr(GBytes) one = new_shared(1), two = new_shared(2);
    QmigPipeHeader a = new_header(QMIG_PIPE_AES_256_GCM, 1);
    QmigPipeHeader b = new_header(QMIG_PIPE_AES_256_GCM, 2);
    uint8_t key[6][QMIG_PIPE_KEY_LENGTH];

    g_assert_true(qmig_pipe_key_derive(one, &a, NULL, key[0], NULL));
    g_assert_true(qmig_pipe_key_derive(two, &a, NULL, key[1], NULL));
    g_assert_true(qmig_pipe_key_derive(one, &b, NULL, key[2], NULL));
    g_assert_true(qmig_pipe_key_derive(one, &a, &b, key[3], NULL));
    g_assert_true(qmig_pipe_key_derive(one, &b, &a, key[4], NULL));
    a.flags = QMIG_PIPE_TWO_WAY;
    g_assert_true(qmig_pipe_key_derive(one, &a, NULL, key[5], NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(key); i++) {
        for (unsigned j = 0; j < i; j++) {
            g_assert_cmpint(memcmp(key[i], key[j], sizeof key[0]), !=, 0);
        }
    }
}

static void
key_files(void)
{
    g_autofree char *dir = g_dir_make_tmp("qmig-pipe-XXXXXX", NULL);
    g_autofree char *raw = g_build_filename(dir, "key", NULL);
    g_autofree char *psk = g_build_filename(dir, QMIG_PKI_PSK, NULL);
    g_autofree char *dh = g_build_filename(dir, QMIG_PKI_DH_PARAMS, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_true(qmig_pki_make_psk(dir, "qemu", NULL));
    g_autoptr(GBytes) by_dir = qmig_pipe_key_read(dir, "qemu", NULL);
    g_autoptr(GBytes) by_file = qmig_pipe_key_read(psk, "qemu", NULL);
    g_assert_true(by_dir != NULL && g_bytes_equal(by_dir, by_file));
    g_assert_null(qmig_pipe_key_read(psk, "nobody", &error));
    g_assert_nonnull(strstr(error->message, "no key for user \"nobody\""));
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(raw, "0123456789abcdef0123456789abcdef", 32, NULL));
    g_autoptr(GBytes) by_bytes = qmig_pipe_key_read(raw, "qemu", NULL);
    g_assert_cmpuint(g_bytes_get_size(by_bytes), ==, 32);
    g_assert_true(g_file_set_contents(raw, "short", 5, NULL));
    g_assert_null(qmig_pipe_key_read(raw, "qemu", &error));
    g_assert_nonnull(strstr(error->message, "has 5 bytes"));
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(psk, "qemu:0123\n", -1, NULL));
    g_assert_null(qmig_pipe_key_read(psk, "qemu", &error));
    g_assert_nonnull(strstr(error->message, "has 2 bytes"));
    g_assert_cmpint(remove(raw) | remove(psk) | remove(dh) | remove(dir), ==, 0);
}

/* ---- the choice of a codec ------------------------------------------------------------------------ */

/* How often each is chosen when packing takes @us for a block that becomes @stored bytes, and
 * the output takes @output bytes per second. */
static void
choose(const uint64_t *us, const uint64_t *stored, uint64_t output, unsigned *chosen)
{
    QmigAdapt adapt;

    qmig_adapt_init(&adapt, 1);
    memset(chosen, 0, QMIG_ADAPT_CHOICES * sizeof *chosen);
    for (unsigned i = 0; i < 500; i++) {
        unsigned choice = qmig_adapt_next(&adapt);

        chosen[choice]++;
        qmig_adapt_packed(&adapt, choice, 256 << 10, stored[choice], us[choice]);
        qmig_adapt_written(&adapt, stored[choice], stored[choice] * 1000000 / output);
    }
    qmig_adapt_clear(&adapt);
}

static void
codec_fits_the_output(void)
{
    static const uint64_t us[] = { 60, 400, 900, 4000 };
    static const uint64_t text[] = { 256 << 10, 128 << 10, 90 << 10, 75 << 10 };
    static const uint64_t noise[] = { 256 << 10, 256 << 10, 256 << 10, 256 << 10 };
    unsigned chosen[QMIG_ADAPT_CHOICES];

    choose(us, text, UINT64_C(5) << 30, chosen); /* nothing is faster than not to pack */
    g_assert_cmpuint(chosen[0], >, 400);
    choose(us, text, 300 << 20, chosen); /* lz4 gives 600 MB/s, zstd at most 290 */
    g_assert_cmpuint(chosen[1], >, 400);
    choose(us, text, 80 << 20, chosen);
    g_assert_cmpuint(chosen[2], >, 400);
    choose(us, text, 1 << 20, chosen);
    g_assert_cmpuint(chosen[3], >, 400);
    choose(us, noise, 80 << 20, chosen);
    g_assert_cmpuint(chosen[0], >, 400);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipe/block/comes-back", comes_back);
    g_test_add_func("/pipe/block/what-does-not-shrink", what_does_not_shrink);
    g_test_add_func("/pipe/block/no-damage-passes", no_damage_passes);
    g_test_add_func("/pipe/block/head-is-authentic", the_head_is_authentic);
    g_test_add_func("/pipe/block/end-counts", end_counts);
    g_test_add_func("/pipe/headers", headers);
    g_test_add_func("/pipe/keys/differ", keys_differ);
    g_test_add_func("/pipe/keys/files", key_files);
    g_test_add_func("/pipe/codec-fits-the-output", codec_fits_the_output);
    return g_test_run();
}
