package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"spillway/config"
)

// A fault is something that goes wrong behind the node, and what must come of
// it: the visitor's answer, one line of the access log, and a count.
type fault struct {
	name string
	// origin and function write what they like to a connection, once they have read
	// the head of a request. nil is a server that is not there.
	origin, function func(net.Conn)
	path             string // /plain never spills, /spill does
	status           int    // 0: the answer breaks off
	outcome, reason  string
}

func say(text string) func(net.Conn) {
	return func(c net.Conn) { io.WriteString(c, text) }
}

// sayAndStay says something and leaves the connection open.
func sayAndStay(text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, text)
		io.Copy(io.Discard, c)
	}
}

const answered = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

var faults = []fault{
	{"origin that is not there", nil, nil, "/plain", 503, "shed", "origin-down"},
	{"origin that hangs up", say(""), nil, "/plain", 502, "failed", "origin-failed"},
	{"origin that hangs up in its header", say("HTTP/1.1 200 OK\r\nContent-"), nil, "/plain", 502, "failed", "origin-failed"},
	{"origin that speaks no HTTP", say("220 mail.example.com ESMTP\r\n"), nil, "/plain", 502, "failed", "origin-failed"},
	{"origin with a huge header", say("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 300<<10) + "\r\n\r\n"), nil, "/plain", 502, "failed", "origin-failed"},
	{"origin with two lengths", say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"), nil, "/plain", 502, "failed", "origin-failed"},
	{"origin with a length that is none", say("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok"), nil, "/plain", 502, "failed", "origin-failed"},
	{"origin with no such status", say("HTTP/1.1 42 Odd\r\nContent-Length: 0\r\n\r\n"), nil, "/plain", 502, "failed", "origin-failed"},
	{"origin that ends too early", say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), nil, "/plain", 0, "failed", "aborted"},
	{"origin with a bad chunk", say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"), nil, "/plain", 0, "failed", "aborted"},
	{"origin that ends between chunks", say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), nil, "/plain", 0, "failed", "aborted"},
	{"function that is not there", nil, nil, "/spill", 503, "shed", "function-unavailable"},
	// It may have run: that is a failure, not a shed request.
	{"function that hangs up", nil, say(""), "/spill", 502, "failed", "origin-down"},
	{"function that answers garbage", nil, say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{garbage}"), "/spill", 502, "failed", "function-error"},
	{"function that fails", nil, say("HTTP/1.1 200 OK\r\nX-Amz-Function-Error: Unhandled\r\nContent-Length: 52\r\n\r\n" +
		`{"errorType":"X","errorMessage":"secret","stack":[]}`), "/spill", 502, "failed", "function-error"},
	{
		"function that is throttled", nil, say("HTTP/1.1 429 Too Many Requests\r\nX-Amzn-ErrorType: TooManyRequestsException\r\nContent-Length: 2\r\n\r\n{}"),
		"/spill", 503, "shed", "function-throttled",
	},
}

// silences are the faults that show when the node's patience is over. The others show
// whatever the machine is busy with meanwhile.
var silences = []fault{
	{"origin that says nothing", sayAndStay(""), nil, "/plain", 504, "failed", "origin-timeout"},
	{"origin whose header never ends", sayAndStay("HTTP/1.1 200 OK\r\nX-A: b\r\n"), nil, "/plain", 504, "failed", "origin-timeout"},
	{"origin that stops in its body", sayAndStay("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), nil, "/plain", 0, "failed", "aborted"},
	{"function that says nothing", nil, sayAndStay(""), "/spill", 504, "failed", "function-timeout"},
}

// backend is a server that does one thing. It returns its address.
func backend(t *testing.T, does func(net.Conn)) string {
	t.Helper()
	if does == nil {
		return "127.0.0.1:1" // nobody else takes this port, either
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				head := make([]byte, 0, 4096)
				for !bytes.Contains(head, []byte("\r\n\r\n")) {
					n, err := c.Read(head[len(head):cap(head)])
					if err != nil {
						return
					}
					head = head[:len(head)+n]
				}
				does(c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestFaultsBehindTheNode(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "example")
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { f.run(t, "20s") })
	}
	for _, f := range silences {
		t.Run(f.name, func(t *testing.T) { f.run(t, "1s") })
	}
}

func (f fault) run(t *testing.T, timeout string) {
	dir := t.TempDir()
	good := backend(t, say(answered))
	file := fmt.Sprintf(`
listen: 127.0.0.1:0
http: off
admin: unix:%[1]s/a.sock
state: ""
log: {access: %[1]s/access.log}
tls: {self_signed: true}
origins:
  bad: {servers: ["http://%[2]s"], timeout: %[5]s}
  good: {servers: ["http://%[3]s"]}
functions: {f: {provider: lambda, function: f, region: eu-central-1, endpoint: "http://%[4]s", timeout: %[5]s}}
sites:
  - hosts: [default]
    routes:
      - {match: {path: /good}, origin: good}
      - {match: {path: /spill}, origin: bad, overflow: {to: [f]}}
      - {match: {path: /plain}, origin: bad}
`, dir, backend(t, f.origin), good, backend(t, f.function), timeout)
	c, err := config.Parse(filepath.Join(dir, "spillway.yaml"), []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := build(c, "spillway.yaml", new(inheritance), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()

	status, header, body, err := visit(n, f.path)
	switch {
	case f.status == 0 && err == nil:
		t.Errorf("got %d and a clean end of %q", status, body)
	case f.status != 0 && (err != nil || status != f.status):
		t.Errorf("got %d %q (%v), want %d", status, body, err, f.status)
	case status == 503 && header.Get("Retry-After") == "":
		t.Error("no Retry-After")
	}
	if strings.Contains(body, "secret") {
		t.Error("what a function said when it failed reached the visitor")
	}
	var metrics bytes.Buffer
	n.writeMetrics(&metrics)
	if want := fmt.Sprintf(`spillway_requests_total{outcome=%q,reason=%q} 1`, f.outcome, f.reason); !strings.Contains(metrics.String(), want) {
		t.Errorf("no metric %s in\n%s", want, regexp.MustCompile(`(?m)^spillway_requests_total.*`).FindAllString(metrics.String(), -1))
	}
	// Whatever it was, the node goes on.
	if status, _, body, err := visit(n, "/good"); status != 200 || body != "ok" {
		t.Errorf("afterwards: %d %q (%v)", status, body, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	lines, err := os.ReadFile(filepath.Join(dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	for text := range bytes.Lines(lines) {
		var line struct{ Outcome, Reason, Path string }
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatal(err)
		}
		if line.Path == f.path && line.Outcome == f.outcome && line.Reason == f.reason {
			return
		}
	}
	t.Errorf("the access log is\n%s", lines)
}

// visit asks a node over HTTP/2.
func visit(n *node, path string) (status int, header http.Header, body string, err error) {
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	resp, err := client.Get("https://" + n.listeners.Addr().String() + path)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(text), err
}
