package edge_test

import (
	"net"
	"os"
	"strings"
	"testing"

	"spillway/edge"
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
