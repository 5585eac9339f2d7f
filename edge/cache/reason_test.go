package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// TestReasons: every answer that went forward says why, and every one that was not
// stored says why not (RFC 9211).
func TestReasons(t *testing.T) {
	const etag = `Etag: "a"`
	stored := func(lines ...string) func(*Cache) {
		return func(c *Cache) { read(t, c, get("/"), answers(200, "old", lines...)) }
	}
	none := func(*Cache) {}
	fat := get("/")
	fat.ContentLength, fat.Body = 3, io.NopCloser(strings.NewReader("abc"))
	off := config()
	off.Memory = 0
	f := func(want string, cfg Config, prepare func(*Cache), r *http.Request, status int, lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(cfg)
			prepare(c)
			time.Sleep(11 * time.Second)
			resp, found, err := serve(c, r, answers(status, strings.Repeat("x", 100), lines...))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			got := resp.CacheStatus(&found)
			if got.String() != "spillway; "+want {
				t.Errorf("%s %v -> %d %q:\n got %s\nwant spillway; %s", r.Method, r.Header, status, lines, got, want)
			}
			if !got.Stored && !got.Collapsed && got.Detail == "" && got.Fwd != FwdMethod {
				t.Errorf("no reason for not storing: %s", got)
			}
		})
	}
	c := config()
	f("fwd=uri-miss; fwd-status=200; stored", c, none, get("/"), 200, fresh)
	f("fwd=vary-miss; fwd-status=200; stored", c, stored(fresh, "Vary: Accept"), get("/", "Accept: b"), 200, fresh, "Vary: Accept")
	f("fwd=stale; fwd-status=200; stored", c, stored("Cache-Control: max-age=10", etag), get("/"), 200, fresh)
	f("fwd=stale; fwd-status=304; stored", c, stored("Cache-Control: max-age=10", etag), get("/"), 304, fresh)
	f("fwd=stale; fwd-status=304; detail=no-store", c, stored("Cache-Control: max-age=10", etag), get("/"), 304, "Cache-Control: no-store")
	f("fwd=request; fwd-status=200; stored", c, stored(fresh), get("/", "Cache-Control: no-cache"), 200, fresh)
	f("fwd=stale; fwd-status=200; stored; detail=must-validate", c, stored("Cache-Control: no-cache", etag), get("/"), 200, "Cache-Control: no-cache", etag)
	f("fwd=stale; fwd-status=503; detail=no-freshness", c, stored("Cache-Control: max-age=10", etag), get("/"), 503)

	f("fwd=uri-miss; fwd-status=200; detail=no-store", c, none, get("/"), 200, "Cache-Control: no-store")
	f("fwd=uri-miss; fwd-status=200; detail=no-store", c, none, get("/", "Cache-Control: no-store"), 200, fresh)
	f("fwd=uri-miss; fwd-status=200; detail=private", c, none, get("/"), 200, "Cache-Control: private")
	f("fwd=uri-miss; fwd-status=200; detail=set-cookie", c, none, get("/"), 200, fresh, "Set-Cookie: a=b")
	f("fwd=uri-miss; fwd-status=200; detail=authorization", c, none, get("/", "Authorization: x"), 200, fresh)
	f("fwd=uri-miss; fwd-status=200; detail=no-freshness", c, none, get("/"), 200)
	f("fwd=uri-miss; fwd-status=200; detail=vary", c, none, get("/"), 200, fresh, "Vary: *")
	f("fwd=uri-miss; fwd-status=206; detail=partial", c, none, get("/"), 206, fresh)
	f("fwd=uri-miss; fwd-status=200; detail=head", c, none, request("HEAD", "/"), 200, fresh)
	f("fwd=uri-miss; fwd-status=200; detail=memory", off, none, get("/"), 200, fresh)
	small := config()
	small.MaxObject = 50
	f("fwd=uri-miss; fwd-status=200; detail=too-large", small, none, get("/"), 200, fresh)
	full := config()
	full.Memory, full.MaxObject = 1, 99
	f("fwd=uri-miss; fwd-status=200; detail=too-large", full, none, get("/"), 200, fresh)

	f("fwd=method; fwd-status=200", c, none, request("POST", "/"), 200, fresh)
	f("fwd=bypass; fwd-status=200; detail=request-body", c, none, fat, 200, fresh)
	f("fwd=uri-miss; fwd-status=206; detail=partial", c, none, get("/", "Range: bytes=0-1"), 206)
	f("fwd=bypass; fwd-status=200; detail=precondition", c, none, get("/", "If-Match: *"), 200)
	f("fwd=bypass; fwd-status=200; detail=precondition", c, none, get("/", "If-Unmodified-Since: x"), 200)
}

// TestReasonsOfPassing: what the caller passes on by itself has a reason, too.
func TestReasonsOfPassing(t *testing.T) {
	f := func(want string, found Result) {
		t.Helper()
		resp, err := New(config()).Fetch(t.Context(), get("/"), found, answers(200, "x", fresh))
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.CacheStatus(&found).String(); got != "spillway; "+want {
			t.Errorf("got %s, want spillway; %s", got, want)
		}
	}
	f("fwd=bypass; fwd-status=200; detail=route", Result{State: Bypass, Why: FwdBypass})
	f("fwd=uri-miss; fwd-status=200; detail=waited-in-vain", Result{State: Bypass, Why: FwdURIMiss})
}

// TestReasonOfHits: one that is not fresh says what allows it.
func TestReasonOfHits(t *testing.T) {
	f := func(want, control, request string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/"), answers(200, "x", "Cache-Control: "+control))
			time.Sleep(15 * time.Second)
			found := lookup(t, c, get("/", "Cache-Control: "+request), time.Now())
			if got := found.Status(time.Now()).String(); got != "spillway; "+want {
				t.Errorf("got %s, want spillway; %s", got, want)
			}
		})
	}
	f("hit; ttl=45", "max-age=60", "")
	f("hit; ttl=-5; detail=max-stale", "max-age=10", "max-stale=9")
	f("hit; ttl=-5; detail=stale-while-revalidate", "max-age=10, stale-while-revalidate=9", "")
	f("hit; ttl=-5", "max-age=10, stale-if-error=9", "") // the caller knows
	found := Result{State: Stale, Why: FwdStale, Entry: entryOf(200, fresh)}
	if got := found.Forwarded(epoch0.Add(70 * time.Second)).String(); got != "spillway; fwd=stale; ttl=-10" {
		t.Error(got)
	}
}

// TestReasonOfVainWaits: who waited for an answer that was not for it says so, and who
// shares one does.
func TestReasonOfVainWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(want string, fetch Func) {
			t.Helper()
			c, done := New(config()), make(chan struct{})
			go func() {
				defer close(done)
				if resp, _, err := serve(c, get("/"), fetch); err == nil {
					resp.Body.Close()
				}
			}()
			synctest.Wait()
			resp, found, err := serve(c, get("/"), answers(200, "mine", fresh))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.CacheStatus(&found).String(); got != "spillway; "+want {
				t.Errorf("got %s, want spillway; %s", got, want)
			}
			<-done
		}
		origin := &slow{}
		f("fwd=uri-miss; fwd-status=200; stored; collapsed", origin.fetch("shared", 200, fresh))
		f("fwd=uri-miss; fwd-status=200; stored; collapsed=?0", origin.fetch("theirs", 200, "Cache-Control: private"))
		f("fwd=uri-miss; fwd-status=200; stored; collapsed=?0", func(context.Context, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return nil, errors.New("refused")
		})
	})
}
