// SPDX-License-Identifier: GPL-2.0-or-later
/* The cache of decoded blocks: finding, building, linking and dropping them (see cache.h for the
 * invariants). */
#include <sys/mman.h>

#include "cpu/cache.h"
#include "cpu/decode.h"
#include "cpu/exec.h"
#include "cpu/mem.h"
#include "cpu/system.h"

enum { ARENA_BYTES = 64 << 20 };

static const uint64_t always = 1;

void cache_new(struct cpu *cpu)
{
	struct cpu_cache *cache = g_new0(struct cpu_cache, 1);

	cache->arena = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	g_assert(cache->arena != MAP_FAILED);
	exec_init();
	cpu->cache = cache;
}

void cache_free(struct cpu *cpu)
{
	munmap(cpu->cache->arena, ARENA_BYTES);
	g_free(cpu->cache);
}

void cache_flush(struct cpu *cpu)
{
	struct cpu_cache *cache = cpu->cache;

	memset(cache->jump, 0, sizeof(cache->jump));
	memset(cache->bucket, 0, sizeof(cache->bucket));
	memset(cache->page, 0, sizeof(cache->page));
	cache->used = 0;
	cache->epoch++;
}

static void *arena_take(struct cpu_cache *cache, size_t size)
{
	void *memory = cache->arena + cache->used;

	cache->used += (size + 15) & ~(size_t)15;
	g_assert(cache->used <= ARENA_BYTES);
	return memory;
}

static unsigned bucket_of(uint64_t gpa, uint64_t rip, uint32_t mode)
{
	uint64_t hash = (gpa ^ rip << 20 ^ (uint64_t)mode << 32) * UINT64_C(0x9e3779b97f4a7c15);

	return (unsigned)(hash >> 40) & (CACHE_BUCKETS - 1);
}

static struct page_blocks *find_page(struct cpu_cache *cache, uint64_t gpa, bool create)
{
	struct page_blocks **head = &cache->page[(gpa >> 12) & (CACHE_PAGES - 1)];
	struct page_blocks *page = *head;

	while (page && page->gpa != gpa)
		page = page->next;
	if (!page && create) {
		page = arena_take(cache, sizeof(*page));
		*page = (struct page_blocks){.gpa = gpa, .next = *head};
		*head = page;
	}
	return page;
}

/* --- Dropping --- */

static uint64_t block_granules(const struct block *block, bool second)
{
	unsigned start = second ? 0 : block->gpa & 0xfff, end = (block->gpa & 0xfff) + block->bytes;

	end = second ? end - 0x1000 : MIN(end, 0x1000);
	return (UINT64_MAX >> (63 - ((end - 1) / 64 - start / 64))) << (start / 64);
}

static void unhash(struct cpu_cache *cache, struct block *block)
{
	struct block **at = &cache->bucket[bucket_of(block->gpa, block->rip, block->mode)];

	while (*at && *at != block)
		at = &(*at)->next;
	if (*at)
		*at = block->next;
}

static void kill_block(struct cpu *cpu, struct block *block)
{
	block->dead = true;
	if (cpu->block == block)
		cpu->block_hit = true;
	/* The block that runs may have its first op under way: only its handler changes. */
	block->ops[0].handler = exec_handler(EXEC_dead);
	unhash(cpu->cache, block);
}

void cache_drop(struct cpu *cpu, uint64_t gpa, uint64_t granules)
{
	struct page_blocks *page = find_page(cpu->cache, gpa, false);
	struct block **at;

	if (!page)
		return;
	at = &page->first;
	while (*at) {
		struct block *block = *at;
		bool second = block->second_gpa == gpa;

		if (!block->dead && !(block_granules(block, second) & granules)) {
			at = &block->page_next[second];
			continue;
		}
		if (!block->dead)
			kill_block(cpu, block);
		*at = block->page_next[second];
	}
}

/* --- Building --- */

struct builder {
	struct cpu *cpu;
	struct block *block;
	struct op_info info[BLOCK_INSNS + 1];
	const uint8_t *host; /* of the page, or NULL: not RAM */
	uint8_t bytes[2 * INSN_MAX + 1];
	uint64_t linear;
	unsigned offset, limit; /* bytes decoded; bytes up to the page's end */
};

static struct tlb_page *fetch_page(struct cpu *cpu, uint64_t linear)
{
	return tlb_resolve(cpu, cpu->tlb_class, linear, MEM_FETCH);
}

static const uint8_t *slot_bytes(const struct ram_slot *slot, uint64_t gpa)
{
	return slot ? slot->host + (gpa - slot->gpa) : NULL;
}

static void fetch_bytes(struct cpu *cpu, const struct tlb_page *page, uint64_t linear,
			uint8_t *bytes, unsigned count)
{
	uint64_t gpa = page->gpa | (linear & 0xfff);

	if (page->slot) {
		memcpy(bytes, slot_bytes(page->slot, gpa), count);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		bytes[i] = (uint8_t)bus_mmio_read(cpu, gpa + i, 1);
}

/* The first instruction may lie in two pages, or outside RAM; it is then a block by itself. Raises
 * what its fetch raises. */
static enum decode_result decode_alone(struct builder *b, const struct tlb_page *first,
				       struct insn *insn)
{
	struct cpu *cpu = b->cpu;
	unsigned here = MIN(b->limit, INSN_MAX);
	enum decode_result result;
	struct tlb_page *second;
	uint64_t next;

	fetch_bytes(cpu, first, b->linear, b->bytes, here);
	result = decode(b->bytes, here, cpu->code_size, insn);
	if (result != DECODE_MORE)
		return result;
	next = (b->linear & ~UINT64_C(0xfff)) + 0x1000;
	if (cpu->code_size != 8)
		next = (uint32_t)next;
	second = fetch_page(cpu, next);
	b->block->second_gpa = second->gpa;
	if (second->slot) {
		smc_guard(cpu, second->slot, slot_page(second->slot, second->gpa));
		smc_mark(cpu, second->slot, second->gpa, INSN_MAX);
	}
	fetch_bytes(cpu, second, next, b->bytes + here, INSN_MAX);
	return decode(b->bytes, here + INSN_MAX, cpu->code_size, insn);
}

/* The last byte of the instruction must be within CS. */
static bool beyond_limit(const struct cpu *cpu, uint64_t rip, unsigned length)
{
	if (cpu->code_size == 8)
		return false;
	return rip + length - 1 > cpu->seg[SEG_CS].limit;
}

/* Adds @insn; true when the block ends with it. */
static bool add_insn(struct builder *b, enum decode_result result, const struct insn *insn)
{
	struct block *block = b->block;
	struct op *op = &block->ops[block->count];
	struct op_info *info = &b->info[block->count];

	if (result == DECODE_OK && !beyond_limit(b->cpu, block->rip + b->offset, insn->length)) {
		select_op(insn, op, info, block->rip, b->offset);
	} else {
		*op = (struct op){.code_size = b->cpu->code_size,
				  .length = insn->length ? insn->length : 1,
				  .offset = (uint16_t)b->offset};
		select_raise(op, result == DECODE_INVALID ? EXC_UD : EXC_GP);
		*info = (struct op_info){.end = true, .faults = true};
	}
	b->offset += op->length;
	block->count++;
	return info->end;
}

/* Decodes the run of instructions from @limit bytes at @host. Returns whether the last ends it. */
static bool decode_run(struct builder *b, const struct tlb_page *page, unsigned most)
{
	bool ended = false;

	do {
		struct insn insn;
		unsigned left = b->limit - b->offset;
		enum decode_result result =
			b->host ? decode(b->host + b->offset, left, b->cpu->code_size, &insn)
				: DECODE_MORE;

		if (result == DECODE_MORE) {
			if (b->block->count)
				return false;
			most = 1;
			result = decode_alone(b, page, &insn);
		}
		if (b->block->count && result != DECODE_OK)
			return false; /* a block of its own: what went before commits */
		ended = add_insn(b, result, &insn);
	} while (!ended && b->block->count < most && b->offset < b->limit);
	return ended;
}

static void finish(struct builder *b, bool ended)
{
	struct cpu *cpu = b->cpu;
	struct block *block = b->block;

	block->bytes = (uint16_t)b->offset;
	if (!ended) {
		uint64_t next = block->rip + b->offset;
		struct op *last = &block->ops[block->count];

		if (cpu->code_size == 2)
			next = (uint16_t)next;
		else if (cpu->code_size == 4)
			next = (uint32_t)next;
		*last = (struct op){.handler = exec_handler(EXEC_next),
				    .disp = (int64_t)next,
				    .flags = OP_END,
				    .offset = (uint16_t)b->offset,
				    .code_size = cpu->code_size};
	}
	fast_select(block, b->info);
}

static void enlist(struct cpu *cpu, struct block *block)
{
	struct cpu_cache *cache = cpu->cache;
	unsigned bucket = bucket_of(block->gpa, block->rip, block->mode);
	uint64_t pages[2] = {block->gpa & ~UINT64_C(0xfff), block->second_gpa};

	block->next = cache->bucket[bucket];
	cache->bucket[bucket] = block;
	for (unsigned i = 0; i < 2; i++) {
		struct page_blocks *page;

		if (pages[i] == NO_PAGE)
			continue;
		page = find_page(cache, pages[i], true);
		block->page_next[i] = page->first;
		page->first = block;
	}
	cache->built++;
}

static size_t block_size(unsigned ops)
{
	return sizeof(struct block) + ops * sizeof(struct op);
}

/* Decodes the block at cpu->rip. With RAM behind it the page is guarded first, then its granules
 * are marked, and the bytes decoded are those that stand there after that. */
static struct block *build(struct cpu *cpu, const struct tlb_page *page, uint64_t linear,
			   unsigned most)
{
	struct cpu_cache *cache = cpu->cache;
	struct builder b = {.cpu = cpu, .linear = linear, .limit = 0x1000 - (linear & 0xfff)};
	struct block *block;
	bool ended;

	if (cache->used + block_size(BLOCK_INSNS + 1) + 4096 > ARENA_BYTES)
		cache_flush(cpu);
	block = (struct block *)(void *)(cache->arena + cache->used);
	*block = (struct block){.rip = cpu->rip,
				.gpa = page->gpa | (linear & 0xfff),
				.second_gpa = NO_PAGE,
				.mode = cpu->mode | (most == 1 ? MODE_ALONE : 0),
				.global = page->flags & TLB_GLOBAL};
	for (unsigned i = 0; i < 2; i++)
		block->link[i] = (struct link){.from = block, .current = &always};
	b.block = block;
	b.host = slot_bytes(page->slot, block->gpa);
	if (page->slot)
		smc_guard(cpu, page->slot, slot_page(page->slot, page->gpa));
	ended = decode_run(&b, page, most);
	if (page->slot) {
		/* Marked with what the first look has shown; the second look is what counts. */
		unsigned marked = MIN(b.offset + INSN_MAX, b.limit);

		smc_mark(cpu, page->slot, block->gpa, marked);
		block->count = 0;
		b.offset = 0;
		b.limit = marked;
		ended = decode_run(&b, page, most);
	}
	finish(&b, ended);
	arena_take(cache, block_size(block->count + !ended));
	if (page->slot)
		enlist(cpu, block);
	return block;
}

/* --- Finding --- */

static bool fits_limit(const struct cpu *cpu, const struct block *block)
{
	return (cpu->mode & MODE_WIDE) || !beyond_limit(cpu, block->rip, block->bytes);
}

static bool second_page_matches(struct cpu *cpu, const struct block *block, uint64_t linear)
{
	uint64_t next = (linear & ~UINT64_C(0xfff)) + 0x1000;

	if (block->second_gpa == NO_PAGE)
		return true;
	if (cpu->code_size != 8)
		next = (uint32_t)next;
	return fetch_page(cpu, next)->gpa == block->second_gpa;
}

static void remember_jump(struct cpu *cpu, struct block *block, uint64_t key)
{
	struct jump *jump = &cpu->cache->jump[jump_slot(key)];

	/* A crossing instruction also depends on a page that may be of the other kind. */
	if (block->second_gpa != NO_PAGE || !(cpu->mode & MODE_WIDE) || (cpu->mode & MODE_STEP))
		return;
	*jump = (struct jump){.key = key,
			      .generation = cpu->generation[block->global],
			      .block = block,
			      .global = block->global};
}

static struct block *lookup(struct cpu *cpu, uint64_t linear, uint64_t gpa, uint32_t mode)
{
	struct block *block = cpu->cache->bucket[bucket_of(gpa, cpu->rip, mode)];

	while (block && (block->gpa != gpa || block->rip != cpu->rip || block->mode != mode ||
			 !fits_limit(cpu, block) || !second_page_matches(cpu, block, linear)))
		block = block->next;
	return block;
}

/* Where the next instruction is fetched: checks RIP. */
static uint64_t fetch_linear(struct cpu *cpu)
{
	if (cpu->code_size == 8) {
		if ((uint64_t)((int64_t)(cpu->rip << 16) >> 16) != cpu->rip)
			cpu_raise_error(cpu, EXC_GP, 0);
		return cpu->rip;
	}
	if (cpu->rip > cpu->seg[SEG_CS].limit)
		cpu_raise_error(cpu, EXC_GP, 0);
	return (uint32_t)(cpu->code_base + cpu->rip);
}

struct block *cache_find_alone(struct cpu *cpu)
{
	uint64_t linear = fetch_linear(cpu);
	struct tlb_page page = *fetch_page(cpu, linear);
	struct block *block =
		lookup(cpu, linear, page.gpa | (linear & 0xfff), cpu->mode | MODE_ALONE);

	return block ? block : build(cpu, &page, linear, 1);
}

struct block *cache_find(struct cpu *cpu)
{
	uint64_t linear = fetch_linear(cpu);
	struct tlb_page page = *fetch_page(cpu, linear);
	struct block *block = lookup(cpu, linear, page.gpa | (linear & 0xfff), cpu->mode);

	if (!block)
		block = build(cpu, &page, linear, BLOCK_INSNS);
	block->global = page.flags & TLB_GLOBAL;
	if (page.slot)
		remember_jump(cpu, block, jump_key(cpu, cpu->code_base + cpu->rip));
	return block;
}

void cache_link(struct cpu *cpu, struct link *link, struct block *to)
{
	const struct block *from = link->from;
	bool same_page = !((from->rip ^ to->rip) >> 12) && !((from->gpa ^ to->gpa) >> 12);

	if (from->mode != to->mode || to->second_gpa != NO_PAGE || !(cpu->mode & MODE_WIDE))
		return;
	link->to = to;
	if (same_page) {
		link->current = &always;
		link->generation = always;
	} else if (!cpu->code_base) {
		link->current = &cpu->generation[to->global];
		link->generation = *link->current;
	}
}
