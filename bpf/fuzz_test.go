package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// fixedNow is what the clock of a program says that stopClock was called for.
const fixedNow = 4_000_000_000

// stopClock replaces the calls of the clock by a constant, so that a program and its
// model see the same moment. It is called before a program is loaded.
func stopClock(t testing.TB, a *Admission) {
	t.Helper()
	for _, name := range programs {
		instructions := a.spec.Programs[name].Instructions
		replaced := 0
		for i, ins := range instructions {
			if !ins.IsBuiltinCall() {
				continue
			}
			if asm.BuiltinFunc(ins.Constant) == asm.FnKtimeGetCoarseNs {
				now := uint32(fixedNow)
				instructions[i] = asm.Mov.Imm32(asm.R0, int32(now)).WithMetadata(ins.Metadata)
				replaced++
			}
		}
		if replaced == 0 {
			t.Fatalf("%s asks no clock", name)
		}
	}
}

// A bench is a program with its clock stopped, and its model.
type bench struct {
	a        *Admission
	at       netip.Addr
	programs [2]*ebpf.Program
	rules    [2]netip.Prefix // set in the kernel so far
}

// newBenches returns one with the shortest connection IDs, one with the longest, and one
// of a node with one address.
func newBenches(t testing.TB) []*bench {
	var all []*bench
	for _, o := range []Options{
		{ConnectionIDs: testIDs(t, nil)},
		{ConnectionIDs: testIDs(t, []byte("server 1"))},
		{ConnectionIDs: testIDs(t, nil), Address: node4},
	} {
		a := needKernel(t, o)
		stopClock(t, a)
		b := &bench{a: a, at: o.Address}
		for i, name := range programs {
			b.programs[i] = programOf(t, a, name)
		}
		all = append(all, b)
	}
	return all
}

// A draw takes choices from bytes; when they are used up, all choices are zero.
type draw struct{ bytes []byte }

func (d *draw) byte() byte {
	if len(d.bytes) == 0 {
		return 0
	}
	b := d.bytes[0]
	d.bytes = d.bytes[1:]
	return b
}

func (d *draw) word() uint64 {
	var b [8]byte
	d.bytes = d.bytes[copy(b[:], d.bytes):]
	return binary.LittleEndian.Uint64(b[:])
}

// rate draws a word of a rate with the given depth: empty, at the edge, or anything.
func (d *draw) rate(depth uint64) uint64 {
	switch kind := d.byte(); {
	case kind < 64:
		return 0
	case kind < 128:
		return fixedNow + depth + uint64(kind%3) - 1
	case kind < 192:
		return fixedNow + uint64(kind%3) - 1
	}
	return d.word()
}

func (d *draw) limit() (cost, depth uint64) {
	switch kind := d.byte(); {
	case kind < 64:
		return 0, 0
	case kind < 192:
		return 1000, uint64(kind) * 500
	}
	return d.word(), d.word() >> 2
}

// config draws a configuration.
func (d *draw) config(a *Admission) admissionConfig {
	flags := d.byte()
	c := a.element(Config{
		Level:         Level(flags & 3),
		Enforce:       flags>>2&1 != 0,
		DropFragments: flags>>3&1 != 0,
		Stale:         1000,
	}, fixedNow)
	c.KnownFor, c.Listed = uint32(d.byte()), 3
	switch flags >> 4 & 3 {
	case 1: // the heartbeat may lie ahead of the coarse clock
		c.Heartbeat = fixedNow + 4_000_000
	case 2:
		c.Heartbeat = fixedNow - 1000
	case 3:
		c.Heartbeat = d.word()
	}
	c.Source.Cost, c.Source.Depth = d.limit()
	for i := range c.Budgets {
		c.Budgets[i].Cost, c.Budgets[i].Depth = d.limit()
	}
	return c
}

// prepare draws what is remembered of what the frame is about, and tells both.
func (b *bench) prepare(t testing.TB, d *draw, m *model, frame []byte) {
	m.config = d.config(b.a)
	if err := b.a.maps.Config.Put(uint32(0), &m.config); err != nil {
		t.Fatal(err)
	}
	for i := range m.budgets {
		m.budgets[i] = d.rate(m.config.Budgets[i].Depth)
		if err := b.a.maps.Budgets.Put(uint32(i), &admissionSharedWord{Word: m.budgets[i]}); err != nil {
			t.Fatal(err)
		}
	}
	r := readFrame(frame, b.a.ids)
	if !r.source.IsValid() {
		return
	}
	owner := m.hash.of(r.source, r.tcp)
	m.owed[owner%65536] = d.rate(m.config.Source.Depth)
	m.owed[65536+owner>>16%65536] = d.rate(m.config.Source.Depth)
	if kind := d.byte(); kind > 0 {
		m.known[owner%65536] = owner>>32<<32 | (fixedNow>>30-uint64(kind)+1)&0xffffffff
	}
	if age := uint64(d.byte()); age > 0 && r.id != nil {
		flow := flowHash(r, m.hash)
		verdict := uint64(d.byte())
		if d.byte() > 192 {
			flow ^= 1 << 40 // another flow at the same place
		}
		m.flows[flow%65536] = flow>>32<<32 | (fixedNow>>24-age)&0xffffff<<8 | verdict
	}
	for place, word := range m.owed {
		b.a.owed.at[place].Store(word)
	}
	for place, word := range m.known {
		b.a.known.at[place].Store(word)
	}
	for place, word := range m.flows {
		b.a.flows.at[place].Store(word)
	}
	b.drawRules(t, d, m, r.source)
}

func (b *bench) drawRules(t testing.TB, d *draw, m *model, source netip.Addr) {
	for i := range b.rules {
		bits := int(d.byte())
		if bits == 0 {
			continue
		}
		p, err := source.Prefix(bits % (source.BitLen() + 1))
		if err != nil {
			t.Fatal(err)
		}
		rule := admissionRule{Allow: uint32(d.byte() & 1)}
		if until := d.byte(); until > 128 {
			rule.Until = fixedNow - 130 + uint64(until)
		}
		places, key, err := b.a.ruleOf(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := places.Put(key, &rule); err != nil {
			t.Fatal(err)
		}
		b.rules[i], m.rules[p] = p, rule
	}
}

// forget undoes prepare and what the frames left.
func (b *bench) forget(t testing.TB, m *model) {
	for place := range m.owed {
		b.a.owed.at[place].Store(0)
	}
	for place := range m.known {
		b.a.known.at[place].Store(0)
	}
	for place := range m.flows {
		b.a.flows.at[place].Store(0)
	}
	for i, p := range b.rules {
		if p.IsValid() {
			if err := b.a.RemoveRule(p); err != nil {
				t.Fatal(err)
			}
			b.rules[i] = netip.Prefix{}
		}
	}
}

// compare says where the kernel remembers something else than the model.
func (b *bench) compare(t testing.TB, m *model) (different []string) {
	t.Helper()
	for name, both := range map[string]struct {
		kernel *words
		model  map[uint64]uint64
	}{"owed": {b.a.owed, m.owed}, "known": {b.a.known, m.known}, "flow": {b.a.flows, m.flows}} {
		for place, want := range both.model {
			if got := both.kernel.at[place].Load(); got != want {
				different = append(different, fmt.Sprintf("%s %d is %#x, in the model %#x", name, place, got, want))
			}
		}
	}
	for i, want := range m.budgets {
		var got admissionSharedWord
		if err := b.a.maps.Budgets.Lookup(uint32(i), &got); err != nil {
			t.Fatal(err)
		}
		if got.Word != want {
			different = append(different, fmt.Sprintf("budget %d is %#x, in the model %#x", i, got.Word, want))
		}
	}
	return different
}

// clean looks for words that neither frame nor model should have touched.
func (b *bench) clean(t testing.TB) {
	t.Helper()
	for name, w := range map[string]*words{"owed": b.a.owed, "known": b.a.known, "flow": b.a.flows} {
		for place := range w.at {
			if word := w.at[place].Load(); word != 0 {
				t.Fatalf("%s %d is %#x and nobody knows why", name, place, word)
			}
		}
	}
}

// check runs a frame a number of times and compares the program with its model.
func (b *bench) check(t testing.TB, which int, frame, state []byte, times int) {
	t.Helper()
	m := newModel(b.a, fixedNow)
	m.at = b.at
	b.prepare(t, &draw{state}, m, frame)
	defer b.forget(t, m)
	counted := judged(t, b.a, func() {
		for range times {
			want := m.admit(frame)
			verdict, err := b.programs[which].Run(&ebpf.RunOptions{Data: frame})
			if errors.Is(err, unix.EINVAL) && len(frame) < 60 {
				m.counts = nil // too short for the kernel to try
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if dropped := verdict == [2]uint32{1, 2}[which]; dropped != want {
				t.Errorf("dropped is %v, in the model %v", dropped, want)
			}
		}
	})
	if m.counts == nil {
		return
	}
	if fmt.Sprint(counted) != fmt.Sprint(m.counts) {
		t.Errorf("counted %v, in the model %v", counted, m.counts)
	}
	if different := b.compare(t, m); different != nil {
		t.Error(different)
	}
	if t.Failed() {
		t.Logf("%s, frame %x, config %+v", programs[which], frame, m.config)
	}
}

// retag writes the right tag behind the eight bytes at a place of a frame, which a
// fuzzer would never find.
func retag(frame []byte, at int) []byte {
	frame = bytes.Clone(frame)
	if at > 0 && at+cidTail <= len(frame) {
		e := &epochs{keys: testKeys}
		copy(frame[at+tagged:], e.tag(frame[at:]))
	}
	return frame
}

// nodeOf returns which of the benches a byte chooses.
func nodeOf(which byte) byte {
	if which>>7 != 0 {
		return 2
	}
	return which >> 1 & 1
}

// FuzzModel gives the same bytes and the same state to the programs and to their
// model. The first byte chooses the program and the node.
func FuzzModel(f *testing.F) {
	benches := newBenches(f)
	for _, which := range []byte{0, 1, 2, 3, 0x80, 0x81} {
		ids := benches[nodeOf(which)].a.ids
		for i, c := range packetCases(ids) {
			frame := c.frame[:min(len(c.frame), 128)]
			state := make([]byte, 40)
			for j := range state {
				state[j] = byte(i*7 + j*j*31)
			}
			if i%4 != int(which&3) { // the rest is what TestTruncated runs
				continue
			}
			at := bytes.Index(frame, chosen8)
			f.Add(which, frame, state, uint16(max(at, 0)))
		}
	}
	runs := 0
	f.Fuzz(func(t *testing.T, which byte, frame, state []byte, tagAt uint16) {
		if len(frame) < 14 || len(frame) > 2048 {
			return
		}
		b := benches[nodeOf(which)]
		b.check(t, int(which&1), retag(frame, int(tagAt)), state, 1+int(which>>2&31))
		if runs++; runs%1000 == 0 {
			b.clean(t)
		}
	})
}

// TestTruncated compares the program with its model on every packet of the table, cut
// off at every byte, in states that are drawn once and for all.
func TestTruncated(t *testing.T) {
	chance := rand.NewChaCha8([32]byte{1})
	for _, b := range newBenches(t) {
		seen := map[string]bool{}
		for _, c := range packetCases(b.a.ids) {
			for length := 14; length <= min(len(c.frame), 140); length++ {
				frame := c.frame[:length]
				if seen[string(frame)] {
					continue
				}
				seen[string(frame)] = true
				state := make([]byte, 100)
				_, _ = chance.Read(state) // never fails
				if b.check(t, length%2, frame, state, 3); t.Failed() {
					t.Fatalf("%s, cut off at %d, state %x", c.name, length, state)
				}
			}
		}
		b.clean(t)
	}
}
