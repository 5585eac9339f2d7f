package interop

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// A guest is a client of a node that drains.
type guest struct {
	name    string
	reports chan report
	// pages is how many of its requests are not in its report.
	pages int
	// overTCP: it comes over TCP while its HTTP/3 connection takes its leave, and back when
	// a handshake takes less than 100 ms. It may try both, and give one up.
	overTCP bool
}

// A report is what a guest says in the end.
type report struct {
	Asked     int      `json:"asked"`
	Failed    []string `json:"failed"`
	Protocols string   `json:"protocols"`
}

// invite lets one guest of each make come. All of them are asking without end, on a new
// connection where the old one ends, but for gtlsclient, which makes one connection for a
// list of things. quic-go is the first.
func (s *stage) invite(t *testing.T, n *node) (asking, all []*guest) {
	t.Helper()
	for _, name := range []string{"quic-go", "chromium", "firefox", "gtlsclient"} {
		g := &guest{name: name, reports: make(chan report, 1)}
		all = append(all, g)
		s.mu.Lock()
		s.guests[name] = g
		s.mu.Unlock()
	}
	for i, cmd := range []*exec.Cmd{
		chromium(t, need(t, "chromium", "chromium"), n, "/drain/chromium/page", chromiumSpeaks["h3"]...),
		firefox(t, n, "/drain/firefox/page", true),
	} {
		all[1+i].pages = 1
		_, quit := browse(t, cmd)
		t.Cleanup(quit)
	}
	all[2].overTCP = true
	gtlsclient := need(t, "gtlsclient", "ngtcp2-client")
	go s.lists(t.Context(), t.TempDir(), n, gtlsclient, all[3])
	go s.asks(t.Context(), n, all[0])
	return all[:3], all
}

// check compares what a guest says with what the node has logged.
func (g *guest) check(t *testing.T, said report, old, next []logLine) {
	t.Helper()
	if len(said.Failed) > 0 || said.Protocols != "h3" && !g.overTCP {
		t.Errorf("%s: over %s of %d requests %d failed: %.2000q", g.name, said.Protocols, said.Asked, len(said.Failed), said.Failed)
	}
	old, next = g.own(t, old), g.own(t, next)
	if n := len(old) + len(next) - g.pages; n < said.Asked || n > said.Asked && !g.overTCP {
		t.Errorf("%s: asked %d times, and %d requests were answered", g.name, said.Asked, n)
	}
	for thing, where := range map[string][]logLine{"held/first": old, "held/second": next} {
		if g.count(where, thing) != 1 {
			t.Errorf("%s: %s was not answered by the process that began to", g.name, thing)
		}
	}
	hits := [2]int{}
	for i, lines := range [][]logLine{old, next} {
		for _, line := range lines {
			if line.Outcome == "hit" {
				hits[i]++
			}
		}
	}
	http3 := slices.DeleteFunc(slices.Clone(next), func(l logLine) bool { return l.Proto != "HTTP/3.0" })
	t.Logf("%s: %d requests to the old process, %d of them hits; then %d, %d of them hits, %d over HTTP/3",
		g.name, len(old), hits[0], len(next), hits[1], len(http3))
	if len(http3) == 0 && !g.overTCP {
		t.Errorf("%s: does not come back over HTTP/3", g.name)
	}
	if g.count(old, "turn") > 0 && (hits[0] == 0 || hits[1] == 0) {
		t.Errorf("%s: one of the processes had nothing in its cache", g.name)
	}
}

// own returns the guest's own lines, all of which tell of a good answer, and of HTTP/3 as
// long as that is there to be had.
func (g *guest) own(t *testing.T, log []logLine) (own []logLine) {
	t.Helper()
	for _, line := range log {
		if !strings.HasPrefix(line.Path, "/drain/"+g.name+"/") || g.overTCP && line.Status == http.StatusTooEarly {
			continue
		}
		own = append(own, line)
		if line.Proto != "HTTP/3.0" && !g.overTCP || line.Status != http.StatusOK {
			t.Errorf("%s: logged %+v", g.name, line)
		}
	}
	return own
}

// count is how many lines there are of a thing that the guest asked for.
func (g *guest) count(lines []logLine, thing string) (n int) {
	for _, line := range lines {
		if line.Path == "/drain/"+g.name+"/"+thing {
			n++
		}
	}
	return n
}

// lists is the guest that is gtlsclient: several things over one connection, one of them
// under way while the node drains, and over another connection a request that is not sent
// before that has begun. Then the same of the node that is stopped.
func (s *stage) lists(ctx context.Context, dir string, n *node, program string, g *guest) {
	said := report{Protocols: "h3"}
	var mu sync.Mutex
	fetch := func(how string, things ...string) {
		dir := filepath.Join(dir, strings.ReplaceAll(how+things[0], "/", "-"))
		args := []string{"--quiet", "--exit-on-all-streams-close", "--download", dir, "--delay-stream", how, "127.0.0.1", n.port}
		err := os.Mkdir(dir, 0o700)
		for _, thing := range things {
			args = append(args, n.url+"/drain/"+g.name+"/"+thing)
		}
		var out []byte
		if err == nil {
			out, err = exec.CommandContext(ctx, program, args...).CombinedOutput()
		}
		mu.Lock()
		defer mu.Unlock()
		said.Asked += len(things)
		if err != nil {
			said.Failed = append(said.Failed, fmt.Sprintf("%s: %v\n%s", args, err, out))
		}
		for _, thing := range things {
			if got, err := os.ReadFile(filepath.Join(dir, path.Base(thing))); err != nil || digest(got) != wanted[thing] {
				said.Failed = append(said.Failed, fmt.Sprintf("%s: %d bytes, %v", thing, len(got), err))
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { fetch("0s", append([]string{"held/first"}, drainThings...)...) })
	both.Go(func() { fetch("7s", drainThings...) })
	both.Wait()
	select {
	case <-s.done:
		fetch("0s", append([]string{"held/second"}, drainThings...)...)
	case <-ctx.Done():
	}
	g.reports <- said
}

// A goGuest is the guest that is quic-go's client. It asks without a pause, and uploads
// something slowly meanwhile.
type goGuest struct {
	client *http.Client
	url    string
	mu     sync.Mutex
	said   report
}

func (s *stage) asks(ctx context.Context, n *node, g *guest) {
	transport := &http3.Transport{TLSClientConfig: n.tls("h3"), DisableCompression: true, Dial: dial}
	defer transport.Close()
	// It has no time-out: what is held is held until browsers have come.
	q := &goGuest{client: &http.Client{Transport: transport}, url: n.url + "/drain/" + g.name + "/"}
	q.said.Protocols = "h3"
	var all sync.WaitGroup
	all.Go(func() { q.take(ctx, "held/first") })
	all.Go(func() { q.upload(ctx, s) })
	for range 2 {
		all.Go(func() {
			for string(q.ask(ctx, http.MethodGet, "turn", nil)) == "go on" {
				for _, thing := range drainThings {
					q.take(ctx, thing)
				}
				body := pattern(2000)
				q.compare("echo", q.ask(ctx, http.MethodPost, "echo", bytes.NewReader(body)), digest(body))
			}
		})
	}
	all.Wait()
	q.take(ctx, "held/second")
	g.reports <- q.said
}

// upload sends half of a body, and the rest when what is held goes on.
func (q *goGuest) upload(ctx context.Context, s *stage) {
	body := pattern(1 << 20) // more than fits into the windows
	half := len(body) / 2
	q.compare("upload", q.ask(ctx, http.MethodPost, "echo", io.MultiReader(
		bytes.NewReader(body[:half]), &gate{ctx, s}, bytes.NewReader(body[half:]))), digest(body))
}

// A gate is no bytes, and opens with what the stage holds first.
type gate struct {
	ctx   context.Context
	stage *stage
}

// Read implements io.Reader.
func (g *gate) Read([]byte) (int, error) {
	g.stage.note("quic-go", "upload")
	select {
	case <-g.stage.first:
		return 0, io.EOF
	case <-g.ctx.Done():
		return 0, g.ctx.Err()
	}
}

func (q *goGuest) take(ctx context.Context, thing string) {
	q.compare(thing, q.ask(ctx, http.MethodGet, thing, nil), wanted[thing])
}

// ask returns the answer, or else notes what went wrong.
func (q *goGuest) ask(ctx context.Context, method, thing string, body io.Reader) []byte {
	got, err := q.fetch(ctx, method, thing, body)
	if err != nil {
		q.note(fmt.Sprintf("%s: %v", thing, err))
		return nil
	}
	q.note("")
	return got
}

func (q *goGuest) fetch(ctx context.Context, method, thing string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, q.url+thing, body)
	if err != nil {
		return nil, err
	}
	resp, err := q.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return got, err
}

// note counts a request, and what went wrong with it.
func (q *goGuest) note(failure string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.said.Asked++
	if failure != "" {
		q.said.Failed = append(q.said.Failed, failure)
	}
}

func (q *goGuest) compare(thing string, got []byte, want string) {
	if got == nil || digest(got) == want {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.said.Failed = append(q.said.Failed, fmt.Sprintf("%s: %d other bytes", thing, len(got)))
}
