package main

import (
	"context"
	"crypto/tls"
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
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge/admin"
)

// BenchmarkIdleHTTP3 reports what a connection over HTTP/3 holds of the program's
// memory, once it has had an answer of 1 KiB and been idle for 10 s. The connections
// come as fast as they can be made. Profiles of the heap and of the goroutines are left
// in the folder of artifacts.
func BenchmarkIdleHTTP3(b *testing.B) {
	for _, visitors := range []int{1000, 3000} {
		b.Run(strconv.Itoa(visitors), func(b *testing.B) {
			for b.Loop() {
				measureIdle(b, visitors)
			}
		})
	}
}

func measureIdle(b *testing.B, visitors int) {
	s := startStill(b)
	crowd := newStillCrowd(b, s.address)
	crowd.come(b, 1)
	time.Sleep(time.Second)
	before, routines := s.resident(b), s.goroutines(b)
	began := time.Now()
	crowd.come(b, visitors)
	time.Sleep(10 * time.Second)
	took := time.Since(began)
	// Asking for a profile takes memory, too.
	held := s.resident(b) - before
	grown := s.goroutines(b) - routines
	for _, name := range []string{"heap", "goroutine"} {
		s.keepProfile(b, name)
	}
	switch gone := crowd.gone(); {
	case gone > 0 && took >= 20*time.Second: // timeouts.idle, as it is by default
		b.Skipf("this machine takes %s to make %d connections and let them be idle, and %d were closed meanwhile", took, visitors, gone)
	case gone > 0:
		b.Fatalf("%d of %d connections are gone", gone, visitors)
	}
	b.ReportMetric(float64(held)/1024/float64(visitors), "KiB/conn")
	b.ReportMetric(float64(grown)/float64(visitors), "goroutines/conn")
	b.ReportMetric(0, "ns/op")
}

// A stillNode is the program, with its defaults, at an origin whose answers may be
// stored.
type stillNode struct {
	pid     int
	address string
	client  *admin.Client
}

func startStill(b *testing.B) *stillNode {
	b.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Write(make([]byte, 1<<10))
	}))
	b.Cleanup(origin.Close)
	dir := b.TempDir()
	file := filepath.Join(dir, "spillway.yaml")
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
http: off
admin: unix:%[1]s/a.sock
state: %[1]s/state
log: {access: %[1]s/access.log}
tls: {self_signed: true}
origins: {app: {servers: [%[2]q]}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`, dir, origin.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	log := &journal{}
	program := exec.Command("spillway", "run", "--config", file)
	program.Stderr = log
	if err := program.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		program.Process.Signal(syscall.SIGKILL)
		program.Wait()
	})
	s := &stillNode{pid: program.Process.Pid, client: admin.NewClient("unix:" + filepath.Join(dir, "a.sock"))}
	for range 500 {
		var state nodeState
		if s.client.Status(b.Context(), &state) == nil {
			s.address = strings.Fields(strings.TrimPrefix(state.Listeners[0], "https://"))[0]
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatalf("the node does not start:\n%s", log)
	return nil
}

// resident returns how much memory the program has, in bytes.
func (s *stillNode) resident(b *testing.B) (bytes int64) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); fields[0] == "Rss:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib << 10
		}
	}
	b.Fatal("smaps_rollup tells of no Rss")
	return 0
}

func (s *stillNode) goroutines(b *testing.B) (n int) {
	b.Helper()
	text, err := s.client.Get(b.Context(), "/debug/pprof/goroutine?debug=1")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %d", &n); err != nil {
		b.Fatal(err)
	}
	return n
}

func (s *stillNode) keepProfile(b *testing.B, name string) {
	b.Helper()
	profile, err := s.client.Get(b.Context(), "/debug/pprof/"+name)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.ArtifactDir(), name), profile, 0o600); err != nil {
		b.Fatal(err)
	}
}

// A stillCrowd are visitors who ask once and stay.
type stillCrowd struct {
	transport *quic.Transport
	target    net.Addr
	conns     chan *quic.Conn
}

func newStillCrowd(b *testing.B, address string) *stillCrowd {
	b.Helper()
	target, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		b.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	c := &stillCrowd{transport: &quic.Transport{Conn: socket}, target: target, conns: make(chan *quic.Conn, 1<<16)}
	b.Cleanup(func() {
		c.transport.Close()
		socket.Close()
	})
	return c
}

// come brings so many visitors, sixteen at a time.
func (c *stillCrowd) come(b *testing.B, visitors int) {
	b.Helper()
	var all sync.WaitGroup
	doors := make(chan struct{}, 16)
	for range visitors {
		doors <- struct{}{}
		all.Go(func() {
			defer func() { <-doors }()
			if err := c.visit(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

func (c *stillCrowd) visit(ctx context.Context) error {
	conn, err := c.transport.Dial(ctx, c.target, &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}, ServerName: "localhost",
	}, &quic.Config{HandshakeIdleTimeout: 20 * time.Second})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://localhost/", nil)
	if err != nil {
		return err
	}
	resp, err := new(http3.Transport).NewClientConn(conn).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || n != 1<<10) {
		err = fmt.Errorf("status %d with %d bytes", resp.StatusCode, n)
	}
	c.conns <- conn
	return err
}

// gone returns how many connections have ended.
func (c *stillCrowd) gone() (n int) {
	for range len(c.conns) {
		conn := <-c.conns
		if conn.Context().Err() != nil {
			n++
		}
		c.conns <- conn
	}
	return n
}
