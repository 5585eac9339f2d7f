package edge_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"

	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

// Handshakes that nobody goes on with hold a shutdown up for as long as they ever may
// last, and never beyond its deadline.
func TestShutdownEndsWithHalfOpenHandshakes(t *testing.T) {
	f := func(deadline, want time.Duration, cut error) {
		t.Helper()
		edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
			for range 3 {
				if _, err := n.DialTLS(t, "h2"); err != nil {
					t.Fatal(err)
				}
				n.Abandon(t)
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			begin := time.Now()
			err := n.Listeners.Shutdown(ctx)
			if took := time.Since(begin); !errors.Is(err, cut) || took > want {
				t.Errorf("with %s: %v after %s, want %v within %s", deadline, err, took, cut, want)
			}
		})
	}
	f(3*time.Second, 3*time.Second, context.DeadlineExceeded)
	f(time.Minute, 7*time.Second, nil)
}

// Over HTTP/3 too a handshake that was begun goes on, and the first request is answered.
func TestShutdownServesHandshakesOfHTTP3(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Latency = 200 * time.Millisecond
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		answer := ask(n.Visitor(t, "h3").Client, n.URL())
		for n.Admit.State().HalfOpen == 0 {
			time.Sleep(time.Millisecond)
		}
		synctest.Wait() // the node is through with the packet
		done := shutDown(t.Context(), n)
		if got := <-answer; !strings.HasPrefix(got, "HTTP/3.0") {
			t.Errorf("who was in a handshake: %s", got)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A request that was sent over an idle connection before its visitor could know is
// answered, and the last one. Who sends none holds nobody up.
func TestShutdownAnswersWhatIsOnItsWay(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		v, silent := n.Visitor(t, "h1"), n.Visitor(t, "h1")
		read(t, v.Get(t, "/"))
		read(t, silent.Get(t, "/"))
		time.Sleep(10 * time.Second)
		begin := time.Now()
		done := shutDown(t.Context(), n)
		time.Sleep(1500 * time.Millisecond)
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
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A first request that comes in pieces is waited for, as long as it comes. Who has made
// a handshake and asks for nothing is not.
func TestShutdownWaitsForFirstRequestsThatCome(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		slow, err := n.DialTLS(t, "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		silent, err := n.DialTLS(t, "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		closed := make(chan time.Duration, 1)
		go func() {
			io.Copy(io.Discard, silent) // which begins with the handshake
			closed <- time.Since(begin)
		}()
		io.WriteString(slow, "GET / HTTP/1.1\r\n")
		synctest.Wait()
		done := shutDown(t.Context(), n)
		for _, field := range []string{"A", "B", "C", "D", "E", "F"} {
			time.Sleep(time.Second)
			io.WriteString(slow, field+": x\r\n")
		}
		io.WriteString(slow, "Host: "+edgetest.Host+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(slow), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); !strings.HasPrefix(got, "HTTP/1.1") || !resp.Close {
			t.Errorf("got %q, close %v", got, resp.Close)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := <-closed; took > 5*time.Second {
			t.Errorf("who asked for nothing was left %s", took)
		}
	})
}

// A connection of HTTP/2 that its visitor broke is served for a second after it was told
// so, and longer than the connection lasts. A shutdown leaves nobody behind who does that.
func TestShutdownWaitsForBrokenConnections(t *testing.T) {
	before := goleak.IgnoreCurrent()
	n := edgetest.New(http.HandlerFunc(echoProto)).Start(t)
	a := attack2(t, n)
	a.AllowIllegalWrites = true
	a.WriteData(0, true, nil) // RFC 9113 section 6.1: an error of the connection
	a.out.Flush()
	for told := false; !told; {
		f, err := a.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		_, told = f.(*http2.GoAwayFrame)
	}
	a.Close()
	n.Stop(t)
	goleak.VerifyNone(t, before)
}
