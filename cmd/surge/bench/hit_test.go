package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// ownAddress is one at which nobody else has ports of TCP.
const ownAddress = "127.7.7.8"

// startHere serves the bare handler in this process, until the test ends.
func startHere(t *testing.T) *peer {
	t.Helper()
	certificate, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", ownAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serveBare(ctx, conn, listener, certificate) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		conn.Close()
	})
	return &peer{Name: bare, address: conn.LocalAddr().String()}
}

// The bare server answers each size, whole and in each protocol, and goes on doing so.
func TestBareSpeaksAllProtocols(t *testing.T) {
	p := startHere(t)
	for _, proto := range protocols {
		for _, size := range hitSizes {
			path := fmt.Sprintf("/bytes/%d", size)
			g, err := gather(t.Context(), p, proto, size, path)
			if err != nil {
				t.Errorf("%s, %d bytes: %v", proto, size, err)
			} else if n, err := forLong(func(d time.Duration) (int64, error) { return g.keepAsking(t.Context(), path, d) }); err != nil || n == 0 {
				t.Errorf("%s, %d bytes: %d answers, %v", proto, size, n, err)
			}
			g.leave()
		}
		g, err := gather(t.Context(), p, proto, 1, "/bytes/1024")
		if err == nil {
			t.Errorf("%s: an answer of another size is taken", proto)
		}
		g.leave()
	}
}

// What is no hit is not measured as one.
func TestLoadRefusesMisses(t *testing.T) {
	f := &field{source: NewSource()}
	defer f.source.Close()
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	open := &peer{Name: "open", Plain: true, address: f.source.Address(), pid: sleep.Process.Pid}
	_, err := forLong(func(d time.Duration) (int64, error) {
		_, _, err := f.load(t.Context(), open, h1, 1024, d)
		return 0, err
	})
	if err == nil || !strings.Contains(err.Error(), "the origin was asked") {
		t.Errorf("a peer that stores nothing: %v", err)
	}
	if _, _, err := f.load(t.Context(), open, h1, 1<<21, 50*time.Millisecond); err == nil {
		t.Error("a peer that answers 400 is measured")
	}
}

func TestWriteHits(t *testing.T) {
	r := report{
		Hits: []hit{
			{Peer: bare, Protocol: h3, Bytes: 1024, CPU: 20, CPUs: []float64{19, 20, 21}, Bare: 1, Busy: .95},
			{Peer: "varnish", Protocol: h3, Bytes: 1024, Plain: true, Skipped: "it has none"},
		},
		Peers:   []*peer{{Name: bare}, {Name: "varnish", Version: "7.1.1"}},
		Skipped: []string{"nginx is not installed"},
	}
	var out bytes.Buffer
	if err := r.write(&out, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"20.0     1.00    95%   [19.0 20.0 21.0]", "varnish*   skipped: it has none", "varnish is 7.1.1", "skipped: nginx is not installed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := r.write(&out, true); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back.Hits) != 2 || back.Hits[0].CPU != 20 {
		t.Errorf("JSON: %v\n%s", err, out.String())
	}
}
