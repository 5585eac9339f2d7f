package flood

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func testRandom() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// What a checksum is part of sums up to ones (RFC 1071 section 1).
func TestChecksums(t *testing.T) {
	from, to := netip.MustParseAddrPort("203.0.113.9:4711"), nodeListens
	frame := make([]byte, 100)
	for range 2 { // the second time over what the first left
		putSYN(frame, from, to, 0xdeadbeef)
		segment := frame[ethernetLen+ipLen:][:synLen]
		if got := fold(sum(frame[ethernetLen:][:ipLen])); got != 0xffff {
			t.Errorf("the header of IP sums up to %#x", got)
		}
		if got := fold(sum(frame[ethernetLen+12:][:8]) + protocolTCP + synLen + sum(segment)); got != 0xffff {
			t.Errorf("the segment sums up to %#x", got)
		}
		putUDP(frame, from, to, 40)
		if got := fold(sum(frame[ethernetLen:][:ipLen])); got != 0xffff {
			t.Errorf("the header of IP sums up to %#x", got)
		}
	}
}

func TestGarbageIsAnInitial(t *testing.T) {
	b := newGarbage(testRandom())
	n := 6 + cidLen + 2
	length := int(binary.BigEndian.Uint16(b[n:]) &^ 0xc000)
	if len(b) != initialLen || b[0] != 0xc3 || b[5] != cidLen || b[n]>>6 != 1 || length != len(b)-n-2 {
		t.Errorf("%d bytes, payload of %d: %x", len(b), length, b[:n+2])
	}
	if &garbageID(b)[0] != &b[6] || len(garbageID(b)) != cidLen {
		t.Error("the connection ID is elsewhere")
	}
}

// testNetwork lays a cable, or skips the test.
func testNetwork(t *testing.T) network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip is not installed; scripts/setup installs it")
	}
	w, err := newNetwork(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

// TestFramesArrive sends a flood over the cable: real sockets get the datagrams, from
// where they say that they are, and the kernel answers the SYNs.
func TestFramesArrive(t *testing.T) {
	file := t.TempDir() + "/hellos"
	if err := writeHellos(t.Context(), file, 8); err != nil {
		t.Fatal(err)
	}
	hellos, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range profiles {
		for _, kind := range payloads {
			t.Run(fmt.Sprintf("%s %s", p, kind), func(t *testing.T) {
				w := testNetwork(t) // where nothing of another flood is still under way
				udp := listen(t, w)
				before := segments(t, w)
				o := order{Profile: p, Payload: kind, QUIC: nodeListens, TCP: nodeListens, Hellos: file, Rate: 2000}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				done := make(chan error, 1)
				go func() {
					done <- w.outside.do(-1, func() error {
						s, err := send(ctx, o)
						if err == nil && s.Packets == 0 {
							err = fmt.Errorf("nothing was sent in %s", s.Took)
						}
						return err
					})
				}()
				b := make([]byte, 2000)
				for range 20 {
					udp.SetReadDeadline(time.Now().Add(30 * time.Second))
					n, from, err := udp.ReadFromUDPAddrPort(b)
					if err != nil {
						t.Fatal(err)
					}
					if kind == hello && !bytes.Contains(hellos, b[:n]) || n != initialLen || b[0]&0xf0 != 0xc0 {
						t.Fatalf("%d bytes came: %x", n, b[:30])
					}
					if p == spoofed && !block.Contains(from.Addr()) {
						t.Errorf("a datagram is from %s", from)
					}
				}
				for answered := false; !answered; {
					now := segments(t, w)
					if now["InErrs"] > before["InErrs"] || now["InCsumErrors"] > before["InCsumErrors"] {
						t.Fatalf("the kernel takes SYNs for broken: %v", now)
					}
					answered = now["OutSegs"] > before["OutSegs"]
				}
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// listen opens the node's sockets, until the end of the test.
func listen(t *testing.T, w network) (udp *net.UDPConn) {
	t.Helper()
	err := w.node.do(-1, func() error {
		tcp, err := net.Listen("tcp4", nodeListens.String())
		if err != nil {
			return err
		}
		t.Cleanup(func() { tcp.Close() })
		udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(nodeListens))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	return udp
}

// segments are the kernel's counters of TCP at the node.
func segments(t *testing.T, w network) map[string]int {
	t.Helper()
	all := map[string]int{}
	err := w.node.do(-1, func() error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/net/snmp", os.Getpid(), unix.Gettid()))
		var names []string
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			switch {
			case fields[0] != "Tcp:":
			case names == nil:
				names = fields
			default:
				for i, name := range names[1:] {
					var v int
					fmt.Sscan(fields[i+1], &v)
					all[name] = v
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
