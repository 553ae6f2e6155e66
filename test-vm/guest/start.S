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

/*
 * sleep_until_tick(): interrupts are on only while the processor is halted, so the handler
 * knows where it came from, and returns for it. No iret: KVM does not emulate it in protected
 * mode, where it has to emulate this guest.
 */
    .globl sleep_until_tick, sleep_entry
sleep_until_tick:
    sti
    hlt
sleep_entry:
    movb $0x20, %al
    outb %al, $0x20 /* end of interrupt */
    addl $12, %esp  /* EIP, CS, EFLAGS; the gate switched interrupts off */
    ret

    .bss
    .align 16
    .skip 16384
stack_top:

    .section .note.GNU-stack, "", @progbits
