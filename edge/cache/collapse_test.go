package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// A crowd asks at the same time, and counts what comes of it.
type crowd struct {
	bodies sync.Map // int -> string
	joined atomic.Int64
	errs   sync.Map // int -> error
	wg     sync.WaitGroup
}

// ask sends n requests.
func (cr *crowd) ask(c *Cache, n int, request func(i int) *http.Request, fetch func(i int) Func) {
	for i := range n {
		cr.wg.Go(func() {
			resp, _, err := serve(c, request(i), fetch(i))
			if err != nil {
				cr.errs.Store(i, err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				cr.errs.Store(i, err)
			}
			if resp.Joined {
				cr.joined.Add(1)
			}
			cr.bodies.Store(i, string(body))
		})
	}
}

func (cr *crowd) failures() (n int) {
	cr.errs.Range(func(any, any) bool { n++; return true })
	return n
}

func same(r *http.Request) func(int) *http.Request {
	return func(int) *http.Request { return r.Clone(r.Context()) }
}

// A slow origin counts its requests and answers after a second.
type slow struct {
	calls, inFlight, most atomic.Int64
}

func (s *slow) fetch(body string, status int, lines ...string) Func {
	return func(ctx context.Context, _ *http.Request) (*http.Response, error) {
		s.calls.Add(1)
		n := s.inFlight.Add(1)
		for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
		}
		defer s.inFlight.Add(-1)
		select {
		case <-time.After(time.Second):
			return response(status, body, lines...), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func TestColdCrowdCostsOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, cr := New(config()), &slow{}, &crowd{}
		start := time.Now()
		cr.ask(c, 100, same(get("/")), func(int) Func { return origin.fetch("shared", 200, "Cache-Control: max-age=60") })
		cr.wg.Wait()
		if calls, joined := origin.calls.Load(), cr.joined.Load(); calls != 1 || joined != 99 || cr.failures() != 0 {
			t.Errorf("%d fetches, %d joined, %d failed", calls, joined, cr.failures())
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
		cr.bodies.Range(func(i, body any) bool {
			if body != "shared" {
				t.Errorf("%d got %q", i, body)
			}
			return true
		})
		synctest.Wait() // the flight ends after its last reader
		if s := c.State(); s.Stored != 1 || s.Flights != 0 || s.FillBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestUncacheableCrowdIsReleasedAtOnceAndRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		own := func(i int) Func { return origin.fetch(fmt.Sprint(i), 200, "Cache-Control: no-store") }
		wave := func(want time.Duration, fetches, most int64) {
			t.Helper()
			cr, start := &crowd{}, time.Now()
			cr.ask(c, 100, same(get("/")), own)
			cr.wg.Wait()
			if took := time.Since(start); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
			if origin.calls.Swap(0) != fetches || origin.most.Swap(0) != most || cr.joined.Load() != 0 {
				t.Errorf("fetches %d, at the same time %d", fetches, most)
			}
			cr.bodies.Range(func(i, body any) bool {
				if body != fmt.Sprint(i) {
					t.Errorf("%d got the answer of %v", i, body)
				}
				return true
			})
		}
		wave(2*time.Second, 100, 99) // one in front, then all others together
		wave(time.Second, 100, 100)  // nobody waits
		time.Sleep(uncacheableFor - time.Second)
		wave(time.Second, 100, 100) // each answer renews the memory
		time.Sleep(uncacheableFor)
		wave(2*time.Second, 100, 99) // it ends
	})
}

func TestShareableAnswerEndsTheMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		read(t, c, get("/"), answers(200, "", "Cache-Control: no-store"))
		read(t, c, get("/"), answers(200, "", "Cache-Control: max-age=1"))
		time.Sleep(2 * time.Second)
		cr := &crowd{}
		cr.ask(c, 10, same(get("/")), func(int) Func { return origin.fetch("x", 200, "Cache-Control: max-age=60") })
		cr.wg.Wait()
		if n := origin.calls.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// An answer that says "not now" says nothing about the next one.
func TestFailureIsForgottenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		read(t, c, get("/"), answers(503, ""))
		time.Sleep(failingFor)
		cr := &crowd{}
		cr.ask(c, 10, same(get("/")), func(int) Func { return origin.fetch("x", 200, "Cache-Control: max-age=60") })
		cr.wg.Wait()
		if n := origin.calls.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// It counts as fresh for those who waited, even when it took longer than it
// lives.
func TestSlowShortLivedAnswerIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, cr := New(config()), &slow{}, &crowd{}
		cr.ask(c, 10, same(get("/")), func(int) Func { return origin.fetch("x", 200, "Cache-Control: max-age=1") })
		cr.wg.Wait()
		if n := origin.calls.Load(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestVaryIsDiscoveredAtHeaderTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, cr := New(config()), &slow{}, &crowd{}
		coding := func(i int) string { return []string{"gzip", "br", "zstd"}[i%3] }
		start := time.Now()
		cr.ask(c, 30,
			func(i int) *http.Request { return get("/", "Accept-Encoding: "+coding(i)) },
			func(i int) Func {
				return origin.fetch(coding(i), 200, "Cache-Control: max-age=60", "Vary: Accept-Encoding")
			})
		cr.wg.Wait()
		if calls, took := origin.calls.Load(), time.Since(start); calls != 3 || took != 2*time.Second {
			t.Errorf("%d fetches in %v", calls, took)
		}
		cr.bodies.Range(func(i, body any) bool {
			if body != coding(i.(int)) {
				t.Errorf("%d got the variant %v", i, body)
			}
			return true
		})
		// Once the key is known to vary, nobody waits for another variant.
		time.Sleep(time.Minute)
		cr, start = &crowd{}, time.Now()
		origin.calls.Store(0)
		cr.ask(c, 30,
			func(i int) *http.Request { return get("/", "Accept-Encoding: "+coding(i)) },
			func(i int) Func {
				return origin.fetch(coding(i), 200, "Cache-Control: max-age=60", "Vary: Accept-Encoding")
			})
		cr.wg.Wait()
		if calls, took := origin.calls.Load(), time.Since(start); calls != 3 || took != time.Second {
			t.Errorf("known to vary: %d fetches in %v", calls, took)
		}
	})
}

// drip writes a body in parts, as the test says.
type drip struct {
	w     *io.PipeWriter
	calls atomic.Int64
	ctx   atomic.Value // the fetch's
}

func (d *drip) fetch(length int64, lines ...string) Func {
	return func(ctx context.Context, _ *http.Request) (*http.Response, error) {
		d.calls.Add(1)
		d.ctx.Store(ctx)
		r, w := io.Pipe()
		d.w = w
		context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
		return &http.Response{StatusCode: 200, Header: header(lines...), ContentLength: length, Body: r}, nil
	}
}

const fresh = "Cache-Control: max-age=60"

func TestLateJoinerStreams(t *testing.T) {
	for _, length := range []int64{10, -1} {
		synctest.Test(t, func(t *testing.T) {
			c, d := New(config()), &drip{}
			first, _, err := serve(c, get("/"), d.fetch(length, fresh))
			if err != nil {
				t.Fatal(err)
			}
			d.w.Write([]byte("01234"))
			time.Sleep(time.Second)
			late, _, err := serve(c, get("/"), noFetch(t))
			if err != nil || !late.Joined || late.Header.Get("Age") != "1" {
				t.Fatalf("%+v: %v", late, err)
			}
			buf := make([]byte, 5)
			if _, err := io.ReadFull(late.Body, buf); err != nil || string(buf) != "01234" {
				t.Errorf("while the fill is open: %q %v", buf, err)
			}
			head, body := make(chan string), make(chan string)
			go func() { b, _ := io.ReadAll(late.Body); late.Body.Close(); body <- string(b) }()
			go func() { b, _ := io.ReadAll(first.Body); first.Body.Close(); head <- string(b) }()
			d.w.Write([]byte("56789"))
			d.w.Close()
			if got := <-body; got != "56789" {
				t.Errorf("joiner then got %q", got)
			}
			if got := <-head; got != "0123456789" {
				t.Errorf("leader got %q", got)
			}
			if _, body := read(t, c, get("/"), noFetch(t)); body != "0123456789" {
				t.Errorf("stored %q", body)
			}
			synctest.Wait() // the flight ends after its last reader
			if s := c.State(); s.FillBytes != 0 || s.Flights != 0 || d.calls.Load() != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestTruncatedBody(t *testing.T) {
	f := func(name string, length int64, finish func(*io.PipeWriter)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, d := New(config()), &drip{}
				leader, _, _ := serve(c, get("/"), d.fetch(length, fresh))
				joiner, _, _ := serve(c, get("/"), noFetch(t))
				go func() {
					d.w.Write([]byte("01234"))
					finish(d.w)
				}()
				for _, resp := range []*Response{leader, joiner} {
					body, err := io.ReadAll(resp.Body)
					if err == nil {
						t.Errorf("a cut body ended cleanly: %q", body)
					}
					resp.Body.Close()
				}
				synctest.Wait()
				if s := c.State(); s.Stored != 0 || s.Entries != 0 || s.FillBytes != 0 || s.Flights != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
	f("read error", 10, func(w *io.PipeWriter) { w.CloseWithError(errors.New("reset")) })
	f("read error, unknown length", -1, func(w *io.PipeWriter) { w.CloseWithError(io.ErrUnexpectedEOF) })
	f("too short", 10, func(w *io.PipeWriter) { w.Close() })
	f("too long", 5, func(w *io.PipeWriter) { w.Write([]byte("5")); w.Close() })
}

func TestWaitersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.CollapseWaiters = 10
		c, origin, cr := New(cfg), &slow{}, &crowd{}
		cr.ask(c, 50, same(get("/")), func(int) Func { return origin.fetch("x", 200, fresh) })
		cr.wg.Wait()
		if cr.failures() != 39 || cr.joined.Load() != 10 || origin.calls.Load() != 1 {
			t.Errorf("%d failures, %d joined", cr.failures(), cr.joined.Load())
		}
		cr.errs.Range(func(_, err any) bool {
			if err != ErrCollapseFull {
				t.Error(err)
			}
			return true
		})
		if s := c.State(); s.Rejected != 39 || s.Collapsed != 10 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, done := New(config()), make(chan struct{})
		go func() {
			read(t, c, get("/"), func(context.Context, *http.Request) (*http.Response, error) {
				time.Sleep(time.Minute)
				return response(200, "x", fresh), nil
			})
			close(done)
		}()
		synctest.Wait()
		start := time.Now()
		_, _, err := serve(c, get("/"), noFetch(t))
		if err != ErrCollapseTimeout || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, _, err = serve(c, get("/").WithContext(ctx), noFetch(t)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		<-done
	})
}

func TestHeadsCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, cr := New(config()), &slow{}, &crowd{}
		cr.ask(c, 20, same(request("HEAD", "/")), func(int) Func { return origin.fetch("", 200, fresh) })
		cr.wg.Wait()
		if origin.calls.Load() != 1 || cr.joined.Load() != 19 || c.State().Entries != 0 {
			t.Errorf("%d fetches, %d joined", origin.calls.Load(), cr.joined.Load())
		}
	})
}

func TestRevalidationsCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, cr := New(config()), &slow{}, &crowd{}
		read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=10", `Etag: "a"`))
		time.Sleep(time.Minute)
		cr.ask(c, 20, same(get("/")), func(int) Func { return origin.fetch("", 304, "Cache-Control: max-age=10") })
		cr.wg.Wait()
		if origin.calls.Load() != 1 || cr.joined.Load() != 19 {
			t.Errorf("%d fetches, %d joined", origin.calls.Load(), cr.joined.Load())
		}
		cr.bodies.Range(func(_, body any) bool {
			if !strings.HasPrefix(body.(string), "body") {
				t.Errorf("got %q", body)
			}
			return true
		})
	})
}

func TestMustValidateIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, cr := New(config()), &slow{}, &crowd{}
		cr.ask(c, 20, same(get("/")), func(i int) Func { return origin.fetch(fmt.Sprint(i), 200, "Cache-Control: no-cache", `Etag: "a"`) })
		cr.wg.Wait()
		if origin.calls.Load() != 20 || cr.joined.Load() != 0 {
			t.Errorf("%d fetches, %d joined", origin.calls.Load(), cr.joined.Load())
		}
		if s := c.State(); s.Entries != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCacheSwitchedOffStillCollapses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Memory = 0
		c, origin := New(cfg), &slow{}
		for wave := range int64(2) {
			cr := &crowd{}
			cr.ask(c, 20, same(get("/")), func(int) Func { return origin.fetch("x", 200, fresh) })
			cr.wg.Wait()
			if origin.calls.Load() != wave+1 || cr.joined.Load() != 19 {
				t.Errorf("%d fetches, %d joined", origin.calls.Load(), cr.joined.Load())
			}
		}
		if s := c.State(); s.Bytes != 0 || s.Entries != 0 || s.FillBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestOnlyIfCached(t *testing.T) {
	c := New(config())
	r := get("/", "Cache-Control: only-if-cached")
	if _, found, err := serve(c, r, noFetch(t)); found.State != Unavailable || err != ErrOnlyIfCached {
		t.Errorf("%v %v", found.State, err)
	}
	read(t, c, get("/"), answers(200, "x", fresh))
	if got := state(c, r); got != Fresh {
		t.Error(got)
	}
}
