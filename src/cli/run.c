// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge run`: one guest, no daemon. */
#include "cli/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "cli/command.h"
#include "cli/options.h"
#include "vmm/exit.h"

#define AT(field) offsetof(struct run_options, field)

static const struct option table[] = {
	{"kernel", OPTION_STRING, AT(kernel), "FILE",
	 "Linux kernel to start (bzImage or vmlinux)."},
	{"initrd", OPTION_STRING, AT(initrd), "FILE", "Initial RAM disk for the kernel."},
	{"append", OPTION_STRING, AT(append), "TEXT", "The kernel's command line."},
	{"firmware", OPTION_STRING, AT(firmware), "FILE",
	 "Flat firmware image to start instead of a kernel."},
	{"memory", OPTION_SIZE, AT(memory_bytes), "SIZE",
	 "Guest memory: 512M, 2G; a plain number is MiB. Default 512M."},
	{"cpus", OPTION_COUNT, AT(cpus), "N", "Virtual processors. Default 1."},
	{"disk", OPTION_LIST, AT(disks), "FILE[,PART...]",
	 "A virtio disk, once for each. Parts: "
	 "cache=none|writethrough|writeback|directsync|unsafe, "
	 "format=raw|qcow2, readonly, serial=TEXT, discard, queues=N. Give the format of raw "
	 "images."},
	{"net", OPTION_LIST, AT(nets), "KIND[,PART...]",
	 "A virtio network card, once for each: user[,forward=HOST:GUEST], bridge=NAME, tap=NAME, "
	 "or none; each with mac=ADDRESS. Default none."},
	{"accel", OPTION_CHOICE, AT(accel), "auto|kvm|soft|kvm,soft",
	 "What runs the guest's code: /dev/kvm, the software processor, or KVM with the software "
	 "processor taking over where KVM cannot go on. Default auto: a short test decides."},
	{"serial", OPTION_STRING, AT(serial), "BACKEND",
	 "Where the serial port ends: stdio, none, pty, file:PATH, unix:PATH[,server], "
	 "tcp:HOST:PORT[,server]. Default stdio."},
	{"console", OPTION_STRING, AT(console), "BACKEND", "Adds a virtio console (hvc0)."},
	{"port", OPTION_LIST, AT(ports), "NAME=BACKEND",
	 "Adds a named port to the virtio console."},
	{"control", OPTION_STRING, AT(control), "PATH",
	 "Makes a control socket there, which speaks JSON as QMP does."},
	{"name", OPTION_STRING, AT(name), "NAME", "The guest's name. Default guest."},
	{"uuid", OPTION_STRING, AT(uuid), "UUID", "The guest's UUID. Default random."},
	{"rng", OPTION_FLAG, AT(rng), NULL, "Adds a virtio source of random numbers."},
	{"packed", OPTION_FLAG, AT(packed), NULL, "Virtio devices offer packed rings."},
	{"no-reboot", OPTION_FLAG, AT(no_reboot), NULL, "A guest that resets ends."},
	{"paused", OPTION_FLAG, AT(paused), NULL,
	 "Does not start the guest until `cont` comes over the control socket."},
	{"huge-pages", OPTION_FLAG, AT(huge_pages), NULL,
	 "Takes guest memory from the host's huge pages."},
	{"shared-memory", OPTION_FLAG, AT(shared_memory), NULL,
	 "Makes guest memory a shareable file in memory."},
	{"mergeable", OPTION_FLAG, AT(mergeable), NULL,
	 "Lets the host merge equal pages of guests (KSM)."},
	{"debug-log", OPTION_STRING, AT(debug_log), "FILE",
	 "Appends what the guest writes to port 0x402."},
	{"status-json", OPTION_OPTIONAL, AT(status_json), "FILE",
	 "At the end, one line of JSON with exits, instructions and times: to standard error, or "
	 "to FILE."},
	{"no-sandbox", OPTION_FLAG, AT(no_sandbox), NULL,
	 "Does not lock lodge-vmm in. For debugging only."},
	{"dry-run", OPTION_FLAG, AT(dry_run), NULL,
	 "Opens and checks everything, prints the machine description, and ends."},
	{"help", OPTION_FLAG, AT(help), NULL, "Shows this text."},
	{NULL},
};

static void print_help(void)
{
	g_autofree char *text = options_help(table);
	printf("usage: lodge run --kernel FILE [OPTION...]\n\n"
	       "Runs one virtual machine, with its serial port on this terminal. ^] leaves and "
	       "ends "
	       "it.\n\n%s\n"
	       "Exit status: %d the guest shut down, %d it could not be started, %d it crashed, "
	       "%d the\nmachine failed, %d ended from outside; another odd number: the guest's "
	       "own, "
	       "from its exit port.\n",
	       text, EXIT_GUEST_SHUTDOWN, EXIT_NOT_STARTED, EXIT_GUEST_PANICKED,
	       EXIT_MACHINE_FAILED, EXIT_LEFT);
}

static bool check(const struct run_options *o, GError **error)
{
	if (!o->kernel && !o->firmware)
		return error_set(
			error, LODGE_ERROR_INVALID,
			"there is nothing to start: give --kernel FILE or --firmware FILE");
	if (o->kernel && o->firmware)
		return error_set(error, LODGE_ERROR_INVALID,
				 "--kernel and --firmware: only one of them can start the guest");
	if (!o->kernel && (o->initrd || o->append))
		return error_set(error, LODGE_ERROR_INVALID,
				 "--initrd and --append belong to a --kernel");
	if (o->cpus > 255)
		return error_set(error, LODGE_ERROR_INVALID,
				 "--cpus %u: a guest has at most 255 processors", o->cpus);
	if (o->paused && !o->control)
		return error_set(error, LODGE_ERROR_INVALID,
				 "--paused needs --control PATH: nobody could start the guest");
	return true;
}

/* The last status goes out as one line. A lodge-vmm that was killed has written none. */
static bool report_status(const struct guest *guest, const char *path, int status, GError **error)
{
	g_autoptr(GString) line = g_string_new(NULL);
	struct stat st;
	if (fstat(guest->status_fd, &st) == 0 && st.st_size > 0 && st.st_size < 1 << 20) {
		g_string_set_size(line, (gsize)st.st_size);
		if (file_pread_all(guest->status_fd, line->str, line->len, 0) < 0)
			g_string_set_size(line, 0);
	}
	if (line->len == 0)
		g_string_printf(line, "{\"state\":\"gone\",\"exit-status\":%d}", status);
	if (*path) {
		g_string_append_c(line, '\n');
		return file_write_atomic(path, line->str, line->len, 0644, error);
	}
	fprintf(stderr, "%s\n", line->str);
	return true;
}

static int start(const struct run_options *o, GError **error)
{
	struct guest *guest = guest_describe(o, error);
	int status = EXIT_NOT_STARTED;
	if (!guest)
		return status;
	if (o->dry_run) {
		printf("%s\n", guest->json->str);
		status = 0;
	} else {
		for (guint i = 0; i < guest->notes->len; i++)
			fprintf(stderr, "lodge: %s\n", (const char *)guest->notes->pdata[i]);
		int ended = guest_run(guest, error);
		status = ended < 0 ? EXIT_NOT_STARTED : ended;
		if (ended >= 0 && o->status_json &&
		    !report_status(guest, o->status_json, status, error) && status == 0)
			status = EXIT_NOT_STARTED;
	}
	guest_free(guest);
	return status;
}

int command_run(int argc, char **argv)
{
	g_autoptr(GError) error = NULL;
	struct run_options options = {.memory_bytes = UINT64_C(512) << 20,
				      .cpus = 1,
				      .accel = g_strdup("auto"),
				      .serial = g_strdup("stdio"),
				      .name = g_strdup("guest")};
	int status = EXIT_NOT_STARTED;
	if (options_parse(table, argc, argv, &options, NULL, &error)) {
		if (options.help) {
			print_help();
			status = 0;
		} else if (check(&options, &error)) {
			status = start(&options, &error);
		}
	}
	if (error)
		fprintf(stderr, "lodge: %s\n", error->message);
	options_free(table, &options);
	return status;
}
