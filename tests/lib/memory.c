/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See memory.h. Under a sanitizer its hooks count; else malloc and its family are replaced by
 * ones that count and hand on to the C library's. Blocks count with the size they really have.
 */
#include "tests/lib/memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#endif

static atomic_llong held, peak, base;

static void
count(long long bytes)
{
    long long now = atomic_fetch_add(&held, bytes) + bytes;
    long long old = atomic_load(&peak);

    while (now > old && !atomic_compare_exchange_weak(&peak, &old, now)) {
    }
}

#ifdef UNDER_SANITIZER

int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *,
                                                                  size_t),
                                              void (*free_hook)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

static void
on_malloc(const volatile void *p, size_t size)
{
    (void)p;
    count((long long)size);
}

static void
on_free(const volatile void *p)
{
    if (p != NULL) {
        count(-(long long)__sanitizer_get_allocated_size(p));
    }
}

static void
install(void)
{
    static bool installed;

    if (!installed) {
        installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0;
    }
}

#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

#define REPLACES __attribute__((visibility("default")))

static void *
counted(void *p)
{
    if (p != NULL) {
        count((long long)malloc_usable_size(p));
    }
    return p;
}

REPLACES void *
malloc(size_t size)
{
    return counted(__libc_malloc(size));
}

REPLACES void *
calloc(size_t n, size_t size)
{
    return counted(__libc_calloc(n, size));
}

REPLACES void *
realloc(void *p, size_t size)
{
    long long before = p != NULL ? (long long)malloc_usable_size(p) : 0;
    void *again = __libc_realloc(p, size);

    if (again != NULL || size == 0) {
        count(-before);
        counted(again);
    }
    return again;
}

REPLACES void *
memalign(size_t alignment, size_t size)
{
    return counted(__libc_memalign(alignment, size));
}

REPLACES void *
aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

REPLACES int
posix_memalign(void **p, size_t alignment, size_t size)
{
    *p = memalign(alignment, size);
    return *p != NULL ? 0 : ENOMEM;
}

REPLACES void
free(void *p)
{
    if (p != NULL) {
        count(-(long long)malloc_usable_size(p));
    }
    __libc_free(p);
}

static void
install(void)
{
}

#endif

void
memory_start(void)
{
    install();
    atomic_store(&base, atomic_load(&held));
    atomic_store(&peak, atomic_load(&held));
}

size_t
memory_peak(void)
{
    return (size_t)(atomic_load(&peak) - atomic_load(&base));
}
