// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge: the command. Finds the command that its first word names. */
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"

static int help(int argc, char **argv);
static int version(int argc, char **argv);

static const struct command commands[] = {
	{"run", "run one virtual machine in this terminal", command_run},
	{"help", "list the commands, or explain one", help},
	{"version", "tell the version", version},
};

static const struct command *find(const char *name)
{
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

static int unknown(const char *name)
{
	fprintf(stderr, "lodge: there is no command '%s': `lodge help` lists them\n", name);
	return 1;
}

static int run(const struct command *command, int argc, char **argv)
{
	g_autofree char *name = g_strdup_printf("lodge %s", command->name);
	argv[0] = name;
	return command->run(argc, argv);
}

static int help(int argc, char **argv)
{
	if (argc > 1) {
		const struct command *command = find(argv[1]);
		char option[] = "--help";
		char *words[] = {argv[1], option, NULL};
		if (!command)
			return unknown(argv[1]);
		if (command->run == command_run)
			return run(command, 2, words);
		printf("lodge %s: %s\n", command->name, command->summary);
		return 0;
	}
	printf("usage: lodge COMMAND [OPTION...]\n\n");
	for (unsigned i = 0; i < G_N_ELEMENTS(commands); i++)
		printf("  %-10s%s\n", commands[i].name, commands[i].summary);
	printf("\n`lodge help COMMAND` explains a command.\n");
	return 0;
}

static int version(int argc, char **argv)
{
	printf("lodge %s\n", LODGE_VERSION);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		char *words[] = {argv[0], NULL};
		help(1, words);
		return 1;
	}
	const char *name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";
	const struct command *command = find(name);
	return command ? run(command, argc - 1, argv + 1) : unknown(name);
}
