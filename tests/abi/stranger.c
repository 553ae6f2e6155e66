/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A shared object that is no plugin. */
__attribute__((visibility("default"))) int stranger(void);

int
stranger(void)
{
    return 0;
}
