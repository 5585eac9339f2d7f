package bpf

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// A model judges frames as the programs do, slowly and one at a time, in the words of
// the RFCs. It shares no code with them but the keyed hash and the keys.
type model struct {
	ids    *ConnectionIDs
	hash   sourceHash
	config admissionConfig
	at     netip.Addr // of the node; invalid is any
	now    uint64
	rules  map[netip.Prefix]admissionRule
	// What is remembered, by place; what is missing is zero.
	owed, flows, known map[uint64]uint64
	budgets            [7]uint64
	counts             map[Reason]Count
}

func newModel(a *Admission, now uint64) *model {
	return &model{
		ids: a.ids, hash: a.hash, now: now,
		rules: map[netip.Prefix]admissionRule{},
		owed:  map[uint64]uint64{}, flows: map[uint64]uint64{}, known: map[uint64]uint64{},
		counts: map[Reason]Count{},
	}
}

// admit counts a frame and reports whether it is dropped.
func (m *model) admit(frame []byte) bool {
	r := m.judge(readFrame(frame, m.ids))
	c := m.counts[r]
	enforced := !r.Drop() || m.config.Enforce != 0
	if enforced {
		c.Packets++
	} else {
		c.Unenforced++
	}
	m.counts[r] = c
	return r.Drop() && enforced
}

// A reading is what a frame is, whatever the state of the node.
type reading struct {
	wish   Reason
	source netip.Addr
	port   uint16
	tcp    bool
	// Where it goes, and whether to a port that is the node's at its own address alone.
	to  netip.Addr
	own bool
	// The connection ID that the client chose, behind the four bytes before it.
	id []byte
	// The first of several fragments.
	first bool
}

func readFrame(frame []byte, ids *ConnectionIDs) reading {
	if len(frame) < 14 {
		return reading{wish: PassOther}
	}
	etherType, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	for range 2 {
		if etherType != 0x8100 && etherType != 0x88a8 {
			break
		}
		if len(rest) < 4 {
			return reading{wish: PassOther}
		}
		etherType, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
	}
	switch etherType {
	case 0x0800:
		return readIPv4(rest, ids)
	case 0x86dd:
		return readIPv6(rest, ids)
	}
	return reading{wish: PassOther}
}

func readIPv4(b []byte, ids *ConnectionIDs) reading {
	if len(b) < 20 || b[0]>>4 != 4 || b[0]&15 < 5 {
		return reading{wish: DropMalformed}
	}
	r := reading{source: netip.AddrFrom4([4]byte(b[12:16])), to: netip.AddrFrom4([4]byte(b[16:20]))}
	protocol := b[9]
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		r.wish = fragmentOf(protocol, false)
		return r
	}
	r.first = b[6]&0x20 != 0
	header := int(b[0]&15) * 4
	return readTransport(r, protocol, b[min(header, len(b)):], ids)
}

func fragmentOf(protocol byte, mayHide bool) Reason {
	switch {
	case protocol == protocolTCP:
		return PassFragment
	case protocol == protocolUDP || mayHide:
		return DropFragment
	}
	return PassOther
}

func isExtension(next byte) bool { return next == 0 || next == 43 || next == 44 || next == 60 }

func readIPv6(b []byte, ids *ConnectionIDs) reading {
	if len(b) < 40 || b[0]>>4 != 6 {
		return reading{wish: DropMalformed}
	}
	r := reading{source: netip.AddrFrom16([16]byte(b[8:24])), to: netip.AddrFrom16([16]byte(b[24:40]))}
	next, rest := b[6], b[40:]
	for n := 0; isExtension(next); n++ {
		if n == 4 || len(rest) < 8 {
			r.wish = DropMalformed
			return r
		}
		kind, length := next, (int(rest[1])+1)*8
		next = rest[0]
		if kind == 44 {
			if binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
				r.wish = fragmentOf(next, isExtension(next))
				return r
			}
			r.first = r.first || rest[3]&1 != 0
			length = 8
		}
		rest = rest[min(length, len(rest)):]
	}
	return readTransport(r, next, rest, ids)
}

func readTransport(r reading, protocol byte, b []byte, ids *ConnectionIDs) reading {
	switch protocol {
	case protocolUDP:
		return readUDP(r, b, ids)
	case protocolTCP:
		return readTCP(r, b)
	}
	r.wish = PassOther
	return r
}

func readTCP(r reading, b []byte) reading {
	r.wish, r.tcp = DropMalformed, true
	if len(b) < 20 {
		return r
	}
	r.port, r.own = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]) == testTCPPort
	syn, ack := b[13]&2 != 0, b[13]&16 != 0
	switch port := binary.BigEndian.Uint16(b[2:]); {
	case port != testTCPPort && port != testTCPPort2:
		r.wish = PassOther
	case syn && !ack:
		r.wish = PassNewTCP
	default:
		r.wish = PassEstablishedTCP
	}
	return r
}

func readUDP(r reading, b []byte, ids *ConnectionIDs) reading {
	r.wish = DropMalformed
	if len(b) < 8 {
		return r
	}
	if binary.BigEndian.Uint16(b[2:]) != testUDPPort {
		r.wish = PassOther
		return r
	}
	r.port, r.own = binary.BigEndian.Uint16(b), true
	if r.first {
		r.wish = DropFragment
		return r
	}
	length := int(binary.BigEndian.Uint16(b[4:])) - 8
	if b = b[8:]; length < 1 || len(b) < 1 {
		return r
	}
	if b[0]&0x80 == 0 {
		r.wish = readShort(b, length, ids)
	} else {
		r.wish, r.id = readLong(b, length, ids)
	}
	return r
}

// readShort reads a datagram of the given length, of which b was captured.
func readShort(b []byte, length int, ids *ConnectionIDs) Reason {
	end := 1 + ids.Len()
	switch {
	case b[0]&0x40 == 0:
		return DropFixedBit
	case length < end || len(b) < end:
		return DropUnmatched
	}
	if _, own := ids.Slot(b[1:end]); own {
		return PassEstablishedQUIC
	}
	return DropUnmatched
}

func readLong(b []byte, length int, ids *ConnectionIDs) (Reason, []byte) {
	if length < 7 || len(b) < 6 {
		return DropMalformed, nil
	}
	version, idLength := binary.BigEndian.Uint32(b[1:]), int(b[5])
	kind := int(b[0] >> 4 & 3)
	switch version {
	case 0:
		return DropVersionNegotiation, nil
	case version1:
	case version2:
		kind = map[int]int{1: initial, 2: zeroRTT, 3: handshake, 0: retry}[kind]
	default:
		return DropUnknownVersion, nil
	}
	id := b[6:]
	own := false
	switch {
	case b[0]&0x40 == 0:
		return DropFixedBit, nil
	case idLength > 20:
		return DropConnectionID, nil
	case kind == retry:
		return DropRetry, nil
	case idLength == ids.Len():
		if len(id) < idLength {
			return DropMalformed, nil
		}
		_, own = ids.Slot(id[:idLength])
	}
	switch {
	case kind == handshake && own:
		return PassEstablishedQUIC, nil
	case kind == handshake:
		return DropForeignHandshake, nil
	case kind == initial && length < 1200:
		return DropSmallInitial, nil
	case idLength < 8:
		return DropConnectionID, nil
	case len(id) < idLength:
		return DropMalformed, nil
	case own:
		return PassProven, b[2 : 6+idLength]
	}
	return PassNewQUIC, b[2 : 6+idLength]
}

func (m *model) judge(r reading) Reason {
	level := Level(m.config.Level)
	if r.own && m.at.IsValid() && r.to != m.at {
		return PassOther
	}
	switch r.wish {
	case PassOther, PassFragment, PassEstablishedQUIC, PassEstablishedTCP:
		return r.wish
	}
	if int64(m.now-m.config.Heartbeat) > int64(m.config.Stale) {
		return PassStale
	}
	switch r.wish {
	case DropMalformed:
		if level == Normal {
			return PassMalformed
		}
	case DropFragment:
		if level == Normal || !r.first && m.config.DropFragments == 0 {
			return PassFragment
		}
	case DropUnmatched:
		if level == Normal && m.take(6) {
			return PassUnmatched
		}
	case DropUnknownVersion:
		if level == Normal {
			r.wish = PassUnknownVersion
		}
	}
	if r.wish.Drop() {
		return r.wish
	}
	return m.begin(r)
}

func (m *model) begin(r reading) Reason {
	if rule, found := m.ruleOf(r.source); found {
		if rule.Allow != 0 {
			return PassAllowed
		}
		return DropDenied
	}
	owner := m.hash.of(r.source, r.tcp)
	if r.wish == PassNewTCP || r.wish == PassUnknownVersion {
		return m.limit(r.wish, owner)
	}

	flow := flowHash(r, m.hash)
	place := flow % 65536
	word := m.flows[place]
	age := (m.now>>24 - word>>8) & 0xffffff
	count := word >> 1 & 127
	switch dropped := word&1 != 0; {
	case word>>32 != flow>>32:
	case dropped && age < 18 && Level(m.config.Level) != Normal:
		return DropFlow
	case !dropped && age < 178 && count < 16:
		m.flows[place] = word + 2
		return PassFlow
	}
	verdict := PassProven
	if r.wish == PassNewQUIC || Level(m.config.Level) != Normal && !m.take(2) {
		verdict = m.limit(PassNewQUIC, owner)
	}
	others := word>>32 != flow>>32
	if verdict.Drop() && others && word&1 == 0 && age < 178 {
		return verdict
	}
	word = flow>>32<<32 | m.now>>24&0xffffff<<8
	if verdict.Drop() {
		word |= 1
	}
	m.flows[place] = word
	return verdict
}

func flowHash(r reading, hash sourceHash) uint64 {
	port := uint64(r.port<<8 | r.port>>8)
	id := r.id[4:]
	first, last := binary.LittleEndian.Uint64(id), binary.LittleEndian.Uint64(id[len(id)-8:])
	rest := uint64(binary.LittleEndian.Uint32(r.id[len(id)-8:]))<<32 | uint64(len(id))<<16 | port
	h := hash.of(r.source, r.tcp)
	for i, word := range []uint64{first, last, rest} {
		h += (word ^ word>>32) * hash.flowKeys()[i]
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// ruleOf looks through all rules for the longest prefix of an address.
func (m *model) ruleOf(addr netip.Addr) (admissionRule, bool) {
	longest := -1
	var found admissionRule
	for p, rule := range m.rules {
		if p.Bits() > longest && p.Contains(addr) {
			longest, found = p.Bits(), rule
		}
	}
	expired := found.Until != 0 && int64(found.Until-m.now) <= 0
	return found, longest >= 0 && !expired
}

// limit is the generic cell rate algorithm for two rows of sources and the budgets.
func (m *model) limit(wish Reason, owner uint64) Reason {
	places := [2]uint64{owner % 65536, 65536 + owner>>16%65536}
	debt := int64(math.MaxInt64)
	for _, p := range places {
		debt = min(debt, int64(m.owed[p]-m.now))
	}
	budget, trickle := 0, 4
	if wish == PassNewTCP {
		budget, trickle = 1, 5
	}
	verdict := wish
	switch level := Level(m.config.Level); {
	case level >= Guarded && debt > int64(m.config.Source.Depth):
		verdict = DropSource
	case level >= Closed:
		verdict = DropClosed
	case level == Shedding && !m.take(budget):
		verdict = DropBudget
	}
	if (verdict == DropClosed || verdict == DropBudget) && m.knows(owner) && m.take(3) {
		verdict = PassKnown
	}
	if verdict.Drop() {
		if !m.take(trickle) {
			return verdict
		}
		verdict = PassTrickle
	}
	var over [2]bool
	for i, p := range places {
		over[i] = int64(m.owed[p]-m.now) > int64(m.config.Source.Depth)
	}
	for i, p := range places {
		if !over[i] {
			m.owed[p] = later(m.owed[p], m.now) + m.config.Source.Cost
		}
	}
	return verdict
}

func (m *model) knows(owner uint64) bool {
	word := m.known[owner%65536]
	return word>>32 == owner>>32 && uint32(m.now>>30)-uint32(word) < m.config.KnownFor
}

// take charges the budget with the given number, in the order of enum budget.
func (m *model) take(budget int) bool {
	limit := m.config.Budgets[budget]
	word := m.budgets[budget]
	if limit.Cost == 0 {
		return true
	}
	if int64(word-m.now) > int64(limit.Depth) {
		return false
	}
	m.budgets[budget] = later(word, m.now) + limit.Cost
	return true
}

func later(word, now uint64) uint64 {
	if int64(word-now) > 0 {
		return word
	}
	return now
}
