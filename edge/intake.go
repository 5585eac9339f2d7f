package edge

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	// intakeRoom is how many first packets may be with quic-go. It drops those of new
	// visitors beyond 1,024; the rest is room for early data.
	intakeRoom = 768
	// heldMost is how many more wait here: those of a thousand visitors and more, with
	// two datagrams each as post-quantum keys make them. They take 1.3 KiB each while
	// they wait.
	heldMost = 4096
	// intakePoll is how often the node looks whether there is room again, while no packets
	// come that would make it look.
	intakePoll = 2 * time.Millisecond
	// leastInitial is the length of a datagram that may begin a connection (RFC 9000
	// section 14.1).
	leastInitial = 1200
)

var (
	// heldFor is how long they wait: as long as a handshake may be silent. Clients send them
	// again meanwhile, which finds the connection that the first has made.
	heldFor = quicHandshakeTimeout
	// intakeStuck is how long quic-go may show nobody before its queue is taken for empty:
	// then what was given to it belonged to connections, or to nobody.
	intakeStuck = 100 * time.Millisecond
)

// An intake holds first packets back for which quic-go has no room, so that a burst of
// visitors is neither lost nor in the way of those who are here.
//
// It goes by the packets' addresses, of which each has its own copy: quic-go works first
// packets off in order, and shows the address of each new visitor. Those that belong to a
// connection are done when the next visitor's is.
type intake struct {
	mu    sync.Mutex
	given []net.Addr // of packets that quic-go has not come to
	moved time.Time  // when it came to one
	held  []heldPacket
	lost  *unprocessed // counts what found no place, or waited for too long
}

type heldPacket struct {
	data, oob []byte
	flags     int
	addr      net.Addr
	since     time.Time
}

// took notes that quic-go has come to the packet with this address, and so to all before.
func (i *intake) took(from net.Addr, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.moved = now
	if at := slices.Index(i.given, from); at >= 0 {
		i.given = i.given[at+1:]
	}
}

// give notes that quic-go gets a first packet, and reports whether it has room.
func (i *intake) give(to net.Addr, now time.Time) bool {
	switch {
	case len(i.given) == 0:
		i.moved = now
	case len(i.given) >= intakeRoom && now.Sub(i.moved) > intakeStuck:
		i.given = nil
	case len(i.given) >= intakeRoom:
		return false
	}
	i.given = append(i.given, to)
	return true
}

// sieve takes first packets out of what was read for which there is no room, and returns
// how many are left.
func (i *intake) sieve(messages []ipv4.Message, now time.Time) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for k := range messages {
		m := &messages[k]
		if m.N >= leastInitial && isInitial(m.Buffers[0]) {
			if len(i.held) > 0 || !i.give(m.Addr, now) {
				i.hold(m, now)
				continue
			}
		}
		if k != n {
			put(&messages[n], m.Buffers[0][:m.N], m.OOB[:m.NN], m.Flags, m.Addr)
		}
		n++
	}
	return n
}

func (i *intake) hold(m *ipv4.Message, now time.Time) {
	if len(i.held) >= heldMost { // it is lost, as it would be without
		i.lost.packets.Add(1)
		return
	}
	i.held = append(i.held, heldPacket{slices.Clone(m.Buffers[0][:m.N]), slices.Clone(m.OOB[:m.NN]), m.Flags, m.Addr, now})
}

// release gives out packets that were held, the first first, as there is room.
func (i *intake) release(messages []ipv4.Message, now time.Time) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for len(i.held) > 0 && n < len(messages) {
		p := i.held[0]
		if now.Sub(p.since) > heldFor {
			i.lost.packets.Add(1)
		} else {
			if !i.give(p.addr, now) {
				break
			}
			put(&messages[n], p.data, p.oob, p.flags, p.addr)
			n++
		}
		i.held[0] = heldPacket{}
		i.held = i.held[1:]
	}
	if len(i.held) == 0 {
		i.held = nil
	}
	return n
}

func (i *intake) holds() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.held) > 0
}

func put(m *ipv4.Message, data, oob []byte, flags int, addr net.Addr) {
	m.N, m.NN, m.Flags, m.Addr = copy(m.Buffers[0], data), copy(m.OOB, oob), flags, addr
}

// ReadBatch is how quic-go reads many packets by one system call. Between those that are
// there and those that were held it goes by turns, and waits for neither while there is
// one of the other.
func (s *watchedSocket) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	for {
		polls, how := false, flags
		if s.intake.holds() {
			if s.heldLast = !s.heldLast; !s.heldLast {
				how |= unix.MSG_DONTWAIT
			} else if n := s.intake.release(messages, time.Now()); n > 0 {
				return n, nil
			} else {
				polls = s.limitRead(time.Now().Add(intakePoll))
			}
		}
		n, err := s.batch.ReadBatch(messages, how)
		if polls && s.limitRead(time.Time{}) && errors.Is(err, os.ErrDeadlineExceeded) || how != flags && errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return n, err
		}
		if n = s.intake.sieve(messages[:n], time.Now()); n > 0 {
			return n, nil
		}
	}
}

// limitRead has a read end at t, at no time if that is zero, and reports whether it does.
// When quic-go wants its reading to end that stands: it waits for it, and nothing else may
// come that would end a read.
func (s *watchedSocket) limitRead(t time.Time) (limited bool) {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	if s.ending {
		return false
	}
	_ = s.UDPConn.SetReadDeadline(t) // of a closed socket the read tells
	return true
}

// SetReadDeadline is how quic-go ends its reading.
func (s *watchedSocket) SetReadDeadline(t time.Time) error {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	s.ending = !t.IsZero()
	return s.UDPConn.SetReadDeadline(t)
}
