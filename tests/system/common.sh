# SPDX-License-Identifier: GPL-2.0-or-later
# Shared by the system tests: TAP output, temporary folder, starting guests.
set -u
cache=${LODGE_CACHE:-/var/cache/lodge}
work=$(mktemp -d)
cleanups=""
cleanup() {
	for c in $cleanups; do $c; done
	rm -rf "$work"
}
trap cleanup EXIT
number=0
failed=0
ok() { number=$((number + 1)); echo "ok $number $1"; }
not_ok() {
	number=$((number + 1))
	failed=1
	echo "not ok $number $1"
	[ -n "${2:-}" ] && [ -f "$2" ] && tail -n 25 "$2" | tr -d '\r' | sed 's/^/# /'
}
check() { # check NAME LOG COMMAND...
	local name=$1 log=$2
	shift 2
	if "$@"; then ok "$name"; else not_ok "$name" "$log"; fi
}
skip() { number=$((number + 1)); echo "ok $number $1 # SKIP $2"; }
skip_all() { echo "1..0 # SKIP $1"; exit 0; }
finish() { echo "1..$number"; exit $failed; }
need_guest() {
	[ -s "$cache/vmlinuz" ] && [ -s "$cache/initramfs.gz" ] ||
		skip_all "no guest in $cache: run scripts/build-guests"
}
# boot LOG SECONDS COMMANDS [options...]: the test guest runs COMMANDS and powers off.
boot() {
	local log=$1 seconds=$2 commands=$3
	shift 3
	timeout -k 5 "$seconds" "$LODGE" run --kernel "$cache/vmlinuz" --initrd "$cache/initramfs.gz" \
		--append "console=ttyS0 panic=-1 quiet lodge.run=\"$commands\"" --memory 256M --accel "${accel:-soft}" \
		"$@" </dev/null >"$log" 2>&1
}
# has LOG TEXT
has() { grep -aq -- "$2" "$1"; }
