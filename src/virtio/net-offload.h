/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a network card does for a guest where no kernel does it: checksums and TCP segmentation. */

enum {
	NET_HEADER_BYTES = 12,
	NET_FRAME_MAX = 65535 + 14, /* an IP packet behind an Ethernet header */
};

enum { NET_NEEDS_CSUM = 1, NET_DATA_VALID = 2 };
enum { NET_GSO_NONE = 0, NET_GSO_TCP4 = 1, NET_GSO_TCP6 = 4, NET_GSO_ECN = 0x80 };

/* In front of each packet in a virtqueue and at a tap; little-endian (VIRTIO 1.2, 5.1.6). */
struct net_header {
	uint8_t flags, gso_type;
	uint16_t header_length, gso_size, csum_start, csum_offset, buffer_count;
};

/* Stores the checksum that @header asks for. False when it points outside the frame. */
bool net_fill_checksum(const struct net_header *header, uint8_t *frame, size_t size);

/* Cuts a TCP frame whose checksum is not yet filled in into frames with at most @payload_max bytes
 * of TCP payload (rounded down to a multiple of the header's gso_size), and hands each, complete,
 * to
 * @send. @frame is changed. False when the frame is no such frame. */
bool net_segment(const struct net_header *header, uint8_t *frame, size_t size, size_t payload_max,
		 void (*send)(void *opaque, const uint8_t *frame, size_t size), void *opaque);
