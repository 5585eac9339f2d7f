package interop

import (
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// hitPaths are what a page of hits consists of: less than a packet, more than one, more
// than a window, and many.
var hitPaths = func() (paths []string) {
	for _, size := range []int{0, 1000, 20_000, 300_000} {
		for i := range 10 {
			paths = append(paths, fmt.Sprintf("/kept/%d/%d", size, i))
		}
	}
	return paths
}()

// TestBrowsersGetHits lets browsers load a page that consists of hits, with fast paths and
// without. They see the same status, the same fields and the same bytes.
func TestBrowsersGetHits(t *testing.T) {
	protos := map[string]string{"http/1.1": "HTTP/1.1", "h2": "HTTP/2.0", "h3": "HTTP/3.0"}
	f := func(browser, proto string, open func(*testing.T, *node) *exec.Cmd) {
		t.Run(browser+" "+proto, func(t *testing.T) {
			saw := map[string]map[string]string{}
			for _, fastPath := range []string{"on", "off"} {
				o := newOrigin(t)
				setting := "{fast_path: " + fastPath + "}"
				n := startNode(t, settings{server: o.URL, more: strings.Replace("http1: X\nhttp2: X\nhttp3: X\n", "X", setting, 3)})
				n.keep(t)
				saw[fastPath] = visit(t, o, open(t, n))
				checkHits(t, saw[fastPath], proto)
				hits := 0
				for _, line := range n.logged(t) {
					if line.Outcome == "hit" && line.Proto == protos[proto] {
						hits++
					}
				}
				if hits < len(hitPaths) {
					t.Errorf("fast path %s: %d hits logged over %s, want %d", fastPath, hits, proto, len(hitPaths))
				}
			}
			if !maps.Equal(saw["on"], saw["off"]) {
				t.Errorf("with fast paths:\n%q\nwithout:\n%q", saw["on"], saw["off"])
			}
		})
	}
	for _, proto := range []string{"http/1.1", "h2", "h3"} {
		f("chromium", proto, func(t *testing.T, n *node) *exec.Cmd {
			return chromium(t, need(t, "chromium", "chromium"), n, "/hits", chromiumSpeaks[proto]...)
		})
	}
	f("firefox", "h2", func(t *testing.T, n *node) *exec.Cmd { return firefox(t, n, "/hits", false) })
	f("firefox", "h3", func(t *testing.T, n *node) *exec.Cmd { return firefox(t, n, "/hits", true, noBackup) })
}

// keep has the node keep what the page consists of.
func (n *node) keep(t *testing.T) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: n.tls("http/1.1"), DisableCompression: true}}
	defer client.CloseIdleConnections()
	for _, path := range hitPaths {
		resp, err := client.Get(n.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if outcome := resp.Header.Get("Spillway"); resp.StatusCode != http.StatusOK || strings.HasPrefix(outcome, "hit") {
			t.Fatalf("%s: %d, %s", path, resp.StatusCode, outcome)
		}
	}
}

// checkHits compares what a page reported with what was kept.
func checkHits(t *testing.T, seen map[string]string, proto string) {
	t.Helper()
	if seen["protocols"] != proto {
		t.Errorf("the browser speaks %s, not %s", seen["protocols"], proto)
	}
	for _, path := range hitPaths {
		parts := strings.Split(seen[path], "|")
		if len(parts) < 2 || parts[0] != "200" || parts[1] != digest(kept(path)) || !strings.Contains(seen[path], "|spillway: hit; reason=fresh") {
			t.Errorf("%s: the browser saw %q", path, seen[path])
		}
	}
}
