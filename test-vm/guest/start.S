/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Multiboot header and entry: 32-bit protected mode, paging off, interrupts off. */

#define MAGIC 0x1badb002
#define FLAGS 0x3 /* page-aligned modules, memory sizes wanted */

    .section .multiboot, "a"
    .align 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

    .section .text.start, "ax"
    .globl _start
_start:
    cli
    cld
    movl $stack_top, %esp
    pushl %ebx /* multiboot information */
    call guest_main
1:  hlt
    jmp 1b

    .bss
    .align 16
    .skip 16384
stack_top:

    .section .note.GNU-stack, "", @progbits
