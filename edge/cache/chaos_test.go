package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// A chaotic origin takes any time, and does to each key what its name says.
type chaos struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (o *chaos) intn(n int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rng.IntN(n)
}

func (o *chaos) pause(most time.Duration) { time.Sleep(time.Duration(o.intn(int(most)))) }

// expected is the body that a request must get if it gets one at all.
func expected(kind, user string) string {
	switch kind {
	case "private", "vary", "cookie":
		return strings.Repeat(kind+user, 100)
	case "large":
		return strings.Repeat(kind, 50_000)
	}
	return strings.Repeat(kind, 100)
}

func (o *chaos) fetch(kind, user string) Func {
	return func(ctx context.Context, r *http.Request) (*http.Response, error) {
		o.pause(2 * time.Second)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if r.Header.Get("If-None-Match") != "" {
			return response(304, "", "Cache-Control: max-age=2"), nil
		}
		resp := response(200, "", "Cache-Control: max-age=2", `Etag: "a"`)
		body := expected(kind, user)
		resp.ContentLength = int64(len(body))
		cut := len(body)
		switch kind {
		case "private":
			resp.Header.Set("Cache-Control", "private")
		case "cookie":
			resp.Header.Set("Set-Cookie", user)
		case "vary":
			resp.Header.Set("Vary", "User")
		case "large", "unknown":
			resp.ContentLength = -1
		case "cut":
			if o.intn(2) == 0 {
				cut /= 2
			}
		case "fail":
			if o.intn(3) > 0 {
				return nil, errors.New("fail")
			}
		}
		pr, pw := io.Pipe()
		stop := context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
		go func() {
			defer stop()
			for body := body[:cut]; body != ""; {
				n := min(1+o.intn(40_000), len(body))
				if _, err := pw.Write([]byte(body[:n])); err != nil {
					return
				}
				body = body[n:]
				o.pause(300 * time.Millisecond)
			}
			pw.Close()
		}()
		resp.Body = pr
		return resp, nil
	}
}

// Whatever happens in whatever order, nobody gets another's answer or a part of
// an answer as a whole one, nothing is left behind, and the bounds hold.
func TestChaos(t *testing.T) {
	kinds := []string{"plain", "private", "vary", "cookie", "large", "unknown", "cut", "fail"}
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			origin := &chaos{rng: rand.New(rand.NewPCG(seed, 0))}
			cfg := Config{Memory: 400 << 10, MaxObject: 96 << 10, CollapseWaiters: 20, CollapseWait: 3 * time.Second}
			c := New(cfg)
			var wg sync.WaitGroup
			for range 400 {
				kind, user := kinds[origin.intn(len(kinds))], fmt.Sprint(origin.intn(4))
				leave := time.Duration(origin.intn(4)) * 1500 * time.Millisecond
				wg.Go(func() {
					origin.pause(10 * time.Second)
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					if leave > 0 {
						time.AfterFunc(leave, cancel)
					}
					resp, _, err := serve(c, get("/"+kind, "User: "+user).WithContext(ctx), origin.fetch(kind, user))
					if err != nil {
						return
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					want := expected(kind, user)
					if err == nil && string(body) != want || !strings.HasPrefix(want, string(body)) {
						if kind == "cut" && resp.ContentLength == int64(len(want)) && !resp.Joined && !resp.Stored {
							return // as the origin cut it; its length tells
						}
						t.Errorf("seed %d: %s for user %s: %d bytes of %d, %v", seed, kind, user, len(body), len(want), err)
					}
					if s := c.State(); s.Bytes > cfg.Memory || s.FillBytes > s.FillLimit {
						t.Errorf("seed %d: %+v", seed, s)
					}
				})
				if origin.intn(40) == 0 {
					wg.Go(func() {
						origin.pause(10 * time.Second)
						c.Invalidate(request("POST", "/"+kind), 200, nil)
					})
				}
			}
			wg.Wait()
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := c.State(); s.FillBytes != 0 || s.Flights != 0 {
				t.Errorf("seed %d: left behind: %+v", seed, s)
			}
			audit(t, c.store)
		})
	}
}
