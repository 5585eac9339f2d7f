package edge_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/edgetest"
)

// Many tiny fields are refused like few large ones.
func TestBoundsHeaderFields(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		var many []string
		for i := range 130 {
			many = append(many, fmt.Sprint("X-", i), "1")
		}
		w.ask("GET", "/plain/a", "", many...).check(t, 431, "refused; reason=header-too-large", "")
		w.ask("GET", "/plain/a", "", many[:200]...).check(t, 200, "origin", "origin /plain/a")
		large := w.ask("GET", "/plain/a", "", "X", strings.Repeat("x", 40<<10))
		if large.err == nil && large.status != 431 {
			t.Errorf("a header of 40 KiB: %d, want 431", large.status)
		}
		w.ask("GET", "/plain/b", "").check(t, 200, "origin", "origin /plain/b")
	})
}

// Trailers are bounded as headers are, and one that is too large harms its own
// request only.
func TestBoundsTrailers(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		size := 0
		for _, values := range r.Trailer {
			size += len(strings.Join(values, ""))
		}
		fmt.Fprint(w, size)
	}
	edgetest.Run(t, http.HandlerFunc(h), func(t *testing.T, v *edgetest.Visitor) {
		ask := func(size int) string {
			r, _ := http.NewRequest(http.MethodPost, v.URL, io.MultiReader(strings.NewReader("body")))
			r.Trailer = http.Header{"Sum": {strings.Repeat("x", size)}}
			resp, err := v.Do(r)
			if err != nil {
				return "refused"
			}
			return read(t, resp)
		}
		if got := ask(100); got != "100" {
			t.Errorf("a small trailer: %q", got)
		}
		if got := ask(100 << 10); got == fmt.Sprint(100<<10) {
			t.Error("a trailer of 100 KiB was taken")
		}
		if got := ask(100); got != "100" {
			t.Errorf("after a large trailer: %q", got)
		}
	})
}

// A request that makes the node panic is logged, and cannot fill the log.
func TestBoundsPanicsInTheLog(t *testing.T) {
	var mu sync.Mutex
	var log strings.Builder
	setup := edgetest.New(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("at the request") }))
	setup.Log = slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(b)
	}), nil))
	setup.Run(t, func(t *testing.T, v *edgetest.Visitor) {
		mu.Lock()
		log.Reset()
		mu.Unlock()
		begun := time.Now()
		for range 20 {
			if resp, err := v.Client.Get(v.URL); err == nil {
				resp.Body.Close()
			}
		}
		told := func() int {
			mu.Lock()
			defer mu.Unlock()
			return strings.Count(log.String(), "panic serving")
		}
		await(t, "a panic in the log", func() bool { return told() > 0 })
		if n, most := told(), 1+int(time.Since(begun)/(10*time.Second)); n > most {
			t.Errorf("%d panics in the log, want at most %d", n, most)
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
