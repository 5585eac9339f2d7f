package bench

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Source is the origin behind the caches that are compared. It counts how often
// each path was asked for.
//
//	/bytes/N        N bytes that may be kept, at once
//	/shared/ID      1 KiB that may be kept, after a second
//	/private/ID     1 KiB that may not, after a second
//	/drip/ID        1 MiB that may be kept, over two seconds
type Source struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
}

const (
	thinking  = time.Second // of the source, before it answers
	dripBytes = 1 << 20
	dripParts = 32
	dripTime  = 2 * time.Second
)

// NewSource starts a source on a port of loopback.
func NewSource() *Source {
	s := &Source{asked: map[string]int{}}
	s.Server = httptest.NewServer(s)
	return s
}

// Address is where it listens.
func (s *Source) Address() string { return s.Listener.Addr().String() }

// Count is how often a path was asked for.
func (s *Source) Count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func (s *Source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked[r.URL.Path]++
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	kind, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch kind {
	case "bytes":
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 || n > 1<<20 {
			http.Error(w, "no such size", http.StatusBadRequest)
			return
		}
		send(w, n)
	case "shared":
		time.Sleep(thinking)
		send(w, hitBytes)
	case "private":
		time.Sleep(thinking)
		w.Header().Set("Cache-Control", "no-store")
		send(w, hitBytes)
	case "drip":
		w.Header().Set("Content-Length", strconv.Itoa(dripBytes))
		for range dripParts {
			w.Write(make([]byte, dripBytes/dripParts))
			w.(http.Flusher).Flush()
			time.Sleep(dripTime / dripParts)
		}
	default:
		http.NotFound(w, r)
	}
}

func send(w http.ResponseWriter, n int) {
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.Write(make([]byte, n))
}
