package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// visitors put a node under load, and count.
type visitors struct {
	t        *testing.T
	from     *network
	listen   string
	requests map[string]*atomic.Int64
	stopping atomic.Bool
	running  sync.WaitGroup
}

// loop does something again and again until the visitors stop, counts it, and tells
// when it failed.
func (v *visitors) loop(kind string, do func() error) {
	count := v.requests[kind]
	if count == nil {
		count = new(atomic.Int64)
		v.requests[kind] = count
	}
	v.running.Go(func() {
		for !v.stopping.Load() {
			if err := do(); err != nil {
				v.t.Errorf("%s: %v", kind, err)
				continue
			}
			count.Add(1)
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

// come begins visits of all kinds.
func (v *visitors) come() (leave func()) {
	for _, proto := range []string{"h1", "h2", "h3"} {
		v.loop(proto+" download", func() error {
			c, end := v.client(proto)
			defer end()
			return v.get(c, "/download", pieces*pieceBytes)
		})
	}
	v.loop("WebSocket", v.echo)
	return v.browse()
}

// browse begins visits for two bytes each, and returns what ends all visits. A test that
// fails before is left by them as well.
func (v *visitors) browse() (leave func()) {
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
	}
	end := func() {
		v.stopping.Store(true)
		v.running.Wait()
		for _, end := range ends {
			end()
		}
	}
	v.t.Cleanup(end)
	return func() {
		end()
		for kind, n := range v.requests {
			v.t.Logf("%s: %d", kind, n.Load())
			if n.Load() == 0 {
				v.t.Errorf("%s: nothing was asked", kind)
			}
		}
	}
}
