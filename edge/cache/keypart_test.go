package cache

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

func TestDeviceClass(t *testing.T) {
	f := func(want string, lines ...string) {
		t.Helper()
		if got := deviceClass(header(lines...)); got != want {
			t.Errorf("%q: %s, want %s", lines, got, want)
		}
	}
	const agent = "User-Agent: "
	f(desktopDevice)
	f(desktopDevice, agent+"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36")
	f(desktopDevice, agent+"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15")
	f(desktopDevice, agent+"curl/8.0")
	f(mobileDevice, agent+"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1")
	f(mobileDevice, agent+"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36")
	f(mobileDevice, agent+"Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0")
	f(tabletDevice, agent+"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36")
	f(tabletDevice, agent+"Mozilla/5.0 (iPad; CPU OS 16_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.0 Mobile/15E148 Safari/604.1")
	f(tabletDevice, agent+"Mozilla/5.0 (Android 15; Tablet; rv:140.0) Gecko/140.0 Firefox/140.0")
	f(mobileDevice, agent+"x", "Sec-CH-UA-Mobile: ?1")
	f(desktopDevice, agent+"x", "Sec-CH-UA-Mobile: ?0")
	f(tabletDevice, agent+"Mozilla/5.0 (Linux; Android 10; K)", "Sec-CH-UA-Mobile: ?0")
}

func TestCookieValue(t *testing.T) {
	f := func(want string, present bool, lines ...string) {
		t.Helper()
		if got, there := cookieValue(header(lines...), "a"); got != want || there != present {
			t.Errorf("%q: %q %t, want %q %t", lines, got, there, want, present)
		}
	}
	f("", false)
	f("", false, "Cookie: b=1; aa=2; A=3")
	f("1", true, "Cookie: b=2; a=1")
	f("1", true, "Cookie: b=2", "Cookie: a=1") // as HTTP/2 splits them
	f("", true, "Cookie: a=")
	f("", true, "Cookie: a")
	f("x=y", true, "Cookie: a=x=y;")
	f("a=1; b=0; a=2", true, "Cookie: a=1; b=0; a=2") // nobody knows which one counts
	f("a=1; a=2", true, "Cookie: a=1", "Cookie: a=2")
	many := strings.Repeat("b=1; ", maxCookies)
	f("1", true, "Cookie: "+many[5:]+"a=1")
	f(many+"a=1", true, "Cookie: "+many+"a=1")
	f(many+"b=1", true, "Cookie: "+many+"b=1")
}

// under returns a policy of these settings.
func under(t interface{ Fatal(...any) }, c PolicyConfig) *Policy {
	p, err := NewPolicy(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readUnder is read for a request under a policy. It reports whether the answer was
// stored before.
func readUnder(t *testing.T, c *Cache, p *Policy, r *http.Request, fetch Func) (body string, hit bool) {
	t.Helper()
	found := Result{Policy: p}
	c.Find(r, time.Now(), &found)
	defer found.Release()
	if found.State == Fresh {
		return string(found.Entry.Body()), true
	}
	resp, err := c.Fetch(r.Context(), r, found, fetch)
	if err != nil {
		t.Fatalf("fetch %s: %v", r.URL, err)
	}
	return drain(t, resp), false
}

// TestKeyPartsNeverShare: two requests that differ in a part of the key never get
// each other's answer, and those that agree in all do.
func TestKeyPartsNeverShare(t *testing.T) {
	p := under(t, PolicyConfig{Key: KeyConfig{
		IgnoreQuery: []string{"utm_*"}, Headers: []string{"x-tenant"}, Cookies: []string{"tier", "ab"}, Device: true,
	}})
	// A part is a value, or absent; the values try to pass for one another.
	word := rapid.SampledFrom([]string{"-", "", "a", "b", "a; ab=b", "a, b", "=device", "mobile"})
	c := New(config())
	rapid.Check(t, func(rt *rapid.T) {
		c.Purge()
		for range 12 {
			query := rapid.SampledFrom([]string{"", "?", "?w=1", "?w=1&utm_a=1", "?utm_b=2", "?w=1;utm_a"}).Draw(rt, "query")
			r := get("/a" + query)
			key := fmt.Sprintf("%q", map[string]string{"?w=1&utm_a=1": "?w=1", "?utm_b=2": "", "": "", "?": "?"}[query])
			if query == "?w=1" || query == "?w=1;utm_a" {
				key = fmt.Sprintf("%q", query)
			}
			if tenant := word.Draw(rt, "tenant"); tenant != "-" {
				r.Header["X-Tenant"] = []string{tenant}
				key += fmt.Sprintf(" tenant %q", tenant)
			}
			for _, name := range []string{"tier", "ab"} {
				value := rapid.SampledFrom([]string{"-", "", "a", "tier=a"}).Draw(rt, name)
				if value != "-" {
					r.Header["Cookie"] = append(r.Header["Cookie"], name+"="+value)
					key += fmt.Sprintf(" %s %q", name, value)
				}
			}
			if rapid.Bool().Draw(rt, "other") {
				r.Header["Cookie"] = append(r.Header["Cookie"], "other="+key)
			}
			if rapid.Bool().Draw(rt, "phone") {
				r.Header["User-Agent"] = []string{"Mobi " + fmt.Sprint(rapid.IntRange(0, 2).Draw(rt, "agent"))}
				key += " phone"
			}
			if body, _ := readUnder(t, c, p, r, answers(200, key, fresh)); body != key {
				rt.Fatalf("%s got the answer to %s", key, body)
			}
			if body, hit := readUnder(t, c, p, r, noFetch(t)); !hit || body != key {
				rt.Fatalf("%s is not stored: %q", key, body)
			}
		}
	})
}

// TestKeyPartsAreUnlikeFields: a request cannot have a field by the name of a part,
// and a response cannot name one.
func TestKeyPartsAreUnlikeFields(t *testing.T) {
	for _, part := range []string{devicePart, cookiePart + "tier", queryPart + "none"} {
		if isToken(part) && part[0] != partMark {
			t.Errorf("%s could be a field", part)
		}
		if names, ok := varyNames(header("Vary: " + part)); ok {
			t.Errorf("Vary: %s nominates %q", part, names)
		}
	}
}

// TestStoredBeforeThePolicy: what was stored when a part did not count answers nobody
// any more.
func TestStoredBeforeThePolicy(t *testing.T) {
	c := New(config())
	read(t, c, get("/", "Cookie: tier=a"), answers(200, "for a", fresh))
	p := under(t, PolicyConfig{Key: KeyConfig{Cookies: []string{"tier"}}})
	if body, hit := readUnder(t, c, p, get("/", "Cookie: tier=b"), answers(200, "for b", fresh)); hit || body != "for b" {
		t.Errorf("got %q", body)
	}
	if body, hit := readUnder(t, c, p, get("/", "Cookie: tier=b"), noFetch(t)); !hit || body != "for b" {
		t.Errorf("got %q", body)
	}
	if body, _ := readUnder(t, c, p, get("/", "Cookie: tier=a"), answers(200, "a again", fresh)); body != "a again" {
		t.Errorf("got %q", body)
	}
}

// TestStoredUnderAnotherPolicyHidesNothing: what a policy has stored is found although
// something newer was stored under another one.
func TestStoredUnderAnotherPolicyHidesNothing(t *testing.T) {
	c := New(config())
	p := under(t, PolicyConfig{Key: KeyConfig{Cookies: []string{"tier"}}})
	readUnder(t, c, p, get("/", "Cookie: tier=a"), answers(200, "for a", fresh))
	readUnder(t, c, p, get("/", "Cookie: tier=b"), answers(200, "for b", fresh))
	readUnder(t, c, nil, get("/", "Cookie: tier=a", "Cache-Control: no-cache"), answers(200, "for all", fresh))
	if body, hit := readUnder(t, c, p, get("/", "Cookie: tier=b"), answers(200, "b again", fresh)); !hit || body != "for b" {
		t.Errorf("got %q, a hit: %t", body, hit)
	}
	if body, hit := readUnder(t, c, p, get("/", "Cookie: tier=a"), answers(200, "a again", fresh)); hit || body != "a again" {
		t.Errorf("got %q, a hit: %t", body, hit)
	}
}

// TestStoredUnderAnotherRule: when the rule for queries changes, what was stored under
// the old one answers nobody, for it may be another's answer; and requests collapse as
// before.
func TestStoredUnderAnotherRule(t *testing.T) {
	rules := []KeyConfig{{}, {OnlyQuery: []string{"w"}}, {IgnoreQuery: []string{"utm"}}, {Query: "none"}}
	for i, before := range rules {
		for j, after := range rules {
			if i == j {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				c, origin := New(config()), &slow{}
				old, now := under(t, PolicyConfig{Key: before}), under(t, PolicyConfig{Key: after})
				for _, target := range []string{"/a?w=1&x=2", "/a?x=2", "/a?utm&x=2"} {
					readUnder(t, c, old, get(target), answers(200, "old", fresh))
				}
				bodies := make(chan string)
				for _, target := range []string{"/a?w=1", "/a", "/a?x=2"} {
					for range 5 {
						go func() {
							body, _ := readUnder(t, c, now, get(target), origin.fetch("new", 200, fresh))
							bodies <- body
						}()
					}
				}
				for range 15 {
					if body := <-bodies; body != "new" {
						t.Errorf("%+v, then %+v: %q", before, after, body)
					}
				}
				if n := origin.calls.Load(); n > 3 {
					t.Errorf("%+v, then %+v: %d fetches", before, after, n)
				}
			})
		}
	}
}

// A crowd that comes just after a reload is one fetch, although a fetch under the old
// policy is still under way.
func TestCrowdCollapsesBesideAnotherPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		old := under(t, PolicyConfig{Key: KeyConfig{Headers: []string{"X-Old"}, Query: "none"}})
		now := under(t, PolicyConfig{Key: KeyConfig{Headers: []string{"X-New"}}})
		bodies := make(chan string)
		ask := func(p *Policy, body string) {
			body, _ = readUnder(t, c, p, get("/a"), origin.fetch(body, 200, fresh))
			bodies <- body
		}
		go ask(old, "old")
		synctest.Wait()
		for range 9 {
			go ask(now, "new")
		}
		got := map[string]int{}
		for range 10 {
			got[<-bodies]++
		}
		if n := origin.calls.Load(); n != 2 || got["old"] != 1 || got["new"] != 9 {
			t.Errorf("%d fetches, %v", n, got)
		}
	})
}
