/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* The handlers of the dispatch loop by number, made from exec.inc. */
#define H(name, ...) EXEC_##name,
enum exec_handler {
#include "cpu/exec.inc"
	EXEC_COUNT
};
#undef H
