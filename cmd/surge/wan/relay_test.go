package wan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// runRelay runs a relay to the address until the test ends.
func runRelay(t *testing.T, to net.Addr, c Config) *Relay {
	t.Helper()
	c.Listen, c.To = "127.0.0.1:0", to.String()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if s := r.Stats(); s.Flows != 0 || s.Conns != 0 || r.places.Load() != 0 {
			t.Errorf("after the end %d flows, %d connections, %d places are left", s.Flows, s.Conns, r.places.Load())
		}
	})
	return r
}

// echoUDP answers each datagram with the address it came from and its content.
func echoUDP(t *testing.T) net.Addr {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort([]byte(from.String()+" "+string(buffer[:n])), from)
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return conn.LocalAddr()
}

func dialUDP(t *testing.T, from string, r *Relay) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(r.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a datagram and returns the echo: the address that the server saw.
func ask(t *testing.T, conn *net.UDPConn, text string) netip.AddrPort {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2000)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	seen, echoed, _ := strings.Cut(string(buffer[:n]), " ")
	if echoed != text {
		t.Fatalf("echo %q, want %q", echoed, text)
	}
	return netip.MustParseAddrPort(seen)
}

// The server sees each flow from one socket and from the visitor's own address.
func TestUDPKeepsFlowsAndAddresses(t *testing.T) {
	r := runRelay(t, echoUDP(t), Config{RTT: 2 * ms})
	seen := map[netip.AddrPort]string{}
	for _, from := range []string{"127.0.0.1", "127.1.2.3", "127.1.2.3", "127.200.0.9"} {
		conn := dialUDP(t, from, r)
		first := ask(t, conn, "one")
		if second := ask(t, conn, "two"); second != first {
			t.Errorf("one flow was seen from %v and %v", first, second)
		}
		if first.Addr() != netip.MustParseAddr(from) {
			t.Errorf("visitor %s was seen from %v", from, first)
		}
		if other, ok := seen[first]; ok {
			t.Errorf("visitors %s and %s share a socket", from, other)
		}
		seen[first] = from
	}
	s := r.Stats()
	if s.Flows != 4 || s.FlowsOpened != 4 || s.Up.Delivered != 8 || s.Down.Received != 8 {
		t.Errorf("stats %+v", s)
	}
}

func TestUDPOrder(t *testing.T) {
	r := runRelay(t, echoUDP(t), Config{RTT: 5 * ms, Jitter: 5 * ms})
	conn := dialUDP(t, "127.0.0.1", r)
	const n = 40 // few enough for any socket buffer
	for i := range n {
		if _, err := fmt.Fprintf(conn, "%d", i); err != nil {
			t.Fatal(err)
		}
	}
	buffer := make([]byte, 2000)
	for i := range n {
		k, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(string(buffer[:k]), " "); got != fmt.Sprint(i) {
			t.Fatalf("datagram %d is %s", i, got)
		}
	}
}

// What a flow loses is what its link says, and the counters add up.
func TestUDPLossIsCounted(t *testing.T) {
	c := Config{Loss: 0.5, Seed: 4}
	r := runRelay(t, echoUDP(t), c)
	conn := dialUDP(t, "127.0.0.1", r)
	up, down, _ := r.c.links(conn.LocalAddr().(*net.UDPAddr).AddrPort())
	wantUp, wantDown := 0, 0
	for i := range 60 {
		_, u := up.send(0, 1)
		arrives := u == passed
		if arrives {
			wantUp++
			_, d := down.send(0, 1)
			arrives = d == passed
		}
		if arrives {
			wantDown++
			ask(t, conn, fmt.Sprint(i))
		} else if _, err := fmt.Fprintf(conn, "%d", i); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, conn, &up, &down)
	s := r.Stats()
	if s.Up.Received != s.Up.Delivered+s.Up.Lost+s.Up.Dropped+s.Up.Failed || s.Up.Failed != 0 || s.Up.Dropped != 0 {
		t.Errorf("up: %+v", s.Up)
	}
	if wantUp == 0 || wantDown == wantUp || s.Up.Delivered < int64(wantUp) || s.Down.Delivered < int64(wantDown) {
		t.Errorf("delivered %d up and %d down, want at least %d and %d", s.Up.Delivered, s.Down.Delivered, wantUp, wantDown)
	}
}

// settle sends until an echo arrives: then all before it has been through the relay.
func settle(t *testing.T, conn *net.UDPConn, up, down *link) {
	t.Helper()
	for {
		_, u := up.send(0, 1)
		arrives := u == passed
		if arrives {
			_, d := down.send(0, 1)
			arrives = d == passed
		}
		if arrives {
			ask(t, conn, "last")
			return
		}
		if _, err := io.WriteString(conn, "more"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUDPFlowsAreBoundedAndExpire(t *testing.T) {
	r := runRelay(t, echoUDP(t), Config{MaxFlows: 2})
	a, b, c := dialUDP(t, "127.0.0.1", r), dialUDP(t, "127.0.0.1", r), dialUDP(t, "127.0.0.1", r)
	ask(t, a, "a")
	ask(t, b, "b")
	if _, err := io.WriteString(c, "refused"); err != nil {
		t.Fatal(err)
	}
	for s := r.Stats(); s.FlowsOpened+s.Up.Failed < 3; s = r.Stats() {
		time.Sleep(ms)
	}
	if s := r.Stats(); s.Flows != 2 || s.FlowsRefused != 1 || s.Up.Failed != 1 {
		t.Fatalf("stats %+v", s)
	}
	active := func(conn *net.UDPConn) time.Duration {
		r.mu.Lock()
		defer r.mu.Unlock()
		return time.Duration(r.flows[conn.LocalAddr().(*net.UDPAddr).AddrPort()].active.Load())
	}
	r.expire(min(active(a), active(b)) - 1)
	if s := r.Stats(); s.FlowsExpired != 0 {
		t.Fatalf("%d flows expired before their time", s.FlowsExpired)
	}
	r.expire(max(active(a), active(b)))
	if s := r.Stats(); s.FlowsExpired != 2 {
		t.Fatalf("%d flows expired, want 2", s.FlowsExpired)
	}
	for r.places.Load() > 0 { // the readers of the closed sockets end
		time.Sleep(ms)
	}
	ask(t, a, "a")
	if s := r.Stats(); s.FlowsOpened != 3 || s.Flows != 1 { // its port may be the one it had, by chance
		t.Errorf("an expired flow has kept its socket: %+v", s)
	}
}

func TestUDPDropsAboveTheMTU(t *testing.T) {
	r := runRelay(t, echoUDP(t), Config{})
	conn := dialUDP(t, "127.0.0.1", r)
	if _, err := conn.Write(make([]byte, maxPayload+1)); err != nil {
		t.Fatal(err)
	}
	ask(t, conn, strings.Repeat("x", 1400))
	if s := r.Stats(); s.Up.Dropped != 1 || s.Up.Delivered != 1 {
		t.Errorf("up: %+v", s.Up)
	}
}

// serveTCP runs f on each connection to it.
func serveTCP(t *testing.T, f func(*net.TCPConn)) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				f(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr()
}

func dialTCP(t *testing.T, from string, r *Relay) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTCP("tcp", &net.TCPAddr{IP: net.ParseIP(from)}, net.TCPAddrFromAddrPort(r.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// A client ends its half; the server sees the end, still answers, and ends too.
func TestTCPHalfClose(t *testing.T) {
	for _, c := range []Config{{}, {RTT: 10 * ms, Jitter: 2 * ms}, {Rate: 4 << 20}} {
		to := serveTCP(t, func(conn *net.TCPConn) {
			all, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("server: %v", err)
			}
			fmt.Fprintf(conn, "%s ", conn.RemoteAddr().(*net.TCPAddr).IP)
			_, _ = conn.Write(all)
		})
		r := runRelay(t, to, c)
		conn := dialTCP(t, "127.3.4.5", r)
		sent := make([]byte, 1<<20)
		for i := range sent {
			sent[i] = byte(rand.IntN(256))
		}
		go func() {
			_, _ = conn.Write(sent)
			_ = conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		from, echoed, _ := bytes.Cut(got, []byte(" "))
		if string(from) != "127.3.4.5" || !bytes.Equal(echoed, sent) {
			t.Errorf("%+v: from %.40s, %d bytes of %d", c, from, len(echoed), len(sent))
		}
	}
}

// What is not an orderly end is passed on as a failure.
func TestTCPReset(t *testing.T) {
	to := serveTCP(t, func(conn *net.TCPConn) {
		_, _ = io.WriteString(conn, "half")
		one := make([]byte, 1)
		_, _ = io.ReadFull(conn, one)
		reset(conn)
	})
	r := runRelay(t, to, Config{})
	conn := dialTCP(t, "127.0.0.1", r)
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "x"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d, %v; want a reset", n, err)
	}
}

// wantReset connects and expects to be reset, be it while connecting.
func wantReset(t *testing.T, r *Relay) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr().String())
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
}

func TestTCPServerGone(t *testing.T) {
	// A port that is not of those which the kernel gives to whoever asks for any.
	r := runRelay(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, Config{})
	wantReset(t, r)
	if s := r.Stats(); s.ConnsFailed != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestTCPConnectionsAreBounded(t *testing.T) {
	to := serveTCP(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	r := runRelay(t, to, Config{MaxFlows: 1})
	first := dialTCP(t, "127.0.0.1", r)
	if _, err := io.WriteString(first, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	wantReset(t, r)
	if s := r.Stats(); s.Conns != 1 || s.ConnsRefused != 1 {
		t.Errorf("stats %+v", s)
	}
}

// A relay that stops while connections are open leaves nothing behind; runRelay
// and leaktest look.
func TestStopsWithOpenConnections(t *testing.T) {
	to := serveTCP(t, func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) })
	r := runRelay(t, to, Config{RTT: time.Hour})
	dialTCP(t, "127.0.0.1", r)
	r2 := runRelay(t, to, Config{Rate: 100})
	conn := dialTCP(t, "127.0.0.1", r2)
	if _, err := conn.Write(make([]byte, 8000)); err != nil {
		t.Fatal(err)
	}
}

func TestNewRefuses(t *testing.T) {
	f := func(want string, c Config) {
		t.Helper()
		if c.Listen == "" {
			c.Listen = "127.0.0.1:0"
		}
		if c.To == "" {
			c.To = "127.0.0.1:9"
		}
		r, err := New(c)
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	f("listen", Config{Listen: ":1"})
	f("listen on 127.0.0.1:65536", Config{Listen: "127.0.0.1:65536"})
	f("to", Config{To: "127.0.0.1"})
	f("rtt", Config{RTT: -1})
	f("loss", Config{Loss: 1.1})
	f("slow", Config{Slow: -1})
	f("rate", Config{Rate: 5})
	f("queue", Config{Queue: 100})
	f("idle", Config{Idle: 1})
	f("max flows", Config{MaxFlows: -1})
}

func TestCommand(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		cmd := Command()
		cmd.SetArgs(append([]string{}, args...)) // nil would be the arguments of the test
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		err := cmd.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", args, err, want)
		}
	}
	f(`required flag(s) "to"`)
	f("give --rate too", "--to", "127.0.0.1:9", "--slow", "5%")
	f("--slow: want more than 0%", "--to", "127.0.0.1:9", "--slow", "0%", "--rate", "1KiB")
	f("share \"5\"", "--to", "127.0.0.1:9", "--loss", "5")
	f("want a number and one of", "--to", "127.0.0.1:9", "--rate", "16")

	ctx, stop := context.WithCancel(t.Context())
	out := &stopper{stop: stop}
	cmd := Command()
	cmd.SetArgs([]string{"--listen", "127.0.0.1:0", "--to", "127.0.0.1:9", "--json"})
	cmd.SetOut(out)
	if err := cmd.ExecuteContext(ctx); err != nil || !strings.Contains(out.String(), `"flows_opened":0`) {
		t.Errorf("output %s, %v", out.String(), err)
	}
}

// A stopper stops the program that wrote its first line to it.
type stopper struct {
	strings.Builder
	stop func()
}

func (s *stopper) Write(p []byte) (int, error) {
	defer s.stop()
	return s.Builder.Write(p)
}

// One datagram of full size there and back, with 32 in the air.
func BenchmarkUDPEcho(b *testing.B) {
	echo, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = echo.WriteToUDPAddrPort(buffer[:n], from)
		}
	}()
	r, err := New(Config{Listen: "127.0.0.1:0", To: echo.LocalAddr().String()})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	payload := make([]byte, 1250)
	for range 32 {
		_, _ = conn.Write(payload)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Read(payload); err != nil {
			b.Fatal(err)
		}
		_, _ = conn.Write(payload)
	}
	b.StopTimer()
	stop()
	<-done
}
