package edge_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

// Flows that were steered here still come for a while, and are served and told to go
// when they have what they came for.
func TestHandOverTakesLateFlows(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		done := handOver(t.Context(), n)
		time.Sleep(9 * time.Second)
		c := dial3(t, n)
		time.Sleep(5 * time.Second)
		select {
		case id := <-c.words:
			t.Errorf("told to go (%d) before the first request", id)
		default:
		}
		later := dial3(t, n)
		if got := c.ask(t); got != "200" {
			t.Errorf("who came late: %s", got)
		}
		if got := later.ask(t); got != "200" {
			t.Errorf("who came later: %s", got)
		}
		if got := <-c.words; got != 1<<62-4 {
			t.Errorf("GOAWAY names %d", got)
		}
		for _, c := range []raw3{c, later} {
			c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A request may be on its way over a connection that is idle: it is not closed before
// its time, and told with the answer.
func TestHandOverLeavesIdleConnectionsTheirTime(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		v, silent := n.Visitor(t, "h1"), n.Visitor(t, "h1")
		read(t, v.Get(t, "/"))
		read(t, silent.Get(t, "/"))
		begin := time.Now()
		done := handOver(t.Context(), n)
		time.Sleep(s.Config.Timeouts.Idle - time.Second)
		resp, err := v.Post(v.URL, "", io.MultiReader(strings.NewReader("once")))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "once" || !resp.Close {
			t.Errorf("got %q, close %v", got, resp.Close)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		// To say goodbye over a pipe without a buffer may take 5 s.
		if took := time.Since(begin); took > s.Config.Timeouts.Idle+6*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// What has no end lasts until the deadline.
func TestHandOverCutsOffAtTheDeadline(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		resp := v.Get(t, "/")
		defer resp.Body.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		begin := time.Now()
		err := v.Node.Listeners.HandOver(ctx)
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Minute+time.Second {
			t.Errorf("%v after %s, want the end of the context", err, took)
		}
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("what was cut off ended well")
		}
	})
}

// A shutdown does not wait for the hand-over that it ends: idle connections are left the
// time that a request on its way takes.
func TestHandOverEndsWithAShutdown(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		v := n.Visitor(t, "h1")
		read(t, v.Get(t, "/"))
		done := handOver(t.Context(), n)
		synctest.Wait()
		begin := time.Now()
		if err := n.Listeners.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
