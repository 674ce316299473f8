#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The layer test: each room includes only the rooms it may use, each file carries its licence, has an
acceptable size and names no path of a workplace."""
import os
import re
import sys

top = sys.argv[1]
MAY_USE = {
    "base": set(),
    "cpu": {"base"},
    "block": {"base"},
    "host": {"base"},
    "vm": {"base"},
    "accel": {"base", "vm", "cpu"},
    "dev": {"base", "vm", "block", "host"},
    "virtio": {"base", "vm", "block", "host"},
    "migrate": {"base", "vm", "block"},
    "rpc": {"base"},
    "vmm": {"base", "cpu", "block", "host", "vm", "accel", "dev", "virtio", "migrate", "rpc"},
    "conf": {"base"},
    "daemon": {"base", "conf", "rpc", "block"},
    "web": {"base", "rpc", "conf"},
    "cli": {"base", "conf", "rpc", "block", "host"},
}
# `lodge run` starts the machine without a daemon: the command may read the exit statuses of lodge-vmm.
EXTRA = {("cli", "vmm/exit.h")}
LINES_MAX = 1200

number = 0
bad = 0


def check(name, problems):
    global number, bad
    number += 1
    for problem in problems:
        print(f"# {problem}")
    print(f"{'not ok' if problems else 'ok'} {number} {name}")
    bad += bool(problems)


def sources(*roots):
    for root in roots:
        for folder, _, names in os.walk(os.path.join(top, root)):
            for name in names:
                if name.endswith((".c", ".h", ".inc", ".S")):
                    yield os.path.join(folder, name)


includes, licences, sizes = [], [], []
for path in sources("src"):
    room = os.path.relpath(path, os.path.join(top, "src")).split(os.sep)[0]
    for line in open(path, encoding="utf-8"):
        m = re.match(r'\s*#\s*include\s+"(([a-z]+)/[^"]+)"', line)
        if m and m.group(2) != room and m.group(2) not in MAY_USE.get(room, set()) and \
                (room, m.group(1)) not in EXTRA:
            includes.append(f"{os.path.relpath(path, top)} includes {m.group(1)}")
for path in sources("src", "tests", "fuzz", "bench"):
    text = open(path, encoding="utf-8").read()
    if "SPDX-License-Identifier: GPL-2.0-or-later" not in text[:200]:
        licences.append(f"{os.path.relpath(path, top)} has no SPDX line")
    lines = text.count("\n")
    if lines > LINES_MAX:
        sizes.append(f"{os.path.relpath(path, top)} has {lines} lines, more than {LINES_MAX}")
root = open(os.path.join(top, "meson.build"), encoding="utf-8").read().count("\n")
if root > 250:
    sizes.append(f"meson.build has {root} lines, more than 250")
check("rooms include only what they may use", includes)
check("every source file names its licence", licences)
check("files are not too long", sizes)
print(f"1..{number}")
sys.exit(1 if bad else 0)
