/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A virtio disk by its legacy interface: I/O ports, one queue, polled, one request at a time.
 *
 * A block holds its number, how often it was written, and words made of both. How often is kept
 * in memory as well: a block and memory of different moments give themselves away.
 */
#include "disk.h"

#include "io.h"
#include "layout.h"
#include "pages.h"
#include "serial.h"

#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define VIRTIO_BLOCK 0x10011af4u /* device, vendor */
#define OUR_PORTS 0xc000u        /* where firmware gave it none */

#define HOST_FEATURES 0
#define GUEST_FEATURES 4
#define QUEUE_PAGE 8
#define QUEUE_SIZE 12
#define QUEUE_NOTIFY 16
#define STATUS 18
#define CAPACITY 20
#define FEATURE_FLUSH 0x200u /* without it every write is synced */

#define MAX_QUEUE 256u
#define DESC_NEXT 1u
#define DESC_WRITE 2u /* by the device */
#define NO_INTERRUPT 1u
#define SECTORS 8u /* in a block */
#define WORDS (PAGE_SIZE / 4)
#define MAX_BACKLOG_MS 100u

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct available {
    uint16_t flags, index, ring[MAX_QUEUE];
};

struct used {
    uint16_t flags, index;
};

struct request {
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t status;
};

enum state { IDLE, READING, WRITING };

uint32_t disk_writes;

static uint16_t ports, queue_size;
static uint32_t n_blocks, rate, block, due, last_ms;
static enum state state;
static volatile struct used *used;
static uint16_t done;
static volatile struct request *const request = (struct request *)DISK_REQUEST_ADDRESS;
static uint32_t *const buffer = (uint32_t *)DISK_BUFFER_ADDRESS;
static uint32_t *const sequences = (uint32_t *)DISK_SEQ_ADDRESS;
static uint32_t random_state = 88172645u;

static uint32_t
pci_read(uint32_t slot, uint32_t offset)
{
    out32(PCI_ADDRESS, 0x80000000u | slot << 11 | offset);
    return in32(PCI_DATA);
}

static void
pci_write(uint32_t slot, uint32_t offset, uint32_t value)
{
    out32(PCI_ADDRESS, 0x80000000u | slot << 11 | offset);
    out32(PCI_DATA, value);
}

static bool
find_device(void)
{
    for (uint32_t slot = 0; slot < 32; slot++) {
        if (pci_read(slot, 0) != VIRTIO_BLOCK) {
            continue;
        }
        if (!(pci_read(slot, 0x10) & 0xfffcu)) {
            pci_write(slot, 0x10, OUR_PORTS | 1);
        }
        pci_write(slot, 4, pci_read(slot, 4) | 5); /* I/O, bus master */
        ports = (uint16_t)(pci_read(slot, 0x10) & 0xfffcu);
        return true;
    }
    return false;
}

static void
start_queue(void)
{
    volatile struct available *available;

    words_fill((void *)DISK_QUEUE_ADDRESS, 0, 4 * WORDS);
    queue_size = in16(ports + QUEUE_SIZE);
    available = (struct available *)(DISK_QUEUE_ADDRESS + queue_size * 16u);
    available->flags = NO_INTERRUPT;
    used = (struct used *)((DISK_QUEUE_ADDRESS + queue_size * 18u + 6 + PAGE_SIZE - 1) &
                           ~(PAGE_SIZE - 1));
    out32(ports + QUEUE_PAGE, DISK_QUEUE_ADDRESS / PAGE_SIZE);
}

bool
disk_init(uint32_t blocks, uint32_t blocks_per_s)
{
    if (!blocks || !find_device()) {
        return false;
    }
    out8(ports + STATUS, 0);
    out8(ports + STATUS, 3); /* seen, driven */
    out32(ports + GUEST_FEATURES, in32(ports + HOST_FEATURES) & FEATURE_FLUSH);
    start_queue();
    out8(ports + STATUS, 7); /* ready */
    if (queue_size > MAX_QUEUE || in32(ports + CAPACITY) / SECTORS < blocks) {
        return false;
    }
    words_fill(sequences, 0, blocks);
    n_blocks = blocks;
    rate = blocks_per_s;
    return true;
}

static void
submit(bool write)
{
    volatile struct descriptor *d = (struct descriptor *)DISK_QUEUE_ADDRESS;
    volatile struct available *available = (struct available *)(DISK_QUEUE_ADDRESS +
                                                                queue_size * 16u);

    request->type = write;
    request->sector = (uint64_t)block * SECTORS;
    request->status = 0xff;
    d[0] = (struct descriptor){ (uint32_t)request, 16, DESC_NEXT, 1 };
    d[1] = (struct descriptor){ (uint32_t)buffer, PAGE_SIZE,
                                (uint16_t)(DESC_NEXT | (write ? 0 : DESC_WRITE)), 2 };
    d[2] = (struct descriptor){ (uint32_t)&request->status, 1, DESC_WRITE, 0 };
    available->ring[available->index % queue_size] = 0;
    __asm__ volatile("" ::: "memory");
    available->index++;
    __asm__ volatile("" ::: "memory");
    out16(ports + QUEUE_NOTIFY, 0);
    state = write ? WRITING : READING;
}

static void
report(const char *what, uint32_t expected, uint32_t got)
{
    counters.errors++;
    print("\nCORRUPT disk ");
    print(what);
    print(" block=");
    print_number(block);
    print(" expected=");
    print_hex(expected);
    print(" got=");
    print_hex(got);
    print_char('\n');
}

static uint32_t
filler(uint32_t number, uint32_t sequence)
{
    return number * 0x9e3779b1u + sequence;
}

static void
verify(void)
{
    static const uint16_t places[] = { 2, 127, 128, 511, 640, 1023 };
    uint32_t sequence = sequences[block], wanted = filler(block, sequence);

    counters.checked++;
    if (buffer[0] != block + PAGE_MAGIC) {
        report("name", block + PAGE_MAGIC, buffer[0]);
    } else if (buffer[1] != sequence) {
        report("sequence", sequence, buffer[1]);
    }
    for (uint32_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (buffer[places[i]] != wanted) {
            report("body", wanted, buffer[places[i]]);
            return;
        }
    }
}

static void
write_block(void)
{
    uint32_t sequence = ++sequences[block];

    words_fill(buffer, filler(block, sequence), WORDS);
    buffer[0] = block + PAGE_MAGIC;
    buffer[1] = sequence;
    submit(true);
}

static void
begin(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    block = (uint32_t)(((uint64_t)random_state * n_blocks) >> 32);
    if (sequences[block]) {
        submit(false);
    } else {
        write_block();
    }
}

/* The request that was under way is done. */
static void
end(void)
{
    done++;
    if (request->status != 0) {
        report("status", 0, request->status);
    } else if (state == READING) {
        verify();
        write_block();
        return;
    }
    disk_writes++;
    state = IDLE;
}

void
disk_run(uint32_t ms)
{
    if (!n_blocks) {
        return;
    }
    due += (ms - last_ms) * rate;
    due = due < rate * MAX_BACKLOG_MS ? due : rate * MAX_BACKLOG_MS;
    last_ms = ms;
    if (state != IDLE && used->index != done) {
        end();
    }
    if (state == IDLE && due >= 1000) {
        due -= 1000;
        begin();
    }
}
