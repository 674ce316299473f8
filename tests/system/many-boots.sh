#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Twenty boots in a row for each number of processors: none hangs.
. "$(dirname "$0")/common.sh"
need_guest
[ "${LODGE_LONG:-0}" = 1 ] || skip_all "runs in ./check --long"
for cpus in 1 2 4; do
	good=0
	for i in $(seq 20); do
		boot "$work/log" 60 true --cpus $cpus && has "$work/log" INIT-OK && good=$((good + 1)) ||
			cp "$work/log" "$work/bad"
	done
	check "20 of 20 boots with $cpus processors ($good)" "$work/bad" test $good -eq 20
done
finish
