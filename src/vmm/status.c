// SPDX-License-Identifier: GPL-2.0-or-later
/* The state of a machine in numbers. */
#include "vmm/status.h"

#include <time.h>
#include <unistd.h>

#include "base/json.h"

static int64_t process_cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t total_instructions(const struct vm *vm)
{
	uint64_t total = 0;
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		total += accel_insns_retired(vm->vcpus[i]);
	return total;
}

static void append_vcpu(GString *to, struct vcpu *vcpu)
{
	const struct vcpu_stats *stats = &vcpu->stats;
	const struct {
		const char *name;
		uint64_t value;
	} exits[] = {
		{"port-read", stats->port_reads}, {"port-write", stats->port_writes},
		{"mmio-read", stats->mmio_reads}, {"mmio-write", stats->mmio_writes},
		{"halt", stats->halts},           {"kick", stats->kicks},
	};
	g_string_append_c(to, '{');
	json_append_member_int(to, "cpu-index", vcpu->index);
	json_append_member_int(to, "thread-id", vcpu->tid);
	json_append_member_int(to, "instructions", (int64_t)accel_insns_retired(vcpu));
	json_append_key(to, "exits");
	g_string_append_c(to, '{');
	for (unsigned i = 0; i < G_N_ELEMENTS(exits); i++)
		json_append_member_int(to, exits[i].name, (int64_t)exits[i].value);
	g_string_append(to, "}}");
}

static void append_rate(GString *to, const struct vm *vm, const struct board *board,
			struct status_mark *mark)
{
	char text[G_ASCII_DTOSTR_BUF_SIZE];
	uint64_t instructions = total_instructions(vm);
	int64_t now = g_get_monotonic_time();
	int64_t since = mark->time_us ? mark->time_us : board->made_us;
	/* After a move to the software processor its count has begun anew. */
	uint64_t done = instructions - MIN(mark->instructions, instructions);
	double mips = now > since ? (double)done / (double)(now - since) : 0;
	json_append_member_int(to, "instructions", (int64_t)instructions);
	json_append_key(to, "mips");
	g_string_append(to, g_ascii_formatd(text, sizeof(text), "%.1f", mips));
	*mark = (struct status_mark){instructions, now};
}

static void append_members(GString *to, const struct board *board, struct status_mark *mark)
{
	struct vm *vm = board->vm;
	json_append_member_string(to, "name", board->config->name);
	json_append_member_string(to, "state", run_state_name(vm->state));
	json_append_member_string(to, "accelerator", vm->accel->name);
	json_append_member_string(to, "reason", board->accel.reason);
	json_append_member_string(to, "fallback", vm->fallback ? vm->fallback->name : NULL);
	json_append_member_int(to, "memory-bytes", (int64_t)board->config->memory_bytes);
	json_append_member_int(to, "uptime-ns",
			       (g_get_monotonic_time() - board->made_us) * INT64_C(1000));
	json_append_member_int(to, "guest-clock-ns", vm_clock_ns(vm));
	json_append_member_int(to, "host-cpu-ns", process_cpu_ns());
	append_rate(to, vm, board, mark);
	json_append_key(to, "cpus");
	g_string_append_c(to, '[');
	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		if (i)
			g_string_append_c(to, ',');
		append_vcpu(to, vm->vcpus[i]);
	}
	g_string_append_c(to, ']');
}

void status_append(GString *to, const struct board *board, struct status_mark *mark)
{
	g_string_append_c(to, '{');
	append_members(to, board, mark);
	g_string_append_c(to, '}');
}

void status_write(int fd, const struct board *board, int exit_status)
{
	g_autoptr(GString) line = g_string_new("{");
	struct status_mark mark = {0};
	append_members(line, board, &mark);
	json_append_member_int(line, "exit-status", exit_status);
	g_string_append_c(line, '}');
	/* A launcher that does not listen any more has no use for it. */
	(void)!write(fd, line->str, line->len);
}
