// Reads a frame up to the header that tells new from established, and the QUIC
// header (RFC 8999, RFC 9000 section 17, RFC 9369). Nothing here looks at a map
// but for the keys of connection IDs.
//
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#pragma once

#include "maps.h"

#define be16(x) __builtin_bswap16(x)
#define be32(x) __builtin_bswap32(x)

#define ETH_IPV4 be16(0x0800)
#define ETH_IPV6 be16(0x86dd)
#define ETH_VLAN be16(0x8100)
#define ETH_QINQ be16(0x88a8)
#define VLAN_TAGS 2

enum { IP_HOPOPTS = 0, IP_TCP = 6, IP_UDP = 17, IP_ROUTING = 43, IP_FRAGMENT = 44, IP_DSTOPTS = 60 };
#define IPV6_EXTENSIONS 4

#define TCP_SYN 0x02
#define TCP_ACK 0x10

#define QUIC_V1 be32(0x00000001)
#define QUIC_V2 be32(0x6b3343cf)
#define QUIC_LONG 0x80
#define QUIC_FIXED 0x40
#define QUIC_MIN_INITIAL 1200 // RFC 9000 section 14.1
#define QUIC_MIN_CHOSEN 8     // RFC 9000 section 7.2
#define QUIC_MAX_CID 20	      // RFC 9000 section 17.2

struct eth_header {
	__u8 addresses[12];
	__u16 type;
};

struct vlan_tag {
	__u16 control;
	__u16 type;
};

struct ipv4_header {
	__u8 version_words;
	__u8 tos;
	__u16 length, id, fragment;
	__u8 ttl, protocol;
	__u16 checksum;
	__u32 source, destination;
};

struct ipv6_header {
	__u32 version_class_flow;
	__u16 length;
	__u8 next, hops;
	__u64 source[2], destination[2];
};

struct ipv6_extension {
	__u8 next, words;
	__u16 fragment;
	__u32 id;
};

struct udp_header {
	__u16 source, destination, length, checksum;
};

struct tcp_header {
	__u16 source, destination;
	__u32 sequence, acknowledged;
	__u8 words, flags;
	__u16 window, checksum, urgent;
};

// What a frame turned out to be.
enum kind {
	OTHER,	   // not for the node
	MALFORMED, // ends too early, or hides behind too many headers
	FRAGMENT,  // not the first, of UDP or of what may be UDP
	TCP_FRAGMENT, // not the first
	UDP,
	TCP,
};

struct packet {
	void *at, *end; // what is still to be read
	__u64 address[2]; // of the source, as it stands in the header
	__u64 flow;	// tells flows of one source apart
	__u16 port;	// of the source, network byte order
	__u16 length;	// of the UDP payload
	__u8 ipv6;
	__u8 protocol;
	__u8 first; // fragment of several
	__u8 elsewhere; // for another address than the node's
};

static __always_inline int is_elsewhere(__u8 version, __u64 first, __u64 last)
{
	return address_version && (version != address_version || first != node_address[0] || last != node_address[1]);
}

// owner_of returns the word that stands for an IPv4 address, or the /56 of an IPv6
// address, and a protocol. TCP proves its addresses and is the way out for those
// whose address others forge in UDP; the two are metered apart.
static __always_inline __u64 owner_of(const struct packet *p)
{
	__u64 kind = p->protocol | (p->ipv6 ? 0x80 : 0);
	// The first seven bytes are the lower ones of a little-endian word.
	return kind << 56 | (p->address[0] & 0x00ffffffffffffff);
}

static __always_inline enum kind parse_ipv4(struct packet *p)
{
	struct ipv4_header *ip = p->at;
	if ((void *)(ip + 1) > p->end)
		return MALFORMED;
	__u32 length = (ip->version_words & 0x0f) * 4;
	if (ip->version_words >> 4 != 4 || length < sizeof(*ip))
		return MALFORMED;
	p->address[0] = ip->source;
	p->elsewhere = is_elsewhere(4, ip->destination, 0);
	p->protocol = ip->protocol;
	p->at += length;
	if (ip->fragment & be16(0x1fff)) // an offset
		return p->protocol == IP_UDP ? FRAGMENT : p->protocol == IP_TCP ? TCP_FRAGMENT : OTHER;
	p->first = !!(ip->fragment & be16(0x2000)); // more fragments
	return p->protocol == IP_UDP ? UDP : p->protocol == IP_TCP ? TCP : OTHER;
}

static __always_inline int extends(__u8 next)
{
	return next == IP_HOPOPTS || next == IP_ROUTING || next == IP_FRAGMENT || next == IP_DSTOPTS;
}

static __always_inline enum kind parse_ipv6(struct packet *p)
{
	struct ipv6_header *ip = p->at;
	if ((void *)(ip + 1) > p->end || (*(__u8 *)p->at) >> 4 != 6)
		return MALFORMED;
	p->address[0] = ip->source[0];
	p->address[1] = ip->source[1];
	p->elsewhere = is_elsewhere(6, ip->destination[0], ip->destination[1]);
	p->ipv6 = 1;
	p->at = ip + 1;
	__u8 next = ip->next;
#pragma clang loop unroll(full)
	for (int i = 0; i < IPV6_EXTENSIONS; i++) {
		if (!extends(next))
			break;
		struct ipv6_extension *extension = p->at;
		if ((void *)(extension + 1) > p->end)
			return MALFORMED;
		__u8 kind = next;
		next = extension->next;
		if (kind != IP_FRAGMENT) {
			p->at += (extension->words + 1) * 8;
			continue;
		}
		p->at += sizeof(*extension);
		if (extension->fragment & be16(0xfff8)) // an offset
			return next == IP_TCP ? TCP_FRAGMENT : next == IP_UDP || extends(next) ? FRAGMENT : OTHER;
		// A first fragment without more to come is none (RFC 6946).
		p->first |= !!(extension->fragment & be16(1));
	}
	p->protocol = next;
	return next == IP_UDP ? UDP : next == IP_TCP ? TCP : extends(next) ? MALFORMED : OTHER;
}

static __always_inline enum kind parse_frame(struct packet *p)
{
	struct eth_header *eth = p->at;
	if ((void *)(eth + 1) > p->end)
		return OTHER;
	__u16 type = eth->type;
	p->at = eth + 1;
#pragma clang loop unroll(full)
	for (int i = 0; i < VLAN_TAGS; i++) {
		struct vlan_tag *tag = p->at;
		if (type != ETH_VLAN && type != ETH_QINQ)
			break;
		if ((void *)(tag + 1) > p->end)
			return OTHER;
		type = tag->type;
		p->at = tag + 1;
	}
	if (type == ETH_IPV4)
		return parse_ipv4(p);
	return type == ETH_IPV6 ? parse_ipv6(p) : OTHER;
}

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))
#define SIPROUND                                                                        \
	a += b; b = ROTATE(b, 13); b ^= a; a = ROTATE(a, 32); c += d; d = ROTATE(d, 16); d ^= c; \
	a += d; d = ROTATE(d, 21); d ^= a; c += b; b = ROTATE(b, 17); b ^= c; c = ROTATE(c, 32)

// siphash returns SipHash-1-3 of the lower seven bytes of a word, the upper one of
// which is zero (Aumasson and Bernstein, 2012): short messages under a secret key. An
// eighth byte would cost one round more, of four.
static __always_inline __u64 siphash(__u64 key0, __u64 key1, __u64 word)
{
	__u64 a = key0 ^ 0x736f6d6570736575, b = key1 ^ 0x646f72616e646f6d;
	__u64 c = key0 ^ 0x6c7967656e657261, d = key1 ^ 0x7465646279746573;
	word |= 7ull << 56; // the length
	d ^= word; SIPROUND; a ^= word;
	c ^= 0xff; SIPROUND; SIPROUND; SIPROUND;
	return a ^ b ^ c ^ d;
}

// A connection ID of the node ends with seven bytes and their tag, behind one that is
// read with them and means nothing here:
//
//	1 byte    the last one before the slot, whatever it is
//	1 byte    key epoch (1 bit), 0, slot (6 bits)
//	6 bytes   random
//	4 bytes   SipHash-1-3 of these seven, truncated
//
// Before them stand up to eight bytes more, for a balancer to route by; see cid.go.
#define CID_TAIL 12
#define CID_SLOT(word) ((word) >> 8 & 63)
#define CID_EPOCH(word) ((word) >> 15 & 1)

// is_own reports whether the last bytes of a connection ID carry their tag.
static __always_inline int is_own(const void *tail, const struct config *c)
{
	__u64 word = *(__u64 *)tail;
	const __u64 *key = c->tag_keys[CID_EPOCH(word)];
	return (__u32)siphash(key[0], key[1], word >> 8) == *(__u32 *)(tail + 8);
}
