package edge_test

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/edgetest"
)

// passOn returns sockets as another process gets them.
func passOn(t *testing.T, s edge.Sockets) edge.Sockets {
	t.Helper()
	double := func(l net.Listener) net.Listener {
		file, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		heir, err := net.FileListener(file)
		if err != nil {
			t.Fatal(err)
		}
		return heir
	}
	return edge.Sockets{TCP: double(s.TCP), HTTP: double(s.HTTP)}
}

// The successor has the addresses of the process before, port 0 among them, and
// serves when that one has ended.
func TestInheritSockets(t *testing.T) {
	s := edgetest.New(nil)
	s.Config.HTTP = "127.0.0.1:0"
	opened, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := edge.InheritSockets(t.Context(), s.Config, passOn(t, opened))
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	f := func(what string, got, want net.Addr) {
		t.Helper()
		if got.String() != want.String() {
			t.Errorf("%s is at %s, want %s", what, got, want)
		}
	}
	f("TCP", inherited.TCP.Addr(), opened.TCP.Addr())
	f("HTTP", inherited.HTTP.Addr(), opened.HTTP.Addr())
	f("UDP", inherited.UDP[0].LocalAddr(), opened.UDP[0].LocalAddr())
	opened.Close()
	conn, err := net.Dial("tcp", inherited.TCP.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// Where the configuration has other addresses, they are opened, and what was passed
// on is closed.
func TestInheritSocketsElsewhere(t *testing.T) {
	s := edgetest.New(nil)
	s.Config.HTTP = "127.0.0.1:0"
	opened, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	s.Config.Listen, s.Config.HTTP = "127.0.0.2:0", "off"
	passed := passOn(t, opened)
	got, err := edge.InheritSockets(t.Context(), s.Config, passed)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if !strings.HasPrefix(got.TCP.Addr().String(), "127.0.0.2:") || got.HTTP != nil {
		t.Errorf("the successor listens on %s and %v", got.TCP.Addr(), got.HTTP)
	}
	if err := passed.HTTP.Close(); err == nil {
		t.Error("a socket that nobody needs is still open")
	}
}

// What a store keeps over a restart is all that the node listens on, UDP included, and
// none of it blocks a process that shares it.
func TestInheritSocketsFromAStore(t *testing.T) {
	s := edgetest.New(nil)
	s.Config.HTTP = "127.0.0.1:0"
	opened, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	files, err := opened.Files()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("socket %s has flags %#x, %v: it blocks", f.Name(), flags, err)
		}
		defer f.Close()
	}
	if want := []string{"https", "http", "quic"}; !slices.Equal(names, want) {
		t.Errorf("sockets %v, want %v", names, want)
	}
	at := opened.UDP[0].LocalAddr()
	opened.Close()
	// The store's are the only ones now: who binds the address anew is refused.
	if c, err := net.ListenPacket("udp", at.String()); err == nil {
		c.Close()
		t.Error("the UDP socket did not stay open")
	}
	stored, err := edge.AdoptSockets(files)
	if err != nil {
		t.Fatal(err)
	}
	got, err := edge.InheritSockets(t.Context(), s.Config, stored)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if len(got.UDP) != 1 || got.UDP[0].LocalAddr().String() != at.String() || got.UDP[0] != stored.UDP[0] {
		t.Errorf("UDP is at %v, want the one at %s", got.UDP, at)
	}
}

// Who cannot get the flows of QUIC from the process before does not serve, and must not
// say that it does: the one before would leave.
func TestListenersThatFailHaveNotStarted(t *testing.T) {
	s := edgetest.New(nil)
	socks, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	socks.UDP[0] = struct{ net.PacketConn }{socks.UDP[0]} // nothing that could be steered
	socks.Steering = edge.Steering{IDs: edgetest.ConnectionIDs(t, ""), Before: "single"}
	a := admit.New(admit.Config{}, 1)
	l, err := edge.NewListenersOn(socks, s.Config, []string{edgetest.Host}, a, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "steer UDP") {
		t.Errorf("Run returned %v", err)
	}
	select {
	case <-l.Started():
		t.Error("it said that it had started")
	default:
	}
}
