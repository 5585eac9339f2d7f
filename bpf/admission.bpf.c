//go:build ignore

// Judges each packet that arrives at the node before the network stack sees it.
// Established traffic is recognised without a table and passes first; what would
// begin a connection is held to the limits of its source and of the node, at the
// level that user space sets. Whatever is in doubt passes, and everything passes
// once user space stops answering for it.
//
// SPDX-License-Identifier: MIT OR GPL-2.0-only

#include "parse.h"

char __license[] SEC("license") = "Dual MIT/GPL";

static __always_inline int is_drop(enum reason reason)
{
	return reason >= DROP_MALFORMED;
}

// read_short classifies a packet with a short header (RFC 9000 section 17.3).
static __always_inline enum reason read_short(const struct packet *p, const struct config *c)
{
	if (!(*(__u8 *)p->at & QUIC_FIXED))
		return DROP_FIXED_BIT;
	void *tail = p->at + 1 + cid_length - CID_TAIL;
	if (p->length <= cid_length || tail + CID_TAIL > p->end)
		return DROP_UNMATCHED;
	return is_own(tail, c) ? PASS_ESTABLISHED_QUIC : DROP_UNMATCHED;
}

// fold brings the high bits of a word to the low ones as well. In the product with a key,
// of which 64 bits are kept, a difference in the highest byte alone would meet eight bits
// of the key, and with one of 256 keys be lost.
static __always_inline __u64 fold(__u64 word)
{
	return word ^ word >> 32;
}

// read_flow hashes what a client chooses of a connection, its ID and the port, under
// keys that he does not know (multilinear, Dietzfelbinger et al., 1997). Otherwise he
// would choose many connections that are taken for one flow, at one charge.
static __always_inline int read_flow(struct packet *p, const struct config *c, void *id, __u64 length)
{
	void *last = id + length - 8;
	if (id + 8 > p->end || last + 8 > p->end)
		return 0;
	// Between the first and the last 8 bytes of 20 are 4. Of shorter IDs these overlap, or
	// are the end of the version, which is the same in all of a handshake.
	__u64 rest = (__u64)*(__u32 *)(last - 4) << 32 | length << 16 | p->port;
	p->flow = fold(*(__u64 *)id) * c->flow_keys[0] + fold(*(__u64 *)last) * c->flow_keys[1] + fold(rest) * c->flow_keys[2];
	return 1;
}

enum { QUIC_INITIAL, QUIC_0RTT, QUIC_HANDSHAKE, QUIC_RETRY };

// read_long classifies a packet with a long header (RFC 9000 section 17.2). What
// other versions look like is not known beyond their connection IDs (RFC 8999).
static __always_inline enum reason read_long(struct packet *p, const struct config *c)
{
	if (p->length < 7 || p->at + 6 > p->end)
		return DROP_MALFORMED;
	__u8 first = *(__u8 *)p->at, length = *(__u8 *)(p->at + 5);
	__u32 version = *(__u32 *)(p->at + 1);
	if (version == 0) // RFC 9000 section 6.1: only servers send it
		return DROP_VERSION_NEGOTIATION;
	if (version != QUIC_V1 && version != QUIC_V2)
		return DROP_UNKNOWN_VERSION;
	if (!(first & QUIC_FIXED))
		return DROP_FIXED_BIT;
	if (length > QUIC_MAX_CID)
		return DROP_CONNECTION_ID;
	// Version 2 counts the types from 1 (RFC 9369 section 3.2).
	__u8 type = ((first >> 4) - (version == QUIC_V2)) & 3;
	if (type == QUIC_RETRY) // only servers send it
		return DROP_RETRY;
	int own = 0;
	if (length == cid_length) {
		void *tail = p->at + 6 + cid_length - CID_TAIL;
		if (tail + CID_TAIL > p->end)
			return DROP_MALFORMED;
		own = is_own(tail, c);
	}
	if (type == QUIC_HANDSHAKE) // RFC 9000 section 5.2.2: nobody else can send one
		return own ? PASS_ESTABLISHED_QUIC : DROP_FOREIGN_HANDSHAKE;
	if (type == QUIC_INITIAL && p->length < QUIC_MIN_INITIAL)
		return DROP_SMALL_INITIAL;
	if (length < QUIC_MIN_CHOSEN)
		return DROP_CONNECTION_ID;
	if (!read_flow(p, c, p->at + 6, length))
		return DROP_MALFORMED;
	return own ? PASS_PROVEN : PASS_NEW_QUIC;
}

static __always_inline enum reason read_udp(struct packet *p, const struct config *c)
{
	struct udp_header *udp = p->at;
	if ((void *)(udp + 1) > p->end)
		return DROP_MALFORMED;
	if (!udp_port || udp->destination != udp_port || p->elsewhere)
		return PASS_OTHER;
	p->port = udp->source;
	if (p->first) // QUIC has none (RFC 9000 section 14)
		return DROP_FRAGMENT;
	p->at = udp + 1;
	__u16 length = be16(udp->length);
	if (length <= sizeof(*udp) || p->at + 1 > p->end)
		return DROP_MALFORMED;
	p->length = length - sizeof(*udp);
	return *(__u8 *)p->at & QUIC_LONG ? read_long(p, c) : read_short(p, c);
}

static __always_inline enum reason read_tcp(struct packet *p)
{
	struct tcp_header *tcp = p->at;
	if ((void *)(tcp + 1) > p->end)
		return DROP_MALFORMED;
	int first = tcp_ports[0] && tcp->destination == tcp_ports[0] && !p->elsewhere;
	int second = tcp_ports[1] && tcp->destination == tcp_ports[1];
	if (!first && !second)
		return PASS_OTHER;
	p->port = tcp->source;
	return (tcp->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN ? PASS_NEW_TCP : PASS_ESTABLISHED_TCP;
}

// classify says what a packet is, in terms of what would become of it: a pass is
// what it wishes for, a drop what it has to expect from level guarded on.
static __always_inline enum reason classify(struct packet *p, const struct config *c)
{
	switch (parse_frame(p)) {
	case UDP:
		return read_udp(p, c);
	case TCP:
		return read_tcp(p);
	case TCP_FRAGMENT:
		return PASS_FRAGMENT;
	case FRAGMENT:
		return DROP_FRAGMENT;
	case MALFORMED:
		return DROP_MALFORMED;
	default:
		return PASS_OTHER;
	}
}

// clock_now reads the coarse clock once in a tick, within which it does not change:
// the call costs 20 ns, the number of the tick is a word in memory.
static __always_inline __u64 clock_now(void)
{
	__u32 zero = 0;
	struct reading *last = bpf_map_lookup_elem(&clock, &zero);
	__u64 tick = bpf_jiffies64();
	if (!last)
		return bpf_ktime_get_coarse_ns();
	if (unlikely(last->tick != tick)) {
		last->tick = tick;
		last->now = bpf_ktime_get_coarse_ns();
	}
	return last->now;
}

// ahead returns by how much a word of a rate lies ahead of now. The coarse clock
// lags behind that of user space by a tick, so that the difference has a sign.
static __always_inline __s64 ahead(__u64 word, __u64 now)
{
	return (__s64)(word - now);
}

// charge moves a word by one cost. Who loses a race pays all the same: once more
// against what the other left, then by a plain addition, which takes less than the
// cost only if user space refunded in between.
static __always_inline void charge(__u64 *word, __u64 old, __u64 now, __u64 cost)
{
	__u64 seen = __sync_val_compare_and_swap(word, old, (ahead(old, now) > 0 ? old : now) + cost);
	if (likely(seen == old))
		return;
	old = seen;
	seen = __sync_val_compare_and_swap(word, old, (ahead(old, now) > 0 ? old : now) + cost);
	if (seen != old)
		__sync_fetch_and_add(word, cost);
}

// take charges one packet to a budget, unless that is spent.
static __always_inline int take(const struct config *c, __u64 now, __u32 budget)
{
	__u32 key = budget; // the verifier of 6.1 forgets the value of what a helper has read
	struct shared_word *shared = bpf_map_lookup_elem(&budgets, &key);
	if (!shared)
		return 1;
	const struct limit *limit = &c->budgets[budget];
	__u64 old = *(volatile __u64 *)&shared->word;
	if (limit->cost == 0)
		return 1;
	if (ahead(old, now) > (__s64)limit->depth)
		return 0;
	charge(&shared->word, old, now, limit->cost);
	return 1;
}

// The two words of a source. It owes what the better of them says, so that it takes
// two collisions with sources in debt to harm it.
struct account {
	__u64 *rows[2];
	__u64 seen[2];
};

static __always_inline int open_account(struct account *a, __u64 hash)
{
	__u32 first = hash % SKETCH_ROW, second = SKETCH_ROW + (hash >> 16) % SKETCH_ROW;
	a->rows[0] = bpf_map_lookup_elem(&sources, &first);
	a->rows[1] = bpf_map_lookup_elem(&sources, &second);
	if (!a->rows[0] || !a->rows[1])
		return 0;
	a->seen[0] = *(volatile __u64 *)a->rows[0];
	a->seen[1] = *(volatile __u64 *)a->rows[1];
	return 1;
}

static __always_inline int overdrawn(const struct account *a, const struct limit *limit, __u64 now)
{
	return ahead(a->seen[0], now) > (__s64)limit->depth && ahead(a->seen[1], now) > (__s64)limit->depth;
}

// charge_account leaves out a row that is over the limit: it belongs to somebody
// else's flood, and charging it would only prolong that.
static __always_inline void charge_account(struct account *a, const struct limit *limit, __u64 now)
{
	if (ahead(a->seen[0], now) <= (__s64)limit->depth)
		charge(a->rows[0], a->seen[0], now, limit->cost);
	if (ahead(a->seen[1], now) <= (__s64)limit->depth)
		charge(a->rows[1], a->seen[1], now, limit->cost);
}

// is_known reports whether user space has seen the source complete a handshake.
static __always_inline int is_known(const struct config *c, __u64 hash, __u64 now)
{
	__u32 place = hash % KNOWN;
	__u64 *word = bpf_map_lookup_elem(&known, &place);
	if (!word)
		return 0;
	return (__u32)(*word >> 32) == (__u32)(hash >> 32) && (__u32)((now >> 30) - *word) < c->known_for;
}

// A word of the flow cache: 32 bits of the flow's hash, 24 bits of time in units of
// 2^24 ns, 7 bits of count, and whether the flow was dropped. One handshake is
// several datagrams, which must share one fate and one charge.
#define FLOW_UNIT 24
#define FLOW_ADMITTED 178 // 3 s: the handshake, with two retransmissions
#define FLOW_DROPPED 18	  // 0.3 s: the siblings; the first retransmission tries again
#define FLOW_PACKETS 16	  // of one charge, 0-RTT among them

// mix is the finalizer of MurmurHash3, a bijection. It needs no more strength than
// that: who could write an address that meets a victim's places under the secret key
// could as well write the victim's own.
static __always_inline __u64 mix(__u64 word)
{
	word ^= word >> 33;
	word *= 0xff51afd7ed558ccd;
	word ^= word >> 33;
	word *= 0xc4ceb9fe1a85ec53;
	return word ^ word >> 33;
}

enum fate { UNDECIDED, ADMITTED, DROPPED };

static __always_inline __u32 flow_age(__u64 word, __u64 now)
{
	return ((now >> FLOW_UNIT) - (word >> 8)) & 0xffffff;
}

static __always_inline enum fate fate_of(__u64 hash, __u64 now)
{
	__u32 place = hash % FLOWS;
	__u64 *flow = bpf_map_lookup_elem(&flows, &place);
	if (!flow)
		return UNDECIDED;
	__u64 word = *(volatile __u64 *)flow;
	if (word >> 32 != hash >> 32)
		return UNDECIDED;
	__u32 age = flow_age(word, now);
	if (word & 1)
		return age < FLOW_DROPPED ? DROPPED : UNDECIDED;
	if (age >= FLOW_ADMITTED || (word >> 1 & 127) >= FLOW_PACKETS)
		return UNDECIDED;
	*(volatile __u64 *)flow = word + 2;
	return ADMITTED;
}

// decide_flow remembers a drop nowhere where an admission of another flow is: a flood
// that is dropped must not part the datagrams of a handshake.
static __always_inline void decide_flow(__u64 hash, __u64 now, int dropped)
{
	__u32 place = hash % FLOWS;
	__u64 *flow = bpf_map_lookup_elem(&flows, &place);
	if (!flow)
		return;
	__u64 word = *(volatile __u64 *)flow;
	int admitted = !(word & 1) && flow_age(word, now) < FLOW_ADMITTED;
	if (!dropped || !admitted || word >> 32 == hash >> 32)
		*(volatile __u64 *)flow = hash >> 32 << 32 | (now >> FLOW_UNIT & 0xffffff) << 8 | dropped;
}

static __always_inline enum reason by_list(const struct config *c, const struct packet *p, __u64 now)
{
	struct rule *rule;
	if (!(c->listed & (p->ipv6 ? 2 : 1)))
		return PASS_OTHER;
	if (p->ipv6) {
		struct prefix6 key = {.bits = 128};
		__builtin_memcpy(key.addr, p->address, sizeof(key.addr));
		rule = bpf_map_lookup_elem(&rules6, &key);
	} else {
		struct prefix4 key = {.bits = 32};
		__builtin_memcpy(key.addr, p->address, sizeof(key.addr));
		rule = bpf_map_lookup_elem(&rules4, &key);
	}
	if (!rule || (rule->until && ahead(rule->until, now) <= 0))
		return PASS_OTHER;
	return rule->allow ? PASS_ALLOWED : DROP_DENIED;
}

// limits holds a new connection to what its source and the node may begin. It is
// charged only if it passes, so that a completed handshake gives back what it took.
static __always_inline enum reason limits(const struct config *c, enum reason wish, __u64 hash, __u64 now)
{
	struct account account = {};
	if (!open_account(&account, hash))
		return wish;
	enum reason verdict = wish;
	__u32 budget = wish == PASS_NEW_TCP ? BUDGET_TCP : BUDGET_QUIC;
	__u32 trickle = wish == PASS_NEW_TCP ? BUDGET_TCP_TRICKLE : BUDGET_QUIC_TRICKLE;
	if (c->level >= GUARDED && overdrawn(&account, &c->source, now)) {
		verdict = DROP_SOURCE;
	} else if (c->level >= CLOSED || (c->level >= SHEDDING && !take(c, now, budget))) {
		verdict = c->level >= CLOSED ? DROP_CLOSED : DROP_BUDGET;
		if (is_known(c, hash, now) && take(c, now, BUDGET_KNOWN))
			verdict = PASS_KNOWN;
	}
	if (is_drop(verdict)) {
		if (!take(c, now, trickle))
			return verdict;
		verdict = PASS_TRICKLE;
	}
	charge_account(&account, &c->source, now);
	return verdict;
}

// begin judges a packet that would begin a connection, by what it wishes to be.
static __always_inline enum reason begin(const struct config *c, const struct packet *p, enum reason wish, __u64 now)
{
	enum reason listed = by_list(c, p, now);
	if (listed != PASS_OTHER)
		return listed;
	__u64 hash = mix(owner_of(p) ^ c->source_key);
	int handshake = wish == PASS_NEW_QUIC || wish == PASS_PROVEN;
	__u64 flow = handshake ? mix(hash + p->flow) : 0;
	if (handshake) {
		enum fate fate = fate_of(flow, now);
		if (fate == ADMITTED)
			return PASS_FLOW;
		if (fate == DROPPED && c->level >= GUARDED)
			return DROP_FLOW;
	}
	// Whoever is proven takes a budget of its own, and beyond that is as good as any.
	enum reason verdict = wish;
	if (wish != PASS_PROVEN || (c->level >= GUARDED && !take(c, now, BUDGET_PROVEN)))
		verdict = limits(c, wish == PASS_PROVEN ? PASS_NEW_QUIC : wish, hash, now);
	if (handshake)
		decide_flow(flow, now, is_drop(verdict));
	return verdict;
}

// judge acts on what a packet is, at the level of the moment.
static __always_inline enum reason judge(const struct config *c, const struct packet *p, enum reason wish)
{
	if (likely(wish <= PASS_ESTABLISHED_TCP))
		return wish;
	__u64 now = clock_now();
	if (ahead(now, c->heartbeat) > (__s64)c->stale)
		return PASS_STALE;
	int normal = c->level < GUARDED;
	if (wish == DROP_UNKNOWN_VERSION && normal)
		wish = PASS_UNKNOWN_VERSION;
	if (!is_drop(wish))
		return begin(c, p, wish, now);
	if (wish == DROP_MALFORMED && normal)
		return PASS_MALFORMED;
	// Without the first, which tells the port, the others come to nothing.
	if (wish == DROP_FRAGMENT && (normal || (!p->first && !c->drop_fragments)))
		return PASS_FRAGMENT;
	if (wish == DROP_UNMATCHED && normal && take(c, now, BUDGET_RESET))
		return PASS_UNMATCHED;
	return wish;
}

// count returns how many there were before.
static __always_inline __u64 count(__u32 counter)
{
	__u64 *count = bpf_map_lookup_elem(&counters, &counter);
	return count ? (*count)++ : 0;
}

static __always_inline void take_sample(const struct packet *p, enum reason reason, int enforced)
{
	struct sample *sample = bpf_ringbuf_reserve(&samples, sizeof(*sample), 0);
	if (!sample) {
		count(SAMPLE_LOST);
		return;
	}
	sample->time = clock_now();
	__builtin_memcpy(sample->addr, p->address, sizeof(sample->addr));
	sample->port = be16(p->port);
	sample->length = p->length;
	sample->reason = reason;
	sample->tcp = p->protocol == IP_TCP;
	sample->ipv6 = p->ipv6;
	sample->enforced = enforced;
	bpf_ringbuf_submit(sample, 0);
}

// admit returns whether the frame is to be dropped.
static __always_inline int admit(void *data, void *end)
{
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	if (!c)
		return 0;
	struct packet p = {.at = data, .end = end};
	enum reason reason = judge(c, &p, classify(&p, c));
	int enforced = !is_drop(reason) || c->enforce;
	__u64 before = count(enforced ? reason : UNENFORCED + reason);
	// The first of each reason, and every so many after it.
	if (reason > PASS_STALE && c->sample && !(before & (c->sample - 1)))
		take_sample(&p, reason, enforced);
	return is_drop(reason) && enforced;
}

SEC("xdp")
int admit_xdp(struct xdp_md *context)
{
	return admit((void *)(long)context->data, (void *)(long)context->data_end) ? XDP_DROP : XDP_PASS;
}

// Headers that the driver left in pages are moved to where they can be read.
#define TCX_HEADERS 192

SEC("tcx/ingress")
int admit_tcx(struct __sk_buff *skb)
{
	if (skb->data + TCX_HEADERS > skb->data_end)
		bpf_skb_pull_data(skb, skb->len < TCX_HEADERS ? skb->len : TCX_HEADERS);
	return admit((void *)(long)skb->data, (void *)(long)skb->data_end) ? TCX_DROP : TCX_NEXT;
}

// steer hands a datagram to the socket that its connection ID names, and all others
// to the sockets that take new connections, by the hash of its addresses. A slot
// without a socket counts as none: its owner has gone.
SEC("sk_reuseport")
int steer(struct sk_reuseport_md *md)
{
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&config, &zero);
	void *route = bpf_map_lookup_elem(&routes, &zero);
	__u8 header[6] = {}, tail[CID_TAIL] __attribute__((aligned(8)));
	if (!c || !route)
		return SK_PASS;

	int readable = !bpf_skb_load_bytes(md, sizeof(struct udp_header), header, sizeof(header));
	int is_long = header[0] & QUIC_LONG;
	__u32 offset = sizeof(struct udp_header) + (is_long ? 6 : 1) + cid_length - CID_TAIL;
	if (readable && (!is_long || header[5] == cid_length) &&
	    !bpf_skb_load_bytes(md, offset, tail, sizeof(tail)) && is_own(tail, c)) {
		__u32 slot = CID_SLOT(*(__u64 *)tail);
		if (!bpf_sk_select_reuseport(md, &sockets, &slot, 0))
			return SK_PASS;
	}
	union {
		__u64 word;
		struct route route;
	} now = {.word = *(volatile __u64 *)route};
	if (now.route.count) {
		__u32 slot = now.route.first + md->hash % now.route.count;
		bpf_sk_select_reuseport(md, &sockets, &slot, 0);
	}
	return SK_PASS;
}
