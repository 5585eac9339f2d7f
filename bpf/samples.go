package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// A Sample is one of the packets that were judged, drawn by chance.
type Sample struct {
	// Source of the packet. Over UDP anybody may have written it. Invalid when the
	// packet could not be read that far.
	Source netip.AddrPort
	TCP    bool
	// Length of the UDP payload in bytes.
	Length int
	Reason Reason
	// Enforced is false for a packet that was to be dropped and passed.
	Enforced bool
}

// Samples reads what the programs sample, for one reader.
type Samples struct {
	ring *ringbuf.Reader
}

// Samples begins to read samples; see Config.Sample. What nobody reads in time is
// lost and counted.
func (a *Admission) Samples() (*Samples, error) {
	ring, err := ringbuf.NewReader(a.maps.Samples)
	if err != nil {
		return nil, fmt.Errorf("read samples of the packet filter: %w", err)
	}
	return &Samples{ring: ring}, nil
}

// SetDeadline ends a Next that waits, with os.ErrDeadlineExceeded. The zero time is
// no deadline.
func (s *Samples) SetDeadline(t time.Time) { s.ring.SetDeadline(t) }

// Next waits for a sample. After Close it returns os.ErrClosed.
func (s *Samples) Next() (Sample, error) {
	record, err := s.ring.Read()
	if err != nil {
		return Sample{}, err
	}
	return parseSample(record.RawSample)
}

// Close ends a Next that waits.
func (s *Samples) Close() error { return s.ring.Close() }

var errSample = errors.New("a sample of an unknown form")

// parseSample reads struct sample of maps.h.
func parseSample(b []byte) (Sample, error) {
	if len(b) < 32 {
		return Sample{}, errSample
	}
	addr := netip.AddrFrom16([16]byte(b[8:24]))
	if b[30] == 0 {
		addr = netip.AddrFrom4([4]byte(b[8:12]))
	}
	s := Sample{
		TCP:      b[29] != 0,
		Length:   int(binary.LittleEndian.Uint16(b[26:])),
		Reason:   Reason(b[28]),
		Enforced: b[31] != 0,
	}
	if !addr.IsUnspecified() {
		s.Source = netip.AddrPortFrom(addr, binary.LittleEndian.Uint16(b[24:]))
	}
	return s, nil
}
