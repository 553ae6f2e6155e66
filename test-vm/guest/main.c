/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The guest: dirty memory at a rate, check it, tick every millisecond, sleep in between. */
#include "clock.h"
#include "disk.h"
#include "fw-cfg.h"
#include "io.h"
#include "layout.h"
#include "pages.h"
#include "pool.h"
#include "serial.h"
#include "sleep.h"
#include "workload.h"

#define TICKS_PER_LINE 50u
#define MAX_BATCH 16u    /* pages between two looks at the clock, about 0.3 ms */
#define CHECKS_PER_MS 4u /* by the walk; what is left of the millisecond is slept */
#define MAX_BACKLOG_MS 100u
#define MAX_RATE 10000000u

void guest_main(void *multiboot);

static struct workload w = {
    .base = DEFAULT_BASE, .n_pages = 0x4000, .rate = 0, .disk_rate = 100
};
static char text[256];
static uint32_t n_ticks;

static void
read_workload(void)
{
    struct fw_cfg_file file = fw_cfg_find("opt/qmig/workload");
    const char *wrong;

    if (!file.selector) {
        return;
    }
    fw_cfg_read(file, text, file.size < sizeof(text) ? file.size : sizeof(text) - 1);
    wrong = workload_parse(text, &w);
    if (wrong) {
        print("# workload: makes no sense: ");
        print(wrong);
        print_char('\n');
    }
    if (w.rate != RATE_MAX && w.rate > MAX_RATE) {
        w.rate = MAX_RATE;
    }
}

/* A byte is 15 us, a line half a millisecond: mostly a dot, now and then the whole story. */
static void
tick(uint32_t ms)
{
    const uint32_t numbers[] = { ms, counters.dirtied, counters.checked, counters.errors,
                                 disk_writes };

    if (++n_ticks % TICKS_PER_LINE) {
        print_char('.');
        return;
    }
    print("\nT ");
    print_number(n_ticks);
    for (int i = 0; i < (w.n_disk_blocks ? 5 : 4); i++) {
        print_char(' ');
        print_number(numbers[i]);
    }
    print_char('\n');
}

static void
run(void)
{
    const uint32_t per_ms = w.rate == RATE_MAX ? MAX_RATE : w.rate, batch = pages_batch();
    uint32_t last_ms = clock_ms(), due = 0; /* due: thousandths of a page */

    for (;;) {
        uint32_t ms = clock_ms(), passed = ms - last_ms, n;

        if (passed) {
            last_ms = ms;
            tick(ms);
            /* Do not make up for more than a short pause. */
            due += per_ms * (passed < MAX_BACKLOG_MS ? passed : MAX_BACKLOG_MS);
            due = due < per_ms * MAX_BACKLOG_MS ? due : per_ms * MAX_BACKLOG_MS;
        }
        n = due / 1000 < batch ? due / 1000 : batch;
        due -= n * 1000;
        pages_write(n);
        disk_run(ms);
        if (due >= 1000) {
            pages_check(1);
        } else {
            pages_check(CHECKS_PER_MS);
            sleep_until_tick();
        }
    }
}

void
guest_main(void *multiboot)
{
    (void)multiboot;
    serial_init();
    print("\n# qmig bare guest\n");
    read_workload();
    print("# kHz ");
    print_number(clock_init());
    print("\n# pages ");
    print_number(w.n_pages);
    print_char('\n');
    pool_init(w.content);
    pages_fill(&w);
    if (w.n_disk_blocks && !disk_init(w.n_disk_blocks, w.disk_rate)) {
        print("# disk: none of that size\n");
        w.n_disk_blocks = 0;
    }
    sleep_init();
    run();
}
