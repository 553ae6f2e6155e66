/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Feeds files to a fuzz target, without libFuzzer: replay (FILE | DIRECTORY)… An input that takes
 * too long ends it, too.
 */
#include "tests/fuzz/fuzz.h"

#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

enum { INPUT_SECONDS = 60 }; /* under a sanitizer, on a busy machine */

static unsigned n_inputs;

static bool
replay_file(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    gsize len;

    if (!g_file_get_contents(path, &data, &len, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return false;
    }
    /* The one printed last is the one to look at. */
    printf("%s\n", path);
    fflush(stdout);
    /* Of exactly its length, so that ASan sees a byte too many. */
    g_autofree uint8_t *copy = g_memdup2(data, len);
    alarm(INPUT_SECONDS);
    LLVMFuzzerTestOneInput(copy, len);
    alarm(0);
    n_inputs++;
    return true;
}

static bool
replay(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    if (dir == NULL) {
        return replay_file(path);
    }
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        if (!replay_file(file)) {
            return false;
        }
    }
    return true;
}

int
main(int argc, char **argv)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        if (!replay(argv[i])) {
            return 1;
        }
    }
    printf("%u inputs\n", n_inputs);
    return n_inputs > 0 ? 0 : 1;
}
