package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"spillway/edge/synctest"
)

// A stuckWriter is the connection of a visitor who does not read until he is
// released.
type stuckWriter struct {
	header  http.Header
	release chan struct{}
	written []string
}

func (w *stuckWriter) Header() http.Header         { return w.header }
func (w *stuckWriter) Write(p []byte) (int, error) { return len(p), nil }

func (w *stuckWriter) WriteHeader(status int) {
	<-w.release
	w.written = append(w.written, fmt.Sprint(status, w.header))
}

// TestInformationalDoesNotWait: a visitor who does not read holds up neither the
// origin's connection nor its permit, and the final response still comes after
// the interim ones.
func TestInformationalDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{header: http.Header{"X": {"final"}}, release: make(chan struct{})}
		var i informational
		i.open(w, httptest.NewRequest("GET", "/", nil))
		for n := range 2 * interimMost {
			i.relay(http.StatusEarlyHints, http.Header{"N": {fmt.Sprint(n)}}) // returns
		}
		closed := false
		go func() {
			i.close()
			closed = true
		}()
		synctest.Wait()
		if closed {
			t.Error("the final response would begin inside an interim one")
		}
		close(w.release)
		synctest.Wait()
		if !closed {
			t.Fatal("close does not return")
		}
		i.relay(http.StatusEarlyHints, http.Header{})
		synctest.Wait()
		if len(w.written) != interimMost || w.written[1] != "103 map[N:[1]]" || fmt.Sprint(w.header) != "map[X:[final]]" {
			t.Errorf("wrote %q, and left %v", w.written, w.header)
		}
	})
}
