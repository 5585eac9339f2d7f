package cache

import (
	"context"
	"net/http"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// TestPeekLeavesNoTrace: it finds what a lookup finds, and nobody can tell.
func TestPeekLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/fresh"), answers(200, "body", "Cache-Control: max-age=60"))
		read(t, c, get("/old"), answers(200, "body", "Cache-Control: max-age=1", "Etag: \"a\""))
		read(t, c, get("/vary"), answers(200, "body", "Cache-Control: max-age=60", "Vary: X"))
		read(t, c, get("/private"), answers(200, "body", "Cache-Control: private"))
		time.Sleep(2 * time.Second)
		before := c.State()
		f := func(r *http.Request, want Freshness, why Fwd, entry, alone bool) {
			t.Helper()
			g := c.Peek(r, time.Now(), nil)
			if g.State != want || g.Why != why || (g.Entry != nil) != entry || g.Alone != alone || g.Joins {
				t.Errorf("%s: %s %q, entry %t, alone %t, joins %t", r.URL, g.State, g.Why, g.Entry != nil, g.Alone, g.Joins)
			}
			g.Release()
			if now := c.State(); now != before {
				t.Errorf("%s: changed to %+v, from %+v", r.URL, now, before)
			}
		}
		f(get("/fresh"), Fresh, "", true, false)
		f(get("/old"), Stale, FwdStale, true, false)
		f(get("/none"), Miss, FwdURIMiss, false, false)
		f(get("/vary", "X: 1"), Miss, FwdVaryMiss, false, false)
		f(get("/private"), Miss, FwdURIMiss, false, true)
		f(get("/none", "Authorization: a"), Miss, FwdURIMiss, false, true)
		f(get("/none", "Cache-Control: only-if-cached"), Unavailable, FwdURIMiss, false, true)
		f(request("POST", "/fresh"), Bypass, FwdMethod, false, true)
		f(get("/fresh", "Range: bytes=0-1"), Fresh, "", true, false)
		f(get("/old", "Range: bytes=0-1"), Stale, FwdStale, true, false)
		f(get("/none", "Range: bytes=0-1"), Miss, FwdURIMiss, false, false)
		g := c.Peek(get("/fresh"), time.Now(), nil)
		defer g.Release()
		if n := g.Entry.hold.shard.slots[g.Entry.hold.slot].frequency.Load(); n != 0 {
			t.Errorf("a look counts as %d hits", n)
		}
	})
}

func TestPeekSeesAFetchInFlight(t *testing.T) {
	c := New(config())
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		read(t, c, get("/slow"), func(context.Context, *http.Request) (*http.Response, error) {
			close(inside)
			<-leave
			return response(200, "body", "Cache-Control: max-age=60"), nil
		})
	}()
	<-inside
	if g := c.Peek(get("/slow"), time.Now(), nil); !g.Joins || g.Alone {
		t.Errorf("joins %t, alone %t", g.Joins, g.Alone)
	}
	if g := c.Peek(request("HEAD", "/slow"), time.Now(), nil); g.Joins {
		t.Error("HEAD joins a fetch by GET")
	}
	close(leave)
	<-done
}
