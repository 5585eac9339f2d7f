package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// words is the memory of a map, shared with the kernel. It stays mapped for as long
// as anybody may look at it.
type words struct {
	at []atomic.Uint64
}

func mapWords(m *ebpf.Map) (*words, error) {
	size := int(m.MaxEntries()) * 8
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	w := &words{at: unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(&memory[0])), size/8)}
	runtime.AddCleanup(w, func(b []byte) { _ = unix.Munmap(b) }, memory)
	return w, nil
}

// A sourceHash places sources in maps. Its key is random and leaves neither process
// nor kernel.
type sourceHash uint64

func newSourceHash() sourceHash {
	var key [8]byte
	_, _ = rand.Read(key[:]) // never fails
	return sourceHash(binary.LittleEndian.Uint64(key[:]))
}

// mix is the finalizer of MurmurHash3, as in admission.bpf.c.
func (h sourceHash) mix(word uint64) uint64 {
	word ^= uint64(h)
	word = (word ^ word>>33) * 0xff51afd7ed558ccd
	word = (word ^ word>>33) * 0xc4ceb9fe1a85ec53
	return word ^ word>>33
}

// flowKeys are those of flows, made of that of sources. They are odd, so that no bit of
// what they multiply is lost.
func (h sourceHash) flowKeys() (keys [3]uint64) {
	for i := range keys {
		keys[i] = h.mix(uint64(i+1)) | 1
	}
	return keys
}

// The protocols of a source, which are metered apart: TCP proves its addresses.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// of returns the hash of an IPv4 address, or of the /56 of an IPv6 address.
func (h sourceHash) of(addr netip.Addr, tcp bool) uint64 {
	protocol := uint64(protocolUDP)
	if tcp {
		protocol = protocolTCP
	}
	addr = addr.Unmap()
	if addr.Is4() {
		b := addr.As4()
		return h.mix(protocol<<56 | uint64(binary.LittleEndian.Uint32(b[:])))
	}
	b := addr.As16()
	return h.mix((protocol|0x80)<<56 | binary.LittleEndian.Uint64(b[:8])&0x00ffffffffffffff)
}

const (
	sketchRow = 1 << 16
	knownRow  = 1 << 16
	knownUnit = 30 // times of known sources count units of 2^30 ns
)

// rows returns the words of a source. They are no memory of Go's and keep nothing alive,
// so that who uses them must keep a.
func (a *Admission) rows(addr netip.Addr, tcp bool) [2]*atomic.Uint64 {
	h := a.hash.of(addr, tcp)
	return [2]*atomic.Uint64{&a.owed.at[h%sketchRow], &a.owed.at[sketchRow+h>>16%sketchRow]}
}

// Owes returns what a source began and did not complete, as the time until it has
// paid that off at the rate of Config.Source. Zero is nothing. It takes no system
// call but a read of the clock.
func (a *Admission) Owes(addr netip.Addr, tcp bool) time.Duration {
	now := monotonic()
	debt := int64(math.MaxInt64)
	for _, row := range a.rows(addr, tcp) {
		debt = min(debt, int64(row.Load()-now))
	}
	runtime.KeepAlive(a)
	return time.Duration(max(debt, 0))
}

// Refund gives one charge back, because a handshake was completed. cost is the time
// that one costs, 1 / Config.Source.PerSecond. It is to be called once for each
// completed handshake.
//
// It can do no harm, whatever the kernel does meanwhile. A word changes only by
// single atomic steps, so that no charge or refund is lost under another. A refund
// takes one cost at most and never leaves less than nothing owed, so that it is no
// credit for what comes later. Therefore a source that completes n handshakes in a
// time t can begin at most n more than t and the burst allow, whether its packets
// were charged or not.
func (a *Admission) Refund(addr netip.Addr, tcp bool, cost time.Duration) {
	for _, row := range a.rows(addr, tcp) {
		for {
			old, now := row.Load(), monotonic()
			debt := int64(old - now)
			if debt <= 0 || row.CompareAndSwap(old, now+uint64(max(debt-int64(cost), 0))) {
				break
			}
		}
	}
	runtime.KeepAlive(a)
}

// Charge adds a cost to what a source owes, because it costs the node more than its
// packets tell. A row that holds most or more already is left alone, as the programs
// leave one over the limit: it may be another's.
func (a *Admission) Charge(addr netip.Addr, tcp bool, cost, most time.Duration) {
	for _, row := range a.rows(addr, tcp) {
		for {
			old, now := row.Load(), monotonic()
			debt := max(int64(old-now), 0)
			if debt >= int64(most) || row.CompareAndSwap(old, now+uint64(debt+int64(cost))) {
				break
			}
		}
	}
	runtime.KeepAlive(a)
}

// Know notes that a source completed a handshake, which proves its address for both
// protocols. It is known for Config.KnownFor, unless another source takes its place.
func (a *Admission) Know(addr netip.Addr) {
	// The programs' clock lags, and would take what is ahead of it for very old.
	now := (monotonic() - uint64(tick)) >> knownUnit
	for _, tcp := range [...]bool{false, true} {
		h := a.hash.of(addr, tcp)
		a.known.at[h%knownRow].Store(h>>32<<32 | now&math.MaxUint32)
	}
}

// Forget forgets what sources owe, who is known, and what was decided of handshakes.
// Rules stay.
func (a *Admission) Forget() {
	for _, w := range []*words{a.owed, a.flows, a.known} {
		for i := range w.at {
			w.at[i].Store(0)
		}
	}
}

// MapBytes returns how much memory the maps take, as the kernel counts it. Before 6.4
// that is an estimate, which takes arrays of words for twice what they are.
func (a *Admission) MapBytes() (uint64, error) {
	var sum uint64
	for name, m := range a.replacements() {
		info, err := m.Info()
		if err != nil {
			return 0, fmt.Errorf("ask for the size of map %s: %w", name, err)
		}
		bytes, _ := info.Memlock()
		sum += bytes
	}
	return sum, nil
}
