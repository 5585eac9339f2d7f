package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// What the visitors of a soak ask the cache for: what fits into a packet, what does not,
// and what does not fit into the window of a stream.
var keptSizes = []int{0, 1, 1000, 1200, 3000, 20_000, 300_000}

func keptPath() string {
	return fmt.Sprintf("/kept/%d/%d", keptSizes[rand.IntN(len(keptSizes))], rand.IntN(3))
}

// collect asks for what the cache has, over one connection for a while: several at once,
// most of it plainly, some of it in ways that no fast path knows, some of it slowly, and
// some of it not to the end.
func (s *soak) collect(ctx context.Context, proto string) error {
	client, leave := s.client(proto)
	defer leave()
	var wg sync.WaitGroup
	errs := make(chan error, 20*8)
	for range 20 {
		for range 1 + rand.IntN(8) {
			wg.Go(func() {
				if err := s.take(ctx, client, keptPath()); err != nil {
					errs <- fmt.Errorf("%s: %w", proto, err)
				}
			})
		}
		wg.Wait()
	}
	close(errs)
	return <-errs
}

// take asks for one thing in one of many ways, and compares what it gets with the path.
func (s *soak) take(ctx context.Context, client *http.Client, path string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	want, status, field, value, method := kept(path), http.StatusOK, "", "", http.MethodGet
	early, slow := false, false
	switch how := rand.IntN(40); {
	case how == 0 && len(want) > 10:
		want, status, field, value = want[2:7], http.StatusPartialContent, "Range", "bytes=2-6"
	case how == 1:
		want, status, field, value = nil, http.StatusNotModified, "If-None-Match", `"`+path[len("/kept/"):]+`"`
	case how == 2:
		want, method = nil, http.MethodHead
	case how == 3:
		field, value = "Cache-Control", "no-cache"
	case how == 4:
		early = true
	case how == 5:
		slow = true
	}
	req, err := http.NewRequestWithContext(ctx, method, s.node.url+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if field != "" {
		req.Header.Set(field, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	if early {
		io.CopyN(io.Discard, resp.Body, 100)
		return nil
	}
	var got bytes.Buffer
	for slow && err == nil {
		_, err = io.CopyN(&got, resp.Body, 30_000)
		time.Sleep(50 * time.Millisecond)
	}
	if !slow {
		_, err = got.ReadFrom(resp.Body)
	}
	if err != nil && !errors.Is(err, io.EOF) || resp.StatusCode != status || !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("%s %s, %s %s: %d, %d bytes of %d, %q, %w", method, path, field, value,
			resp.StatusCode, got.Len(), len(want), resp.Header.Get("Spillway"), err)
	}
	return nil
}

// giveUp asks for what the cache has over HTTP/3 and resets the stream, at any moment.
func (s *soak) giveUp(ctx context.Context) error {
	conn, err := dial(ctx, "127.0.0.1:"+s.node.port, s.node.tls("h3"), nil)
	if err != nil {
		return err
	}
	defer conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	client := (&http3.Transport{}).NewClientConn(conn)
	for range 50 {
		str, err := client.OpenRequestStream(ctx)
		if err != nil {
			return fmt.Errorf("open a stream: %w", err)
		}
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.node.url+keptPath(), nil)
		if err := str.SendRequestHeader(req); err != nil {
			return fmt.Errorf("ask on a stream: %w", err)
		}
		if rand.IntN(2) == 0 {
			str.Close()
		}
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
		time.Sleep(60 * time.Millisecond) // the node bears twenty a second
	}
	return nil
}

// pipeline asks for many things in one write over HTTP/1.1, and reads the answers in turn.
func (s *soak) pipeline(ctx context.Context) error {
	dialer := tls.Dialer{Config: s.node.tls("http/1.1")}
	conn, err := dialer.DialContext(ctx, "tcp", "127.0.0.1:"+s.node.port)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	var asked bytes.Buffer
	var paths []string
	for range 20 {
		path := keptPath()
		paths = append(paths, path)
		fmt.Fprintf(&asked, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
	}
	go conn.Write(asked.Bytes())
	for in := bufio.NewReader(conn); len(paths) > 0; paths = paths[1:] {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("%d answers of a pipeline are missing: %w", len(paths), err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, kept(paths[0])) {
			return fmt.Errorf("%s in a pipeline: %d, %d bytes, %w", paths[0], resp.StatusCode, len(got), err)
		}
		if resp.Close { // RFC 9112 section 9.3.2: a hand-over; the others were not answered
			return nil
		}
	}
	return nil
}
