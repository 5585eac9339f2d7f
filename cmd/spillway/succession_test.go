package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"spillway/edge/admin"
	"spillway/edge/admit"
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

// state is that of the process that serves, or zero.
func (s *succession) state() (state nodeState) {
	if s.client.Status(context.Background(), &state) != nil {
		return nodeState{}
	}
	return state
}

// pid is that of the process that serves, or 0.
func (s *succession) pid() int { return s.state().PID }

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
	const variable = "SPILLWAY_UPGRADES"
	n, err := strconv.Atoi(os.Getenv(variable))
	if err != nil {
		return 2
	}
	t.Setenv(variable, "") // which restores it
	os.Unsetenv(variable)  // to the program it would be a setting
	return n
}

// visitors put a node under load, and count.
type visitors struct {
	t        *testing.T
	from     *network
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
		transport := &http3.Transport{TLSClientConfig: config, Dial: v.from.dialQUIC}
		return &http.Client{Transport: transport}, func() { transport.Close() }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: proto == "h2"}
	transport.DialContext = func(ctx context.Context, _, to string) (net.Conn, error) { return v.from.dial(ctx, "", to) }
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
	raw, err := v.from.dial(context.Background(), "", v.listen)
	if err != nil {
		return err
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
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
	t.Run("one socket", func(t *testing.T) {
		origin := httptest.NewServer(http.HandlerFunc(slowly))
		defer origin.Close()
		s := crossroads(t, "127.0.0.1:0", origin.URL)
		v := &visitors{t: t, listen: s.listen, requests: map[string]*atomic.Int64{}}
		s.upgradeUnder(t, v, 2)
		s.endsWell(t)
	})
	t.Run("judged and steered by the kernel", func(t *testing.T) {
		times := upgrades(t)
		s, v := judged(t)
		judging := s.watchKernel(t, v)
		s.upgradeUnder(t, v, times)
		judging()
		s.endsWell(t)
	})
}

// crossroads runs a node at an address.
func crossroads(t *testing.T, listen, origin string) *succession {
	t.Helper()
	p := prepare(t)
	p.put(t, "spillway.yaml", fmt.Sprintf(`
listen: %[3]s
http: off
admin: unix:%[1]s/a.sock
state: %[1]s/state
log: {access: %[1]s/access.log}
timeouts: {drain: 30s}
tls: {self_signed: true}
cache: {disk: {path: %[1]s/disk, size: 64MiB}}
origins: {app: {servers: [%[2]q], limit: {min: 100, max: 1000}}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`, p.dir, origin, listen))
	return p.succeed(t)
}

// judged runs a node in a network of its own, where the kernel judges the packets of its
// visitors, who are in another.
func judged(t *testing.T) (*succession, *visitors) {
	t.Helper()
	if !mayJudge() {
		t.Skip("needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN, ip and unshare")
	}
	ownNetwork(t)
	outside := otherEnd(t)
	var l net.Listener
	var err error
	outside.do(func() { l, err = net.Listen("tcp", "192.0.2.2:0") })
	if err != nil {
		t.Fatal(err)
	}
	origin := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(slowly)}}
	origin.Start()
	t.Cleanup(origin.Close)
	s := crossroads(t, "192.0.2.1:0", origin.URL)
	s.await(t, "a kernel that judges", func() bool { return s.state().Admission.Mode == admit.Generic })
	if got := s.state().Visits.UDPSteering; got != "kernel" {
		t.Fatalf("steering %q", got)
	}
	return s, &visitors{t: t, from: outside, listen: s.listen, requests: map[string]*atomic.Int64{}}
}

// watchKernel has somebody denied who tries again and again, and returns what ends that.
// Nobody of whose packets one is not judged, be it for a moment, comes in.
func (s *succession) watchKernel(t *testing.T, v *visitors) (end func()) {
	t.Helper()
	if _, err := s.client.Post(t.Context(), "/admission/deny?prefix=192.0.2.3"); err != nil {
		t.Fatal(err)
	}
	stop, tries := make(chan struct{}), new(atomic.Int64)
	var watching sync.WaitGroup
	for range 4 {
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
				conn, err := v.from.dial(ctx, "192.0.2.3", v.listen)
				cancel()
				if err == nil {
					conn.Close()
					t.Error("who is denied came in")
					return
				}
				tries.Add(1)
			}
		})
	}
	return func() {
		t.Helper()
		close(stop)
		watching.Wait()
		state := s.state()
		t.Logf("%d packets of who is denied; %s, %s", tries.Load(), state.Admission.Mode, state.Visits.UDPSteering)
		if tries.Load() == 0 || state.Admission.Mode != admit.Generic || state.Visits.UDPSteering != "kernel" {
			t.Errorf("%d packets of who is denied, mode %s, steering %s", tries.Load(), state.Admission.Mode, state.Visits.UDPSteering)
		}
	}
}

// come begins visits of all kinds.
func (v *visitors) come() (leave func()) {
	var ends []func()
	for _, proto := range []string{"h1", "h2", "h3"} {
		kept, end := v.client(proto)
		ends = append(ends, end)
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
	return func() {
		v.stopping.Store(true)
		v.running.Wait()
		for _, end := range ends {
			end()
		}
		for kind, n := range v.requests {
			v.t.Logf("%s: %d", kind, n.Load())
			if n.Load() == 0 {
				v.t.Errorf("%s: nothing was asked", kind)
			}
		}
	}
}

// upgradeUnder upgrades the node so often while visitors come.
func (s *succession) upgradeUnder(t *testing.T, v *visitors, times int) {
	t.Helper()
	leave := v.come()
	for range times {
		time.Sleep(time.Second) // load on one generation alone
		s.upgrade(t)
	}
	time.Sleep(time.Second)
	leave()
	if strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("the log has errors:\n%s", s.log)
	}
	lines, err := os.ReadFile(s.file("access.log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(lines) {
		if !bytes.HasPrefix(line, []byte("{")) || !bytes.HasSuffix(line, []byte("}\n")) {
			t.Errorf("the access log has a torn line: %q", line)
		}
	}
}

// A successor that is killed when it has taken packets and new flows, and has not told,
// leaves both to the process before.
func TestPacketsComeBack(t *testing.T) {
	own := filepath.Join(t.TempDir(), "spillway")
	if err := os.Symlink(programOf(t, "spillway").path, own); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(own)+":"+os.Getenv("PATH"))
	s, v := judged(t)
	kept, end := v.client("h3")
	defer end()
	if err := v.get(kept, "/", 2); err != nil {
		t.Fatal(err)
	}
	was := s.pid()
	script := "#!/bin/sh\nexec halfway usurps \"$@\"\n"
	if err := os.WriteFile(own+".next", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(own+".next", own); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := askUpgrade(t.Context(), s.client, &out, &errs); err == nil || !strings.Contains(errs.String(), "signal: killed") {
		t.Fatalf("upgrade: %v\n%s%s\n%s", err, &out, &errs, s.log)
	}
	if !strings.Contains(s.log.String(), "usurped") {
		t.Fatalf("the successor was killed too early:\n%s", s.log)
	}
	if err := v.get(kept, "/", 2); err != nil {
		t.Errorf("on a connection that was there: %v", err)
	}
	for _, proto := range []string{"h1", "h2", "h3"} {
		c, end := v.client(proto)
		defer end()
		if err := v.get(c, "/", 2); err != nil {
			t.Errorf("on a new connection by %s: %v", proto, err)
		}
	}
	watched := s.watchKernel(t, v)
	time.Sleep(4 * time.Second) // what governs no more is stale by then, and passes all
	watched()
	if is := s.pid(); is != was {
		t.Errorf("process %d serves, not %d", is, was)
	}
	s.endsWell(t)
}

// Rules of commands outlive an upgrade, those that have left the configuration do not.
func TestUpgradeKeepsRules(t *testing.T) {
	s, _ := judged(t)
	text, err := os.ReadFile(s.file("spillway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	denies := func(list string) { s.put(t, "spillway.yaml", string(text)+"\nadmission: {deny: ["+list+"]}\n") }
	denies("198.51.100.0/24, 203.0.113.0/24")
	s.upgrade(t)
	if _, err := s.client.Post(t.Context(), "/admission/allow?prefix=198.18.0.0/15"); err != nil {
		t.Fatal(err)
	}
	denies("203.0.113.0/24")
	s.upgrade(t)
	body, err := s.client.Post(t.Context(), "/admission/show")
	if err != nil {
		t.Fatal(err)
	}
	f := func(prefix string, want bool) {
		t.Helper()
		if got := bytes.Contains(body, []byte(prefix)); got != want {
			t.Errorf("%s is ruled: %v, want %v; %s", prefix, got, want, body)
		}
	}
	f("198.18.0.0/15", true)
	f("203.0.113.0/24", true)
	f("198.51.100.0/24", false)
	s.endsWell(t)
}

// Without a state folder the keys that the kernel knows connections by are handed over,
// and a node whose keys would be others is refused.
func TestUpgradeKeepsConnectionIDs(t *testing.T) {
	s, v := judged(t)
	text, err := os.ReadFile(s.file("spillway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	state := "state: " + s.file("state")
	s.endsWell(t)
	s.put(t, "spillway.yaml", strings.Replace(string(text), state, `state: ""`, 1))
	s = s.succeed(t)
	v.listen = s.listen
	s.await(t, "a kernel that judges", func() bool { return s.state().Admission.Mode == admit.Generic })
	leave := v.come()
	s.await(t, "a download", func() bool { return s.state().InFlight > 0 })
	s.upgrade(t)
	time.Sleep(time.Second)
	leave()

	refused := func(text, want string) {
		t.Helper()
		s.put(t, "spillway.yaml", text)
		var out, errs bytes.Buffer
		err := askUpgrade(t.Context(), s.client, &out, &errs)
		if err == nil || !strings.Contains(errs.String(), want) || !strings.Contains(errs.String(), "restart the node instead") {
			t.Errorf("upgrade: %v\n%s%s", err, &out, &errs)
		}
	}
	refused(string(text), "state or tls.secret has changed")
	refused(strings.Replace(string(text), state, `state: ""`, 1)+"\nadmission: {quic_lb: {server_id: 0102030405060708}}\n",
		"connection IDs have 20 bytes now")
	s.endsWell(t)
}

// The successor begins with the limit that was learned.
func TestUpgradeKeepsLearned(t *testing.T) {
	p := prepare(t)
	c, err := load(p.file("spillway.yaml"))
	if err == nil {
		err = os.MkdirAll(c.Edge.State, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	learned := learnedFile{Version: learnedVersion, Origins: map[string]learnedOrigin{}}
	for name, o := range c.Origins {
		learned.Origins[name] = learnedOrigin{At: time.Now(), Servers: o.Servers, Useful: 321}
	}
	file, err := json.Marshal(learned)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(learnedPath(c.Edge.State), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := p.succeed(t)
	// It is younger than any second start would take it from.
	if err := os.Remove(learnedPath(c.Edge.State)); err != nil {
		t.Fatal(err)
	}
	s.upgrade(t)
	if n := strings.Count(s.log.String(), "limit restored"); n != 2*len(c.Origins) {
		t.Errorf("%d of %d limits were restored:\n%s", n, 2*len(c.Origins), s.log)
	}
	s.endsWell(t)
}

// A process that is killed leaves nothing at the interface, and the next one begins as
// if there had been none.
func TestKilledNodeFreesItsInterface(t *testing.T) {
	s, v := judged(t)
	attached := func() bool {
		out, err := exec.Command("ip", "link", "show", "v0").CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(out), "xdpgeneric")
	}
	if !attached() {
		t.Fatal("no program is at the interface")
	}
	pid := s.pid()
	syscall.Kill(pid, syscall.SIGKILL)
	s.await(t, "a free interface", func() bool { return zombie(pid) || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	s.await(t, "a free interface", func() bool { return !attached() })
	s = s.succeed(t)
	v.listen = s.listen
	s.await(t, "a kernel that judges", func() bool { return s.state().Admission.Mode == admit.Generic })
	c, end := v.client("h3")
	defer end()
	if err := v.get(c, "/", 2); err != nil {
		t.Error(err)
	}
	s.endsWell(t)
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
