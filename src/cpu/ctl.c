// SPDX-License-Identifier: GPL-2.0-or-later
/* Control registers, descriptor-table registers, mode switches and TLB instructions (Intel SDM 3A
 * chapters 2, 4.10 and 9). */
#include "cpu/sys.h"

/* --- Control registers --- */

uint64_t cr4_valid(const struct cpu *cpu)
{
	return CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR |
	       CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP |
	       CR4_SMAP;
}

static bool is_pae(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* #GP(0) unless the page-directory pointers at CR3 are good for the mode that begins. */
static void reload_pdpte(struct cpu *cpu)
{
	if (!pdpte_load(cpu, cpu->cr3))
		cpu_raise_error(cpu, EXC_GP, 0);
}

void cpu_write_cr0(struct cpu *cpu, uint64_t value)
{
	uint64_t old = cpu->cr0, changed, efer = cpu->efer;

	if (value >> 32)
		cpu_raise_error(cpu, EXC_GP, 0);
	value &= CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |
		 CR0_PG;
	value |= CR0_ET;
	changed = value ^ old;
	if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
		cpu_raise_error(cpu, EXC_GP, 0);
	if ((changed & CR0_PG) && (value & CR0_PG) && (efer & EFER_LME)) {
		bool tss16 = (cpu->seg[SEG_TR].attr & SEG_TYPE) == DESC_TSS16_BUSY;

		if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[SEG_CS].attr & SEG_L) || tss16)
			cpu_raise_error(cpu, EXC_GP, 0);
		efer |= EFER_LMA;
	}
	if ((changed & CR0_PG) && !(value & CR0_PG)) {
		if (cpu->code_size == 8 || (cpu->cr4 & CR4_PCIDE))
			cpu_raise_error(cpu, EXC_GP, 0);
		efer &= ~(uint64_t)EFER_LMA;
	}
	if (is_pae(value, cpu->cr4, efer) && (changed & (CR0_PG | CR0_CD | CR0_NW)))
		reload_pdpte(cpu);
	cpu->cr0 = value;
	cpu->efer = efer;
	if (changed & (CR0_PG | CR0_PE | CR0_WP))
		tlb_flush_all(cpu);
	cpu_mode_changed(cpu);
}

void cpu_write_cr3(struct cpu *cpu, uint64_t value)
{
	uint64_t old = cpu->cr3, reserved = phys_reserved(cpu);
	bool pcid = cpu->cr4 & CR4_PCIDE;
	bool keep = pcid && value >> 63;

	if (cpu_is_long(cpu)) {
		if (pcid)
			reserved &= ~(UINT64_C(1) << 63);
		if (value & reserved)
			cpu_raise_error(cpu, EXC_GP, 0);
		value &= ~(UINT64_C(1) << 63);
	} else {
		value = (uint32_t)value;
		if (is_pae(cpu->cr0, cpu->cr4, cpu->efer) && !pdpte_load(cpu, value))
			cpu_raise_error(cpu, EXC_GP, 0);
	}
	cpu->cr3 = value;
	tlb_cr3_loaded(cpu, old, keep);
}

void cpu_write_cr4(struct cpu *cpu, uint64_t value)
{
	uint64_t changed = value ^ cpu->cr4;
	bool lm = cpu_is_long(cpu);

	if ((value & ~cr4_valid(cpu)) || (lm && !(value & CR4_PAE)))
		cpu_raise_error(cpu, EXC_GP, 0);
	if ((value & CR4_PCIDE) && (!lm || ((changed & CR4_PCIDE) && (cpu->cr3 & 0xfff))))
		cpu_raise_error(cpu, EXC_GP, 0);
	if (is_pae(cpu->cr0, value, cpu->efer) &&
	    (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
		reload_pdpte(cpu);
	cpu->cr4 = value;
	if (changed & (CR4_PGE | CR4_PSE | CR4_PAE | CR4_PCIDE | CR4_SMEP | CR4_SMAP))
		tlb_flush_all(cpu);
	cpu_mode_changed(cpu);
}

bool cpu_write_efer(struct cpu *cpu, uint64_t value)
{
	uint64_t changed = value ^ cpu->efer;

	if (value & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return false;
	if ((changed & EFER_LME) && (cpu->cr0 & CR0_PG))
		return false;
	cpu->efer = (value & ~(uint64_t)EFER_LMA) | (cpu->efer & EFER_LMA);
	if (changed & EFER_NXE)
		tlb_flush_all(cpu);
	cpu_mode_changed(cpu);
	return true;
}

static unsigned control_register(struct cpu *cpu, const struct op *op)
{
	if (op->reg > 8 || op->reg == 1 || (op->reg > 4 && op->reg < 8))
		cpu_raise(cpu, EXC_UD);
	need_cpl0(cpu);
	return op->reg;
}

void sys_mov_from_cr(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	switch (control_register(cpu, op)) {
	case 0:
		value = cpu->cr0;
		break;
	case 2:
		value = cpu->cr2;
		break;
	case 3:
		value = cpu->cr3;
		break;
	case 4:
		value = cpu->cr4;
		break;
	default:
		bus_begin(cpu);
		value = cpu->bus->tpr_read(cpu->opaque) & 15;
		bus_end(cpu);
		break;
	}
	reg_set(cpu, op->rm, op->size, value);
}

void sys_mov_to_cr(struct cpu *cpu, const struct op *op)
{
	unsigned n = control_register(cpu, op);
	uint64_t value = reg_get(cpu, op->rm, op->size);

	switch (n) {
	case 0:
		cpu_write_cr0(cpu, value);
		break;
	case 2:
		cpu->cr2 = value;
		break;
	case 3:
		cpu_write_cr3(cpu, value);
		break;
	case 4:
		cpu_write_cr4(cpu, value);
		break;
	default:
		if (value > 15)
			cpu_raise_error(cpu, EXC_GP, 0);
		bus_begin(cpu);
		cpu->bus->tpr_write(cpu->opaque, value);
		bus_end(cpu);
		break;
	}
}

void sys_lmsw(struct cpu *cpu, const struct op *op)
{
	uint64_t value;

	need_cpl0(cpu);
	if (op->flags & OP_MEM)
		value = mem_read(cpu, op->segment, op_offset(cpu, op), 2);
	else
		value = reg_get(cpu, op->rm, 2);
	value &= CR0_PE | CR0_MP | CR0_EM | CR0_TS;
	cpu_write_cr0(cpu, (cpu->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | value);
}

void sys_clts(struct cpu *cpu, const struct op *op)
{
	need_cpl0(cpu);
	cpu->cr0 &= ~(uint64_t)CR0_TS;
	cpu_mode_changed(cpu);
}

/* --- What UMIP hides from users --- */

static void check_umip(struct cpu *cpu)
{
	if (cpu->cpl && (cpu->cr4 & CR4_UMIP))
		cpu_raise_error(cpu, EXC_GP, 0);
}

/* SMSW, SLDT and STR: 16 bits to memory, the operand size to a register. */
static void store_word(struct cpu *cpu, const struct op *op, uint64_t value)
{
	if (op->flags & OP_MEM)
		mem_write(cpu, op->segment, op_offset(cpu, op), value, 2);
	else
		reg_set(cpu, op->rm, op->size, value);
}

void sys_smsw(struct cpu *cpu, const struct op *op)
{
	check_umip(cpu);
	store_word(cpu, op, cpu->cr0);
}

static void store_selector(struct cpu *cpu, const struct op *op, unsigned segment)
{
	if (!cpu_is_protected(cpu))
		cpu_raise(cpu, EXC_UD);
	check_umip(cpu);
	store_word(cpu, op, cpu->seg[segment].selector);
}

void sys_sldt(struct cpu *cpu, const struct op *op)
{
	store_selector(cpu, op, SEG_LDTR);
}

void sys_str(struct cpu *cpu, const struct op *op)
{
	store_selector(cpu, op, SEG_TR);
}

static void store_table(struct cpu *cpu, const struct op *op, const struct cpu_table *table)
{
	uint8_t bytes[10];

	check_umip(cpu);
	memcpy(bytes, &table->limit, 2);
	memcpy(bytes + 2, &table->base, 8);
	mem_write_block(cpu, op->segment, op_offset(cpu, op), bytes, cpu->code_size == 8 ? 10 : 6);
}

void sys_sgdt(struct cpu *cpu, const struct op *op)
{
	store_table(cpu, op, &cpu->gdtr);
}

void sys_sidt(struct cpu *cpu, const struct op *op)
{
	store_table(cpu, op, &cpu->idtr);
}

static void load_table(struct cpu *cpu, const struct op *op, struct cpu_table *table)
{
	struct cpu_table loaded = {0};
	uint8_t bytes[10] = {0};
	bool wide = cpu->code_size == 8;

	need_cpl0(cpu);
	mem_read_block(cpu, op->segment, op_offset(cpu, op), bytes, wide ? 10 : 6);
	memcpy(&loaded.limit, bytes, 2);
	memcpy(&loaded.base, bytes + 2, 8);
	if (!wide && op->size == 2)
		loaded.base &= 0xffffff;
	if (!is_canonical(loaded.base))
		cpu_raise_error(cpu, EXC_GP, 0);
	*table = loaded;
}

void sys_lgdt(struct cpu *cpu, const struct op *op)
{
	load_table(cpu, op, &cpu->gdtr);
}

void sys_lidt(struct cpu *cpu, const struct op *op)
{
	load_table(cpu, op, &cpu->idtr);
}

/* --- LDTR and TR --- */

/* Reads the descriptor and, in IA-32e mode, the upper half of the base. */
static void system_segment(struct cpu *cpu, uint16_t selector, unsigned types, struct desc *desc,
			   struct cpu_segment *seg)
{
	uint32_t error = selector_error(selector, 0);
	uint64_t high = 0;

	if ((selector & 4) || !desc_read(cpu, selector, desc))
		cpu_raise_error(cpu, EXC_GP, error);
	if ((desc_type(desc->raw) & SEG_S) || !(types >> desc_type(desc->raw) & 1))
		cpu_raise_error(cpu, EXC_GP, error);
	if (cpu_is_long(cpu) && (!desc_read_high(cpu, desc, &high) || (high >> 40 & 0x1f)))
		cpu_raise_error(cpu, EXC_GP, error);
	if (!desc_present(desc->raw))
		cpu_raise_error(cpu, EXC_NP, error);
	*seg = desc_segment(desc);
	seg->base |= high << 32;
	if (!is_canonical(seg->base))
		cpu_raise_error(cpu, EXC_GP, error);
}

static uint16_t load_selector(struct cpu *cpu, const struct op *op)
{
	if (!cpu_is_protected(cpu))
		cpu_raise(cpu, EXC_UD);
	need_cpl0(cpu);
	if (op->flags & OP_MEM)
		return mem_read(cpu, op->segment, op_offset(cpu, op), 2);
	return reg_get(cpu, op->rm, 2);
}

void sys_lldt(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = load_selector(cpu, op);
	struct cpu_segment seg;
	struct desc desc;

	if (selector_is_null(selector)) {
		seg_set_null(cpu, SEG_LDTR, selector);
		return;
	}
	system_segment(cpu, selector, 1u << DESC_LDT, &desc, &seg);
	cpu->seg[SEG_LDTR] = seg;
}

void sys_ltr(struct cpu *cpu, const struct op *op)
{
	uint16_t selector = load_selector(cpu, op);
	unsigned types = 1u << DESC_TSS32 | (cpu_is_long(cpu) ? 0 : 1u << DESC_TSS16);
	struct cpu_segment seg;
	struct desc desc;

	if (selector_is_null(selector))
		cpu_raise_error(cpu, EXC_GP, 0);
	system_segment(cpu, selector, types, &desc, &seg);
	desc_set_busy(cpu, selector, true);
	seg.attr |= 2;
	cpu->seg[SEG_TR] = seg;
}

/* --- TLB and caches --- */

void sys_invlpg(struct cpu *cpu, const struct op *op)
{
	uint64_t linear = op_offset(cpu, op);

	need_cpl0(cpu);
	if (cpu->code_size != 8)
		linear = (uint32_t)(linear + cpu->seg[op->segment].base);
	else if (op->segment == SEG_FS || op->segment == SEG_GS)
		linear += cpu->seg[op->segment].base;
	if (cpu->code_size == 8 && !is_canonical(linear))
		return; /* a no-op, not a fault */
	tlb_flush_page(cpu, linear);
}

void sys_invpcid(struct cpu *cpu, const struct op *op)
{
	uint64_t type, bytes[2];
	unsigned pcid;

	if (cpu_is_v86(cpu))
		cpu_raise_error(cpu, EXC_GP, 0);
	need_cpl0(cpu);
	type = reg_get(cpu, op->reg, cpu->code_size == 8 ? 8 : 4);
	if (type > 3)
		cpu_raise_error(cpu, EXC_GP, 0);
	mem_read_block(cpu, op->segment, op_offset(cpu, op), bytes, 16);
	pcid = bytes[0] & 0xfff;
	if (type < 2 && ((bytes[0] >> 12) || (pcid && !(cpu->cr4 & CR4_PCIDE))))
		cpu_raise_error(cpu, EXC_GP, 0);
	if (type == 0 && !is_canonical(bytes[1]))
		cpu_raise_error(cpu, EXC_GP, 0);
	switch (type) {
	case 0:
		tlb_flush_pcid(cpu, pcid, bytes[1], true);
		break;
	case 1:
		tlb_flush_pcid(cpu, pcid, 0, false);
		break;
	case 2:
		tlb_flush_all(cpu);
		break;
	default:
		tlb_flush_nonglobal(cpu);
		break;
	}
}

/* Caches are the host's and always coherent. */
void sys_wbinvd(struct cpu *cpu, const struct op *op)
{
	need_cpl0(cpu);
}

/* --- XCR0 --- */

void sys_xgetbv(struct cpu *cpu, const struct op *op)
{
	uint32_t index = cpu->regs[CPU_RCX];
	uint64_t value;

	if (!(cpu->cr4 & CR4_OSXSAVE))
		cpu_raise(cpu, EXC_UD);
	if (index > 1)
		cpu_raise_error(cpu, EXC_GP, 0);
	/* Index 1 names the components in use: all that are enabled, as far as we tell. */
	value = cpu->xcr0;
	cpu->regs[CPU_RAX] = (uint32_t)value;
	cpu->regs[CPU_RDX] = value >> 32;
}

void sys_xsetbv(struct cpu *cpu, const struct op *op)
{
	uint64_t value = cpu->regs[CPU_RDX] << 32 | (uint32_t)cpu->regs[CPU_RAX];

	if (!(cpu->cr4 & CR4_OSXSAVE))
		cpu_raise(cpu, EXC_UD);
	need_cpl0(cpu);
	if ((uint32_t)cpu->regs[CPU_RCX] || (value != 1 && value != 3))
		cpu_raise_error(cpu, EXC_GP, 0);
	cpu->xcr0 = value;
	cpu_mode_changed(cpu);
}
