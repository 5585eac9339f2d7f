package serve

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A request in flight when the program is told to stop gets its answer.
func TestFinishesRequestsInFlight(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	address := make(chan string, 1)
	entered := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-ctx.Done()
		_, _ = io.WriteString(w, "whole")
	})
	done := make(chan error, 1)
	go func() {
		// A machine may stand still for as long as the grace is.
		done <- listenAndServe(ctx, "127.0.0.1:0", h, time.Minute, func(a net.Addr) { address <- a.String() })
	}()

	go func() {
		<-entered
		cancel()
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + <-address)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != "whole" {
		t.Fatalf("body %q, %v", body, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = HTTP(t.Context(), l.Addr().String(), http.NotFoundHandler(), func(net.Addr) { t.Error("ready") })
	if err == nil || !strings.Contains(err.Error(), "listen on "+l.Addr().String()) {
		t.Fatalf("error %v does not name the address", err)
	}
}

func TestAnnounce(t *testing.T) {
	f := func(asJSON bool, want string) {
		t.Helper()
		var b bytes.Buffer
		Announce(&b, asJSON, "http://127.0.0.1:9")
		if b.String() != want {
			t.Fatalf("%q, want %q", b.String(), want)
		}
	}
	f(false, "listening on http://127.0.0.1:9\n")
	f(true, `{"listening":"http://127.0.0.1:9"}`+"\n")
}

func TestProxied(t *testing.T) {
	f := func(header string, want bool) {
		t.Helper()
		r := httptest.NewRequest("POST", "/control", nil)
		if header != "" {
			r.Header.Set(header, "x")
		}
		if Proxied(r) != want {
			t.Fatalf("Proxied with %q = %v", header, !want)
		}
	}
	f("", false)
	f("X-Forwarded-For", true)
	f("Forwarded", true)
	f("Via", true)
	f("X-Real-Ip", false)
}
