#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A Debian 12 disk with systemd: to the login prompt, and down by the ACPI power button.
. "$(dirname "$0")/common.sh"
[ -s "$cache/debian.qcow2" ] || skip_all "no Debian disk in $cache: run scripts/build-guests --disk"
qemu-img create -q -f qcow2 -b "$cache/debian.qcow2" -F qcow2 "$work/top.qcow2"
log=$work/log
"$LODGE" run --kernel "$cache/debian-vmlinuz" --initrd "$cache/debian-initrd" \
	--append 'console=ttyS0 root=/dev/vda rw quiet panic=-1' --memory 1G --cpus 2 --accel "${accel:-soft}" \
	--disk "$work/top.qcow2" --control "$work/control" </dev/null >"$log" 2>&1 &
guest=$!
stop_guest() { kill -9 $guest 2>/dev/null; }
cleanups=stop_guest
wait_for() { # wait_for TEXT SECONDS
	local i
	for ((i = 0; i < $2 * 5; i++)); do
		has "$log" "$1" && return 0
		kill -0 $guest 2>/dev/null || return 1
		read -rt 0.2 <> <(:) || true
	done
	return 1
}
check "systemd reaches the login prompt" "$log" wait_for 'guest login:' 180
printf '{"execute":"qmp_capabilities"}\n{"execute":"system_powerdown"}\n' | timeout 5 socat - "UNIX-CONNECT:$work/control" >"$work/qmp" 2>&1
for ((i = 0; i < 450; i++)); do
	kill -0 $guest 2>/dev/null || break
	read -rt 0.2 <> <(:) || true
done
if kill -0 $guest 2>/dev/null; then
	not_ok "the power button shuts it down" "$log"
else
	wait $guest
	status=$?
	cleanups=""
	check "the power button shuts it down" "$log" test $status -eq 0
fi
qemu-img check -q "$work/top.qcow2" && qemu-img convert -O raw "$work/top.qcow2" "$work/flat.raw"
check "its file system is clean afterwards" "$log" bash -c "e2fsck -fn '$work/flat.raw' 2>&1 | grep -q ': clean\|files ('"
finish
