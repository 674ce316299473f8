#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A kernel that starts under "kvm,soft" reaches its user space on any host with /dev/kvm, also where
# KVM stops at an instruction; under "kvm" alone it then ends with status 4 and one line that names
# the instruction. Usage: handover.sh LODGE-VMM [CPUS...]. The kernel and an initramfs that prints
# INIT-OK and powers off come from LODGE_GUEST_KERNEL and LODGE_GUEST_INITRD.
vmm=$1
shift
if [ -z "$LODGE_GUEST_KERNEL" ] || [ -z "$LODGE_GUEST_INITRD" ]; then
	echo "skipped: LODGE_GUEST_KERNEL and LODGE_GUEST_INITRD name no guest"
	exit 77
fi
if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
	echo "skipped: /dev/kvm cannot be opened"
	exit 77
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# run ACCEL CPUS: the guest's text in $dir/out, the machine's in $dir/err, its status in $status
run() {
	cat >"$dir/machine" <<-EOF
	{"memory_bytes": 268435456, "cpus": $2, "accel": "$1", "no_reboot": true, "serial": "fd:1",
	 "kernel": {"fd": 7, "name": "kernel"}, "initrd": {"fd": 8, "name": "initrd"},
	 "append": "console=ttyS0 panic=-1"}
	EOF
	start=$(date +%s)
	timeout 400 "$vmm" --machine 9 7<"$LODGE_GUEST_KERNEL" 8<"$LODGE_GUEST_INITRD" \
		9<"$dir/machine" >"$dir/out" 2>"$dir/err"
	status=$?
	echo "$1, $2 processors: status $status after $(($(date +%s) - start)) s; $(cat "$dir/err")"
}

moved=no
for cpus in ${*:-1 2}; do
	run kvm,soft "$cpus"
	if [ $status -ne 0 ] || ! grep -q INIT-OK "$dir/out"; then
		tail -n 20 "$dir/out"
		exit 1
	fi
	grep -q 'the accelerator is soft, not kvm' "$dir/err" && moved=yes
done
[ $moved = yes ] || exit 0
run kvm 1
[ $status -eq 4 ] && [ "$(wc -l <"$dir/err")" -eq 1 ] && grep -q 'KVM cannot go on' "$dir/err"
