/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Tables of units, one parser for all of them. */
#include "util/units.h"

#include "util/error.h"

#include <math.h>
#include <string.h>

typedef struct {
    const char *suffix;
    double factor;
} Unit;

static const Unit size_units[] = {
    { "", 1 },       { "B", 1 },        { "K", 0x1p10 }, { "KiB", 0x1p10 },
    { "M", 0x1p20 }, { "MiB", 0x1p20 }, { "G", 0x1p30 }, { "GiB", 0x1p30 },
    { "T", 0x1p40 }, { "TiB", 0x1p40 }, { "kB", 1e3 },   { "KB", 1e3 },
    { "MB", 1e6 },   { "GB", 1e9 },     { "TB", 1e12 },
};

static const Unit rate_units[] = {
    { "", 1 },           { "B", 1 },          { "K", 0x1p10 },     { "KiB", 0x1p10 },
    { "M", 0x1p20 },     { "MiB", 0x1p20 },   { "G", 0x1p30 },     { "GiB", 0x1p30 },
    { "T", 0x1p40 },     { "TiB", 0x1p40 },   { "kB", 1e3 },       { "KB", 1e3 },
    { "MB", 1e6 },       { "GB", 1e9 },       { "TB", 1e12 },      { "bit", 1 / 8.0 },
    { "kbit", 1e3 / 8 }, { "Mbit", 1e6 / 8 }, { "Gbit", 1e9 / 8 },
};

static const Unit duration_units[] = {
    { "", 1 }, { "ms", 1 }, { "s", 1e3 }, { "m", 60e3 }, { "min", 60e3 }, { "h", 3600e3 },
};

static bool
parse(const char *what, const char *example, const Unit *units, size_t n_units,
      const char *text, size_t len, uint64_t *out, GError **error)
{
    g_autofree char *copy = g_strndup(text, len);
    char *suffix = NULL;
    double value = g_ascii_strtod(copy, &suffix);

    if (suffix == copy || !isfinite(value) || value < 0 || !g_ascii_isdigit(copy[0])) {
        return qmig_set_error(error, QMIG_ERROR_CONFIG,
                              "%s: \"%s\" is no number, try \"%s\"", what, text, example);
    }
    while (*suffix == ' ') {
        suffix++;
    }
    for (size_t i = 0; i < n_units; i++) {
        if (strcmp(suffix, units[i].suffix) != 0) {
            continue;
        }
        value = round(value * units[i].factor);
        /* 2^63 and more would not survive JSON, whose integers are signed here. */
        if (value >= 0x1p63) {
            return qmig_set_error(error, QMIG_ERROR_CONFIG, "%s: \"%s\" is too large",
                                  what, text);
        }
        *out = (uint64_t)value;
        return true;
    }
    return qmig_set_error(error, QMIG_ERROR_CONFIG,
                          "%s: unknown unit \"%s\" in \"%s\", try \"%s\"", what, suffix,
                          text, example);
}

bool
qmig_parse_size(const char *text, uint64_t *bytes, GError **error)
{
    return parse("size", "500MiB", size_units, G_N_ELEMENTS(size_units), text,
                 strlen(text), bytes, error);
}

bool
qmig_parse_rate(const char *text, uint64_t *bytes_per_s, GError **error)
{
    size_t len = strlen(text);

    if (g_str_has_suffix(text, "/s")) {
        len -= strlen("/s");
    }
    return parse("rate", "1.5Gbit", rate_units, G_N_ELEMENTS(rate_units), text, len,
                 bytes_per_s, error);
}

bool
qmig_parse_duration(const char *text, uint64_t *ms, GError **error)
{
    return parse("duration", "300ms", duration_units, G_N_ELEMENTS(duration_units), text,
                 strlen(text), ms, error);
}

/* Three significant digits. */
static char *
scaled(double value, double base, const char *const *names, size_t n_names)
{
    size_t i = 0;

    while (value >= base && i + 1 < n_names) {
        value /= base;
        i++;
    }
    if (i == 0 || value >= 100) {
        return g_strdup_printf("%.0f %s", value, names[i]);
    }
    return g_strdup_printf(value >= 10 ? "%.1f %s" : "%.2f %s", value, names[i]);
}

char *
qmig_format_size(uint64_t bytes)
{
    static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };

    return scaled((double)bytes, 1024, names, G_N_ELEMENTS(names));
}

char *
qmig_format_rate(uint64_t bytes_per_s)
{
    static const char *const names[] = { "bit/s", "kbit/s", "Mbit/s", "Gbit/s",
                                         "Tbit/s" };

    return scaled((double)bytes_per_s * 8, 1000, names, G_N_ELEMENTS(names));
}

char *
qmig_format_duration(uint64_t ms)
{
    if (ms < 1000) {
        return g_strdup_printf("%u ms", (unsigned)ms);
    }
    if (ms < 60 * 1000) {
        return g_strdup_printf("%.2f s", (double)ms / 1000);
    }
    return g_strdup_printf("%u min %02u s", (unsigned)(ms / 60000),
                           (unsigned)(ms % 60000 / 1000));
}
