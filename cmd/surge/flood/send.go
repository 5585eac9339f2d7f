package flood

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// A payload is what the Initials of a flood are.
type payload string

const (
	hello   payload = "hello"   // genuine ones of clients that never go on
	garbage payload = "garbage" // right as far as a packet filter can see
)

var payloads = []payload{hello, garbage}

// An order is what a sender is told, as JSON in its argument.
type order struct {
	Profile profile        `json:"profile"`
	Payload payload        `json:"payload"`
	Rate    int            `json:"rate"` // packets a second; 0 is as many as go
	QUIC    netip.AddrPort `json:"quic"`
	TCP     netip.AddrPort `json:"tcp"`
	Hellos  string         `json:"hellos"` // file
	// Most is how long it lasts if nobody ends it.
	Most time.Duration `json:"most"`
}

// A sent is what a sender says at its end.
type sent struct {
	Packets int64         `json:"packets"`
	Took    time.Duration `json:"took"`
}

// perSecond is the rate that it came to.
func (s sent) perSecond() float64 { return float64(s.Packets) / s.Took.Seconds() }

// sendCommand is the sender, a process of its own on a core of its own.
func sendCommand() *cobra.Command {
	return &cobra.Command{
		Use: "send ORDER", Short: "Send a flood (for surge flood itself)", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			var o order
			if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
				return fmt.Errorf("read the order: %w", err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), o.Most)
			defer cancel()
			done, err := send(ctx, o)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(done)
		},
	}
}

// How many packets go in one call of the kernel, and how late a sender may be before
// it gives up what it owes: a burst would be another experiment.
const (
	batchLen = 64
	maxDebt  = 20 * time.Millisecond
	pause    = 200 * time.Microsecond
)

// send floods until ctx ends.
func send(ctx context.Context, o order) (sent, error) {
	b, err := newBatch(o)
	if err != nil {
		return sent{}, err
	}
	fd, err := openPacketSocket()
	if err != nil {
		return sent{}, err
	}
	defer unix.Close(fd)
	began := time.Now()
	pace := began // when the next packet is due
	var packets int64
	for ctx.Err() == nil {
		n := batchLen
		if o.Rate > 0 {
			each := time.Second / time.Duration(o.Rate)
			late := time.Since(pace)
			if late > maxDebt {
				pace = pace.Add(late - maxDebt)
			}
			n = min(int(time.Since(pace)/each), batchLen)
			if n == 0 {
				time.Sleep(pause)
				continue
			}
			pace = pace.Add(time.Duration(n) * each)
		}
		b.fill(n)
		done, err := b.send(fd, n)
		packets += int64(done)
		if err != nil {
			return sent{}, err
		}
	}
	return sent{Packets: packets, Took: time.Since(began)}, nil
}

// openPacketSocket opens a socket that takes whole frames.
func openPacketSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	// What waits at the other end counts, and must not be what holds the sender up.
	const room = 64 << 20
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: outsideIndex})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set up a packet socket: %w", err)
	}
	return fd, nil
}

// A batch is frames that go together. Each is a header of its own and a payload that
// may be others' too.
type batch struct {
	order
	random   *rand.Rand
	hellos   []byte
	headers  [batchLen][headerLen + synLen]byte
	garbage  [batchLen][]byte
	parts    [batchLen][2]unix.Iovec
	messages [batchLen]message
}

// A message is struct mmsghdr of sendmmsg(2).
type message struct {
	header unix.Msghdr
	_      uint32 // how many bytes went
}

func newBatch(o order) (*batch, error) {
	b := &batch{order: o, random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))}
	if o.Payload == hello {
		var err error
		if b.hellos, err = os.ReadFile(o.Hellos); err != nil {
			return nil, err
		}
		if len(b.hellos) == 0 || len(b.hellos)%initialLen != 0 {
			return nil, fmt.Errorf("read ClientHellos: %d bytes are not some of %d", len(b.hellos), initialLen)
		}
	}
	for i := range b.messages {
		b.garbage[i] = newGarbage(b.random)
		b.messages[i].header.Iov = &b.parts[i][0]
		b.messages[i].header.SetIovlen(2)
		b.parts[i][0].Base = &b.headers[i][0]
	}
	return b, nil
}

// fill makes n new frames: one half Initials, the other SYNs.
func (b *batch) fill(n int) {
	for i := range n {
		from, header, parts := b.Profile.source(b.random), b.headers[i][:], &b.parts[i]
		if b.random.Uint32()&1 == 0 {
			putSYN(header, from, b.TCP, b.random.Uint32())
			parts[0].SetLen(ethernetLen + ipLen + synLen)
			parts[1].SetLen(0)
			continue
		}
		initial := b.initial(i)
		putUDP(header, from, b.QUIC, len(initial))
		parts[0].SetLen(headerLen)
		parts[1].Base = &initial[0]
		parts[1].SetLen(len(initial))
	}
}

// initial returns one that was not sent for a while.
func (b *batch) initial(i int) []byte {
	if b.Payload == hello {
		n := b.random.IntN(len(b.hellos) / initialLen)
		return b.hellos[n*initialLen:][:initialLen]
	}
	id := garbageID(b.garbage[i])
	for j := range id {
		id[j] = byte(b.random.Uint32())
	}
	return b.garbage[i]
}

// send sends the first n frames and returns how many went.
func (b *batch) send(fd, n int) (int, error) {
	for done := 0; ; {
		went, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.messages[done])), uintptr(n-done), 0, 0, 0)
		switch {
		case errno == unix.EINTR || errno == unix.ENOBUFS: // the other end has no room left
		case errno != 0:
			return done, fmt.Errorf("send frames: %w", errno)
		default:
			if done += int(went); done == n {
				return done, nil
			}
		}
	}
}
