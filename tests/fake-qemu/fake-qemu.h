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
    FAKE_REPLY,  /* {"return": @a, "id": of the last expected command} */
    FAKE_ERROR,  /* class @a, text @b, id of the last expected command */
    FAKE_EVENT,  /* event @a with data @b (NULL = none), @n times (0 = once) */
    FAKE_RAW,    /* @a as it is; "$ID" becomes the last expected command's id */
    FAKE_BYTES,  /* the first @n bytes of @a, whatever they are */
    FAKE_WHENEVER, /* from here on answer command @a with @b, wherever it comes; again: replace */
    FAKE_FLOOD, /* event @a without end, until the client closes */
    FAKE_SLEEP, /* @n milliseconds, in which only FAKE_WHENEVER is answered */
    FAKE_MUTE,  /* read and note everything, answer nothing, until the client closes */
    FAKE_HANG,  /* read nothing, say nothing, until the client closes */
    FAKE_CLOSE, /* close the connection: the script ends */
} FakeOp;

typedef struct {
    FakeOp op;
    const char *a, *b;
    int n;
} FakeStep;

/*
 * The greeting of QEMU @major.@minor.@micro, three number literals; @capabilities is
 * FAKE_OOB or FAKE_NO_OOB.
 */
#define FAKE_GREETING_OF(major, minor, micro, capabilities)                         \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": " #micro ", \"minor\": " #minor \
    ", \"major\": " #major "}, \"package\": \"\"}"                                  \
    ", \"capabilities\": [" capabilities "]}}\r\n"
#define FAKE_OOB "\"oob\""
#define FAKE_NO_OOB ""
#define FAKE_GREETING_LINE FAKE_GREETING_OF(7, 2, 22, FAKE_OOB)

/* What every conversation begins with: greeting and negotiation, three steps. */
#define FAKE_HELLO_OF(major, minor, micro, capabilities)               \
    { FAKE_RAW, FAKE_GREETING_OF(major, minor, micro, capabilities) }, \
        { FAKE_EXPECT, "qmp_capabilities" },                           \
    {                                                                  \
        FAKE_REPLY, "{}"                                               \
    }
#define FAKE_HELLO FAKE_HELLO_OF(7, 2, 22, FAKE_OOB)

/* Has its own thread and directory: a test may have several at once. */
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
/* End the script where it is, also when nobody ever came, and free. Unexpected commands heard
 * until then fail the test. */
void fake_qemu_stop(FakeQemu *fake);

/* Names of the commands heard so far, oldest first. (transfer full) */
char **fake_qemu_commands(FakeQemu *fake);
/* Lines said so far; only after the client saw the end. */
unsigned fake_qemu_n_lines(const FakeQemu *fake);
/* The descriptor that came with a command, owned by @fake; -1 = none. As fake_qemu_n_lines(). */
int fake_qemu_fd(FakeQemu *fake);

#endif
