package origin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"spillway/edge/synctest"
)

// A zone answers a resolver's questions for A records from memory, whatever the
// name. nil is a server that fails.
type zone struct{ addrs atomic.Pointer[[]string] }

func (z *zone) set(addrs ...string) { z.addrs.Store(&addrs) }

func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go z.serve(far)
		return near, nil
	}}
}

// serve answers as over TCP, with a length before each message (RFC 1035 section
// 4.2.2), which is what the resolver speaks on anything but a packet connection.
func (z *zone) serve(c net.Conn) {
	defer c.Close()
	for {
		length := make([]byte, 2)
		if _, err := io.ReadFull(c, length); err != nil {
			return
		}
		query := make([]byte, int(length[0])<<8|int(length[1]))
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(query) != nil {
			return
		}
		m.Response, m.Additionals = true, nil
		addrs := z.addrs.Load()
		if addrs == nil {
			m.RCode = dnsmessage.RCodeServerFailure
		} else if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			for _, a := range *addrs {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
				})
			}
		}
		answer, _ := m.Pack()
		c.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
	}
}

// movable starts a server of a scheme on several loopback addresses with one
// port, and returns its address by name. It answers with its own address.
func movable(t *testing.T, scheme string, addrs ...string) string {
	t.Helper()
	port := ""
	for _, addr := range addrs {
		l, err := net.Listen("tcp", net.JoinHostPort(addr, strings.TrimPrefix(port, ":")))
		if err != nil {
			t.Fatal(err)
		}
		_, p, _ := net.SplitHostPort(l.Addr().String())
		port = ":" + p
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				w.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			io.WriteString(w, addr)
		}))
		server.Listener.Close()
		server.Listener = l
		if scheme == "h2c" {
			server.Config.Protocols = protocols((*http.Protocols).SetUnencryptedHTTP2)
		}
		server.Start()
		t.Cleanup(server.Close)
	}
	return scheme + "://app.test" + port
}

// TestFollowsNames: an origin follows its name to other addresses, even with
// connections that are never idle, and stays where it is when the name cannot be
// looked up.
func TestFollowsNames(t *testing.T) {
	for _, scheme := range []string{"http", "h2c"} {
		t.Run(scheme, func(t *testing.T) {
			server := movable(t, scheme, "127.0.0.1", "127.0.0.2")
			o := newOrigin(t, Config{Servers: []string{server}, Resolve: time.Hour})
			z := new(zone)
			o.names.ask = z.resolver().LookupNetIP
			o.names.kept.Store(true) // as if Run were there; the look-ups are made by hand
			resolve := func() { o.resolve(t.Context(), o.config.Load()) }
			ask := func() string {
				t.Helper()
				resp, err := o.ask(t)
				return bodyOf(t, resp, err)
			}

			z.set("127.0.0.1")
			if got := ask(); got != "127.0.0.1" {
				t.Errorf("got %s", got)
			}
			slow, err := o.Do(Outgoing(t.Context(), get(t, "/slow"), visitor, nil), o.acquire(t))
			if err != nil {
				t.Fatal(err)
			}
			defer slow.Body.Close() // else its server waits for its end for ever
			z.set("127.0.0.2")
			resolve()
			if got := ask(); got != "127.0.0.2" {
				t.Errorf("after the move: got %s", got)
			}
			slow.Body.Close() // was left alone until here

			z.addrs.Store(nil)
			resolve()
			o.retire() // a new connection is needed
			if got, s := ask(), o.State(); got != "127.0.0.2" || s.ResolveFailures != 1 {
				t.Errorf("without an answer: got %s, %d failures", got, s.ResolveFailures)
			}

			// One more address is no reason to give up connections, one less is if it
			// stays away.
			link := o.pool.all()[0].link.Load()
			z.set("127.0.0.1", "127.0.0.2")
			resolve()
			if o.pool.all()[0].link.Load() != link {
				t.Error("connections were given up for an address that was added")
			}
			z.set("127.0.0.1")
			for range absentToGo - 1 {
				resolve()
			}
			if o.pool.all()[0].link.Load() != link {
				t.Error("connections were given up for an address that may come back")
			}
			resolve()
			if got := ask(); got != "127.0.0.1" {
				t.Errorf("got %s", got)
			}
			for o.State().ReadAhead > 0 { // the slow one's, until its read has ended
				runtime.Gosched()
			}
			o.checkRest(t)
		})
	}
}

// TestSomeOfMany: answers that hold some of the addresses, and others each time,
// are no move.
func TestSomeOfMany(t *testing.T) {
	f := func(name string, size int) {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			o := newOrigin(t, Config{Servers: []string{"http://app.test"}})
			o.pool.log = slog.New(slog.NewTextHandler(&log, nil))
			all := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}
			asked := 0
			o.names.ask = func(context.Context, string, string) (answer []netip.Addr, err error) {
				for i := range size {
					answer = append(answer, all[(asked+i)%len(all)])
				}
				asked++
				return answer, nil
			}
			for range len(all) {
				o.resolve(t.Context(), o.config.Load())
			}
			log.Reset()
			link := o.pool.all()[0].link.Load()
			for range 20 {
				o.resolve(t.Context(), o.config.Load())
			}
			if o.pool.all()[0].link.Load() != link || log.Len() > 0 {
				t.Errorf("connections were given up: %s", log.String())
			}
		})
	}
	f("two of three", 2)
	f("one of three", 1)
}

// TestAddressesCount: which addresses are gone is told once, and not with each
// answer however they change; and those that are known do not pile up.
func TestAddressesCount(t *testing.T) {
	f := func(name string, answers, most, known int, answer func(i int) []byte) {
		t.Helper()
		found, times := &found{absent: map[netip.Addr]int{}}, 0
		for i := range answers {
			var addrs []netip.Addr
			for _, last := range answer(i) {
				addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, last}))
			}
			if len(found.update(addrs)) > 0 {
				times++
			}
			if len(found.absent) > known {
				t.Fatalf("%s: %d addresses are known", name, len(found.absent))
			}
		}
		if times > most || times == 0 && most > 0 {
			t.Errorf("%s: connections were given up %d times, want %d", name, times, most)
		}
	}
	f("one of many", 210, 30, 2*absentToGo, func(i int) []byte { return []byte{byte(i)} })
	f("some of many", 210, 30, 16*absentToGo, func(i int) []byte {
		return []byte{byte(8 * i), byte(8*i + 1), byte(8*i + 2), byte(8*i + 3), byte(8*i + 4), byte(8*i + 5), byte(8*i + 6), byte(8*i + 7)}
	})
	f("a move", 100, 1, 2, func(i int) []byte { return []byte{byte(min(i/9, 1))} })
	f("one less", 100, 1, 2, func(i int) []byte { return []byte{0, 1}[:2-min(i/9, 1)] })
	f("the same", 100, 0, 2, func(int) []byte { return []byte{0, 1} })
}

// TestResolveInRun: Run looks names up at once, then again and again.
func TestResolveInRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{"http://app.test", "http://127.0.0.3", "unix:/x"}, Resolve: 10 * time.Second})
		var answer atomic.Pointer[netip.Addr]
		o.names.ask = func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if host != "app.test" {
				t.Errorf("asked for %s", host)
			}
			return []netip.Addr{*answer.Load()}, nil
		}
		set := func(addr string) {
			a := netip.MustParseAddr(addr)
			answer.Store(&a)
		}
		ctx, stop := contextOf(t)
		done := make(chan error)
		set("127.0.0.1")
		go func() { done <- o.Run(ctx) }()
		synctest.Wait()
		for _, addr := range []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"} {
			was := o.names.of("app.test")
			set(addr)
			time.Sleep(10*time.Second - time.Nanosecond)
			if got := o.names.of("app.test"); len(got) != 1 || got[0] != was[0] {
				t.Errorf("looked up early: %v", got)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if got := o.names.of("app.test"); len(got) != 1 || got[0].String() != addr {
				t.Errorf("got %v, want %s", got, addr)
			}
		}
		stop()
		<-done
	})
}

// TestUnreachableAddress: the next address is tried while there is time, and
// without an answer those that were known.
func TestUnreachableAddress(t *testing.T) {
	server := movable(t, "http", "127.0.0.1")
	o := newOrigin(t, Config{Servers: []string{server}})
	z := new(zone)
	z.set("127.0.0.9", "127.0.0.1")
	o.names.ask = z.resolver().LookupNetIP
	for range 8 {
		resp, err := o.ask(t)
		if got := bodyOf(t, resp, err); got != "127.0.0.1" {
			t.Errorf("got %s", got)
		}
		o.retire()
	}
	z.addrs.Store(nil)
	resp, err := o.ask(t)
	if got := bodyOf(t, resp, err); got != "127.0.0.1" {
		t.Errorf("without an answer: got %s", got)
	}
	z.set()
	_, _, err = o.names.lookup(t.Context(), "other.test")
	if dns := (*net.DNSError)(nil); !errors.As(err, &dns) {
		t.Error(err)
	}
}

// TestSpread: every address of the first family comes first at times, and no
// other one ever does.
func TestSpread(t *testing.T) {
	addrs := []netip.Addr{
		netip.MustParseAddr("::1"), netip.MustParseAddr("::2"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"),
	}
	first := map[netip.Addr]int{}
	for range 100 {
		got := spread(addrs)
		if len(got) != 4 || !got[0].Is6() || !got[1].Is6() {
			t.Fatal(got)
		}
		first[got[0]]++
	}
	if len(first) != 2 {
		t.Error(first)
	}
}
