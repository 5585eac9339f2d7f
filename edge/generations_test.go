package edge_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"spillway/bpf"
	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/edgetest"
)

// An heir is a node at the address of another, in place of its process's successor.
type heir struct {
	*edgetest.Node
	socks    edge.Sockets
	visitors []*roamer
	name     string
}

// succeed starts a node of the next generation, which begins with visitors.
func (h *heir) succeed(t *testing.T, number int, steering edge.Steering) *heir {
	t.Helper()
	steering.Generation = number % 2
	next := &heir{name: fmt.Sprint("generation ", number)}
	s := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, next.name) }))
	if h == nil {
		next.socks = open(t, &s)
	} else {
		if err := h.socks.Hold(); err != nil {
			t.Fatal(err)
		}
		steering.Before = h.Listeners.State().UDPSteering
		next.socks = edge.Sockets{UDP: []net.PacketConn{beside(t, h.socks.UDP[0])}}
	}
	if err := next.socks.Steer(t.Context(), steering); err != nil {
		t.Fatal(err)
	}
	if h != nil {
		h.keeps(t) // although another has sockets there that nobody reads
	}
	next.Node = s.StartOn(t, next.socks)
	for newcomer := ""; newcomer != next.name; {
		var err error
		if newcomer, err = next.visit(t, h).ask(patient); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		next.visitors = append(next.visitors, next.visit(t, nil))
	}
	next.keeps(t)
	return next
}

// visit returns a newcomer, who until a node has begun may come to the one before.
func (h *heir) visit(t *testing.T, before *heir) *roamer {
	t.Helper()
	c := h.Client.Clone()
	if before != nil {
		c.InsecureSkipVerify = true
	}
	return newRoamer(t, h.Node, c)
}

// keeps checks that the node's visitors are still at it, and lets them move. Three
// moves are well for a connection; after more within milliseconds quic-go has, once in
// a thousand, no path left to answer on.
func (h *heir) keeps(t *testing.T) {
	t.Helper()
	for _, v := range h.visitors {
		if got, err := v.ask(patient); got != h.name || err != nil {
			t.Fatalf("a visitor of %s got %q, error %v", h.name, got, err)
		}
		v.move(t)
	}
}

// Five processes follow each other at one address: newcomers go to the newest, all
// others stay where they are until that has gone, whatever happens to their addresses.
func TestGenerations(t *testing.T) {
	f := func(t *testing.T, steering edge.Steering, sockets int) {
		var now *heir
		for number := range 5 {
			next := now.succeed(t, number, steering)
			if got := next.Listeners.State().UDPSockets; got != sockets {
				t.Fatalf("%d sockets", got)
			}
			if now != nil {
				now.keeps(t)
				now.Stop(t)
				next.keeps(t) // they have changed position
			}
			now = next
		}
	}
	t.Run("kernel", func(t *testing.T) {
		ids := edgetest.ConnectionIDs(t, "")
		f(t, edge.Steering{IDs: ids, Kernel: kernel(t, ids), Sockets: 3}, 3)
	})
	// Without a server ID one of 400 newcomers is taken for one who was here.
	t.Run("classic", func(t *testing.T) { f(t, edge.Steering{IDs: edgetest.ConnectionIDs(t, "8 bytes.")}, 1) })
}

// A successor that fails to start leaves all with the node that it was to replace.
func TestGenerationThatFails(t *testing.T) {
	steering := edge.Steering{IDs: edgetest.ConnectionIDs(t, "8 bytes.")}
	var none *heir
	now := none.succeed(t, 0, steering)
	if err := now.socks.Hold(); err != nil {
		t.Fatal(err)
	}
	failed := beside(t, now.socks.UDP[0])
	now.keeps(t)
	failed.Close()
	now.keeps(t)
	if got, err := now.visit(t, nil).ask(patient); got != now.name || err != nil {
		t.Errorf("a newcomer got %q, error %v", got, err)
	}
	now.succeed(t, 1, steering)
}

// A successor that comes to nothing leaves its program at the sockets, which knows no keys
// of later. A node that takes them back steers by its own again.
func TestRetakeSteers(t *testing.T) {
	ids := edgetest.ConnectionIDs(t, "")
	a := kernel(t, ids)
	var none *heir
	now := none.succeed(t, 0, edge.Steering{IDs: ids, Kernel: a, Sockets: 3})
	files, err := a.Files()
	if err != nil {
		t.Fatal(err)
	}
	failed, err := bpf.Load(bpf.Options{UDPPort: 443, ConnectionIDs: edgetest.ConnectionIDs(t, ""), Inherited: files})
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	socks := edge.Sockets{UDP: []net.PacketConn{beside(t, now.socks.UDP[0])}}
	steering := edge.Steering{IDs: ids, Kernel: failed, Generation: 1, Before: "kernel", Sockets: 1}
	if err := socks.Steer(t.Context(), steering); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(failed.Route(32, 1), socks.UDP[0].Close(), failed.Close()); err != nil {
		t.Fatal(err)
	}
	if err := now.Listeners.Retake(); err != nil {
		t.Fatal(err)
	}
	ids.SetKeys(bpf.Keys{{3}, {4}}, 1)
	if err := a.Configure(bpf.Config{Stale: time.Hour}); err != nil {
		t.Fatal(err)
	}
	now.visitors = nil // their IDs are of keys that are no more
	for range 10 {
		now.visitors = append(now.visitors, now.visit(t, nil))
	}
	now.keeps(t)
	now.keeps(t)
}

// A successor that cannot have the kernel steer beside sockets that the kernel steers is
// refused, and one whose kernel could is steered as the socket before it.
func TestGenerationsThatAreSteeredOtherwise(t *testing.T) {
	ids := edgetest.ConnectionIDs(t, "8 bytes.")
	in, out := edge.Steering{IDs: ids, Kernel: kernel(t, ids), Sockets: 3}, edge.Steering{IDs: ids}
	t.Run("out of the kernel", func(t *testing.T) {
		var none *heir
		now := none.succeed(t, 0, in)
		for _, other := range []edge.Steering{out, {IDs: ids, Kernel: refusing{in.Kernel}}} {
			other.Generation, other.Before = 1, "kernel"
			if err := now.socks.Hold(); err != nil {
				t.Fatal(err)
			}
			next := edge.Sockets{UDP: []net.PacketConn{beside(t, now.socks.UDP[0])}}
			if err := next.Steer(t.Context(), other); !errors.Is(err, edge.ErrOtherSteering) {
				t.Errorf("steering: %v", err)
			}
			now.keeps(t)
			next.Close()
			now.keeps(t)
		}
	})
	t.Run("into the kernel", func(t *testing.T) {
		var none *heir
		now := none.succeed(t, 0, out)
		for number := 1; number <= 2; number++ {
			next := now.succeed(t, number, in)
			if got := next.Listeners.State(); got.UDPSockets != 1 || got.UDPSteering != "classic" || got.UDPUnsteered == "" {
				t.Errorf("%d sockets, steering %s, %q", got.UDPSockets, got.UDPSteering, got.UDPUnsteered)
			}
			now.keeps(t)
			now.Stop(t)
			next.keeps(t)
			now = next
		}
	})
}

// refusing is a kernel that gives sockets their slots, and attaches nothing.
type refusing struct{ admit.Steering }

func (refusing) Steer(syscall.Conn) error { return bpf.ErrNoPrivilege }

// Several sockets that nothing steers stay as they are, each with its visitors, and
// cannot be handed over.
func TestUnsteeredSocketsAreNotHeld(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	socks := unsteered(t, &s, 4)
	n := s.StartOn(t, socks)
	var all []*roamer
	for range roamers {
		all = append(all, newRoamer(t, n, n.Client.Clone()))
	}
	ask := func() {
		t.Helper()
		for _, v := range all {
			if _, err := v.ask(patient); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask()
	if err := socks.Hold(); err == nil {
		t.Error("they are held")
	}
	ask()
}
