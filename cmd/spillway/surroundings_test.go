package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"spillway/edge/admin"
)

// A place is a node with its surroundings: the folder that all of its files are
// in, and its log.
type place struct {
	*node
	dir string
	log *journal
}

// A journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// surroundings is the configuration of a place. Its folder stands for DIR.
const surroundings = `
listen: 127.0.0.1:0
http: off
admin: unix:DIR/a.sock
state: DIR/state
log: {access: DIR/access.log}
tls: {cert: DIR/cert.pem, key: DIR/key.pem}
origins:
  good: {servers: ["http://GOOD"]}
  bad: {servers: ["http://127.0.0.1:1"]}
functions: {f: {provider: process, socket: DIR/f.sock, function: f}}
sites:
  - hosts: [default]
    routes:
      - {match: {path: /spill}, origin: bad, overflow: {to: [f]}}
      - {origin: good, cache: false}
`

// prepare makes the surroundings of a node that is not there yet, and changes
// its configuration.
func prepare(t *testing.T, change ...string) *place {
	t.Helper()
	p := &place{dir: t.TempDir(), log: &journal{}}
	p.certify(t, time.Hour)
	file := strings.NewReplacer(change...).Replace(surroundings)
	p.put(t, "spillway.yaml", strings.NewReplacer("DIR", p.dir, "GOOD", backend(t, say(answered))).Replace(file))
	return p
}

func (p *place) file(name string) string { return filepath.Join(p.dir, name) }

// put replaces a file as a whole.
func (p *place) put(t *testing.T, name, text string) {
	t.Helper()
	next := p.file(name + ".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, p.file(name)); err != nil {
		t.Fatal(err)
	}
}

// certify gives the node a certificate that lives for so long.
func (p *place) certify(t *testing.T, life time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{"edge.test"},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.put(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	p.put(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// build makes the node, as the program does.
func (p *place) build() error {
	c, err := load(p.file("spillway.yaml"))
	if err == nil {
		p.node, err = build(c, p.file("spillway.yaml"), new(inheritance), slog.New(slog.NewTextHandler(p.log, nil)))
	}
	return err
}

// start runs the node until the test ends, which it must do without an error.
func (p *place) start(t *testing.T) {
	t.Helper()
	if err := p.build(); err != nil {
		t.Fatal(err)
	}
	signals, ended := make(chan os.Signal), make(chan error, 1)
	go func() { ended <- serve(t.Context(), p.node, p.node.log, signals) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil { // the test's context has ended
			t.Errorf("run: %v", err)
		}
	})
}

// await waits for what a fault is to lead to.
func (p *place) await(t *testing.T, what string, there func() bool) {
	t.Helper()
	for range 2000 {
		if there() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never came: %s; the log is\n%s", what, p.log)
}

// awaitMetric waits for a metric of which a whole line matches.
func (p *place) awaitMetric(t *testing.T, line string) {
	t.Helper()
	want := regexp.MustCompile("(?m)^" + line + "$")
	p.await(t, line, func() bool {
		var metrics bytes.Buffer
		p.writeMetrics(&metrics)
		return want.Match(metrics.Bytes())
	})
}

// serves checks that the node answers a visitor.
func (p *place) serves(t *testing.T) {
	t.Helper()
	if status, _, body, err := visit(p.node, "/good"); status != 200 || body != "ok" {
		t.Errorf("%d %q (%v)", status, body, err)
	}
}

// told checks that the log tells something once.
func (p *place) told(t *testing.T, what string) {
	t.Helper()
	if got := p.log.String(); strings.Count(got, what) != 1 {
		t.Errorf("the log has not %q once:\n%s", what, got)
	}
}

// A harm is done to the surroundings of a node that runs, or before it does.
type harm struct {
	name   string
	change []string // of the configuration
	do     func(*testing.T, *place)
	// metric and log tell of it.
	metric, log string
}

var harms = []harm{
	{
		"access log on a full disk",
		[]string{"DIR/access.log", "/dev/full"},
		func(t *testing.T, p *place) { p.serves(t) },
		`spillway_access_log_lost_total [1-9]\d*`, "access log cannot be written",
	},
	{
		"configuration that is none", nil,
		func(t *testing.T, p *place) {
			was := p.status().Config.Hash
			p.put(t, "spillway.yaml", "origins: [\x00")
			if r := p.reload(); r.OK || r.Hash != was || len(p.status().Config.Refused.Problems) == 0 {
				t.Errorf("%+v", r)
			}
		},
		`spillway_reloads_total\{result="refused"\} 1`, "reload refused",
	},
	{
		"configuration that names an expired certificate", nil,
		func(t *testing.T, p *place) {
			p.certify(t, -time.Hour)
			if r := p.reload(); r.OK || !strings.Contains(r.Problems.Error(), "expired") {
				t.Errorf("%+v", r)
			}
		},
		`spillway_config_refused 1`, "reload refused",
	},
	{
		"certificate replaced by garbage", nil,
		func(t *testing.T, p *place) { p.put(t, "cert.pem", "half of a cer") },
		`spillway_certificates_refused_total 1`, "the old one stays",
	},
	{
		"certificate that expires", nil,
		func(t *testing.T, p *place) {
			p.certify(t, 2*time.Second)
			if r := p.reload(); !r.OK {
				t.Errorf("%+v", r)
			}
			p.await(t, "its end", func() bool { return strings.Contains(p.log.String(), "has expired") })
		},
		`spillway_certificate_expiry_timestamp_seconds 1\d{9}`, "TLS certificate in use has expired",
	},
}

func TestHarmAroundTheNode(t *testing.T) {
	for _, h := range harms {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, h.change...)
			p.start(t)
			p.serves(t)
			h.do(t, p)
			p.awaitMetric(t, h.metric)
			p.told(t, h.log)
			p.serves(t)
		})
	}
}

// TestHarmBeforeTheStart lists what a node does not start with, and what it says
// about it.
func TestHarmBeforeTheStart(t *testing.T) {
	f := func(name, want string, change ...string) func(do func(p *place)) {
		return func(do func(p *place)) {
			t.Run(name, func(t *testing.T) {
				p := prepare(t, change...)
				do(p)
				if err := p.build(); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %q", err, want)
				}
			})
		}
	}
	keys := func(text string) func(p *place) {
		return func(p *place) {
			if err := os.Mkdir(p.file("state"), 0o700); err != nil {
				t.Fatal(err)
			}
			p.put(t, "state/keys.json", text)
		}
	}
	f("a file in place of the state folder", "/state is a file; name another")(func(p *place) { p.put(t, "state", "") })
	f("a state folder that cannot be made", "name a folder in state", "state: DIR/state", "state: /proc/state")(func(*place) {})
	f("keys of another version", "version 2 is unknown, this program knows 1: delete the file")(keys(`{"version":2}`))
	f("keys cut off", "keys.json is damaged (unexpected EOF): delete it")(keys(`{"version":1,`))
	f("an access log in no folder", "there is no folder", "DIR/access.log", "DIR/none/access.log")(func(*place) {})
	f("an expired certificate", "the certificate expired on")(func(p *place) { p.certify(t, -time.Hour) })
	f("a certificate with another's key", "this key belongs to another certificate")(func(p *place) {
		was, err := os.ReadFile(p.file("key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		p.certify(t, time.Hour)
		p.put(t, "key.pem", string(was))
	})
}

// small mounts a disk of a few KiB, which ends with the test.
func small(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("a small disk needs root: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestDiskThatFillsUp asks that answers go on without their lines, and that the
// log goes on, with a line lost at most, when there is room again.
func TestDiskThatFillsUp(t *testing.T) {
	disk := t.TempDir()
	small(t, disk)
	p := prepare(t, "DIR/access.log", disk+"/access.log")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 12<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	lost := func() bool { return strings.Contains(p.log.String(), "access log cannot be written") }
	p.await(t, "the end of the disk", func() bool { p.serves(t); return lost() })
	p.awaitMetric(t, `spillway_access_log_lost_total [1-9]\d*`)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	back := func() bool { return strings.Contains(p.log.String(), "access log is written again") }
	p.await(t, "the return of the log", func() bool { p.serves(t); time.Sleep(100 * time.Millisecond); return back() })
	p.told(t, "access log cannot be written")
	lines, err := os.ReadFile(filepath.Join(disk, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	torn := 0
	for line := range bytes.Lines(lines) {
		if !json.Valid(line) {
			torn++
		}
	}
	if torn > 1 || !bytes.HasSuffix(lines, []byte("}\n")) {
		t.Errorf("%d lines are torn, and the end is %q", torn, lines[max(0, len(lines)-40):])
	}
}

// TestKeysOnAFullDisk asks that a state that cannot be kept whole is refused, and
// that nothing half-written is left behind.
func TestKeysOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	small(t, disk)
	if err := os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 16<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	p := prepare(t, "state: DIR/state", "state: "+disk+"/state")
	if err := p.build(); err == nil || !strings.Contains(err.Error(), "no space left on device: name a folder in state") {
		t.Errorf("started with %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(disk, "state", "*")); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// TestFileDescriptorsRunOut asks that connections that are there go on, that the
// origin is not blamed, and that those who waited are served in the end.
func TestFileDescriptorsRunOut(t *testing.T) {
	p := prepare(t)
	p.start(t)
	p.serves(t)
	address := p.listeners.Addr().String()
	early := dialTLS(t, address)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	restore := sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	defer restore()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 200, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var ballast []*os.File
	fill := func() {
		for f, err := os.Open(os.DevNull); err == nil; f, err = os.Open(os.DevNull) {
			ballast = append(ballast, f)
		}
	}
	fill()
	if len(ballast) == 0 {
		t.Fatal("more than 200 files were open before")
	}
	ballast[0].Close() // room for the visitor's end, and not for the node's
	late, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p.awaitMetric(t, `spillway_accept_failures_total [1-9]\d*`)
	fill()         // what the node had open for a moment
	for range 10 { // more than a breaker would stand
		if got := ask(t, early, "/good"); got.StatusCode != 503 || !strings.Contains(got.Header.Get("Spillway"), "shed") {
			t.Errorf("without a connection to the origin: %d, %s", got.StatusCode, got.Header.Get("Spillway"))
		}
	}
	for _, f := range ballast[1:] {
		f.Close()
	}
	restore()
	if got := ask(t, early, "/good"); got.StatusCode != 200 {
		t.Errorf("afterwards: %d, %s", got.StatusCode, got.Header.Get("Spillway"))
	}
	if got := ask(t, overTLS(t, late), "/good"); got.StatusCode != 200 {
		t.Errorf("who waited got %d", got.StatusCode)
	}
	p.awaitMetric(t, `spillway_server_failures_total\{origin="good",.*\} 0`)
	p.await(t, "the end of it in the log", func() bool {
		p.serves(t)
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(p.log.String(), "connections are accepted again")
	})
	p.told(t, "cannot accept connections")
}

// TestFunctionHostThatComesAndGoes replaces the host of functions while the node
// runs.
func TestFunctionHostThatComesAndGoes(t *testing.T) {
	p := prepare(t)
	p.start(t)
	f := func(status int, reason string) {
		t.Helper()
		got, header, body, err := visit(p.node, "/spill")
		if err != nil || got != status || !strings.Contains(header.Get("Spillway"), reason) {
			t.Errorf("got %d, %s, %q (%v), want %d, %s", got, header.Get("Spillway"), body, err, status, reason)
		}
	}
	f(503, "shed")
	for range 2 {
		l, err := net.Listen("unix", p.file("f.sock"))
		if err != nil {
			t.Fatal(err)
		}
		host := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, `{"statusCode":200,"body":"done"}`)
		})}
		go host.Serve(l)
		f(200, "function")
		f(200, "function")
		host.Close()
		f(503, "shed")
	}
	p.awaitMetric(t, `spillway_function_failures_total\{function="f",class="unavailable"\} [1-9]`)
	p.serves(t)
}

// TestReaderOfTheLogsThatEnds closes the pipe that the program writes both its
// logs into: visitors do not notice.
func TestReaderOfTheLogsThatEnds(t *testing.T) {
	p := prepare(t, "DIR/access.log", "stdout")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	program := exec.Command("spillway", "run", "--config", p.file("spillway.yaml"))
	program.Stdout, program.Stderr = writer, writer
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer program.Process.Kill()
	writer.Close()
	client := admin.NewClient("unix:" + p.file("a.sock"))
	var state nodeState
	p.await(t, "the node", func() bool { return client.Status(t.Context(), &state) == nil })
	reader.Close()
	for range 3 {
		if got := ask(t, dialTLS(t, state.Listeners[0]), "/good"); got.StatusCode != 200 {
			t.Errorf("got %d", got.StatusCode)
		}
	}
	lost := regexp.MustCompile(`(?m)^spillway_access_log_lost_total [1-9]`)
	p.await(t, "the loss", func() bool {
		metrics, err := client.Get(t.Context(), "/metrics")
		return err == nil && lost.Match(metrics)
	})
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// dialTLS opens a connection for HTTP/1.1.
func dialTLS(t *testing.T, address string) *tls.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return overTLS(t, c)
}

func overTLS(t *testing.T, c net.Conn) *tls.Conn {
	t.Helper()
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	t.Cleanup(func() { secure.Close() })
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return secure
}

// ask sends a request on a connection that stays open.
func ask(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: edge.test\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}
