package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"spillway/origin/faas"
)

// A call is charged once, and so it is made once: not again on each of the idle
// connections that close without an answer.
func TestRequestIsSentOnce(t *testing.T) {
	f := func(method, body string, header http.Header) {
		t.Helper()
		const connections = 20
		var together sync.WaitGroup
		var dying atomic.Bool
		var runs atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if dying.Load() {
				runs.Add(1)
				panic(http.ErrAbortHandler)
			}
			together.Done()
			together.Wait()
		}))
		defer server.Close()
		p := provider(t, Config{URL: server.URL})
		together.Add(connections)
		var callers sync.WaitGroup
		for range connections {
			callers.Go(func() { invoke(t, p, request("GET", "/", "")) })
		}
		callers.Wait()
		dying.Store(true)
		r := request(method, "/", "")
		r.Body, r.Header = []byte(body), header
		e := failure(t, p, r)
		if n := runs.Load(); n != 1 || e.Class != faas.Unavailable || !e.Executed {
			t.Errorf("%s %q %v: the function ran %d times; executed %t: %v", method, body, header, n, e.Executed, e)
		}
	}
	f("GET", "", nil)
	f("HEAD", "", nil)
	f("OPTIONS", "", nil)
	f("GET", "body", nil)
	f("POST", "", nil)
	f("POST", "body", nil)
	f("POST", "", http.Header{"Idempotency-Key": {"1"}})
	f("POST", "body", http.Header{"Idempotency-Key": {"1"}})
	f("POST", "body", http.Header{"X-Idempotency-Key": {"1"}})
}

// A request without a body declares none.
func TestBodilessRequestHasNoFraming(t *testing.T) {
	f := func(method, want string) {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := fmt.Sprint(r.ContentLength, r.TransferEncoding); got != want {
				t.Errorf("%s: %s, want %s", method, got, want)
			}
		}))
		defer server.Close()
		invoke(t, provider(t, Config{URL: server.URL}), request(method, "/", ""))
	}
	f("GET", "0 []")
	f("HEAD", "0 []")
	f("POST", "0 []")
}

// The same with HTTP/2, whose client believes a server that says, after it ran
// the function, that it did not.
func TestRequestIsSentOnceByHTTP2(t *testing.T) {
	var runs atomic.Int32
	listener := refusing(t, &runs)
	p := provider(t, Config{URL: "https://" + listener.Addr().String()})
	shakeHands(p, &tls.Config{InsecureSkipVerify: true})
	e := failure(t, p, request("GET", "/", ""))
	if n := runs.Load(); n != 1 || !e.Executed {
		t.Errorf("the function ran %d times; executed %t: %v", n, e.Executed, e)
	}
}

// refusing is a server that answers each request with REFUSED_STREAM.
func refusing(t *testing.T, runs *atomic.Int32) net.Listener {
	t.Helper()
	borrowed := httptest.NewTLSServer(nil) // for its certificate
	certificates := borrowed.TLS.Certificates
	borrowed.Close()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		listener.Close()
		served.Wait()
	})
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			served.Go(func() {
				defer stop()
				refuse(conn, runs)
			})
		}
	})
	return listener
}

func refuse(conn net.Conn, runs *atomic.Int32) {
	defer conn.Close()
	if _, err := io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if _, ok := frame.(*http2.HeadersFrame); ok {
			runs.Add(1)
			if framer.WriteRSTStream(frame.Header().StreamID, http2.ErrCodeRefusedStream) != nil {
				return
			}
		}
	}
}
