/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guests. Each stands at GUEST_AT in guest memory, so an absolute address is AT(label). They
 * use no instruction that KVM's emulator is known to lack (no INT, no x87 or SSE arithmetic).
 */
#include "guest.h"

#define CODE32 0x08
#define DATA32 0x10
#define CODE64 0x18

	.section .rodata, "a"

.macro guest name
	.balign 16
	.global guest_\name, guest_\name\()_end
guest_\name:
.endm
.macro endguest name
guest_\name\()_end:
.endm
#define AT(label) (label-base+GUEST_AT)

/* Ends a handler as IRET would at the same privilege: KVM's emulator knows IRET in real and in long
 * mode only. The frame is EIP, CS, EFLAGS. */
.macro return32
	pushl 8(%esp)
	popfl
	lretl $4
.endm

/* --- Interrupt gates: 32-bit code --- */
.macro gate32 vector, handler
	movl $\handler, %eax
	movw %ax, GUEST_IDT + 8 * \vector
	movw $CODE32, GUEST_IDT + 8 * \vector + 2
	movl $0x8e00, GUEST_IDT + 8 * \vector + 4
.endm
.macro load_idt32
	movw $0x7ff, GUEST_IDT_PTR
	movl $GUEST_IDT, GUEST_IDT_PTR + 2
	lidt GUEST_IDT_PTR
.endm
.macro gate64 vector, handler
	movl $\handler, %eax
	movw %ax, GUEST_IDT + 16 * \vector
	movw $CODE64, GUEST_IDT + 16 * \vector + 2
	movl $0x8e00, GUEST_IDT + 16 * \vector + 4
	movl $0, GUEST_IDT + 16 * \vector + 8
.endm
.macro load_idt64
	movw $0x7ff, GUEST_IDT_PTR
	movl $GUEST_IDT, GUEST_IDT_PTR + 2
	movl $0, GUEST_IDT_PTR + 6
	lidt GUEST_IDT_PTR
.endm
.macro log_eax
	movw $PORT_LOG, %dx
	outl %eax, %dx
.endm
.macro leave_with value
	movb $\value, %al
	outb %al, $PORT_EXIT
9:	hlt
	jmp 9b
.endm
/* PIT channel 0, mode 2, 1000 Hz */
.macro pit_1000hz
	movb $0x34, %al
	outb %al, $0x43
	movb $0xa9, %al
	outb %al, $0x40
	movb $0x04, %al
	outb %al, $0x40
.endm

/* --- Real mode: PIT through the 8259, HLT; serial output with REP OUTSB --- */
#define base guest_real
guest real
	.code16
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $GUEST_STACK, %sp
	movw $AT(real_tick), 0x20 * 4
	movw %ax, 0x20 * 4 + 2
	movw $0, GUEST_DATA >> 8
	movw $AT(real_text), %si
	movw $real_text_end - real_text, %cx
	movw $0x3f8, %dx
	cld
	rep outsb
	movw $PORT_STRING, %dx
	movw $0x600, %di
	movw $8, %cx
	rep insw
	movw $0x600, %si
	movw $8, %cx
	xorl %eax, %eax
	xorl %ebx, %ebx
1:	lodsw
	addl %eax, %ebx
	loop 1b
	movl %ebx, %eax
	log_eax
	movb $0x11, %al
	outb %al, $0x20
	movb $0x20, %al
	outb %al, $0x21
	movb $0x04, %al
	outb %al, $0x21
	movb $0x01, %al
	outb %al, $0x21
	movb $0xfe, %al
	outb %al, $0x21
	pit_1000hz
	movw $0, 0x700
2:	cli
	cmpw $50, 0x700
	jae 3f
	sti
	hlt
	jmp 2b
3:	xorl %eax, %eax
	movw 0x700, %ax
	log_eax
	leave_with 0
real_tick:
	pushw %ax
	incw 0x700
	movb $0x20, %al
	outb %al, $0x20
	popw %ax
	iretw
real_text:
	.ascii "hello from real mode\n"
real_text_end:
endguest real
#undef base

/* --- Protected mode: IOAPIC, edges from the PIT and a level of a device; MMIO of all widths --- */
#define base guest_protected
guest protected
	.code32
	gate32 VECTOR_TIMER, AT(prot_tick)
	gate32 VECTOR_LEVEL, AT(prot_level)
	load_idt32
	movl $0, GUEST_DATA
	movl $0, GUEST_DATA + 4
	movb $0xff, %al			/* the 8259s stay out of it */
	outb %al, $0x21
	outb %al, $0xa1
	movl $0x1ff, 0xfee000f0
	movl $0x14, 0xfec00000		/* pin 2: the PIT */
	movl $VECTOR_TIMER, 0xfec00010
	movl $0x15, 0xfec00000
	movl $0, 0xfec00010
	movl $0x25, 0xfec00000		/* pin 10: level */
	movl $0, 0xfec00010
	movl $0x24, 0xfec00000
	movl $0x8000 + VECTOR_LEVEL, 0xfec00010
	pit_1000hz
	xorl %ebx, %ebx
	sti
1:	incl %ebx
	movl GUEST_DATA, %esi
	movl $1, %eax
	movw $PORT_LEVEL, %dx
	outl %eax, %dx
2:	hlt
	cmpl %esi, GUEST_DATA
	je 2b
	cmpl $40, GUEST_DATA
	jb 1b
	cli
	movl GUEST_DATA, %eax
	log_eax
	subl %ebx, GUEST_DATA + 4	/* each level gave one interrupt */
	movl GUEST_DATA + 4, %eax
	log_eax
	movl $0x11223344, MMIO_BASE
	movw $0x5566, MMIO_BASE + 4
	movb $0x77, MMIO_BASE + 6
	movl MMIO_BASE, %eax
	log_eax
	movzwl MMIO_BASE + 4, %eax
	log_eax
	movl $MMIO_BASE, %edi
	movl $AT(prot_words), %esi
	movl $4, %ecx
	rep movsl
	movl $MMIO_BASE, %esi
	movl $GUEST_DATA + 16, %edi
	movl $4, %ecx
	rep movsl
	movl GUEST_DATA + 28, %eax
	log_eax
	leave_with 0
prot_words:
	.long 0x01010101, 0x02020202, 0x03030303, 0x04040404
prot_tick:
	pushl %eax
	incl GUEST_DATA
	movl $0, 0xfee000b0
	popl %eax
	return32
prot_level:
	pushl %eax
	pushl %edx
	incl GUEST_DATA + 4
	xorl %eax, %eax
	movw $PORT_LEVEL, %dx
	outl %eax, %dx
	movl $0, 0xfee000b0
	popl %edx
	popl %eax
	return32
endguest protected
#undef base

/* --- Long mode: the local APIC's timer in its three modes, MSI, doorbells --- */
#define base guest_long
guest long
	.code64
	gate64 VECTOR_LOCAL, AT(long_timer)
	gate64 VECTOR_MSI, AT(long_msi)
	load_idt64
	movb $0xff, %al
	outb %al, $0x21
	outb %al, $0xa1
	movl $0, GUEST_DATA
	movl $0, GUEST_DATA + 4
	movl $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	/* one-shot, 2 ms */
	movl $0xb, 0x3e0(%rbx)
	movl $VECTOR_LOCAL, 0x320(%rbx)
	movl $2000000, 0x380(%rbx)
1:	sti
	hlt
	cli
	cmpl $1, GUEST_DATA
	jb 1b
	/* periodic, 1 ms */
	movl $0x20000 + VECTOR_LOCAL, 0x320(%rbx)
	movl $1000000, 0x380(%rbx)
2:	sti
	hlt
	cli
	cmpl $10, GUEST_DATA
	jb 2b
	movl $0, 0x380(%rbx)
	movl GUEST_DATA, %eax
	log_eax
	/* TSC deadline, 5 million cycles ahead */
	movl $0x40000 + VECTOR_LOCAL, 0x320(%rbx)
	mfence
	rdtsc
	shlq $32, %rdx
	addq %rdx, %rax
	addq $5000000, %rax
	movq %rax, %rdx
	shrq $32, %rdx
	movl $0x6e0, %ecx
	wrmsr
	movl GUEST_DATA, %esi
3:	sti
	hlt
	cli
	cmpl %esi, GUEST_DATA
	je 3b
	movl $0x6e0, %ecx
	rdmsr
	log_eax			/* 0 when it has fired */
	/* an interrupt to itself */
	movl $0, 0x310(%rbx)
	movl $0x4000 + VECTOR_MSI, 0x300(%rbx)
4:	sti
	hlt
	cli
	cmpl $1, GUEST_DATA + 4
	jb 4b
	/* MSIs from outside */
	movl $VECTOR_MSI, %eax
	movw $PORT_MSI, %dx
	outl %eax, %dx
5:	sti
	hlt
	cli
	cmpl $2, GUEST_DATA + 4
	jb 5b
	/* doorbells: the test answers each batch with an interrupt by descriptor */
	movl $DOORBELLS, %ecx
	movw $PORT_DOORBELL, %dx
6:	outw %ax, %dx
	loop 6b
7:	sti
	hlt
	cli
	cmpl $3, GUEST_DATA + 4
	jb 7b
	movl $DOORBELLS, %ecx
	movl $MMIO_BASE + MMIO_DOORBELL, %edi
6:	movl %ecx, (%rdi)
	loop 6b
7:	sti
	hlt
	cli
	cmpl $4, GUEST_DATA + 4
	jb 7b
	movl GUEST_DATA + 4, %eax
	log_eax
	leave_with 0
long_timer:
	pushq %rax
	incl GUEST_DATA
	movl $0xfee000b0, %eax
	movl $0, (%rax)
	popq %rax
	iretq
long_msi:
	pushq %rax
	incl GUEST_DATA + 4
	movl $0xfee000b0, %eax
	movl $0, (%rax)
	popq %rax
	iretq
endguest long
#undef base

/* --- Two processors: INIT, SIPI, an IPI back --- */
#define base guest_smp
guest smp
	.code64
	gate64 VECTOR_MSI, AT(smp_answer)
	load_idt64
	movb $0xff, %al
	outb %al, $0x21
	outb %al, $0xa1
	movl $0, GUEST_DATA
	movl $0, GUEST_DATA + 4
	movl $AT(smp_second), %esi
	movl $GUEST_AP, %edi
	movl $smp_second_end - smp_second, %ecx
	cld
	rep movsb
	movl $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0x01000000, 0x310(%rbx)
	movl $0xc500, 0x300(%rbx)
	movl $0x01000000, 0x310(%rbx)
	movl $0x4600 + (GUEST_AP >> 12), 0x300(%rbx)
1:	pause
	cmpl $0x5a5a, GUEST_DATA
	jne 1b
	movl GUEST_DATA, %eax
	log_eax
2:	sti
	hlt
	cli
	cmpl $1, GUEST_DATA + 4
	jb 2b
	movl GUEST_DATA + 4, %eax
	log_eax
	leave_with 0
smp_answer:
	pushq %rax
	incl GUEST_DATA + 4
	movl $0xfee000b0, %eax
	movl $0, (%rax)
	popq %rax
	iretq
	.code16
smp_second:	/* at GUEST_AP, CS = GUEST_AP / 16 */
	movw $GUEST_DATA >> 4, %ax
	movw %ax, %ds
	movl $0x5a5a, 0
	/* x2APIC, to reach the registers from real mode */
	movl $0x1b, %ecx
	rdmsr
	orw $0xc00, %ax
	wrmsr
	movl $0x80f, %ecx
	movl $0x1ff, %eax
	xorl %edx, %edx
	wrmsr
	movl $0x830, %ecx
	movl $0x4000 + VECTOR_MSI, %eax
	xorl %edx, %edx
	wrmsr
3:	hlt
	jmp 3b
smp_second_end:
	.code64
endguest smp
#undef base

/* --- Dirty log: writes to pages 0x40, 0x42, 0x45 (across its end into 0x46) and 0x80 --- */
#define base guest_dirty
guest dirty
	.code64
	movl $0x40000, %edi
	movb $1, (%rdi)
	movl $0x42ffc, %edi
	movl %edi, (%rdi)
	movl $0x45ffe, %edi
	movl %edi, (%rdi)
	movl $0x80000, %edi
	movl $1024, %ecx
	cld
	rep stosl
	movl 0x50000, %eax
	leave_with 0
endguest dirty
#undef base

/* --- Runs for as long as it is let; counts and takes timer interrupts --- */
#define base guest_forever
guest forever
	.code64
	gate64 VECTOR_TIMER, AT(forever_tick)
	load_idt64
	movb $0xff, %al
	outb %al, $0x21
	outb %al, $0xa1
	movl $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0xfec00000, %edi
	movl $0x14, (%rdi)
	movl $VECTOR_TIMER, 0x10(%rdi)
	movl $0x15, (%rdi)
	movl $0, 0x10(%rdi)
	pit_1000hz
	movl $0, GUEST_DATA
	movl $0, GUEST_DATA + 8
1:	sti
	incl GUEST_DATA + 8
	testl $0x3ff, GUEST_DATA + 8
	jnz 1b
	hlt
	jmp 1b
forever_tick:
	pushq %rax
	incl GUEST_DATA
	movl $0xfee000b0, %eax
	movl $0, (%rax)
	popq %rax
	iretq
endguest forever
#undef base

/*
 * --- Computation without I/O, that must come out the same however often it is moved. The result is
 * in EAX, EBX and the memory from GUEST_DATA on; it ends in HLT with interrupts off. ---
 */
.macro compute sp, start
	movl $0x12345678, %eax
	movl $0x9abcdef1, %ebx
	movl $40, %ebp
	cld
1:	push %\sp\()ax
	imull $1664525, %eax, %eax
	addl $1013904223, %eax
	adcl $0, %ebx
	roll $5, %ebx
	xorl %eax, %ebx
	pushf
	movl $8, %ecx
	movl $2f-\start+GUEST_AT, %esi
	movl $GUEST_DATA, %edi
	rep movsb
	popf
	rcrl $1, %ebx
	movl $3f-\start+GUEST_AT, %edx
	call *%\sp\()dx
	pop %\sp\()cx
	addl %ecx, %ebx
	bswap %ebx
	shldl $3, %eax, %ebx
	decl %ebp
	jnz 1b
	sti		/* the shadow of STI holds a move too */
	cli
	hlt
	jmp .
2:	.ascii "ABCDEFGH"
3:	movl %eax, GUEST_DATA + 16
	notl GUEST_DATA + 16
	lock
	xaddl %eax, GUEST_DATA + 20
	setc GUEST_DATA + 24
	movl GUEST_DATA + 16, %ecx
	bsrl %ecx, %ecx
	cmovcl %ebp, %eax
	ret
.endm

#define base guest_compute32
guest compute32
	.code32
	compute e, guest_compute32
endguest compute32
#undef base

#define base guest_compute64
guest compute64
	.code64
	movq $0x1122334455667788, %r8
	movq %r8, %r15
	compute r, guest_compute64
endguest compute64
#undef base

#define base guest_compute16
guest compute16
	.code16
	xorw %ax, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw $GUEST_STACK, %sp
	movw $0x1357, %ax
	movw $0x2468, %bx
	movw $60, %bp
	cld
1:	pushw %ax
	imulw $25173, %ax, %ax
	addw $13849, %ax
	adcw $0, %bx
	rolw $5, %bx
	xorw %ax, %bx
	pushfw
	movw $4, %cx
	movw $AT(2f), %si
	movw $0x700, %di
	rep movsw
	popfw
	rcrw $1, %bx
	callw 3f
	popw %cx
	addw %cx, %bx
	decw %bp
	jnz 1b
	sti
	cli
	hlt
	jmp .
2:	.ascii "ABCDEFGH"
3:	movw %ax, 0x710
	notw 0x710
	lock
	xaddw %ax, 0x714
	sets 0x718
	movw $0x40, %cx
	movw %cx, %fs
	movw %fs:0x310, %cx
	xorw %cx, %bx
	retw
endguest compute16
#undef base

/*
 * --- Runs into the instruction at label odd_here, which the test puts there, with the timer
 * ticking; under KVM that may be where it ends. Then logs what must have been kept. ---
 */
#define base guest_odd
guest odd
	.code64
	gate64 VECTOR_LOCAL, AT(odd_tick)
	load_idt64
	movb $0xff, %al
	outb %al, $0x21
	outb %al, $0xa1
	movl $0, GUEST_DATA
	movl $0xfee00000, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0xb, 0x3e0(%rbx)
	movl $VECTOR_LOCAL, 0x320(%rbx)
	movl $3000000, 0x380(%rbx)
	movl $GUEST_DATA + 64, %esi
	movq $0x0123456789abcdef, %r12
	movups (%rsi), %xmm7
	xorl %eax, %eax
	xorl %edx, %edx
	.global guest_odd_here
guest_odd_here:
	.fill 16, 1, 0x90
	movl %r12d, %eax
	log_eax
	movups %xmm7, 16(%rsi)
	movl 16(%rsi), %eax
	log_eax
1:	sti
	hlt
	cli
	cmpl $1, GUEST_DATA
	jb 1b
	movl GUEST_DATA, %eax
	log_eax
	leave_with 0
odd_tick:
	pushq %rax
	incl GUEST_DATA
	movl $0xfee000b0, %eax
	movl $0, (%rax)
	popq %rax
	iretq
endguest odd
#undef base

/* --- A virtqueue, polled: eight buffers of random bytes. The registers lie where GUEST_DATA says. --- */
#define base guest_queue
guest queue
	.code64
	movl GUEST_DATA, %ebx
	movb $0, 0x14(%rbx)		/* status: reset, acknowledge, driver */
	movb $1, 0x14(%rbx)
	movb $3, 0x14(%rbx)
	movl $1, 0x08(%rbx)		/* VIRTIO_F_VERSION_1 */
	movl $1, 0x0c(%rbx)
	movb $0xb, 0x14(%rbx)
	movw $0, 0x16(%rbx)
	movw $8, 0x18(%rbx)
	movl $GUEST_RING, 0x20(%rbx)
	movl $0, 0x24(%rbx)
	movl $GUEST_RING + 0x100, 0x28(%rbx)
	movl $0, 0x2c(%rbx)
	movl $GUEST_RING + 0x200, 0x30(%rbx)
	movl $0, 0x34(%rbx)
	movw $1, 0x1c(%rbx)
	movb $0xf, 0x14(%rbx)
	movl $GUEST_RING + 0x1000, GUEST_RING
	movl $64, GUEST_RING + 8
	movw $2, GUEST_RING + 12	/* the device writes */
	xorl %ecx, %ecx
1:	incl %ecx
	movw %cx, GUEST_RING + 0x102
	mfence
	movw $0, 0x3000(%rbx)		/* the doorbell */
2:	pause
	cmpw %cx, GUEST_RING + 0x202
	jne 2b
	cmpl $8, %ecx
	jb 1b
	movl GUEST_RING + 0x208, %eax	/* length of the first one used */
	log_eax
	movzwl GUEST_RING + 0x202, %eax
	log_eax
	leave_with 0
endguest queue
#undef base

	.section .note.GNU-stack, "", @progbits
