#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The layout that .clang-format decides.
cd "$1" || exit 1
command -v clang-format >/dev/null || { echo "1..0 # SKIP clang-format is not installed"; exit 0; }
echo "1..1"
wrong=$(find src tests fuzz bench \( -name '*.c' -o -name '*.h' \) -exec clang-format --dry-run -Werror {} + 2>&1 |
	grep -E 'error:' | cut -d: -f1 | sort -u)
if [ -n "$wrong" ]; then
	echo "$wrong" | sed 's/^/# not formatted: /'
	echo "not ok 1 layout"
	exit 1
fi
echo "ok 1 layout"
