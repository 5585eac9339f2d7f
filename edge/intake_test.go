package edge

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// packet is a message as the socket brings it: an Initial, or one of a connection.
func packet(initial bool, n int) ipv4.Message {
	b := make([]byte, 1452)
	copy(b, fmt.Sprintf("@\x00\x00\x00\x01 %d", n))
	if initial {
		b[0] = 0xc0
	}
	return ipv4.Message{Buffers: [][]byte{b}, OOB: make([]byte, 64), N: leastInitial, Addr: &net.UDPAddr{Port: n}}
}

func ports(messages []ipv4.Message) (all []int) {
	for _, m := range messages {
		all = append(all, m.Addr.(*net.UDPAddr).Port)
	}
	return all
}

func burst(n int) (messages []ipv4.Message) {
	for range n {
		messages = append(messages, packet(false, 0))
	}
	return messages
}

func TestIntakeHoldsWhatHasNoRoom(t *testing.T) {
	var i intake
	now := time.Now()
	var given []net.Addr
	for n := range intakeRoom {
		m := []ipv4.Message{packet(true, n)}
		if i.sieve(m, now) != 1 {
			t.Fatalf("packet %d of %d is held", n, intakeRoom)
		}
		given = append(given, m[0].Addr)
	}
	// First packets wait, and nobody else does: not in versions that quic-go does not speak.
	mixed := []ipv4.Message{packet(true, 1001), packet(false, 1), packet(true, 1002), packet(false, 2), packet(true, 3)}
	mixed[4].Buffers[0][4] = 99
	if n := i.sieve(mixed, now); !slices.Equal(ports(mixed[:n]), []int{1, 2, 3}) || string(mixed[1].Buffers[0][6:7]) != "2" {
		t.Errorf("%v go on", ports(mixed[:n]))
	}
	if n := i.release(burst(8), now); n != 0 {
		t.Errorf("%d are given out without room", n)
	}
	// One that was worked off stands for all before.
	i.took(given[1], now)
	out := burst(8)
	if n := i.release(out, now); !slices.Equal(ports(out[:n]), []int{1001, 1002}) || i.holds() {
		t.Errorf("%v are given out", ports(out[:n]))
	}
}

func TestIntakeFailsOpen(t *testing.T) {
	i := intake{lost: new(unprocessed)}
	now := time.Now()
	for n := range intakeRoom + heldMost + 10 {
		i.sieve([]ipv4.Message{packet(true, n)}, now)
	}
	if lost := i.lost.packets.Load(); len(i.held) != heldMost || lost != 10 {
		t.Errorf("%d are held, at most %d may be; %d of 10 lost ones are counted", len(i.held), heldMost, lost)
	}
	// What was given belonged to connections, and nobody is shown.
	late := now.Add(intakeStuck + 1)
	if n := i.release(burst(8), late); n != 8 {
		t.Errorf("%d are given out of a queue that is taken for full for ever", n)
	}
	// Those who waited for too long are gone.
	if n := i.release(burst(8), now.Add(heldFor+1)); n != 0 || i.holds() {
		t.Errorf("%d are given out too late", n)
	}
	if lost := i.lost.packets.Load(); lost != 10+heldMost-8 {
		t.Errorf("%d lost ones are counted, there are %d", lost, 10+heldMost-8)
	}
}

// quic-go ends its reading by a deadline, and waits for the read. The reader's own
// deadlines do not lift that one, whenever it comes.
func TestIntakeLetsReadingEnd(t *testing.T) {
	s := stillSocket(t, 1)
	if !s.limitRead(time.Now().Add(time.Hour)) {
		t.Error("the reader has no deadline of its own")
	}
	if err := s.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if s.limitRead(time.Time{}) {
		t.Error("the reader has lifted quic-go's deadline")
	}
	var end error
	for range 3 {
		if _, end = s.ReadBatch(burst(1), 0); end != nil {
			break
		}
	}
	if !errors.Is(end, os.ErrDeadlineExceeded) {
		t.Errorf("the reading ended with: %v", end)
	}
}

// What is held is given out at once where there is room, although nothing comes.
func TestIntakeWaitsForNobody(t *testing.T) {
	s := stillSocket(t, 24)
	s.deadline.Lock() // without which the reader cannot wait for a time: else this does not end
	defer s.deadline.Unlock()
	for range 3 {
		if n, err := s.ReadBatch(burst(8), 0); n != 8 || err != nil {
			t.Errorf("%d are given out, error %v", n, err)
		}
	}
}

// stillSocket is one to which nothing comes, where some packets are held.
func stillSocket(t *testing.T, held int) *watchedSocket {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, s := watch(conn, new(unprocessed))
	for range held {
		s.intake.held = append(s.intake.held, heldPacket{addr: conn.LocalAddr(), since: time.Now()})
	}
	return s
}
