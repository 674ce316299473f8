/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>

/*
 * One wire. The device that drives it holds a pointer to it; whoever listens owns the struct. A
 * wire remembers its level, so that setting it twice costs nothing. Several drivers of one wire
 * (PCI INTx) go through an or-gate of the listener's, each with an input of its own. Set under the
 * machine lock unless the listener says otherwise.
 */
struct irq_line {
	void (*set)(void *opaque, unsigned number, bool level);
	void *opaque;
	unsigned number;
	bool level;
};

static inline void irq_set(struct irq_line *line, bool level)
{
	if (line && line->level != level) {
		line->level = level;
		line->set(line->opaque, line->number, level);
	}
}

static inline void irq_pulse(struct irq_line *line)
{
	irq_set(line, true);
	irq_set(line, false);
}
