// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory access for handlers: segment, TLB, page crossing, MMIO, guarded pages. The fast half of a
 * hit is in the dispatch loop; everything here is exact for every case. */
#include "cpu/mem.h"

#include "cpu/system.h"

static uint64_t host_read(const void *host, unsigned size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)host;
	case 2:
		return *(const volatile unaligned16 *)host;
	case 4:
		return *(const volatile unaligned32 *)host;
	case 8:
		return *(const volatile unaligned64 *)host;
	default: {
		uint64_t value = 0;

		memcpy(&value, host, size);
		return value;
	}
	}
}

static void host_write(void *host, uint64_t value, unsigned size)
{
	switch (size) {
	case 1:
		*(volatile uint8_t *)host = (uint8_t)value;
		break;
	case 2:
		*(volatile unaligned16 *)host = (uint16_t)value;
		break;
	case 4:
		*(volatile unaligned32 *)host = (uint32_t)value;
		break;
	case 8:
		*(volatile unaligned64 *)host = value;
		break;
	default:
		memcpy(host, &value, size);
	}
}

/* --- By page --- */

static uint8_t *page_host(const struct tlb_page *page, uint64_t linear)
{
	return page->slot->host + (page->gpa - page->slot->gpa) + (linear & 0xfff);
}

static bool writable_ram(const struct tlb_page *page)
{
	return page->slot && !page->slot->readonly;
}

/* @size bytes within the page; MMIO in naturally sized pieces. */
static uint64_t page_read(struct cpu *cpu, const struct tlb_page *page, uint64_t linear,
			  unsigned size)
{
	uint64_t gpa = page->gpa | (linear & 0xfff), value = 0;

	if (page->slot)
		return host_read(page_host(page, linear), size);
	if (size == 1 || size == 2 || size == 4 || size == 8)
		return bus_mmio_read(cpu, gpa, size);
	for (unsigned i = 0; i < size; i++)
		value |= bus_mmio_read(cpu, gpa + i, 1) << (8 * i);
	return value;
}

static void page_write(struct cpu *cpu, struct cpu_tlb *tlb, struct tlb_page *page, uint64_t linear,
		       uint64_t value, unsigned size)
{
	uint64_t gpa = page->gpa | (linear & 0xfff);

	if (writable_ram(page)) {
		if (tlb)
			tlb_note_write(tlb, page);
		else
			slot_set_dirty(page->slot, slot_page(page->slot, gpa));
		host_write(page_host(page, linear), value, size);
		mem_host_written(cpu, page, linear, size);
	} else if (size == 1 || size == 2 || size == 4 || size == 8) {
		bus_mmio_write(cpu, gpa, value, size);
	} else {
		for (unsigned i = 0; i < size; i++)
			bus_mmio_write(cpu, gpa + i, (value >> (8 * i)) & 0xff, 1);
	}
}

void mem_host_written(struct cpu *cpu, const struct tlb_page *page, uint64_t linear, unsigned size)
{
	struct ram_slot *slot = page->slot;

	if (atomic_load_explicit(&slot->guard[slot_page(slot, page->gpa)], memory_order_relaxed))
		smc_written(cpu, slot, page->gpa | (linear & 0xfff), size);
}

void *mem_host(struct cpu *cpu, uint64_t linear, unsigned size, enum mem_access access,
	       struct tlb_page *page)
{
	struct tlb_page *found;

	if (cpu->tlb != cpu->tlb_class || (linear & 0xfff) + size > 0x1000 ||
	    (cpu->code_size == 8 && (uint64_t)((int64_t)(linear << 16) >> 16) != linear))
		return NULL;
	found = tlb_resolve(cpu, cpu->tlb, linear, access);
	if (!found->slot || (access == MEM_WRITE && found->slot->readonly))
		return NULL;
	if (access == MEM_WRITE)
		tlb_note_write(cpu->tlb, found);
	*page = *found;
	return page_host(found, linear);
}

/* --- By linear address --- */

static void check_linear(struct cpu *cpu, unsigned segment, uint64_t linear, unsigned size,
			 enum mem_access access)
{
	if (cpu->code_size == 8 &&
	    ((uint64_t)((int64_t)(linear << 16) >> 16) != linear ||
	     (uint64_t)((int64_t)((linear + size - 1) << 16) >> 16) != linear + size - 1))
		cpu_raise_error(cpu, segment == SEG_SS ? EXC_SS : EXC_GP, 0);
	if (cpu->tlb == cpu->tlb_class)
		return;
	if ((size & (size - 1)) == 0 && size <= 8 && (linear & (size - 1)) && cpu->cpl == 3 &&
	    (cpu->cr0 & CR0_AM) && (cpu->rflags & FL_AC))
		cpu_raise_error(cpu, EXC_AC, 0);
	debug_check_data(cpu, linear, size, access == MEM_WRITE);
}

/* The linear address of the next page: 32 bits outside 64-bit mode. */
static uint64_t next_page(const struct cpu *cpu, uint64_t linear)
{
	uint64_t next = (linear & ~UINT64_C(0xfff)) + 0x1000;

	return cpu->efer & EFER_LMA ? next : (uint32_t)next;
}

static uint64_t read_with(struct cpu *cpu, struct cpu_tlb *tlb, uint64_t linear, unsigned size)
{
	unsigned first = 0x1000 - (linear & 0xfff);
	struct tlb_page low, high;
	uint64_t second;

	if (first >= size)
		return page_read(cpu, tlb_resolve(cpu, tlb, linear, MEM_READ), linear, size);
	second = next_page(cpu, linear);
	low = *tlb_resolve(cpu, tlb, linear, MEM_READ);
	high = *tlb_resolve(cpu, tlb, second, MEM_READ);
	return page_read(cpu, &low, linear, first) | page_read(cpu, &high, second, size - first)
							     << (8 * first);
}

static void write_with(struct cpu *cpu, struct cpu_tlb *tlb, uint64_t linear, uint64_t value,
		       unsigned size)
{
	unsigned first = 0x1000 - (linear & 0xfff);
	struct tlb_page low, high;
	uint64_t second;

	if (first >= size) {
		page_write(cpu, tlb, tlb_resolve(cpu, tlb, linear, MEM_WRITE), linear, value, size);
		return;
	}
	second = next_page(cpu, linear);
	low = *tlb_resolve(cpu, tlb, linear, MEM_WRITE);
	high = *tlb_resolve(cpu, tlb, second, MEM_WRITE);
	page_write(cpu, NULL, &low, linear, value & (UINT64_MAX >> (64 - 8 * first)), first);
	page_write(cpu, NULL, &high, second, value >> (8 * first), size - first);
}

uint64_t mem_read_linear(struct cpu *cpu, unsigned segment, uint64_t linear, unsigned size)
{
	const struct tlb_entry *entry = &cpu->tlb->entry[tlb_index(linear)];

	if ((linear ^ entry->read) <= 0x1000 - size)
		return host_read((const void *)(uintptr_t)(linear + entry->addend), size);
	check_linear(cpu, segment, linear, size, MEM_READ);
	return read_with(cpu, cpu->tlb_class, linear, size);
}

void mem_write_linear(struct cpu *cpu, unsigned segment, uint64_t linear, uint64_t value,
		      unsigned size)
{
	const struct tlb_entry *entry = &cpu->tlb->entry[tlb_index(linear)];

	if ((linear ^ entry->write) <= 0x1000 - size) {
		host_write((void *)(uintptr_t)(linear + entry->addend), value, size);
		return;
	}
	check_linear(cpu, segment, linear, size, MEM_WRITE);
	write_with(cpu, cpu->tlb_class, linear, value, size);
}

/* --- By segment and offset --- */

uint64_t mem_linear(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size,
		    enum mem_access access)
{
	if (cpu->code_size == 8)
		return segment >= SEG_FS ? cpu->seg[segment].base + offset : offset;
	if ((cpu->mode & MODE_FLAT) && segment < SEG_FS && segment != SEG_CS &&
	    offset <= UINT64_C(0x100000000) - size)
		return offset;
	return seg_linear(cpu, segment, offset, size, access);
}

uint64_t mem_read(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size)
{
	return mem_read_linear(cpu, segment, mem_linear(cpu, segment, offset, size, MEM_READ),
			       size);
}

void mem_write(struct cpu *cpu, unsigned segment, uint64_t offset, uint64_t value, unsigned size)
{
	mem_write_linear(cpu, segment, mem_linear(cpu, segment, offset, size, MEM_WRITE), value,
			 size);
}

static void probe_linear(struct cpu *cpu, unsigned segment, uint64_t linear, unsigned size,
			 enum mem_access access)
{
	check_linear(cpu, segment, linear, size, access);
	tlb_resolve(cpu, cpu->tlb_class, linear, access);
	if ((linear & 0xfff) + size > 0x1000)
		tlb_resolve(cpu, cpu->tlb_class, next_page(cpu, linear), access);
}

void mem_probe_write(struct cpu *cpu, unsigned segment, uint64_t offset, unsigned size)
{
	probe_linear(cpu, segment, mem_linear(cpu, segment, offset, size, MEM_WRITE), size,
		     MEM_WRITE);
}

/* Copies a block that is known not to fault, in pieces that do not cross a page. */
static void block_pieces(struct cpu *cpu, uint64_t linear, void *buffer, unsigned size,
			 enum mem_access access)
{
	struct cpu_tlb *tlb = cpu->tlb_class;
	uint8_t *bytes = buffer;

	while (size) {
		unsigned part = MIN(size, 0x1000 - (linear & 0xfff));
		struct tlb_page *found = tlb_resolve(cpu, tlb, linear, access);
		struct tlb_page page = *found;

		if (access == MEM_READ && page.slot) {
			memcpy(bytes, page_host(&page, linear), part);
		} else if (access == MEM_WRITE && writable_ram(&page)) {
			tlb_note_write(tlb, found);
			memcpy(page_host(&page, linear), bytes, part);
			mem_host_written(cpu, &page, linear, part);
		} else {
			part = MIN(part, 8);
			if (access == MEM_READ) {
				uint64_t value = page_read(cpu, &page, linear, part);

				memcpy(bytes, &value, part);
			} else {
				page_write(cpu, NULL, &page, linear, host_read(bytes, part), part);
			}
		}
		bytes += part;
		size -= part;
		linear += part;
		if (!(cpu->efer & EFER_LMA))
			linear = (uint32_t)linear;
	}
}

void mem_read_block(struct cpu *cpu, unsigned segment, uint64_t offset, void *to, unsigned size)
{
	uint64_t linear = mem_linear(cpu, segment, offset, size, MEM_READ);
	const struct tlb_entry *entry = &cpu->tlb->entry[tlb_index(linear)];

	if ((linear ^ entry->read) <= 0x1000 - size) {
		memcpy(to, (const void *)(uintptr_t)(linear + entry->addend), size);
		return;
	}
	probe_linear(cpu, segment, linear, size, MEM_READ);
	block_pieces(cpu, linear, to, size, MEM_READ);
}

void mem_write_block(struct cpu *cpu, unsigned segment, uint64_t offset, const void *from,
		     unsigned size)
{
	uint64_t linear = mem_linear(cpu, segment, offset, size, MEM_WRITE);
	const struct tlb_entry *entry = &cpu->tlb->entry[tlb_index(linear)];
	uint8_t copy[0x1000];

	if ((linear ^ entry->write) <= 0x1000 - size) {
		memcpy((void *)(uintptr_t)(linear + entry->addend), from, size);
		return;
	}
	probe_linear(cpu, segment, linear, size, MEM_WRITE);
	memcpy(copy, from, size);
	block_pieces(cpu, linear, copy, size, MEM_WRITE);
}

static struct cpu_tlb *tlb_for(struct cpu *cpu, unsigned cpl, bool implicit)
{
	enum tlb_class class = cpl == 3                 ? TLB_USER
			       : !(cpu->cr4 & CR4_SMAP) ? TLB_SUPERVISOR
			       : implicit               ? TLB_SUPERVISOR_SMAP
			       : (cpu->rflags & FL_AC)  ? TLB_SUPERVISOR
							: TLB_SUPERVISOR_SMAP;

	return &cpu->tlb_set->tlb[class];
}

/* A hit among the entries of a class, which need not be the present one. */
static uint64_t read_class(struct cpu *cpu, struct cpu_tlb *tlb, uint64_t linear, unsigned size)
{
	const struct tlb_entry *entry = &tlb->entry[tlb_index(linear)];

	if ((linear ^ entry->read) <= 0x1000 - size)
		return host_read((const void *)(uintptr_t)(linear + entry->addend), size);
	return read_with(cpu, tlb, linear, size);
}

static void write_class(struct cpu *cpu, struct cpu_tlb *tlb, uint64_t linear, uint64_t value,
			unsigned size)
{
	const struct tlb_entry *entry = &tlb->entry[tlb_index(linear)];

	if ((linear ^ entry->write) <= 0x1000 - size)
		host_write((void *)(uintptr_t)(linear + entry->addend), value, size);
	else
		write_with(cpu, tlb, linear, value, size);
}

uint64_t mem_read_system(struct cpu *cpu, uint64_t linear, unsigned size)
{
	return read_class(cpu, tlb_for(cpu, 0, true), linear, size);
}

void mem_write_system(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size)
{
	write_class(cpu, tlb_for(cpu, 0, true), linear, value, size);
}

uint64_t mem_read_as(struct cpu *cpu, uint64_t linear, unsigned size, unsigned cpl)
{
	return read_class(cpu, tlb_for(cpu, cpl, false), linear, size);
}

void mem_write_as(struct cpu *cpu, uint64_t linear, uint64_t value, unsigned size, unsigned cpl)
{
	write_class(cpu, tlb_for(cpu, cpl, false), linear, value, size);
}

bool mem_try_read_words(struct cpu *cpu, uint64_t linear, uint64_t *words, unsigned count,
			unsigned cpl)
{
	const struct tlb_entry *entry = &tlb_for(cpu, cpl, false)->entry[tlb_index(linear)];

	if ((linear ^ entry->read) > 0x1000 - 8 * count)
		return false;
	memcpy(words, (const void *)(uintptr_t)(linear + entry->addend), 8 * count);
	return true;
}

bool mem_try_write_words(struct cpu *cpu, uint64_t linear, const uint64_t *words, unsigned count,
			 unsigned cpl)
{
	const struct tlb_entry *entry = &tlb_for(cpu, cpl, false)->entry[tlb_index(linear)];

	if ((linear ^ entry->write) > 0x1000 - 8 * count)
		return false;
	memcpy((void *)(uintptr_t)(linear + entry->addend), words, 8 * count);
	return true;
}

/* --- Read-modify-write --- */

void mem_target_begin(struct cpu *cpu, struct mem_target *target, unsigned segment, uint64_t offset,
		      unsigned size, bool locked)
{
	uint64_t linear = mem_linear(cpu, segment, offset, size, MEM_WRITE);
	struct tlb_page *page;

	*target = (struct mem_target){.linear = linear, .segment = segment, .size = size};
	check_linear(cpu, segment, linear, size, MEM_WRITE);
	page = tlb_resolve(cpu, cpu->tlb_class, linear, MEM_WRITE);
	target->page = *page;
	if ((linear & 0xfff) + size <= 0x1000) {
		if (!writable_ram(page))
			return;
		tlb_note_write(cpu->tlb_class, page);
		target->host = page_host(page, linear);
		return;
	}
	page = tlb_resolve(cpu, cpu->tlb_class, next_page(cpu, linear), MEM_WRITE);
	if (locked && writable_ram(page) && writable_ram(&target->page)) {
		target->stopped = true;
		cpu->stopping = true;
		system_stop_others(cpu);
	}
}

void mem_target_end(struct cpu *cpu, struct mem_target *target)
{
	if (target->host)
		mem_host_written(cpu, &target->page, target->linear, target->size);
	if (target->stopped) {
		cpu->stopping = false;
		system_resume_others(cpu);
	}
}

/* --- Physical memory --- */

static uint8_t *phys_host(const struct ram_slot *slot, uint64_t gpa)
{
	return slot->host + (gpa - slot->gpa);
}

uint64_t phys_read(struct cpu *cpu, uint64_t gpa, unsigned size)
{
	struct ram_slot *slot = system_slot(cpu->system, gpa);

	return slot ? host_read(phys_host(slot, gpa), size) : bus_mmio_read(cpu, gpa, size);
}

bool phys_cmpxchg(struct cpu *cpu, uint64_t gpa, uint64_t expected, uint64_t desired, unsigned size)
{
	struct ram_slot *slot = system_slot(cpu->system, gpa);
	struct tlb_page page = {.gpa = gpa & ~UINT64_C(0xfff), .slot = slot};
	bool done;

	if (!slot || slot->readonly) {
		if (phys_read(cpu, gpa, size) != expected)
			return false;
		bus_mmio_write(cpu, gpa, desired, size);
		return true;
	}
	slot_set_dirty(slot, slot_page(slot, gpa));
	if (size == 8) {
		done = __atomic_compare_exchange_n((uint64_t *)(void *)phys_host(slot, gpa),
						   &expected, desired, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_SEQ_CST);
	} else {
		uint32_t expected32 = (uint32_t)expected;

		done = __atomic_compare_exchange_n((uint32_t *)(void *)phys_host(slot, gpa),
						   &expected32, (uint32_t)desired, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	if (done)
		mem_host_written(cpu, &page, gpa, size);
	return done;
}
