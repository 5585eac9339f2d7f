package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"spillway/edge/admin"
)

// A succession is a node as an operator has it: a program, and those that follow it.
type succession struct {
	*place
	client *admin.Client
	listen string
}

// succeed starts the program and returns it when it is ready.
func (p *place) succeed(t *testing.T) *succession {
	t.Helper()
	program, state := p.launch(t)
	go program.Process.Wait() // it ends when it has a successor
	s := &succession{place: p, client: admin.NewClient("unix:" + p.file("a.sock")), listen: state.Listeners[0]}
	t.Cleanup(func() {
		if pid := s.pid(); pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return s
}

// pid is that of the process that serves, or 0.
func (s *succession) pid() int {
	var state nodeState
	if s.client.Status(context.Background(), &state) != nil {
		return 0
	}
	return state.Upgrade.PID
}

// upgrade upgrades the node.
func (s *succession) upgrade(t *testing.T) {
	t.Helper()
	was := s.pid()
	var out, errs bytes.Buffer
	if err := askUpgrade(t.Context(), admin.NewClient("unix:"+s.file("a.sock")), &out, &errs); err != nil {
		t.Fatalf("upgrade: %v\n%s%s\nthe log is\n%s", err, &out, &errs, s.log)
	}
	s.await(t, "another process", func() bool { is := s.pid(); return is != 0 && is != was })
}

// upgrades is how often the node is upgraded under load: each waits 10 s for the late
// QUIC connections of the one before.
func upgrades(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("SPILLWAY_UPGRADES"))
	if err != nil {
		return 2
	}
	return n
}

// visitors put a node under load, and count.
type visitors struct {
	t        *testing.T
	listen   string
	requests map[string]*atomic.Int64
	stopping atomic.Bool
	running  sync.WaitGroup
}

// want counts a request and tells of one that failed.
func (v *visitors) want(kind string, err error) {
	if err != nil {
		v.t.Errorf("%s: %v", kind, err)
		return
	}
	v.requests[kind].Add(1)
}

// loop does something again and again until the visitors stop.
func (v *visitors) loop(kind string, do func() error) {
	if v.requests[kind] == nil {
		v.requests[kind] = new(atomic.Int64)
	}
	v.running.Go(func() {
		for !v.stopping.Load() {
			v.want(kind, do())
		}
	})
}

// client speaks h1, h2 or h3.
func (v *visitors) client(proto string) (c *http.Client, end func()) {
	config := &tls.Config{InsecureSkipVerify: true}
	if proto == "h3" {
		transport := &http3.Transport{TLSClientConfig: config}
		return &http.Client{Transport: transport}, func() { transport.Close() }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: proto == "h2"}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

func (v *visitors) get(c *http.Client, path string, size int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+v.listen+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != size) {
		err = fmt.Errorf("status %d, %d bytes", resp.StatusCode, n)
	}
	return err
}

// echo opens a WebSocket, and says something on it for some seconds.
func (v *visitors) echo() error {
	conn, err := tls.Dial("tcp", v.listen, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	for range 30 {
		said := rand.Text()
		if _, err := io.WriteString(conn, said); err != nil {
			return err
		}
		heard := make([]byte, len(said))
		if _, err := io.ReadFull(r, heard); err != nil || string(heard) != said {
			return fmt.Errorf("heard %q of %q: %w", heard, said, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// slowly answers with a download that lasts some seconds, an echo of what comes on a
// WebSocket, or two bytes.
func slowly(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/download":
		w.Header().Set("Content-Length", strconv.Itoa(pieces*pieceBytes))
		piece := make([]byte, pieceBytes)
		for range pieces {
			if _, err := w.Write(piece); err != nil {
				return
			}
			http.NewResponseController(w).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	case "/echo":
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n") // for the key of RFC 6455 section 1.3
		io.Copy(conn, both)
	default:
		io.WriteString(w, "ok")
	}
}

const pieces, pieceBytes = 40, 16 << 10

// TestUpgradesLoseNothing upgrades the program again and again while visitors of all
// protocols are there: for long and for short, on connections that stay and on new
// ones. No request may fail, and no download break off.
func TestUpgradesLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("each upgrade waits 10 s for the late connections of the one before")
	}
	origin := httptest.NewServer(http.HandlerFunc(slowly))
	defer origin.Close()
	p := prepare(t)
	p.put(t, "spillway.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
http: off
admin: unix:%[1]s/a.sock
state: %[1]s/state
log: {access: %[1]s/access.log}
timeouts: {drain: 30s}
tls: {self_signed: true}
cache: {disk: {path: %[1]s/disk, size: 64MiB}}
origins: {app: {servers: [%[2]q], limit: {min: 100, max: 1000}}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`, p.dir, origin.URL))
	s := p.succeed(t)
	v := &visitors{t: t, listen: s.listen, requests: map[string]*atomic.Int64{}}
	for _, proto := range []string{"h1", "h2", "h3"} {
		kept, end := v.client(proto)
		defer end()
		v.loop(proto+" on a connection that stays", func() error {
			time.Sleep(5 * time.Millisecond)
			return v.get(kept, "/", 2)
		})
		v.loop(proto+" on new connections", func() error {
			c, end := v.client(proto)
			defer end()
			time.Sleep(20 * time.Millisecond)
			return v.get(c, "/", 2)
		})
		v.loop(proto+" download", func() error {
			c, end := v.client(proto)
			defer end()
			return v.get(c, "/download", pieces*pieceBytes)
		})
	}
	v.loop("WebSocket", v.echo)
	for range upgrades(t) {
		time.Sleep(time.Second) // load on one generation alone
		s.upgrade(t)
	}
	time.Sleep(time.Second)
	v.stopping.Store(true)
	v.running.Wait()
	for kind, n := range v.requests {
		t.Logf("%s: %d", kind, n.Load())
		if n.Load() == 0 {
			t.Errorf("%s: nothing was asked", kind)
		}
	}
	s.endsWell(t)
	if strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("the log has errors:\n%s", s.log)
	}
	lines, err := os.ReadFile(p.file("access.log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(lines) {
		if !bytes.HasPrefix(line, []byte("{")) || !bytes.HasSuffix(line, []byte("}\n")) {
			t.Errorf("the access log has a torn line: %q", line)
		}
	}
}

// endsWell stops the node and waits until no process of it is left.
func (s *succession) endsWell(t *testing.T) {
	t.Helper()
	pid := s.pid()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid) })
}

// zombie reports whether a process has ended and nobody asked how.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}

// TestUpgradedNodeKnowsWhatItSpent upgrades a node while it pays for each visitor: the
// ledger has all that the platform bills for both processes, and what was reserved is
// given back.
func TestUpgradedNodeKnowsWhatItSpent(t *testing.T) {
	if testing.Short() {
		t.Skip("an upgrade waits 10 s for the late connections of the one before")
	}
	emulator, url := billing(t)
	hour := time.Now().Truncate(time.Hour)
	p := prepare(t)
	// What is reserved ahead is a thousandth of the hour at least: far more than is spent.
	p.put(t, "spillway.yaml", strings.Replace(fmt.Sprintf(killed, p.dir, url), "per_hour: $0.02", "per_hour: $10", 1))
	s := p.succeed(t)
	ctx, cancel := context.WithCancel(t.Context())
	var visitors sync.WaitGroup
	visitors.Go(func() { press(ctx, s.listen, 32) })
	p.await(t, "calls", func() bool { return emulator.Stats().Arrived >= 40 })
	s.upgrade(t)
	before := emulator.Stats().Arrived
	p.await(t, "calls of the successor", func() bool { return emulator.Stats().Arrived >= before+40 })
	cancel()
	visitors.Wait()
	var state nodeState
	p.await(t, "the end of the process before, and of the calls", func() bool {
		state = nodeState{}
		return s.client.Status(t.Context(), &state) == nil && state.Upgrade.Draining.PID == 0 &&
			state.Budgets["spill"].AtRisk == 0 && emulator.Stats().Running == 0
	})
	bill := emulator.Bill()
	spent := state.Budgets["spill"].Periods[1].Spent // an hour may have ended
	t.Logf("%d calls billed, $%.6f; the ledger has $%.6f, factor %.4f", bill.Requests, bill.USD, spent, spent/bill.USD)
	// Waiting on a busy machine is paid as calls are, to the timeout at most: a second of
	// 128 MiB, a request, and an answer of 4 KiB with its fields.
	const longest = 0.000003
	// What was reserved in an hour that is over is not given back.
	gaveBack := spent <= float64(bill.Requests)*longest || !time.Now().Truncate(time.Hour).Equal(hour)
	if spent < bill.USD || !gaveBack {
		t.Errorf("the ledger has $%v, the bill is $%v", spent, bill.USD)
	}
	s.endsWell(t)
}

// A successor that is killed while the process before still drains takes the node with
// it, with an error that has a service manager start it again: nothing listens any
// more, and the next start finds the addresses free.
func TestKilledSuccessor(t *testing.T) {
	p := prepare(t)
	program, state := p.launch(t)
	ended := make(chan error, 1)
	go func() {
		how, err := program.Process.Wait()
		if err == nil && !how.Success() {
			err = errors.New(how.String())
		}
		ended <- err
	}()
	s := &succession{place: p, client: admin.NewClient("unix:" + p.file("a.sock")), listen: state.Listeners[0]}
	s.upgrade(t)
	syscall.Kill(s.pid(), syscall.SIGKILL)
	if err := <-ended; err == nil {
		t.Error("the process before ended well although its successor was killed")
	}
	if conn, err := net.Dial("tcp", s.listen); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
	next := p.succeed(t)
	next.endsWell(t)
}

// The process before may be killed at any time once the successor serves.
func TestKilledPredecessor(t *testing.T) {
	p := prepare(t)
	program, state := p.launch(t)
	ended := make(chan struct{})
	go func() { program.Process.Wait(); close(ended) }()
	s := &succession{place: p, client: admin.NewClient("unix:" + p.file("a.sock")), listen: state.Listeners[0]}
	s.upgrade(t)
	program.Process.Kill()
	<-ended
	p.await(t, "the end of the draining", func() bool {
		var state nodeState
		return s.client.Status(t.Context(), &state) == nil && state.Upgrade.Draining.PID == 0
	})
	s.endsWell(t)
}
