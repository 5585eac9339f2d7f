package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway/config"
)

// TestTicketsOutliveRestartsAndNodes lets a program wait at one node, and brings
// its ticket to others.
func TestTicketsOutliveRestartsAndNodes(t *testing.T) {
	alive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "done") }))
	t.Cleanup(alive.Close)
	t.Setenv("SHARED", "0123456789abcdef0123456789abcdef")
	t.Setenv("OTHER", "fedcba9876543210fedcba9876543210")
	ask := func(origin, more, ticket string) *http.Response {
		t.Helper()
		n := buildQuiet(t, strings.NewReplacer("DIR", t.TempDir(), "ORIGIN", origin, "MORE", more).Replace(`
listen: 127.0.0.1:0
http: off
admin: unix:DIR/a.sock
log: {access: off}
origins: {app: {servers: ["ORIGIN"]}}
sites: [{hosts: [default], routes: [{origin: app, waiting: {}}]}]
MORE`))
		r := httptest.NewRequest(http.MethodGet, "https://edge.test/", nil)
		r.Header.Set("Spillway-Ticket", ticket)
		w := httptest.NewRecorder()
		n.server.ServeHTTP(w, r)
		return w.Result()
	}
	f := func(more, there string, good bool) {
		t.Helper()
		told := ask("http://127.0.0.1:1", more, "")
		ticket := told.Header.Get("Spillway-Ticket")
		if told.StatusCode != http.StatusServiceUnavailable || ticket == "" {
			t.Fatalf("%d %v", told.StatusCode, told.Header)
		}
		got := ask(alive.URL, there, ticket)
		if pass := got.Header.Get("Spillway-Ticket"); got.StatusCode != http.StatusOK || (pass != "") != good {
			t.Errorf("%s, then %s: %d, pass %q", more, there, got.StatusCode, pass)
		}
	}
	const (
		none   = "tls: {self_signed: true}\nstate: ''"
		shared = "tls: {self_signed: true, secret: 'env:SHARED'}\nstate: ''"
		other  = "tls: {self_signed: true, secret: 'env:OTHER'}\nstate: ''"
	)
	kept := "tls: {self_signed: true}\nstate: " + t.TempDir()
	f(kept, kept, true)
	f(none, none, false)
	f(shared, shared, true)
	f(shared, other, false)
}

// TestBudgetsLetVisitsWait asks that a budget that says wait gives the routes of
// its functions a waiting room.
func TestBudgetsLetVisitsWait(t *testing.T) {
	f := func(exhausted string, waits bool) {
		t.Helper()
		n := buildQuiet(t, strings.NewReplacer("DIR", t.TempDir(), "EXHAUSTED", exhausted).Replace(quiet+`
budgets: {spill: {per_hour: $1, on_exhausted: EXHAUSTED}}
functions: {thumb: {provider: web, url: "http://127.0.0.1:1/", budget: spill, price: {platform: aws-lambda}}}
origins: {app: {servers: ["http://127.0.0.1:1"]}}
sites: [{hosts: [default], routes: [{origin: app, overflow: {to: [thumb]}}]}]
`))
		r := httptest.NewRequest(http.MethodGet, "https://edge.test/", nil)
		r.Header.Set("Sec-Fetch-Mode", "navigate")
		w := httptest.NewRecorder()
		n.server.ServeHTTP(w, r)
		if got := w.Result(); got.StatusCode != http.StatusServiceUnavailable || len(got.Cookies()) == 1 != waits {
			t.Errorf("%s: %d %v", exhausted, got.StatusCode, got.Header)
		}
	}
	f("wait", true)
	f("stale", false)
	f("shed", false)
}

// quiet begins the configuration of a node that says and keeps nothing, in the folder DIR.
const quiet = `listen: 127.0.0.1:0
http: off
admin: unix:DIR/a.sock
state: ""
log: {access: off}
tls: {self_signed: true}
`

// buildQuiet builds a node that is never run, and closes it when the test ends.
func buildQuiet(t *testing.T, text string) *node {
	t.Helper()
	c, err := config.Parse(filepath.Join(t.TempDir(), "spillway.yaml"), []byte(text), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	n, err := build(c, "spillway.yaml", new(inheritance), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		n.Run(ended)
	})
	return n
}
