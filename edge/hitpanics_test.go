package edge_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// TestHitPanics: a panic at a hit, wherever it is, costs no other visitor anything. It is
// told of once in a while, as the libraries' are, and the exchange has ended.
func TestHitPanics(t *testing.T) {
	const small, large = "/plain/small", "/plain/large"
	paths := map[string][]string{"h1": {small, large}, "h2": {small}, "h3": {small, large}}
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newWorldWith(t, proto, 1, func(c *edge.Config, _ []edge.RouteConfig) {
				c.Log.Access = filepath.Join(t.TempDir(), "access.log")
			})
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Content-Type", "text/plain")
				body := "kept"
				if r.URL.Path == large {
					body = largeBody
				}
				cacheable(3600, body)(rw, r)
			})
			for _, path := range paths[proto] {
				w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "https://"+edgetest.Host+path))
			}
			begun, log, panics := time.Now(), new(logText), new(atomic.Int64)
			s := edgetest.New(edge.Brittle{Server: w.server, Panics: panics})
			s.Config.HTTP1.FastPath, s.Config.HTTP2.FastPath, s.Config.HTTP3.FastPath = "on", "on", "on"
			s.Log = slog.New(slog.NewTextHandler(log, nil))
			n := s.Start(t)
			for _, where := range []string{"find", "make", "log", "count"} {
				for _, path := range paths[proto] {
					for range 3 {
						askUntil(t, n.Visitor(t, proto), path, where, panics)
					}
				}
			}
			v := n.Visitor(t, proto)
			for range 50 { // each writes somewhere in the access log
				if got := read(t, v.Get(t, small)); got != "kept" {
					t.Fatalf("another visitor gets %q", got)
				}
			}
			await(t, "nothing in flight", func() bool {
				connections, guards, streams := n.Listeners.Busy()
				return w.server.InFlight() == 0 && w.gate.State().InFlight == 0 && w.cache.State().Pinned == 0 &&
					(connections == 1 || proto == "h3") && guards == 0 && streams == 0
			})
			if got, most := strings.Count(log.String(), "panic serving"), 1+int(time.Since(begun)/(10*time.Second)); got == 0 || got > most {
				t.Errorf("the log tells of %d panics, want at most %d:\n%s", got, most, log)
			}
		})
	}
}

// askUntil asks for a hit that is to panic until it does, and leaves.
func askUntil(t *testing.T, v *edgetest.Visitor, path, where string, panics *atomic.Int64) {
	t.Helper()
	defer v.CloseIdleConnections() // over HTTP/3 later, where streams were reset
	before := panics.Load()
	for tries := 0; panics.Load() == before; tries++ { // not each hit takes the fast path
		if tries == 1000 {
			t.Fatalf("%s: no panic at %s", path, where)
		}
		r, _ := http.NewRequest(http.MethodGet, v.URL+path, nil)
		r.Header.Set("X-Panic", where)
		if resp, err := v.Do(r); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

// A request that is given up in the read that brought it ends there, and so may panic there.
func TestFastHTTP2PanicAtReset(t *testing.T) {
	w := newFastWorld(t, asIs)
	panics := new(atomic.Int64)
	s := edgetest.New(edge.Brittle{Server: w.server, Panics: panics})
	s.Config.HTTP2.FastPath = "on"
	n := &world{node: s.Start(t)}
	for tries := 0; panics.Load() == 0; tries++ {
		if tries == 100 {
			t.Fatal("no panic")
		}
		c := talk(t, n)
		c.settle(t)
		c.get("/plain/10", "x-panic", "count") // which the library gets, for it changes the table
		c.send(t)
		c.answered(1)
		c.get("/plain/10")
		c.WriteRSTStream(c.get("/plain/10", "x-panic", "count"), http2.ErrCodeCancel)
		c.send(t)
		if h := c.hear(func(h *heard) bool { return len(h.goAways) > 0 || panics.Load() == 0 && len(h.answers) > 0 }); panics.Load() > 0 {
			if len(h.goAways) != 1 || h.goAways[0].ErrCode != http2.ErrCodeInternal || len(h.answers) != 1 {
				t.Errorf("heard %+v", h)
			}
		}
		c.conn.Close()
	}
	await(t, "nothing in flight", func() bool {
		connections, _, _ := n.node.Listeners.Busy()
		return w.server.InFlight() == 0 && w.gate.State().InFlight == 0 && connections == 0
	})
}
