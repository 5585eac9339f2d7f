package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"sync"
	"testing"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// visit asks for a page as a browser does, and returns the interim responses that came
// before the answer.
func (w *world) visit(t *testing.T, path string, header ...string) (hints []string, spillway string) {
	t.Helper()
	var mu sync.Mutex
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		mu.Lock()
		defer mu.Unlock()
		hints = append(hints, fmt.Sprint(code, " ", h["Link"]))
		return nil
	}}
	req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", w.visitor.URL+path, nil)
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.visitor.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(hints), resp.Header.Get("Spillway")
}

// page has the origin answer with a page that is to be validated each time, varies by
// language, and links to a style sheet and to another page.
func (w *world) page(early ...string) {
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
		h := rw.Header()
		for _, link := range early {
			h.Set("Link", link)
			rw.WriteHeader(http.StatusEarlyHints)
		}
		h.Set("Link", styleLink+", </next>; rel=next")
		h.Set("Cache-Control", "max-age=0")
		h.Set("Vary", "Accept-Language")
		h.Set("ETag", `"1"`)
		io.WriteString(rw, "page")
	})
}

const (
	styleLink  = "</style.css>; rel=preload; as=style"
	scriptLink = "</script.js>; rel=preload; as=script"
)

// TestEarlyHints: while a page is fetched anew, browsers that take it well are told
// what the stored one has to load early, once, and other requests nothing.
func TestEarlyHints(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) { testEarlyHints(t, newWorld(t, proto, 20)) })
	}
}

func testEarlyHints(t *testing.T, w *world) {
	f := func(want []string, path string, header ...string) {
		t.Helper()
		if w.visitor.Proto == "h1" {
			want = nil // RFC 8297 section 3
		}
		hints, spillway := w.visit(t, path, header...)
		if !slices.Equal(hints, want) {
			t.Errorf("%s %q: told %q, want %q (%s)", path, header, hints, want, spillway)
		}
	}
	stored := []string{"103 [" + styleLink + "]"}
	w.page()
	f(nil, "/plain/a", "Accept-Language", "de") // nothing is known of it
	f(stored, "/plain/a", "Accept-Language", "de")
	f(stored, "/plain/a", "Accept-Language", "fr") // of another variant
	f(nil, "/plain/a", "Sec-Fetch-Mode", "cors")
	f(nil, "/plain/a", "Range", "bytes=0-1")
	f(nil, "/plain/b")
	if hints, _ := w.visit(t, "/plain/c", "Accept-Language", "de"); hints != nil {
		t.Errorf("told %q", hints)
	}
	// A hit has nothing to wait for.
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", styleLink)
		cacheable(60, "page")(rw, r)
	})
	f(nil, "/plain/hit")
	f(nil, "/plain/hit")
}

// TestEarlyHintsOfBoth: the origin's own hints come after those of the store, and not
// at all if they say the same.
func TestEarlyHintsOfBoth(t *testing.T) {
	for _, proto := range []string{"h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t, proto, 20)
			w.page()
			w.visit(t, "/plain/a")
			w.page(styleLink, scriptLink)
			want := []string{"103 [" + styleLink + "]", "103 [" + scriptLink + "]"}
			if hints, _ := w.visit(t, "/plain/a"); !slices.Equal(hints, want) {
				t.Errorf("told %q", hints)
			}
		})
	}
}

// TestEarlyHintsWhileTheOriginIsFull: then it is not certain that there will be an
// answer.
func TestEarlyHintsWhileTheOriginIsFull(t *testing.T) {
	w := newWorld(t, "h2", 1)
	w.page()
	w.visit(t, "/stale/a")
	defer w.occupy(t)()
	if hints, spillway := w.visit(t, "/stale/a"); hints != nil || spillway != "stale; reason=origin-saturated" {
		t.Errorf("told %q (%s)", hints, spillway)
	}
}

// TestEarlyHintsOff: neither where they are switched off, nor where nothing is stored.
func TestEarlyHintsOff(t *testing.T) {
	w := newWorldWith(t, "h2", 20, func(_ *edge.Config, routes []edge.RouteConfig) {
		routes[0].EarlyHints, routes[2].Cache.Off = "off", true
	})
	w.page()
	for _, path := range []string{"/plain/a", "/plain/a", "/spill/a", "/spill/a"} {
		if hints, _ := w.visit(t, path); hints != nil {
			t.Errorf("%s: told %q", path, hints)
		}
	}
}

// TestHintsOfAFetchAreNotShared: who shares the answer is told what is stored, and
// nothing of what the origin says before it is known whether that may be shared.
func TestHintsOfAFetchAreNotShared(t *testing.T) {
	for _, proto := range []string{"h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t, proto, 20)
			keeps := func(rw http.ResponseWriter) {
				rw.Header().Set("Link", styleLink)
				rw.Header().Set("Cache-Control", "max-age=10")
				rw.Header().Set("Age", "20")
				io.WriteString(rw, "page")
			}
			w.origin.says(func(rw http.ResponseWriter, _ *http.Request) { keeps(rw) })
			w.visit(t, "/plain/a")
			release := make(chan struct{})
			w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
				<-release
				rw.Header().Set("Link", scriptLink)
				rw.WriteHeader(http.StatusEarlyHints)
				keeps(rw)
			})
			var mu sync.Mutex
			told := map[string]int{}
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					hints, spillway := w.visit(t, "/plain/a")
					mu.Lock()
					defer mu.Unlock()
					told[fmt.Sprint(spillway, hints)]++
				})
			}
			await(t, "the crowd", func() bool { return w.server.InFlight() == 10 && w.cache.State().Flights == 1 })
			close(release)
			wg.Wait()
			leader := fmt.Sprintf("origin[103 [%s] 103 [%s]]", styleLink, scriptLink)
			for who, n := range told {
				if who != leader && who != fmt.Sprintf("collapsed[103 [%s]]", styleLink) {
					t.Errorf("%d were told %s", n, who)
				}
			}
			if told[leader] == 0 {
				t.Errorf("told %v", told)
			}
		})
	}
}
