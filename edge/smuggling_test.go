package edge_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/edgetest"
	"spillway/origin"
)

// Request smuggling: whatever bytes a visitor sends, the node refuses them or
// the origin gets exactly what the node took them for. The visitor's side and
// the origin's share no parser with the node.

// A front is a node with a strict origin behind it.
type front struct {
	node   *edgetest.Node
	origin *strictOrigin
}

// runFronts runs f before an origin of each kind.
func runFronts(t *testing.T, f func(t *testing.T, n *front)) {
	t.Helper()
	for _, kind := range []string{"h1 origin", "h2 origin"} {
		t.Run(kind, func(t *testing.T) { f(t, newFront(t, startStrict(t, kind))) })
	}
}

func newFront(t *testing.T, strict *strictOrigin) *front {
	log := slog.New(slog.DiscardHandler)
	oc := originConfig(strict.url, 4)
	o, err := origin.New("app", oc, log)
	if err != nil {
		t.Fatal(err)
	}
	background(t, o.Run)
	setup := edgetest.New(nil)
	setup.Config.Log.Access = "off"
	setup.Config.Limits.BodyBytes = 1 << 20
	routes := []edge.RouteConfig{{Match: edge.MatchConfig{Path: "/*"}, Origin: "app"}}
	server, err := edge.NewServer(setup.Config,
		[]edge.SiteConfig{{Hosts: []string{edgetest.Host}, Routes: routes}, {Hosts: []string{"default"}, Routes: routes}},
		map[string]origin.Config{"app": oc}, edge.Backends{Origins: map[string]*origin.Origin{"app": o}},
		cache.New(cache.Config{Memory: 1 << 20, MaxObject: 1 << 18, CollapseWaiters: 100, CollapseWait: time.Second}),
		admit.New(admit.Config{HandshakesPerCore: 500, HalfOpen: 1000}, 2), metrics.NewSet(), log)
	if err != nil {
		t.Fatal(err)
	}
	setup.Handler = server
	return &front{setup.Start(t), strict}
}

// check asks for what a stranger gets after a case: an answer of its own. Then
// it asks what of the case has reached the origin.
func (n *front) check(t *testing.T, want []string) {
	t.Helper()
	v := n.visit(t)
	defer v.conn.Close()
	v.send("GET /after HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n")
	if err := v.follow("GET /after | closed"); err != nil {
		t.Errorf("the next visitor: %v", err)
	}
	got, broken := n.origin.take()
	if want = append(slices.Clone(want), "GET /after"); !slices.Equal(got, want) {
		t.Errorf("the origin got %q, want %q", got, want)
	}
	for _, b := range broken {
		t.Errorf("the origin: %s", b)
	}
}

// A raw case is bytes over HTTP/1.1 and what must come of them: steps that are
// separated by bars. A step is the request that the origin answers ("POST /a
// body", with the host before the path if it is another), the status with which
// the node refuses, EOF where the visitor stops sending, or closed where the
// node must end the connection by itself. Unless it ends, a last request is
// sent and must be answered as such.
type raw struct{ name, bytes, want string }

// refused is what a broken message gets: nothing behind it is read.
const refused = "400 | closed"

func (n *front) raw(t *testing.T, c raw) {
	v := n.visit(t)
	defer v.conn.Close()
	want := c.want
	v.send(c.bytes)
	if err := v.follow(want); err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(want, "closed") {
		v.send("GET /end HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n")
		if err := v.follow("GET /end | closed"); err != nil {
			t.Errorf("the last request: %v", err)
		}
		want += " | GET /end"
	}
	n.check(t, forwarded(want))
}

// forwarded are the steps that reach the origin.
func forwarded(steps string) (requests []string) {
	for step := range strings.SplitSeq(steps, " | ") {
		if strings.Contains(step, " ") {
			requests = append(requests, step)
		}
	}
	return requests
}

// A visit is a connection that carries what the test writes.
type visit struct {
	conn *tls.Conn
	in   *bufio.Reader
}

func (n *front) visit(t *testing.T) visit {
	t.Helper()
	return n.dial(t, "http/1.1")
}

func (n *front) dial(t *testing.T, proto string) visit {
	t.Helper()
	c := n.node.Client.Clone()
	c.NextProtos = []string{proto}
	conn, err := tls.Dial("tcp", n.node.Listeners.Addr().String(), c)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second)) // only a failing case gets there
	return visit{conn, bufio.NewReader(conn)}
}

// send may fail: a node that refuses does not read the rest.
func (v visit) send(s string) { io.WriteString(v.conn, s) }

// follow reads one answer per step.
func (v visit) follow(steps string) error {
	for step := range strings.SplitSeq(steps, " | ") {
		if err := v.step(step); err != nil {
			return fmt.Errorf("step %q: %w", step, err)
		}
	}
	return nil
}

func (v visit) step(step string) error {
	switch step {
	case "EOF":
		return v.conn.CloseWrite()
	case "closed":
		rest, err := io.ReadAll(v.in)
		if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("%q came instead, %w", rest, err)
		}
		return nil
	}
	method, _, ours := strings.Cut(step, " ")
	resp, err := http.ReadResponse(v.in, &http.Request{Method: method})
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("a broken answer: %w", err)
	}
	answers := resp.Header.Values("Answers")
	switch {
	case !ours && (strconv.Itoa(resp.StatusCode) != step || len(answers) != 0):
		return fmt.Errorf("got %d, answering %q", resp.StatusCode, answers)
	case ours && !slices.Equal(answers, []string{quoted(step)}):
		return fmt.Errorf("got %d, answering %q", resp.StatusCode, answers)
	case ours && method != http.MethodHead && string(body) != quoted(step):
		return errors.New("got the body of another answer: " + string(body))
	}
	return nil
}

// quoted is how the origin repeats a request.
func quoted(request string) string { return strconv.QuoteToASCII(request) }

// smuggled is what must not be found in the body of another request.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: edge.test\r\n\r\n"

// get and post make requests with further header lines.
func get(lines ...string) string { return head("GET /a HTTP/1.1", lines...) }

func post(body string, lines ...string) string { return head("POST /a HTTP/1.1", lines...) + body }

func head(start string, lines ...string) string {
	return message(append([]string{start, "Host: edge.test"}, lines...)...)
}

func message(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

// printable makes the name of a subtest out of what it sends.
func printable(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return strconv.QuoteToASCII(s)
}
