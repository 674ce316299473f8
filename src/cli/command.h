/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* The commands of `lodge`: one table in main.c, one file for each family. */

struct command {
	const char *name, *summary;
	/* argv[0] is "lodge NAME". Returns the exit status; messages are already out. */
	int (*run)(int argc, char **argv);
};

int command_run(int argc, char **argv);
