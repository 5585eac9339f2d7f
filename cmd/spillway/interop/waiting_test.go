package interop

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// noIcon begins a page of which the browser asks for one thing at a time: the origin takes
// no two, and who waits there for a second is turned away.
const noIcon = "<!doctype html><link rel=icon href=data:,>"

// TestChromiumWaits lets a browser come when the origin is taken and others are
// about to wait. It must be told to wait, load the page again by itself, stand at
// the door, be let in with all that belongs to the page, and go on to a second one
// while others wait.
func TestChromiumWaits(t *testing.T) {
	program := need(t, "chromium", "chromium")
	o := newOrigin(t)
	inside, leave := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Cache-Control", "no-store")
		switch r.URL.Path {
		case "/taken":
			close(inside)
			select {
			case <-leave:
			case <-r.Context().Done(): // the test has failed, and ends the node
			}
		case "/first":
			io.WriteString(w, noIcon+"<script>fetch('/bytes/1024').then(() => location = '/second')</script>")
		case "/second":
			io.WriteString(w, noIcon+"<script>fetch('/report', {method: 'POST', body: '{}'})</script>")
		default:
			o.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	// The origin is taken until the browser has come, which a busy machine starts slowly.
	n := startNode(t, settings{server: server.URL, origin: ", limit: {max: 1}, timeout: 10m", route: ", waiting: {}"})

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: n.tls("h2", "http/1.1"), ForceAttemptHTTP2: true}}
	get := func(path, mode string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+path, nil)
		if err != nil {
			return 0
		}
		req.Header.Set("Sec-Fetch-Mode", mode)
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	go get("/taken", "cors")
	<-inside
	output, quit := browse(t, chromium(t, program, n, "/first", "--disable-quic"))
	defer quit()
	await(t, "the browser stands at the door", func() bool { return n.metric(t, "spillway_waiting_at_door") > 0 })
	if status := get("/other", "navigate"); status != http.StatusServiceUnavailable {
		t.Errorf("another visitor was answered %d meanwhile", status)
	}
	close(leave)
	o.report(t, output)
	outcomes := map[string][]string{}
	for _, line := range n.logged(t) {
		outcomes[line.Path] = append(outcomes[line.Path], line.Outcome)
	}
	first := outcomes["/first"]
	if len(first) < 2 || first[0] != "waiting" || first[len(first)-1] != "queued" {
		t.Errorf("the first page went %v", first)
	}
	for _, path := range []string{"/bytes/1024", "/second"} {
		if got := outcomes[path]; len(got) != 1 || got[0] != "origin" && got[0] != "queued" {
			t.Errorf("%s went %v", path, got)
		}
	}
}
