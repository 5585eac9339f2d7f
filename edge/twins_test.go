package edge_test

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/cache"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
)

// Twins are one node behind two doors: at one its fast paths are on, at the other they
// are off. Whatever bytes come, both must say the same.
type twins struct {
	*world
	on, off *edgetest.Node
	// fast counts what the fast paths have answered.
	fast atomic.Int64
	// known are the targets that the cache has, before each visit.
	known []*http.Request
}

// newTwins starts a node of which the cache has something of each kind.
func newTwins(t testing.TB) *twins {
	w := newWorldWith(t, "h1", 100, func(c *edge.Config, routes []edge.RouteConfig) {
		routes[0].Cache = cache.PolicyConfig{Compress: cache.CompressConfig{Codings: []string{"gzip"}}}
	})
	w.origin.says(knownOrigin)
	tw := &twins{world: w}
	for _, target := range []string{"a", "empty", "page", "large", "gone", "text", "vary", "b?c=d", "a%20b"} {
		tw.known = append(tw.known, secure(http.MethodGet, "https://edge.test/plain/"+target))
	}
	start := func(fastPath string) *edgetest.Node {
		setup := edgetest.New(edge.Counted{Server: w.server, Arrived: new(atomic.Int64), Fast: &tw.fast})
		setup.Config = w.config
		setup.Config.HTTP = "off"
		setup.Config.HTTP1.FastPath, setup.Config.HTTP2.FastPath, setup.Config.HTTP3.FastPath = fastPath, fastPath, fastPath
		setup.Admit.Enforce = false // each input is a connection, and many are abandoned
		n := setup.Start(t)
		n.Client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		n.Client.CurvePreferences = []tls.CurveID{tls.X25519}
		return n
	}
	tw.on, tw.off = start("on"), start("off")
	return tw
}

// knownOrigin says the same whenever it is asked, and nothing that changes what is
// stored of anything else.
func knownOrigin(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	name, stored := strings.CutPrefix(r.URL.Path, "/plain/")
	size := map[string]int{"a": 4, "b": 5, "a b": 6, "empty": 0, "page": 3000, "large": 100 << 10, "gone": 7, "text": 4 << 10, "vary": 8}
	if _, ok := size[name]; !stored || !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		// RFC 9111 section 4.4: only what succeeds makes the stored invalid.
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	h["Cache-Control"] = []string{"max-age=3600", "s-maxage=7200"}
	h.Set("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
	h.Set("Etag", `"`+fmt.Sprint(size[name])+`"`)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", fmt.Sprint(size[name]))
	h.Set("Set-Cookie2", "kept as it is")
	h.Set("Surrogate-Key", "a b")
	h.Set("X-Lower-And-UPPER", "  Kept; as \"it\" is  ")
	switch name {
	case "text":
		h.Set("Content-Type", "text/plain; charset=utf-8") // is compressed
	case "vary":
		h.Set("Vary", "X-Kind")
	case "gone":
		w.WriteHeader(http.StatusGone)
	}
	if r.Method == http.MethodGet {
		io.WriteString(w, page(r.URL.Path, size[name]))
	}
}

// prime has the cache know what it knew before the last visit.
func (tw *twins) prime(t testing.TB) {
	t.Helper()
	for _, r := range tw.known {
		if _, _, _, ok := tw.server.Hit(r); !ok {
			tw.server.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
}

// agree asks that a visit, made at both doors, ends in the same way. Where the node races
// with its visitor, such as for an answer that a reset overtakes, it may end in several;
// then one with the fast paths must be among those without. It is made again with more
// patience before that is judged.
func agree[V any](t *testing.T, tw *twins, visit func(*edgetest.Node, time.Duration) V, same func(on, off V) bool) {
	t.Helper()
	var ons, offs []V
	for _, patience := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second} {
		tw.prime(t)
		offs = append(offs, visit(tw.off, patience))
		tw.prime(t)
		ons = append(ons, visit(tw.on, patience))
		for _, off := range offs {
			if slices.ContainsFunc(ons, func(on V) bool { return same(on, off) }) {
				return
			}
		}
	}
	t.Fatalf("with fast paths:\n%+v\nwithout:\n%+v", ons[len(ons)-1], offs[len(offs)-1])
}

// compared is an answer in the form in which two of them are compared: a line for each field,
// in the order of their names, without what differs between any two requests.
func compared(fields []field, body []byte) string {
	lines := make([]string, 0, len(fields)+1)
	for _, f := range fields {
		lines = append(lines, lasting(strings.ToLower(f.name), f.value))
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		left, _, _ := strings.Cut(a, ": ")
		right, _, _ := strings.Cut(b, ": ")
		return strings.Compare(left, right)
	})
	text := string(body)
	if len(body) > 100 {
		text = fmt.Sprintf("%d bytes %x", len(body), sha256.Sum256(body))
	}
	return strings.Join(append(lines, fmt.Sprintf("body: %q", text)), "\n")
}

// lasting is a field without what time, chance and the port number change.
func lasting(name, value string) string {
	switch name {
	case "date":
		if _, err := http.ParseTime(value); err == nil {
			value = "a date"
		}
	case "age", "retry-after":
		value = numbers.ReplaceAllString(value, "N")
	case "cache-status":
		value = ttl.ReplaceAllString(value, "ttl=N")
	case "alt-svc":
		value = portNumber.ReplaceAllString(value, ":PORT")
	case "x-request-id":
		if ownID.MatchString(value) {
			value = "made"
		}
	}
	return name + ": " + value
}

var (
	numbers    = regexp.MustCompile(`\d+`)
	ttl        = regexp.MustCompile(`ttl=\d+`)
	portNumber = regexp.MustCompile(`:\d+`)
	ownID      = regexp.MustCompile(`^[0-9a-f]{24}$`)
)

// TestTwinsTellHits: at both doors a hit is one, so that what is compared is the fast
// path where there is one.
func TestTwinsTellHits(t *testing.T) {
	tw := newTwins(t)
	tw.prime(t)
	for _, node := range []*edgetest.Node{tw.on, tw.off} {
		for _, proto := range edgetest.Protocols {
			fast := tw.fast.Load()
			before := tw.server.Outcomes()[outcome.Hit]
			v := node.Visitor(t, proto)
			// HTTP/2 leaves to its library what its compression does not know, and what does not
			// fit into a frame; HTTP/3 what does not come at once. So it is asked until enough
			// was not left.
			enough, asked := int64(len(tw.known)-2), 0
			for ; asked < 2*len(tw.known) || node == tw.on && tw.fast.Load()-fast < enough && asked < 100*len(tw.known); asked++ {
				r := tw.known[asked%len(tw.known)]
				req, _ := http.NewRequest(http.MethodGet, v.URL+r.URL.RequestURI(), nil)
				req.Host = edgetest.Host
				resp, err := v.Client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.Header.Get("Spillway") != "hit; reason=fresh" || int64(len(body)) != resp.ContentLength && resp.ContentLength >= 0 {
					t.Errorf("%s %s: %d, %q, %d bytes, %v", proto, r.URL, resp.StatusCode, resp.Header.Get("Spillway"), len(body), err)
				}
				resp.Body.Close()
			}
			// A visitor may have the last answer before it is counted.
			counted := func() int { return int(tw.server.Outcomes()[outcome.Hit] - before) }
			await(t, fmt.Sprint(asked, " hits over ", proto), func() bool { return counted() >= asked })
			if got := counted(); got != asked {
				t.Errorf("%s: %d hits counted, want %d", proto, got, asked)
			}
			if got := tw.fast.Load() - fast; node == tw.on && got < enough || node == tw.off && got > 0 {
				t.Errorf("%s: %d hits of the fast path of %d", proto, got, asked)
			}
		}
	}
}
