// What the programs and user space share: verdicts, constants, maps. Each map's
// size has its reason; together they are about 2.5 MiB.
//
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#pragma once

#include "helpers.h"

// Why a packet passed or was dropped. The order is that of the Go constants in
// reason.go; everything from DROP_MALFORMED on is a drop.
enum reason {
	PASS_OTHER,		// not for the node
	PASS_FRAGMENT,		// of TCP; of UDP at level normal
	PASS_ESTABLISHED_QUIC,	// carries a connection ID of the node
	PASS_ESTABLISHED_TCP,	// everything but a SYN
	PASS_STALE,		// user space does not answer for its verdicts any more
	PASS_MALFORMED,		// could not be read, at level normal
	PASS_UNMATCHED,		// of no connection, for a stateless reset
	PASS_UNKNOWN_VERSION,	// for version negotiation
	PASS_ALLOWED,		// by the operator's list
	PASS_FLOW,		// belongs to an Initial that was admitted
	PASS_PROVEN,		// an Initial with a connection ID of the node
	PASS_NEW_QUIC,
	PASS_NEW_TCP,
	PASS_KNOWN,		// over the budget, from a source that completed handshakes
	PASS_TRICKLE,		// over a limit, so that nobody is locked out
	DROP_MALFORMED,
	DROP_FRAGMENT,
	DROP_VERSION_NEGOTIATION,
	DROP_FIXED_BIT,
	DROP_RETRY,
	DROP_CONNECTION_ID,	// of a length that no client may choose
	DROP_SMALL_INITIAL,
	DROP_FOREIGN_HANDSHAKE,
	DROP_UNMATCHED,
	DROP_UNKNOWN_VERSION,
	DROP_DENIED,		// by the operator's list
	DROP_FLOW,		// belongs to an Initial that was dropped
	DROP_SOURCE,		// the source owes too much
	DROP_BUDGET,		// more new connections than the node can take
	DROP_CLOSED,
	UNENFORCED,		// and as many again: would have been dropped
	SAMPLE_LOST = 2 * UNENFORCED, // no packet: a sample that found the ring full
	COUNTERS,
};

// What is left of normal operation. Each level adds to the one before.
enum level {
	NORMAL,		// drop what RFC 9000 lets a server discard, and nothing else
	GUARDED,	// limit sources, drop what belongs to no connection
	SHEDDING,	// and hold the budgets of new connections
	CLOSED,		// and let in those alone who are proven, known, allowed or lucky
};

// The budgets that all packets share.
enum budget {
	BUDGET_QUIC,	// Initials
	BUDGET_TCP,	// SYNs
	BUDGET_PROVEN,	// Initials with a connection ID of the node
	BUDGET_KNOWN,	// sources that completed handshakes
	BUDGET_QUIC_TRICKLE,	// Initials over a limit
	BUDGET_TCP_TRICKLE,	// SYNs over a limit
	BUDGET_RESET,	// packets that user space may answer by a stateless reset
	BUDGETS,
};

// A limit of the generic cell rate algorithm (ITU-T I.371), in nanoseconds. A cost
// of zero lets everything pass.
struct limit {
	__u64 cost;
	__u64 depth;
};

// The one element of configuration. It is written while packets are judged: each
// word is valid alone, so that a reader between two writes does no harm.
struct config {
	__u64 heartbeat;	// CLOCK_MONOTONIC, the last time user space was well
	__u64 stale;		// age from which on everything passes
	__u64 tag_keys[2][2];	// of the two epochs of connection IDs
	__u64 source_key;	// of the hash of sources
	__u64 flow_keys[3];	// of the hash of flows, odd
	struct limit source;
	struct limit budgets[BUDGETS];
	__u32 level;
	__u32 enforce;		// 0: count what would be dropped, and pass it
	__u32 drop_fragments;	// of UDP of any port, from level guarded on
	__u32 sample;		// one of so many is sampled, a power of two; 0: none
	__u32 known_for;	// how long a source stays known, in units of 2^30 ns
	__u32 listed;		// bit 0: there are rules for IPv4; bit 1: for IPv6
};

// A word on its own cache line: all processors write budgets.
struct shared_word {
	__u64 word;
	__u64 pad[7];
};

// What the clock said when it was read last, and in which tick that was.
struct reading {
	__u64 tick;
	__u64 now;
};

struct rule {
	__u64 until; // CLOCK_MONOTONIC; 0: for ever
	__u32 allow; // 0: deny
	__u32 pad;
};

struct prefix4 {
	__u32 bits;
	__u8 addr[4];
};

struct prefix6 {
	__u32 bits;
	__u8 addr[16];
};

struct sample {
	__u64 time; // CLOCK_MONOTONIC, coarse
	__u8 addr[16];
	__u16 port;   // of the source
	__u16 length; // of the UDP payload
	__u8 reason;
	__u8 tcp;
	__u8 ipv6;
	__u8 enforced;
};

// Where new flows go: to one of so many sockets from a slot on. One word, so that
// a change is seen whole.
struct route {
	__u32 first;
	__u32 count;
};

// Constants of a load. The verifier knows them and removes what they rule out.
volatile const __u16 udp_port;	    // network byte order, as the next; 0: none
volatile const __u16 tcp_ports[2];
volatile const __u8 cid_length;	    // 12 to 20, see parse.h

// The one address of udp_port and of the first of tcp_ports, as it stands in a header:
// at others of the machine the same ports are somebody else's.
volatile const __u8 address_version; // 4 or 6; 0: all addresses
volatile const __u64 node_address[2];

// A row of 64 Ki words holds apart several thousand sources in debt: with a
// thousand, one in 5,000 others meets two of them. User space reads and refunds.
#define SKETCH_ROW 65536
#define FLOWS 65536
#define KNOWN 65536
#define RULES 1024 // a trie of 60,000 entries costs 700 ns to search

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct config);
	__uint(max_entries, 1);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct shared_word);
	__uint(max_entries, BUDGETS);
} budgets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 2 * SKETCH_ROW);
} sources SEC(".maps");

// An entry is of use for three seconds. When 20,000 new flows a second are
// admitted, the next packet of a handshake, some 50 ms later, finds it in 98 cases
// of 100; otherwise it is charged again.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, FLOWS);
} flows SEC(".maps");

// Written by user space alone, for each completed handshake.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, KNOWN);
} known SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix4);
	__type(value, struct rule);
	__uint(max_entries, RULES);
} rules4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix6);
	__type(value, struct rule);
	__uint(max_entries, RULES);
} rules6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, COUNTERS);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct reading);
	__uint(max_entries, 1);
} clock SEC(".maps");

// Holds 6,500 samples: six seconds of a million drops a second at 1 in 1,024.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 << 10);
} samples SEC(".maps");

// The sockets of all generations, by slot.
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct route);
	__uint(max_entries, 1);
} routes SEC(".maps");
