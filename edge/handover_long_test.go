package edge_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge/edgetest"
)

// What lasts goes on, with the generation that it began with: downloads and streams
// both ways outlive two hand-overs.
func TestHandOverLeavesWhatLasts(t *testing.T) {
	t.Parallel()
	const third = 7 << 20
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			next := make(chan struct{})
			h := func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				control := http.NewResponseController(w)
				switch r.URL.Path {
				case "/download":
					for range 3 {
						io.CopyN(w, repeated('x'), third)
						control.Flush()
						<-next
					}
				case "/echo":
					control.EnableFullDuplex()
					control.Flush()
					b := make([]byte, 1)
					for {
						if _, err := io.ReadFull(r.Body, b); err != nil {
							return
						}
						w.Write(b)
						control.Flush()
					}
				}
			}
			s := newSuccession(t, http.HandlerFunc(h), proto == "h3")
			s.crowded = true
			c := s.client(proto)
			download, err := c.Get(s.url() + "/download")
			if err != nil {
				t.Fatal(err)
			}
			defer download.Body.Close()
			body, says := io.Pipe()
			echo, err := c.Post(s.url()+"/echo", "", body)
			if err != nil {
				t.Fatal(err)
			}
			defer echo.Body.Close()
			var drains []<-chan error
			for i := range 3 {
				if n, err := io.Copy(io.Discard, io.LimitReader(download.Body, third)); n != third || err != nil {
					t.Fatalf("third %d of the download: %d bytes, %v", i, n, err)
				}
				word := []byte{byte('a' + i)}
				says.Write(word)
				if _, err := io.ReadFull(echo.Body, word); err != nil || word[0] != byte('a'+i) {
					t.Fatalf("echo %d: %q, %v", i, word, err)
				}
				if i < 2 {
					drains = append(drains, s.handOver(t.Context()))
				}
				next <- struct{}{}
			}
			if n, err := io.Copy(io.Discard, download.Body); n != 0 || err != nil {
				t.Errorf("after the download: %d bytes, %v", n, err)
			}
			says.Close()
			if _, err := io.ReadAll(echo.Body); err != nil {
				t.Errorf("the end of the echo: %v", err)
			}
			for _, done := range drains {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

type repeated byte

// Read implements io.Reader.
func (r repeated) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r)
	}
	return len(b), nil
}

// A connection that was taken over, as a WebSocket's is, is none of the server's, and
// waited for all the same.
func TestHandOverLeavesTunnels(t *testing.T) {
	t.Parallel()
	h := func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, buf)
	}
	s := newSuccession(t, http.HandlerFunc(h), false)
	conn, err := s.node.DialTLS(t, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", edgetest.Host)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	old := s.node
	s.succeed()
	done := handOver(t.Context(), old)
	awaitClosed(old)
	fmt.Fprint(conn, "still here\n")
	if line, err := r.ReadString('\n'); line != "still here\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	select {
	case err := <-done:
		t.Errorf("handed over with a tunnel: %v", err)
	default:
	}
	conn.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A splitHello holds the second datagram back that it sends: with post-quantum keys
// that is the other half of the client's hello.
type splitHello struct {
	net.PacketConn
	sent   int
	begun  chan struct{}
	resume chan struct{}
}

// WriteTo implements net.PacketConn.
func (s *splitHello) WriteTo(p []byte, to net.Addr) (int, error) {
	if s.sent++; s.sent == 2 {
		close(s.begun)
		<-s.resume
	}
	return s.PacketConn.WriteTo(p, to)
}

// A QUIC handshake of which half has come is finished, whichever generation gets the
// other half first: what does not reach its connection is sent again.
func TestHandOverOfHalfAHello(t *testing.T) {
	t.Parallel()
	s := newSuccession(t, http.HandlerFunc(echoProto), true)
	sock, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	split := &splitHello{PacketConn: sock, begun: make(chan struct{}), resume: make(chan struct{})}
	transport := &quic.Transport{Conn: split}
	defer sock.Close()
	defer transport.Close()
	resume := sync.OnceFunc(func() { close(split.resume) })
	defer resume() // or the transport would not close
	config := s.node.Client.Clone()
	config.InsecureSkipVerify = true // it may be the successor's
	config.NextProtos = []string{http3.NextProtoH3}
	dialed := make(chan error, 1)
	var conn *quic.Conn
	to := s.quic.Load()
	go func() {
		var err error
		conn, err = transport.Dial(t.Context(), to, config, &quic.Config{HandshakeIdleTimeout: time.Minute}) // the successor may take its time
		dialed <- err
	}()
	<-split.begun
	old := s.node
	s.succeed()
	s.await(2)
	done := handOver(t.Context(), old)
	awaitClosed(old)
	resume()
	if err := <-dialed; err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, s.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := new(http3.Transport).NewClientConn(conn).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp)
	t.Logf("answered by generation %s", resp.Header.Get("Generation"))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Plain HTTP is redirected until the last connection that was accepted.
func TestHandOverRedirectsWhomItAccepted(t *testing.T) {
	t.Parallel()
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Config.HTTP, s.Config.HTTP3.Enabled = "127.0.0.1:0", false
	n := s.Start(t)
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", n.Listeners.HTTPAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	ask := func(conn net.Conn) {
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: edge.test\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Error(err)
		} else {
			read(t, resp)
		}
	}
	first := dial()
	ask(dial()) // connections are accepted one after the other
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := handOver(ctx, n)
	awaitClosed(n)
	ask(first)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
