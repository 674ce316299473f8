#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The Debian cloud kernel to user space and to power-off, with 1, 2 and 4 processors.
. "$(dirname "$0")/common.sh"
need_guest
for cpus in 1 2 4; do
	log=$work/boot$cpus
	boot "$log" 120 "echo RUN-OK \$(nproc); dmesg | grep -v ommand.line | grep -E 'BUG|WARNING|Call Trace|unstable|soft lockup' | head -5" --cpus $cpus
	status=$?
	check "boots to user space with $cpus processors" "$log" has "$log" "INIT-OK.*cpus=$cpus"
	check "runs a command with $cpus processors" "$log" has "$log" "RUN-OK $cpus"
	check "powers off cleanly with $cpus processors" "$log" test $status -eq 0
	check "no warning of the kernel with $cpus processors" "$log" bash -c "! grep -a -v ommand.line '$log' | grep -aqE 'BUG|WARNING|Call Trace|soft lockup'"
done
log=$work/panic
timeout 60 "$LODGE" run --kernel "$cache/vmlinuz" --append 'console=ttyS0 panic=-1 quiet' --memory 256M --accel soft --no-reboot </dev/null >"$log" 2>&1
check "a kernel without a root file system ends the run" "$log" has "$log" "Unable to mount root"
finish
