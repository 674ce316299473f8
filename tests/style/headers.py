#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every header compiles alone."""
import os
import subprocess
import sys

top = sys.argv[1]
flags = subprocess.run(["pkg-config", "--cflags", "glib-2.0"], capture_output=True, text=True,
                       check=True).stdout.split()
headers = []
for folder, _, names in os.walk(os.path.join(top, "src")):
    headers += [os.path.join(folder, n) for n in sorted(names) if n.endswith(".h")]
print(f"1..{len(headers)}")
bad = 0
for number, path in enumerate(sorted(headers), 1):
    name = os.path.relpath(path, os.path.join(top, "src"))
    run = subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-x", "c",
                          "-I" + os.path.join(top, "src"), *flags, "-"],
                         input=f'#include "{name}"\n', capture_output=True, text=True, check=False)
    if run.returncode:
        bad += 1
        print("\n".join("# " + l for l in run.stderr.splitlines()[:6]))
    print(f"{'not ok' if run.returncode else 'ok'} {number} {name}")
sys.exit(1 if bad else 0)
