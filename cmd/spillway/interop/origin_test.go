package interop

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An arrival is a request as the origin got it.
type arrival struct {
	method, target string
	header         http.Header
	trailer        http.Header
	length         int64
	body           string // SHA-256, in hex
}

// An origin answers by a script, and remembers what asked for it, by the path.
type origin struct {
	*httptest.Server
	mu       sync.Mutex
	arrivals map[string]arrival
	reports  chan []byte // what pages say
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	o := &origin{arrivals: map[string]arrival{}, reports: make(chan []byte, 4)}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

// arrived returns the last request for a target.
func (o *origin) arrived(target string) (arrival, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a, ok := o.arrivals[target]
	return a, ok
}

// ServeHTTP answers by the first segment of the path.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if first == "socket" {
		echoSocket(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	o.note(r, body)
	w.Header().Set("Cache-Control", "no-store")
	switch first {
	case "bytes":
		n, _ := strconv.Atoi(rest)
		w.Header().Set("ETag", `"`+rest+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(pattern(n)))
	case "kept":
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", `"`+rest+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(kept(r.URL.Path)))
	case "echo":
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(body)
	case "fields":
		w.Header()["X-Many"] = []string{"one", "two, three", `"four, five"`}
		w.Header()["Set-Cookie"] = []string{"a=1; Path=/", "b=2; Path=/; Secure; HttpOnly"}
		w.Header().Set("Link", "</style.css>; rel=preload")
		io.WriteString(w, "fields")
	case "gzip":
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		w.Write(gzipped())
	case "hints":
		w.Header().Set("Link", "</style.css>; rel=preload; as=style")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "hinted")
	case "events":
		o.events(w, r)
	case "trailers":
		if rest == "announced" {
			w.Header().Set("Trailer", "X-Checksum")
		}
		io.WriteString(w, "trailed")
		http.NewResponseController(w).Flush()
		w.Header().Set(http.TrailerPrefix+"X-Checksum", "abc")
	case "page":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, strings.Replace(page, "ODD", odd, 1))
	case "hits":
		paths, _ := json.Marshal(hitPaths)
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, strings.Replace(hitsPage, "PATHS", string(paths), 1))
	case "report":
		o.reports <- body
	default:
		io.WriteString(w, r.RequestURI)
	}
}

func (o *origin) note(r *http.Request, body []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.arrivals[r.RequestURI] = arrival{
		r.Method, r.RequestURI, r.Header.Clone(), r.Trailer.Clone(), r.ContentLength, digest(body),
	}
}

// events sends five events, and each only after the last has had time to be
// held back; the fifth ends the stream.
func (o *origin) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range 5 {
		fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i)
		http.NewResponseController(w).Flush()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

// pattern returns n bytes, the same each time, that no compression or cut
// leaves alike. They are made once: an origin that computes is one that saturates.
func pattern(n int) []byte { return allPattern()[:n:n] }

var allPattern = sync.OnceValue(func() []byte {
	b := make([]byte, 0, 8<<20+sha256.Size)
	for sum := sha256.Sum256([]byte("pattern")); len(b) < 8<<20; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b
})

// kept returns what the origin lets caches keep at a path /kept/SIZE/NAME: the path, again
// and again.
func kept(path string) []byte {
	_, rest, _ := strings.Cut(path, "/kept/")
	size, _, _ := strings.Cut(rest, "/")
	n, _ := strconv.Atoi(size)
	return []byte(strings.Repeat(path+"\n", n/(len(path)+1)+1))[:n]
}

func gzipped() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, strings.Repeat("compressed ", 1000))
	z.Close()
	return b.Bytes()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
