#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A qcow2 overlay of a raw base through virtio-blk: ext4, 64 MiB written, synced, judged by others.
. "$(dirname "$0")/common.sh"
need_guest
command -v qemu-img >/dev/null && command -v e2fsck >/dev/null || skip_all "qemu-img or e2fsck is not installed"
for cache_mode in writeback none; do
	truncate -s 256M "$work/base.raw"
	mke2fs -q -F -t ext4 "$work/base.raw"
	base_sum=$(sha256sum <"$work/base.raw")
	rm -f "$work/top.qcow2"
	qemu-img create -q -f qcow2 -b base.raw -F raw "$work/top.qcow2"
	log=$work/disk-$cache_mode
	boot "$log" 150 "mount -t ext4 /dev/vda /mnt && dd if=/dev/urandom of=/mnt/data bs=1M count=64 2>/dev/null && sync && sha256sum /mnt/data; umount /mnt && echo UMOUNT-OK" \
		--disk "$work/top.qcow2,cache=$cache_mode" --cpus 2 --rng
	check "the guest writes 64 MiB to ext4 (cache=$cache_mode)" "$log" has "$log" UMOUNT-OK
	check "the base is untouched (cache=$cache_mode)" "$log" test "$base_sum" = "$(sha256sum <"$work/base.raw")"
	check "qemu-img check finds nothing (cache=$cache_mode)" "$log" qemu-img check -q "$work/top.qcow2"
	qemu-img convert -O raw "$work/top.qcow2" "$work/flat.raw"
	check "e2fsck finds nothing (cache=$cache_mode)" "$log" bash -c "e2fsck -fn '$work/flat.raw' >/dev/null 2>&1"
	inside=$(grep -ao '^[0-9a-f]\{64\}' "$log" | head -1)
	debugfs -R "dump /data $work/data" "$work/flat.raw" 2>/dev/null
	outside=$(sha256sum <"$work/data" | cut -d' ' -f1)
	check "an independent reader finds the bytes the guest wrote (cache=$cache_mode)" "$log" test -n "$inside" -a "$inside" = "$outside"
done
qemu-io -c 'sleep 4000' "$work/top.qcow2" >/dev/null 2>&1 &
holder=$!
sleep 1
boot "$work/locked" 20 true --disk "$work/top.qcow2"
status=$?
check "a disk that another program uses is refused in one line" "$work/locked" test $status -eq 1 -a "$(wc -l <"$work/locked")" -le 2
kill $holder
finish
