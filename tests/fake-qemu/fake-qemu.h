/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A scripted QMP peer: a thread behind a unix socket that says and expects what a table says. */
#ifndef QMIG_TESTS_FAKE_QEMU_H
#define QMIG_TESTS_FAKE_QEMU_H

#include "util/address.h"

#include <glib.h>
#include <stddef.h>

typedef enum {
    FAKE_END,    /* the client is expected to say nothing more and to close */
    FAKE_EXPECT, /* command @a with at least the arguments @b (JSON; NULL = any) */
    FAKE_REPLY,  /* {"return": @a, "id": of the last command} */
    FAKE_ERROR,  /* class @a, text @b, id of the last command */
    FAKE_EVENT,  /* event @a with data @b (NULL = none), @n times (0 = once) */
    FAKE_RAW,    /* @a as it is; "$ID" becomes the last command's id */
    FAKE_FLOOD,  /* event @a without end, until the client closes */
    FAKE_SLEEP,  /* @n milliseconds */
    FAKE_HANG,   /* read nothing, say nothing, until the client closes */
    FAKE_CLOSE,  /* close the connection: the script ends */
} FakeOp;

typedef struct {
    FakeOp op;
    const char *a, *b;
    int n;
} FakeStep;

#define FAKE_GREETING_LINE                                                             \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, " \
    "\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n"

/* What every conversation begins with. */
#define FAKE_HELLO                                                         \
    { FAKE_RAW, FAKE_GREETING_LINE }, { FAKE_EXPECT, "qmp_capabilities" }, \
    {                                                                      \
        FAKE_REPLY, "{}"                                                   \
    }

typedef struct FakeQemu FakeQemu;

/*
 * Listen and play @steps (static, ended by FAKE_END or FAKE_CLOSE) to the first client. After
 * @max_lines lines said the connection is closed instead of saying one more; 0 = no limit.
 */
FakeQemu *fake_qemu_new(const FakeStep *steps, unsigned max_lines);
const QmigAddress *fake_qemu_address(const FakeQemu *fake);

/*
 * Wait for the script's end and free. The test fails when the client said something unexpected
 * or did not say all that was expected. Close the client before, unless the script closes.
 */
void fake_qemu_finish(FakeQemu *fake);
/* The same, but the client may have left before the script's end. */
void fake_qemu_finish_early(FakeQemu *fake);
/* Lines said so far; only after the client saw the end. */
unsigned fake_qemu_n_lines(const FakeQemu *fake);
/* The descriptor that came with a command, owned by @fake; -1 = none. As fake_qemu_n_lines(). */
int fake_qemu_fd(FakeQemu *fake);

#endif
