package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spillway/config"
)

// TestNodeRenewsInTheBackground: the program runs what renews expired entries, counts
// it, and ends with a renewal under way.
func TestNodeRenewsInTheBackground(t *testing.T) {
	var asked atomic.Int64
	begun, given := make(chan struct{}), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if n == 3 {
			close(begun)
			<-r.Context().Done()
			close(given)
			return
		}
		w.Header().Set("CDN-Cache-Control", "max-age=10, stale-while-revalidate=600")
		w.Header().Set("Age", "20")
		fmt.Fprint(w, n)
	}))
	t.Cleanup(origin.Close) // when the node has ended, which gives up what it still asks for
	dir := t.TempDir()
	c, err := config.Parse(filepath.Join(dir, "spillway.yaml"), fmt.Appendf(nil, `
listen: 127.0.0.1:0
http: off
admin: unix:%s/a.sock
state: ""
log: {access: off}
tls: {self_signed: true}
origins: {app: {servers: [%q]}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`, dir, origin.URL), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, stop := runNode(t, c)
	metric := func(line string) bool {
		var metrics bytes.Buffer
		n.writeMetrics(&metrics)
		return strings.Contains(metrics.String(), line+"\n")
	}
	await := func(line string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !metric(line); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never: %s", line)
			}
		}
	}
	ask := func(want string) {
		t.Helper()
		if status, _, body, err := visit(n, "/"); status != 200 || body != want {
			t.Errorf("got %d %q (%v), want %q", status, body, err, want)
		}
	}
	ask("1")
	ask("1")
	await(`spillway_cache_renewals_total{result="ok"} 1`)
	ask("2")
	<-begun
	if !metric("spillway_cache_background_fetches 1") {
		t.Error("it is not counted while it is under way")
	}
	stop()
	<-given // up by the node
	if !metric(`spillway_cache_renewals_total{result="failed"} 1`) || !metric("spillway_cache_background_fetches 0") {
		t.Error("the renewal did not end with the node")
	}
}
