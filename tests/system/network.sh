#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# DHCP and a file fetched from the host: over the user network (passt) and over a tap on a bridge.
# Everything happens in a network namespace of its own.
. "$(dirname "$0")/common.sh"
need_guest
[ "$(id -u)" = 0 ] || skip_all "needs root to make a network namespace"
if [ "${1:-}" != inside ]; then
	unshare -n true 2>/dev/null || skip_all "network namespaces cannot be made here"
	exec unshare -n -m bash "$0" inside
fi
mount -t sysfs sys /sys
ip link set lo up
mkdir "$work/www"
head -c 20000000 /dev/urandom >"$work/www/file"
sum=$(sha256sum <"$work/www/file" | cut -d' ' -f1)
python3 -m http.server 8080 --directory "$work/www" >/dev/null 2>&1 &
server=$!
stop_server() { kill $server 2>/dev/null; }
cleanups="stop_server"
fetch="ip link set eth0 up; udhcpc -q -n -i eth0 >/dev/null && wget -q -O /tmp/f http://ADDRESS:8080/file && sha256sum /tmp/f"
if command -v passt >/dev/null; then
	ip link add uplink type veth peer name uplink-peer
	ip addr add 192.0.2.2/24 dev uplink
	ip link set uplink up
	ip link set uplink-peer up
	ip route add default via 192.0.2.1
	log=$work/user
	boot "$log" 150 "${fetch/ADDRESS/10.0.2.2}" --net user
	check "an address by DHCP from the user network" "$log" has "$log" "lease of 10.0.2.15"
	check "20 MB over the user network arrive whole" "$log" has "$log" "$sum"
else
	skip "user network" "passt is not installed"
fi
if command -v dnsmasq >/dev/null; then
	ip link add br0 type bridge
	ip addr add 198.51.100.1/24 dev br0
	ip link set br0 up
	dnsmasq --no-daemon --conf-file=/dev/null --interface=br0 --bind-interfaces --except-interface=lo \
		--dhcp-range=198.51.100.50,198.51.100.60,255.255.255.0,1h --dhcp-leasefile="$work/leases" --pid-file= \
		--no-resolv --port=0 --user=root >"$work/dnsmasq" 2>&1 &
	dnsmasq=$!
	stop_dnsmasq() { kill $dnsmasq 2>/dev/null; }
	cleanups="$cleanups stop_dnsmasq"
	log=$work/tap
	boot "$log" 150 "${fetch/ADDRESS/198.51.100.1}" --net bridge=br0 --cpus 2
	check "an address by DHCP over a bridge" "$log" has "$log" "lease of 198.51.100."
	check "20 MB over the bridge arrive whole" "$log" has "$log" "$sum"
	check "no tap is left behind" "$log" bash -c "! ip -o link show master br0 | grep -q ."
	boot "$work/nobr" 20 true --net bridge=nobr
	check "a missing bridge is refused, naming those there are" "$work/nobr" has "$work/nobr" br0
else
	skip "bridge" "dnsmasq is not installed"
fi
finish
