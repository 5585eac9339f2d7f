package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// endless is a body of unknown length. It counts what was read of it, and starts
// when the gate, if there is one, is closed.
type endless struct {
	size, read int
	closed     bool
	gate       chan struct{}
}

func (e *endless) Read(p []byte) (int, error) {
	if e.gate != nil {
		<-e.gate
	}
	n := min(len(p), e.size-e.read)
	for i := range p[:n] {
		p[i] = byte((e.read + i) * 31 >> 3)
	}
	e.read += n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (e *endless) Close() error { e.closed = true; return nil }

func (e *endless) fetch(lines ...string) Func {
	return func(context.Context, *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: header(lines...), ContentLength: -1, Body: e}, nil
	}
}

func (e *endless) whole() []byte {
	b, _ := io.ReadAll(&endless{size: e.size})
	return b
}

func small() Config {
	cfg := config()
	cfg.MaxObject = 64 << 10
	return cfg
}

func TestBodyOfUnknownLength(t *testing.T) {
	for _, size := range []int{0, 1, firstSegment - 1, firstSegment, firstSegment + 1, 64<<10 - 1, 64 << 10} {
		synctest.Test(t, func(t *testing.T) {
			c, src := New(small()), &endless{size: size}
			for i := range 2 {
				if _, body := read(t, c, get("/"), src.fetch(fresh)); body != string(src.whole()) {
					t.Errorf("%d bytes, request %d: got %d other bytes", size, i, len(body))
				}
			}
			if s := c.State(); s.Entries != 1 || s.FillBytes != 0 || !src.closed || s.Hits != 1 {
				t.Errorf("%d bytes: %+v", size, s)
			}
		})
	}
}

func TestOutgrownFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, src := New(small()), &endless{size: 1 << 20, gate: make(chan struct{})}
		resp, _, err := serve(c, get("/"), src.fetch(fresh))
		if err != nil {
			t.Fatal(err)
		}
		second, _, _ := serve(c, get("/"), noFetch(t))
		close(src.gate)
		synctest.Wait()
		// Nobody reads: the pump holds no more than the largest object, and waits.
		if held := int64(src.read); held > small().MaxObject+1 || c.State().FillBytes > small().MaxObject+1 {
			t.Errorf("read %d ahead, %d counted", src.read, c.State().FillBytes)
		}
		// Nobody joins any more.
		other := &endless{size: 3}
		if resp, _ := read(t, c, get("/"), other.fetch(fresh)); resp.Joined || other.read != 3 {
			t.Errorf("joined a window: %+v", resp)
		}
		// Readers go on together, to the end.
		done := make(chan []byte)
		go func() { b, _ := io.ReadAll(second.Body); second.Body.Close(); done <- b }()
		var first bytes.Buffer
		if _, err := resp.Body.(io.WriterTo).WriteTo(&first); err != nil || !bytes.Equal(first.Bytes(), src.whole()) {
			t.Errorf("%d bytes, %v", first.Len(), err)
		}
		resp.Body.Close()
		if b := <-done; !bytes.Equal(b, src.whole()) {
			t.Errorf("joiner: %d bytes", len(b))
		}
		synctest.Wait()
		if s := c.State(); s.FillBytes != 0 || s.Flights != 0 || !src.closed {
			t.Errorf("%+v", s)
		}
	})
}

// The slowest reader costs the others a bounded time, then it is cut off.
func TestLaggingReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, src := New(small()), &endless{size: 1 << 20, gate: make(chan struct{})}
		fast, _, _ := serve(c, get("/"), src.fetch(fresh))
		lagging, _, _ := serve(c, get("/"), noFetch(t))
		close(src.gate)
		start := time.Now()
		body, err := io.ReadAll(fast.Body)
		if err != nil || !bytes.Equal(body, src.whole()) {
			t.Errorf("fast reader: %d bytes, %v", len(body), err)
		}
		if took := time.Since(start); took != lagPatience {
			t.Errorf("held up for %v", took)
		}
		if _, err := io.ReadAll(lagging.Body); !errors.Is(err, ErrLagging) {
			t.Errorf("lagging reader: %v", err)
		}
		fast.Body.Close()
		lagging.Body.Close()
		synctest.Wait()
		if s := c.State(); s.FillBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A single slow reader is nobody's burden: the origin waits for it.
func TestLoneSlowReaderIsNotCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, src := New(small()), &endless{size: 256 << 10}
		resp, _, _ := serve(c, get("/"), src.fetch(fresh))
		var got bytes.Buffer
		buf := make([]byte, 8<<10)
		for {
			time.Sleep(10 * time.Second)
			n, err := resp.Body.Read(buf)
			got.Write(buf[:n])
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		resp.Body.Close()
		if !bytes.Equal(got.Bytes(), src.whole()) {
			t.Errorf("%d bytes", got.Len())
		}
	})
}

func TestWindowWithoutReadersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, src := New(small()), &endless{size: 1 << 30}
		resp, _, _ := serve(c, get("/"), src.fetch(fresh))
		synctest.Wait()
		resp.Body.Close()
		synctest.Wait()
		if s := c.State(); s.FillBytes != 0 || s.Flights != 0 || !src.closed || src.read > 1<<20 {
			t.Errorf("%+v, read %d", s, src.read)
		}
		// The same when everybody left before it outgrew.
		d := &drip{}
		resp, _, _ = serve(c, get("/2"), d.fetch(-1, fresh))
		resp.Body.Close()
		for range 5 {
			if _, err := d.w.Write(make([]byte, 16<<10)); err != nil {
				break
			}
		}
		synctest.Wait()
		if s := c.State(); s.FillBytes != 0 || s.Flights != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Above the bound for bodies in flight, answers stream to the one who asked.
func TestFillsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config() // a quarter of 8 MiB
		c := New(cfg)
		var open []*Response
		var drips []*drip
		for i := range 4 {
			d := &drip{}
			resp, _, err := serve(c, get("/"+string(rune('a'+i))), d.fetch(1<<20, fresh))
			if err != nil {
				t.Fatal(err)
			}
			open, drips = append(open, resp), append(drips, d)
			if used := c.State().FillBytes; used > cfg.Memory/4 {
				t.Errorf("%d bytes in flight", used)
			}
		}
		for i, resp := range open {
			if resp.Stored != (i < 2) {
				t.Errorf("%d: stored %v", i, resp.Stored)
			}
			go func() { drips[i].w.Write(make([]byte, 1<<20)); drips[i].w.Close() }()
			if n, err := io.Copy(io.Discard, resp.Body); n != 1<<20 || err != nil {
				t.Errorf("%d: %d bytes, %v", i, n, err)
			}
			resp.Body.Close()
		}
		synctest.Wait()
		if s := c.State(); s.FillBytes != 0 || s.Entries != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestReaderEndsWithItsVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := New(config()), &drip{}
		ctx, cancel := context.WithCancel(context.Background())
		leader, _, _ := serve(c, get("/"), d.fetch(10, fresh))
		joiner, _, _ := serve(c, get("/").WithContext(ctx), noFetch(t))
		ended := make(chan error)
		go func() { _, err := io.ReadAll(joiner.Body); ended <- err }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		joiner.Body.Close()
		joiner.Body.Close() // twice is once

		// A Close ends a Read that waits.
		go func() { _, err := leader.Body.Read(make([]byte, 1)); ended <- err }()
		synctest.Wait()
		leader.Body.Close()
		if err := <-ended; err != errClosed {
			t.Error(err)
		}
		d.w.Write([]byte("0123456789"))
		d.w.Close()
		synctest.Wait()
		if s := c.State(); s.Entries != 1 || s.FillBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// The body is read by one goroutine for all: an answer that nobody shares does
// not pass through it.
func TestPrivateBodyIsNotCopied(t *testing.T) {
	c := New(config())
	src := io.NopCloser(strings.NewReader("x"))
	resp, _, err := serve(c, get("/"), func(context.Context, *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: header("Cache-Control: private"), ContentLength: 1, Body: src}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if direct, ok := resp.Body.(*directBody); !ok || direct.ReadCloser != src {
		t.Errorf("body is a %T", resp.Body)
	}
	if s := c.State(); s.FillBytes != 0 {
		t.Errorf("%+v", s)
	}
}

// Those who were expected and never come do not keep a fill alive.
func TestExpectedReadersThatDoNotCome(t *testing.T) {
	b := &budget{limit: 1 << 20}
	f := newFill(&endless{size: 10}, 10, 1<<20, b, false, 2)
	canceled := false
	f.cancel = func() { canceled = true }
	f.renounce()
	if canceled || !f.expect() {
		t.Error("stopped while one is still expected")
	}
	f.renounce()
	f.renounce()
	if !canceled || f.expect() {
		t.Error("goes on for nobody")
	}
	body, err := f.pump()
	f.end(body, nil, err)
	if b.used.Load() != 0 {
		t.Errorf("%d bytes are left", b.used.Load())
	}
}
