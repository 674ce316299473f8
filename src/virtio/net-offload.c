// SPDX-License-Identifier: GPL-2.0-or-later
/* Internet checksums (RFC 1071) and TCP segmentation in software. */
#include "virtio/net-offload.h"

#include <glib.h>
#include <string.h>

enum { ETHERNET_BYTES = 14, IPV4_BYTES = 20, IPV6_BYTES = 40, TCP_BYTES = 20 };
enum { TCP_FIN = 1, TCP_PSH = 8, TCP_CWR = 0x80 };

static uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put_be16(uint8_t *p, unsigned value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static uint32_t get_be32(const uint8_t *p)
{
	return (uint32_t)get_be16(p) << 16 | get_be16(p + 2);
}

static void put_be32(uint8_t *p, uint32_t value)
{
	put_be16(p, value >> 16);
	put_be16(p + 2, value & 0xffff);
}

/* Sum of 16-bit words in the host's byte order, folded: the order of bytes does not matter to a
 * ones' complement sum as long as the result is stored the same way. */
static uint64_t sum_bytes(const uint8_t *p, size_t size, uint64_t sum)
{
	for (; size >= 4; p += 4, size -= 4) {
		uint32_t word;
		memcpy(&word, p, 4);
		sum += word;
	}
	if (size >= 2) {
		uint16_t word;
		memcpy(&word, p, 2);
		sum += word;
		p += 2;
		size -= 2;
	}
	return size ? sum + *p : sum;
}

static uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

bool net_fill_checksum(const struct net_header *h, uint8_t *frame, size_t size)
{
	size_t start = h->csum_start, at = start + h->csum_offset;
	if (at + 2 > size)
		return false;
	/* The field holds the sum of the pseudo header already. */
	uint16_t sum = fold(sum_bytes(frame + start, size - start, 0));
	if (sum == 0)
		sum = 0xffff; /* to UDP zero means none; TCP takes either */
	memcpy(frame + at, &sum, 2);
	return true;
}

/* Where the headers of a TCP frame are. */
struct tcp_frame {
	size_t tcp, payload; /* offsets */
	bool ipv6;
};

static bool parse_tcp(const struct net_header *h, const uint8_t *frame, size_t size,
		      struct tcp_frame *t)
{
	t->ipv6 = (h->gso_type & ~NET_GSO_ECN) == NET_GSO_TCP6;
	t->tcp = h->csum_start;
	if (!(h->flags & NET_NEEDS_CSUM) || h->csum_offset != 16 || h->gso_size == 0 ||
	    t->tcp < ETHERNET_BYTES + (size_t)(t->ipv6 ? IPV6_BYTES : IPV4_BYTES) ||
	    t->tcp + TCP_BYTES > size)
		return false;
	if (get_be16(frame + 12) != (t->ipv6 ? 0x86dd : 0x0800))
		return false;
	if (!t->ipv6 && ETHERNET_BYTES + (size_t)(frame[ETHERNET_BYTES] & 15) * 4 != t->tcp)
		return false;
	t->payload = t->tcp + (size_t)(frame[t->tcp + 12] >> 4) * 4;
	return t->payload >= t->tcp + TCP_BYTES && t->payload <= size;
}

/* Lengths, identification and checksums of one segment of @size bytes. */
static void finish_headers(const struct tcp_frame *t, uint8_t *frame, size_t size, unsigned index)
{
	uint8_t *ip = frame + ETHERNET_BYTES, *tcp = frame + t->tcp;
	size_t tcp_bytes = size - t->tcp;
	uint64_t sum;
	if (t->ipv6) {
		put_be16(ip + 4, (unsigned)(size - ETHERNET_BYTES - IPV6_BYTES));
		sum = sum_bytes(ip + 8, 32, 0);
	} else {
		put_be16(ip + 2, (unsigned)(size - ETHERNET_BYTES));
		put_be16(ip + 4, get_be16(ip + 4) + (index ? 1 : 0));
		memset(ip + 10, 0, 2);
		uint16_t header_sum = fold(sum_bytes(ip, t->tcp - ETHERNET_BYTES, 0));
		memcpy(ip + 10, &header_sum, 2);
		sum = sum_bytes(ip + 12, 8, 0);
	}
	uint8_t pseudo[8] = {0};
	put_be32(pseudo, (uint32_t)tcp_bytes);
	pseudo[7] = 6;
	sum = sum_bytes(pseudo, sizeof(pseudo), sum);
	memset(tcp + 16, 0, 2);
	uint16_t checksum = fold(sum_bytes(tcp, tcp_bytes, sum));
	memcpy(tcp + 16, &checksum, 2);
}

bool net_segment(const struct net_header *h, uint8_t *frame, size_t size, size_t payload_max,
		 void (*send)(void *opaque, const uint8_t *frame, size_t size), void *opaque)
{
	struct tcp_frame t;
	if (!parse_tcp(h, frame, size, &t))
		return false;
	size_t step = h->gso_size * MAX(payload_max / h->gso_size, (size_t)1);
	uint8_t flags = frame[t.tcp + 13];
	uint32_t sequence = get_be32(frame + t.tcp + 4);
	size_t left = size - t.payload;
	unsigned index = 0;
	uint8_t *head = frame; /* moves up: each head is written just before its payload */
	do {
		size_t part = MIN(left, step);
		bool last = part == left;
		head[t.tcp + 13] =
			flags & (uint8_t) ~((last ? 0 : TCP_FIN | TCP_PSH) | (index ? TCP_CWR : 0));
		put_be32(head + t.tcp + 4, sequence);
		finish_headers(&t, head, t.payload + part, index++);
		send(opaque, head, t.payload + part);
		sequence += (uint32_t)part;
		left -= part;
		if (left)
			memmove(head + part, head, t.payload);
		head += part;
	} while (left);
	return true;
}
