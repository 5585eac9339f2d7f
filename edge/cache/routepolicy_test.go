package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// drain reads a response to its end.
func drain(t *testing.T, resp *Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestPolicyLifetime: how long an answer is fresh under a policy.
func TestPolicyLifetime(t *testing.T) {
	f := func(want time.Duration, c PolicyConfig, r *http.Request, status int, lines ...string) {
		t.Helper()
		a := answer{status: status, header: header(lines...), length: 1, requested: epoch0, received: epoch0, policy: under(t, c)}
		v := judge(r, a, 100)
		got := time.Duration(-1) // not stored
		if v.store {
			got = v.entry.lifetime
		}
		if got != want {
			t.Errorf("%+v: %d %q: %v (%s), want %v", c, status, lines, got, v.why, want)
		}
	}
	const no = -1
	const modified = "Last-Modified: Sun, 01 Nov 2026 11:59:00 GMT"
	plain, cookie := get("/"), get("/", "Cookie: a=1")

	ttl := PolicyConfig{TTL: time.Minute}
	f(time.Minute, ttl, plain, 200)
	f(time.Minute, ttl, plain, 301)
	f(time.Minute, ttl, plain, 200, modified) // instead of the guess
	f(5*time.Second, ttl, plain, 200, "Cache-Control: max-age=5")
	f(5*time.Second, ttl, plain, 200, "Cache-Control: s-maxage=5")
	f(0, ttl, plain, 200, "Expires: 0", `Etag: "a"`)
	f(no, ttl, plain, 302)
	f(no, ttl, plain, 404)
	f(no, ttl, plain, 500)
	f(no, ttl, cookie, 200) // it could be personal
	f(time.Minute, ttl, cookie, 200, "Cache-Control: public")
	f(no, ttl, plain, 200, "Cache-Control: no-store")
	f(no, ttl, plain, 200, "Cache-Control: private")
	f(no, ttl, plain, 200, "Set-Cookie: a=1")
	f(no, ttl, get("/", "Authorization: a"), 200)
	f(no, ttl, plain, 200, "Vary: *")
	f(no, ttl, request("POST", "/"), 200)
	f(no, ttl, get("/", "Cache-Control: no-store"), 200)

	force := PolicyConfig{ForceTTL: time.Minute}
	f(time.Minute, force, plain, 200)
	f(time.Minute, force, plain, 200, "Cache-Control: max-age=0")
	f(time.Minute, force, plain, 200, "Cache-Control: max-age=3600")
	f(time.Minute, force, plain, 200, "Expires: 0")
	f(time.Minute, force, cookie, 200)
	f(time.Minute, force, plain, 302, "Cache-Control: max-age=1")
	f(no, force, plain, 302)
	f(no, force, plain, 404)
	f(no, force, plain, 503)
	f(5*time.Second, force, plain, 404, "Cache-Control: max-age=5")
	f(no, force, plain, 200, "Cache-Control: no-store")
	f(no, force, plain, 200, "Cache-Control: private, max-age=5")
	f(no, force, plain, 200, "Set-Cookie: a=1")
	f(no, force, get("/", "Authorization: a"), 200)

	negative := PolicyConfig{NegativeTTL: map[string]time.Duration{"404": time.Minute, "5xx": time.Second, "501": 0}}
	f(time.Minute, negative, plain, 404)
	f(time.Minute, negative, plain, 404, modified)
	f(5*time.Second, negative, plain, 404, "Cache-Control: max-age=5")
	f(time.Second, negative, plain, 503)
	f(no, negative, plain, 501) // its own goes before the class's
	f(no, negative, plain, 410)
	f(no, negative, plain, 200)
	f(no, negative, cookie, 404)
	all := PolicyConfig{NegativeTTL: map[string]time.Duration{"4xx": time.Minute}}
	f(time.Minute, all, plain, 410)
	for _, status := range []int{401, 403, 407, 408, 425, 429, 431} {
		f(no, all, plain, status)
	}
	for _, status := range []int{400, 406, 411, 412, 413, 415, 417, 421, 426, 428} {
		f(no, all, plain, status)
	}
	f(time.Minute, PolicyConfig{NegativeTTL: map[string]time.Duration{"400": time.Minute}}, plain, 400) // by its name
}

// TestNegativeNeverReplacesWhatExpired: an error must not push out what could stand
// in for it.
func TestNegativeNeverReplacesWhatExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		p := under(t, PolicyConfig{NegativeTTL: map[string]time.Duration{"5xx": time.Minute}, StaleIfError: time.Hour})
		readUnder(t, c, p, get("/"), answers(200, "good", "Cache-Control: max-age=1"))
		time.Sleep(2 * time.Second)
		readUnder(t, c, p, get("/"), answers(500, "bad"))
		found := Result{Policy: p}
		c.Find(get("/"), time.Now(), &found)
		defer found.Release()
		if found.State != Stale || found.Entry.Status() != 200 || !found.Entry.StaleFor(time.Now(), get("/"), 0) {
			t.Errorf("%s, %+v", found.State, found.Entry)
		}
		// Without anything to keep the error is stored.
		readUnder(t, c, p, get("/new"), answers(500, "bad"))
		if body, hit := readUnder(t, c, p, get("/new"), noFetch(t)); !hit || body != "bad" {
			t.Errorf("%q", body)
		}
	})
}

func TestPolicyStaleIfError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(want bool, window time.Duration, control string) {
			t.Helper()
			c := New(config())
			p := under(t, PolicyConfig{StaleIfError: window})
			readUnder(t, c, p, get("/"), answers(200, "x", "Cache-Control: "+control, `Etag: "a"`))
			time.Sleep(30 * time.Second)
			found := Result{Policy: p}
			c.Find(get("/"), time.Now(), &found)
			defer found.Release()
			if found.Entry == nil {
				t.Fatalf("%s: nothing is stored", control)
			}
			if got := found.Entry.StaleFor(time.Now(), get("/"), 0); got != want {
				t.Errorf("%v, %s: stale %t, want %t", window, control, got, want)
			}
		}
		f(true, time.Minute, "max-age=1")
		f(false, 0, "max-age=1")
		f(false, time.Second, "max-age=1")
		f(false, time.Minute, "max-age=1, stale-if-error=2") // its own goes first
		f(true, time.Second, "max-age=1, stale-if-error=60")
		f(false, time.Minute, "max-age=1, must-revalidate")
	})
}

// TestPolicyRenews: the policy's window counts where the response has none.
func TestPolicyRenews(t *testing.T) {
	f := func(want Freshness, window, later time.Duration, control string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c, p := New(config()), under(t, PolicyConfig{StaleWhileRevalidate: window})
			readUnder(t, c, p, get("/"), answers(200, "x", "Cache-Control: "+control, `Etag: "a"`))
			time.Sleep(time.Second + later)
			found := Result{Policy: p}
			c.Find(get("/"), time.Now(), &found)
			defer found.Release()
			if found.State != want {
				t.Errorf("%v, %s, %v later: %s, want %s", window, control, later, found.State, want)
			}
		})
	}
	f(StaleWhileRevalidate, time.Minute, 30*time.Second, "max-age=1")
	f(Stale, time.Minute, 2*time.Minute, "max-age=1")
	f(Stale, 0, 30*time.Second, "max-age=1")
	f(Stale, time.Minute, 30*time.Second, "max-age=1, stale-while-revalidate=2") // its own goes first
	f(Stale, time.Minute, 30*time.Second, "max-age=1, must-revalidate")
}

func TestPolicyBypass(t *testing.T) {
	c := New(config())
	p := under(t, PolicyConfig{Bypass: BypassConfig{
		Cookies: []string{"session", "wp_*"}, Headers: []string{"x-preview"}, Query: []string{"preview", "debug_*"},
	}})
	f := func(want bool, target string, lines ...string) {
		t.Helper()
		fetched := 0
		for range 2 {
			readUnder(t, c, p, get(target, lines...), func(context.Context, *http.Request) (*http.Response, error) {
				fetched++
				return response(200, "x", fresh), nil
			})
		}
		if got := fetched == 2; got != want {
			t.Errorf("%s %q: %d fetches", target, lines, fetched)
		}
	}
	f(true, "/a", "Cookie: b=1; session=")
	f(true, "/a", "Cookie: wp_logged_in_7=x")
	f(true, "/a", "Cookie: b=1", "Cookie: session=2")
	f(true, "/a", "X-Preview:")
	f(true, "/a?preview")
	f(true, "/a?x=1&PREVIEW=0")
	f(true, "/a?x=1;preview")
	f(true, "/a?%70review=1")
	f(true, "/a?debug_sql=1")
	if s := c.State(); s.Entries != 0 || s.Bypassed == 0 {
		t.Errorf("%+v", s)
	}
	f(false, "/b", "Cookie: Session=1; sessions=2")
	f(false, "/c?previews=1")
	// What is stored does not answer those who are to pass by.
	f(true, "/b", "Cookie: session=1")
}

// TestChangeReachesAllKeys: an unsafe request makes all out of date that was stored
// of its target, whatever tells the keys apart, and under whichever route.
func TestChangeReachesAllKeys(t *testing.T) {
	parts := under(t, PolicyConfig{Key: KeyConfig{
		IgnoreQuery: []string{"utm_*"}, Headers: []string{"X-Tenant"}, Cookies: []string{"tier"}, Device: true,
	}})
	whole, sorted := under(t, PolicyConfig{}), under(t, PolicyConfig{Key: KeyConfig{SortQuery: true}})
	Relate(parts, whole, sorted)
	asks := []*http.Request{
		get("/a?b=2&a=1&utm_x=1", "X-Tenant: 1"), get("/a?b=2&a=1&utm_x=2", "Cookie: tier=1"), get("/a?b=2&a=1", "User-Agent: Mobi"),
	}
	for _, changer := range []*Policy{parts, whole, sorted} {
		for _, by := range []*http.Request{request("POST", "/a?b=2&a=1"), request("PUT", "/x", "X-Tenant: 9")} {
			c := New(config())
			for _, r := range asks {
				readUnder(t, c, parts, r, answers(200, "old", fresh))
			}
			readUnder(t, c, sorted, get("/a?b=2&a=1"), answers(200, "old", fresh))
			readUnder(t, c, whole, get("/other"), answers(200, "kept", fresh))
			readUnder(t, c, changer, by, answers(201, "", "Location: /a?b=2&a=1"))
			for _, r := range asks {
				if body, hit := readUnder(t, c, parts, r, answers(200, "new", fresh)); hit {
					t.Errorf("%s %s leaves %q of %s", by.Method, by.URL, body, r.URL)
				}
			}
			if body, hit := readUnder(t, c, sorted, get("/a?a=1&b=2"), answers(200, "new", fresh)); hit {
				t.Errorf("%s %s leaves %q under another route's key", by.Method, by.URL, body)
			}
			if _, hit := readUnder(t, c, whole, get("/other"), noFetch(t)); !hit {
				t.Error("what was not changed is gone")
			}
		}
	}
}

// TestOriginGetsWhatTheFirstSent: a parameter that does not count for the key goes to
// the origin all the same.
func TestOriginGetsWhatTheFirstSent(t *testing.T) {
	c := New(config())
	p := under(t, PolicyConfig{Key: KeyConfig{IgnoreQuery: []string{"utm_*"}, Cookies: []string{"tier"}}})
	const target = "/a?utm_a=1&w=2&utm_b"
	readUnder(t, c, p, get(target, "Cookie: tier=1; other=2"), func(_ context.Context, r *http.Request) (*http.Response, error) {
		if r.RequestURI != target || r.Header.Get("Cookie") != "tier=1; other=2" {
			t.Errorf("the origin got %s, %q", r.RequestURI, r.Header)
		}
		return response(200, "x", fresh), nil
	})
	if _, hit := readUnder(t, c, p, get("/a?w=2&utm_c", "Cookie: other=3; tier=1"), noFetch(t)); !hit {
		t.Error("no hit")
	}
}

// TestCrowdOfParts: requests that differ in a part do not wait for each other, even
// when nothing is known of the target yet.
func TestCrowdOfParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		p := under(t, PolicyConfig{Key: KeyConfig{Device: true, IgnoreQuery: []string{"utm_*"}}})
		agents := []string{"Mobi", "Tablet", "x"}
		start := time.Now()
		bodies := make(chan string, 30)
		for i := range 30 {
			go func() {
				agent := agents[i%3]
				body, _ := readUnder(t, c, p, get(fmt.Sprint("/?utm_id=", i), "User-Agent: "+agent), origin.fetch(agent, 200, fresh))
				if body != agent {
					t.Errorf("%s got %s", agent, body)
				}
				bodies <- body
			}()
		}
		for range 30 {
			<-bodies
		}
		if calls, took := origin.calls.Load(), time.Since(start); calls != 3 || took != time.Second {
			t.Errorf("%d fetches in %v", calls, took)
		}
	})
}

func TestPoliciesThatAreRefused(t *testing.T) {
	for _, c := range []PolicyConfig{
		{NegativeTTL: map[string]time.Duration{"200": 1}},
		{NegativeTTL: map[string]time.Duration{"401": 1}},
		{NegativeTTL: map[string]time.Duration{"x": 1}},
		{Key: KeyConfig{Headers: []string{"Cookie"}}},
		{Key: KeyConfig{Headers: []string{"X-Forwarded-Host"}}},
		{Key: KeyConfig{Headers: []string{"host"}}},
		{Key: KeyConfig{Headers: []string{"If-None-Match"}}},
	} {
		if _, err := NewPolicy(c); err == nil || strings.Contains(err.Error(), "%!") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestHitUnderAPolicyAllocatesNothing: a policy that says nothing of keys costs a hit
// nothing, nor do parts with one value each.
func TestHitUnderAPolicyAllocatesNothing(t *testing.T) {
	for _, cfg := range []PolicyConfig{
		{}, {TTL: time.Minute, Key: KeyConfig{Headers: []string{"X-Tenant"}, Cookies: []string{"tier"}, Device: true}},
	} {
		c, p := New(config()), under(t, cfg)
		r := get("/a?w=1", "X-Tenant: 1", "Cookie: other=1; tier=2", "User-Agent: Mobi")
		readUnder(t, c, p, r, answers(200, "x", fresh))
		now := time.Now()
		var found Result
		if n := testing.AllocsPerRun(100, func() {
			found = Result{Policy: p}
			if c.Find(r, now, &found); found.State != Fresh {
				t.Error("no hit")
			}
			found.Release()
		}); n != 0 {
			t.Errorf("%+v: a hit allocates %v times", cfg, n)
		}
	}
}
