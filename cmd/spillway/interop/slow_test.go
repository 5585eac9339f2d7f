package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	attackers = 300
	// attackSeconds is longer than the timeouts below, so that the node has to end
	// what it should not hold.
	attackSeconds = "25"
	// mostMemory bounds what the node may hold in an attack: 64 MiB of answers read
	// ahead and some 100 KiB for each connection, of which the collector lets five
	// times as much pile up (450 MiB measured), and more before it has run.
	mostMemory = 640 << 20
)

// strict are the nodes that are attacked.
const strict = `timeouts: {header: 4s, idle: 6s, stall: 5s}`

// TestSlowHTTPTest lets slowhttptest hold some hundred connections in each of
// its ways. Everybody else must be served all the while, the node must not
// grow beyond a bound, and nothing of it may stay.
func TestSlowHTTPTest(t *testing.T) {
	program := need(t, "slowhttptest", "slowhttptest")
	for name, args := range map[string][]string{
		"headers": {"-H", "-i", "1", "-x", "24", "-t", "GET", "-u", "/bytes/1024"},
		"body":    {"-B", "-i", "1", "-x", "10", "-s", "8192", "-t", "POST", "-u", "/echo"},
		"range":   {"-R", "-a", "10", "-b", "3000", "-t", "HEAD", "-u", "/bytes/1048576"},
		"read":    {"-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3", "-u", "/bytes/1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			// With the queue that is room for all attackers at once, which an origin that stalls
			// gets. Who came when they held the permits would be shed.
			n := startNode(t, settings{server: o.URL, origin: ", limit: {min: 250, max: 250}", more: strict, program: plain})
			args[len(args)-1] = n.url + args[len(args)-1]
			args = append(args, "-c", strconv.Itoa(attackers), "-r", "100", "-l", attackSeconds, "-p", "5")
			var output lockedBuffer
			attack := exec.Command(program, args...)
			attack.Stdout, attack.Stderr = &output, &output
			if err := attack.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { defer close(ended); attack.Wait() }()
			most := n.serveMeanwhile(t, ended)
			// Ranges are answered at once, and so hold nothing.
			if name != "range" && most < attackers/4 {
				t.Errorf("at most %v connections were open, there was no attack:\n%s", most, output.String())
			}
			n.atRest(t)
			n.deserted(t)
		})
	}
}

// serveMeanwhile sends requests over new connections until an attack is over,
// and returns how many connections were open at most.
func (n *node) serveMeanwhile(t *testing.T, ended <-chan struct{}) (most float64) {
	t.Helper()
	for served := 0; ; served++ {
		select {
		case <-ended:
			if served < 3 {
				t.Errorf("served only %d good requests", served)
			}
			return most
		default:
		}
		most = max(most, n.metric(t, "spillway_connections"))
		n.visitOnce(t)
		if rss := n.memory(t); rss > mostMemory {
			t.Fatalf("the node holds %d MiB", rss>>20)
		}
	}
}

// visitOnce asks for a page as a new visitor, and fails the test if there is no
// answer.
func (n *node) visitOnce(t *testing.T) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: n.tls("h2"), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: 20 * time.Second}
	resp, err := client.Get(n.url + "/bytes/1024")
	if err != nil {
		t.Fatalf("a good visitor gets %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a good visitor gets %s, %s", resp.Status, resp.Header.Get("Spillway"))
	}
}

// deserted waits until no connection is left.
func (n *node) deserted(t *testing.T) {
	t.Helper()
	await(t, "no connection is left", func() bool { return n.metric(t, "spillway_connections") == 0 })
}

// memory returns the bytes that the node's process has in memory.
func (n *node) memory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", n.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestSlowHTTP3 does over HTTP/3 what slowhttptest does over TLS. The node must
// put an end to all of it.
func TestSlowHTTP3(t *testing.T) {
	for name, attack := range map[string]func(context.Context, *quic.Conn, *node) error{
		"idle": beIdle, "headers": sendSlowHeader, "body": sendSlowBody, "read": neverRead,
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t)
			n := startNode(t, settings{server: o.URL, more: strict, program: plain})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			conns := make([]*quic.Conn, attackers/5)
			var attacks sync.WaitGroup
			for i := range conns {
				var err error
				if conns[i], err = dial(ctx, n.addr, n.tls(http3.NextProtoH3), &quic.Config{
					KeepAlivePeriod: time.Second, InitialStreamReceiveWindow: 1 << 10, MaxStreamReceiveWindow: 1 << 10,
				}); err != nil {
					t.Fatal(err)
				}
				attacks.Go(func() {
					if err := attack(ctx, conns[i], n); err != nil {
						t.Error(err)
					}
				})
			}
			ended := make(chan struct{})
			go func() { defer close(ended); attacks.Wait() }()
			n.serveMeanwhile(t, ended)
			for _, c := range conns {
				c.CloseWithError(0, "")
			}
			n.atRest(t)
			n.deserted(t)
		})
	}
}

// beIdle sends nothing but pings. It returns when the node has had enough, as do
// the other attacks.
func beIdle(_ context.Context, conn *quic.Conn, _ *node) error {
	<-conn.Context().Done()
	return nil
}

// sendSlowHeader sends the frame of a header byte by byte, and never the end.
func sendSlowHeader(ctx context.Context, conn *quic.Conn, _ *node) error {
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return err
	}
	const headers = 0x01 // and then the length, 16255, as a varint of two bytes
	if _, err := stream.Write([]byte{headers, 0x7f, 0x7f}); err != nil {
		return err
	}
	drip(stream)
	return nil
}

// sendSlowBody uploads a byte each second. The client would say that a POST is
// empty, since it cannot know what we write; of DELETE it says nothing.
func sendSlowBody(ctx context.Context, conn *quic.Conn, n *node) error {
	stream, err := ask3(ctx, conn, n, http.MethodDelete, "/echo")
	if err != nil {
		return err
	}
	drip(stream)
	return nil
}

// drip writes a byte each second until that fails.
func drip(stream interface {
	io.Writer
	Context() context.Context
},
) {
	for {
		if _, err := stream.Write([]byte{0}); err != nil {
			return
		}
		select {
		case <-stream.Context().Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// neverRead asks for much, and reads only when the node's patience is long over.
func neverRead(ctx context.Context, conn *quic.Conn, n *node) error {
	stream, err := ask3(ctx, conn, n, http.MethodGet, "/bytes/1048576")
	if err != nil {
		return err
	}
	if err := stream.Close(); err != nil {
		return err
	}
	select {
	case <-conn.Context().Done():
		return nil
	case <-time.After(20 * time.Second):
	}
	if _, err := stream.ReadResponse(); err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, stream); err == nil {
		return errors.New("the node held its answer for a visitor that did not read")
	}
	return nil
}

// ask3 sends the header of a request over a connection of its own.
func ask3(ctx context.Context, conn *quic.Conn, n *node, method, path string) (*http3.RequestStream, error) {
	stream, err := (&http3.Transport{}).NewClientConn(conn).OpenRequestStream(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, n.url+path, nil)
	if err != nil {
		return nil, err
	}
	return stream, stream.SendRequestHeader(req)
}
