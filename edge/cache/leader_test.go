package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
)

func TestLeaderLeaves(t *testing.T) {
	f := func(name string, run func(t *testing.T, c *Cache, origin *slow)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(config())
				run(t, c, &slow{})
				synctest.Wait()
				if s := c.State(); s.Flights != 0 || s.FillBytes != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
	lead := func(c *Cache, fetch Func) (leave func(), left chan error) {
		ctx, cancel := context.WithCancel(context.Background())
		left = make(chan error, 1)
		go func() {
			r := get("/").WithContext(ctx)
			resp, _, err := serve(c, r, fetch)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			left <- err
		}()
		synctest.Wait()
		return cancel, left
	}
	f("before the header, others wait", func(t *testing.T, c *Cache, origin *slow) {
		leave, left := lead(c, origin.fetch("x", 200, fresh))
		cr := &crowd{}
		cr.ask(c, 5, same(get("/")), func(int) Func { return noFetch(t) })
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("leader: %v", err)
		}
		cr.wg.Wait()
		if cr.joined.Load() != 5 || origin.calls.Load() != 1 {
			t.Errorf("%d joined", cr.joined.Load())
		}
	})
	f("before the header, nobody waits", func(t *testing.T, c *Cache, origin *slow) {
		leave, left := lead(c, origin.fetch("x", 200, fresh))
		leave()
		<-left
		synctest.Wait()
		if origin.inFlight.Load() != 0 {
			t.Error("the fetch goes on for nobody")
		}
	})
	f("before the header of a private answer", func(t *testing.T, c *Cache, origin *slow) {
		leave, left := lead(c, origin.fetch("leader", 200, "Cache-Control: private"))
		cr := &crowd{}
		cr.ask(c, 5, same(get("/")), func(i int) Func { return origin.fetch(fmt.Sprint(i), 200, "Cache-Control: private") })
		synctest.Wait()
		leave()
		<-left
		cr.wg.Wait()
		if cr.joined.Load() != 0 || origin.calls.Load() != 6 || cr.failures() != 0 {
			t.Errorf("%d fetches, %d failures", origin.calls.Load(), cr.failures())
		}
	})
	f("in the body, to be stored", func(t *testing.T, c *Cache, _ *slow) {
		d := &drip{}
		leave, left := lead(c, d.fetch(10, fresh))
		d.w.Write([]byte("01234"))
		leave()
		<-left
		d.w.Write([]byte("56789"))
		d.w.Close()
		synctest.Wait()
		if _, body := read(t, c, get("/"), noFetch(t)); body != "0123456789" {
			t.Errorf("stored %q", body)
		}
	})
	f("in the body of a private answer", func(t *testing.T, c *Cache, _ *slow) {
		d := &drip{}
		leave, left := lead(c, d.fetch(10, "Cache-Control: private"))
		leave()
		<-left
		synctest.Wait()
		if d.ctx.Load().(context.Context).Err() == nil {
			t.Error("the fetch goes on for nobody")
		}
	})
}

func TestLeaderFails(t *testing.T) {
	boom := errors.New("boom")
	fail := func(context.Context, *http.Request) (*http.Response, error) {
		time.Sleep(time.Second)
		return nil, boom
	}
	synctest.Test(t, func(t *testing.T) {
		// The second leader succeeds: only the first request fails.
		c, origin, cr := New(config()), &slow{}, &crowd{}
		first := true
		var mu sync.Mutex
		cr.ask(c, 20, same(get("/")), func(int) Func {
			return func(ctx context.Context, r *http.Request) (*http.Response, error) {
				mu.Lock()
				was := first
				first = false
				mu.Unlock()
				if was {
					return fail(ctx, r)
				}
				return origin.fetch("x", 200, fresh)(ctx, r)
			}
		})
		cr.wg.Wait()
		if cr.failures() != 1 || origin.calls.Load() != 1 || cr.joined.Load() != 18 {
			t.Errorf("%d failures, %d fetches, %d joined", cr.failures(), origin.calls.Load(), cr.joined.Load())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		// Both fail: all are told, and nobody asks a third time.
		c, cr := New(config()), &crowd{}
		var calls atomic.Int64
		cr.ask(c, 20, same(get("/")), func(int) Func {
			return func(ctx context.Context, r *http.Request) (*http.Response, error) {
				calls.Add(1)
				return fail(ctx, r)
			}
		})
		cr.wg.Wait()
		told := 0
		cr.errs.Range(func(_, err any) bool {
			if !errors.Is(err.(error), boom) {
				t.Errorf("%v does not tell the cause", err)
			}
			if errors.Is(err.(error), ErrLeaderFailed) {
				told++
			}
			return true
		})
		if cr.failures() != 20 || told != 18 || calls.Load() != 2 {
			t.Errorf("%d failures, %d told, %d fetches", cr.failures(), told, calls.Load())
		}
	})
}

func TestPanicReachesTheLeaderOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		panicked := make(chan any)
		go func() {
			defer func() { panicked <- recover() }()
			serve(c, get("/"), func(context.Context, *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				panic("boom")
			})
		}()
		synctest.Wait()
		if _, body := read(t, c, get("/"), answers(200, "x", fresh)); body != "x" {
			t.Errorf("joiner got %q", body)
		}
		if p := <-panicked; p != "boom" {
			t.Errorf("leader panicked with %v", p)
		}
	})
}
