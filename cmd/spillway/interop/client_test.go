package interop

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// An ask is a request as a client is told to send it.
type ask struct {
	method, target string
	header         http.Header
	body           []byte
}

// A reply is what a client saw.
type reply struct {
	proto, status string
	hints         []string // Link fields of 103
	header        http.Header
	trailer       http.Header
	body          []byte
}

// A client sends requests by its own means.
type client struct {
	name string
	send func(t *testing.T, a ask) reply
}

// clients returns those that can send any request.
func clients(t *testing.T, n *node) []client {
	t.Helper()
	h1 := &http.Transport{TLSClientConfig: n.tls("http/1.1"), DisableCompression: true}
	h2 := &http.Transport{TLSClientConfig: n.tls("h2"), DisableCompression: true, ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: n.tls("h3"), DisableCompression: true, Dial: dial}
	t.Cleanup(func() { h1.CloseIdleConnections(); h2.CloseIdleConnections(); h3.Close() })
	all := []client{{"go-h1", n.goClient(h1)}, {"go-h2", n.goClient(h2)}, {"go-h3", n.goClient(h3)}}
	for name, flag := range map[string]string{"curl-h1": "--http1.1", "curl-h2": "--http2"} {
		all = append(all, client{name, func(t *testing.T, a ask) reply { return n.curl(t, flag, a) }})
	}
	return all
}

func (n *node) goClient(transport http.RoundTripper) func(*testing.T, ask) reply {
	return func(t *testing.T, a ask) reply {
		t.Helper()
		var got reply
		var mu sync.Mutex
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				mu.Lock()
				defer mu.Unlock()
				if code == http.StatusEarlyHints {
					got.hints = append(got.hints, h["Link"]...)
				}
				return nil
			},
		})
		req, err := http.NewRequestWithContext(ctx, a.method, n.url+a.target, bytes.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		if a.header != nil {
			req.Header = a.header.Clone()
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s %s: %v", a.method, a.target, err)
		}
		defer resp.Body.Close()
		if got.body, err = io.ReadAll(resp.Body); err != nil {
			t.Fatalf("%s %s: %v", a.method, a.target, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got.proto, got.status, got.header, got.trailer = resp.Proto, strconv.Itoa(resp.StatusCode), resp.Header, resp.Trailer
		return got
	}
}

// curl sends a request by curl, and reads the headers that it writes.
func (n *node) curl(t *testing.T, flag string, a ask, more ...string) reply {
	t.Helper()
	dir := t.TempDir()
	args := []string{
		flag, "--silent", "--show-error", "--cacert", n.ca, "--path-as-is", "--globoff", "--max-time", "60",
		"--dump-header", filepath.Join(dir, "header"), "--output", filepath.Join(dir, "body"),
	}
	switch {
	case a.method == http.MethodHead:
		args = append(args, "--head")
	case a.body != nil:
		file := filepath.Join(dir, "upload")
		if err := os.WriteFile(file, a.body, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--request", a.method, "--data-binary", "@"+file)
	default:
		args = append(args, "--request", a.method)
	}
	for name, values := range a.header {
		for _, v := range values {
			args = append(args, "--header", name+": "+v)
		}
	}
	args = append(append(args, more...), n.url+a.target)
	cmd := exec.CommandContext(context.Background(), need(t, "curl", "curl"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("curl %s: %v\n%s", a.target, err, out)
	}
	body, err := os.ReadFile(filepath.Join(dir, "body"))
	if err != nil && a.method != http.MethodHead && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if a.method == http.MethodHead {
		body = nil
	}
	header, err := os.ReadFile(filepath.Join(dir, "header"))
	if err != nil {
		t.Fatal(err)
	}
	got := parseHeaders(string(header))
	got.body = body
	return got
}

// parseHeaders reads the responses that curl dumped: informational ones, and
// at last the final one.
func parseHeaders(text string) reply {
	var got reply
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\r\n\r\n") {
		lines := strings.Split(block, "\r\n")
		words := strings.Fields(lines[0])
		h := http.Header{}
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ":")
			h.Add(name, strings.TrimSpace(value))
		}
		if words[1] == "103" {
			got.hints = append(got.hints, h["Link"]...)
			continue
		}
		if words[1] == "100" {
			continue
		}
		got.proto, got.status, got.header = words[0], words[1], h
	}
	return got
}
