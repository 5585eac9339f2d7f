package cache

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

// TestParseVariation is section 4 of draft-ietf-httpbis-no-vary-search-10.
func TestParseVariation(t *testing.T) {
	f := func(want string, lines ...string) {
		t.Helper()
		got := "none"
		if v := parseVariation(lines); v != nil {
			got = fmt.Sprintf("%q except %t order %t", v.names, v.except, v.order)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", lines, got, want)
		}
	}
	f("[] except false order false", "key-order")
	f("[] except false order false", "key-order=?1")
	f(`["a"] except false order true`, `params=("a")`)
	f(`["a" "b"] except false order false`, `params=("b" "a" "b"), key-order`)
	f(`["x"] except true order true`, `except=("x")`)
	f("[] except true order true", "except=()")
	f(`["a"] except false order true`, `params=("a";x=1);y=2, future=7`)
	f(`["a"] except false order false`, `params=("a")`, "key-order")
	f(`["b"] except false order true`, `params=("a"), params=("b")`) // of a dictionary the last counts
	f(`["é 気"] except false order true`, `params=("%C3%A9+%E6%B0%97")`)
	// As the drafts before the fifth have it.
	f("[] except true order true", "params")
	f("[] except true order true", "params=?1")
	f(`["x"] except true order true`, `params, except=("x")`)

	for _, line := range []string{
		"", "unknown-key", "key-order=?0", "params=()", `key-order="no"`, `params="no"`, "params=(no)", "params=?0",
		`params=?0, except=("x")`, `params=("a"), except=("x")`, "params=(), except=()", `except="no"`, "except=(no)", "except=?1",
		`params=("a"`, `params=("a"),`, "params=(1)", `Params=("a")`, "\x00", `params=("` + strings.Repeat("a", maxVariation) + `")`,
	} {
		f("none", line)
	}
}

// TestEquivalentQueries is section 5 of the draft, with its examples.
func TestEquivalentQueries(t *testing.T) {
	f := func(want bool, field, a, b string) {
		t.Helper()
		v := parseVariation([]string{field})
		split := func(s string) (string, bool) {
			s, has := strings.CutPrefix(s, "?")
			return s, has
		}
		a, hasA := split(a)
		b, hasB := split(b)
		if got := v.same(a, b, hasA, hasB); got != want {
			t.Errorf("%s: %q and %q: %v, want %v", field, a, b, got, want)
		}
	}
	const order = "key-order"
	f(true, order, "", "?")
	f(true, order, "?a=x", "?%61=%78")
	f(true, order, "?a=é", "?a=%C3%A9")
	f(true, order, "?a=%f6", "?a=%ef%bf%bd")
	f(true, order, "?a=x&&&&", "?a=x")
	f(true, order, "?a=", "?a")
	f(true, order, "?a=%20", "?a= &")
	f(true, order, "?a=+", "?a=%20")
	f(false, order, "?a=%C3%A9", "?a=e%CC%81")
	f(false, order, "?a=%2B", "?a=+")
	f(true, order, "?a=1&b=2", "?b=2&a=1")
	f(true, order, "?b&a=1&a=2", "?a=1&b&a=2")
	f(false, order, "?a=1&a=2", "?a=2&a=1") // of one name the order stays
	f(false, order, "?a=1", "?a=1&b")
	f(true, order, "?a=%zz", "?a=%25zz")
	f(false, order, "?a=1;b=2", "?b=2;a=1")
	f(false, order, "?a%26b=1", "?a&b=1")
	f(false, order, "?a%3D=1", "?a==1")

	const params = `params=("utm" "%C3%A9+x")`
	f(true, params, "?utm=1&a=1", "?a=1&utm")
	f(true, params, "?a=1", "?%75tm=1&a=1")
	f(true, params, "?é x=1", "?%C3%A9%20x=2")
	f(true, params, "?utm=1", "")
	f(false, params, "?utm=1&a=1", "?a=2")
	f(false, params, "?utm=1&UTM=1", "?utm=1")
	f(false, params, "?a=1&b=2", "?b=2&a=1")

	const except = `except=("id")`
	f(true, except, "?id=1&a", "?b&id=1")
	f(false, except, "?id=1", "?id=2")
	f(false, except, "?id=1", "?b=1")
	f(true, "except=()", "?id=1", "")
	f(true, "params", "?id=1", "")

	// Without the field every spelling is another.
	f(false, "", "", "?")
	f(false, "", "?a=x&", "?a=x")
	f(true, "", "?a", "?a")
	f(false, order, "?a&"+strings.Repeat("a&", maxParameters), "?"+strings.Repeat("a&", maxParameters)+"a")
}

// TestVariationAgainstTheDraft compares with the draft's own algorithm, written down
// step by step.
func TestVariationAgainstTheDraft(t *testing.T) {
	name := rapid.SampledFrom([]string{"a", "b", "%61", "a+", "a%20", "", "%", "é", "%C3%A9", "A", "%26"})
	pair := rapid.Custom(func(t *rapid.T) string {
		return name.Draw(t, "name") + rapid.SampledFrom([]string{"", "=", "=1", "=%31", "=a=b", "=2"}).Draw(t, "value")
	})
	query := rapid.Map(rapid.SliceOfN(pair, 0, 4), func(all []string) string { return strings.Join(all, "&") })
	parsed := func(query string) (pairs [][2]string) {
		for p := range strings.SplitSeq(query, "&") {
			if p != "" {
				n, v, _ := strings.Cut(p, "=")
				pairs = append(pairs, [2]string{formDecoded(n), formDecoded(v)})
			}
		}
		return pairs
	}
	rapid.Check(t, func(t *rapid.T) {
		v := &variation{
			names: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "a ", "é"}), func(s string) string { return s }).Draw(t, "names"),
			order: rapid.Bool().Draw(t, "order"), except: rapid.Bool().Draw(t, "except"),
		}
		slices.Sort(v.names)
		one, other := query.Draw(t, "one"), query.Draw(t, "other")
		significant := func(query string) [][2]string {
			all := slices.DeleteFunc(parsed(query), func(p [2]string) bool { return slices.Contains(v.names, p[0]) != v.except })
			if !v.order {
				slices.SortStableFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
			}
			return all
		}
		want := slices.Equal(significant(one), significant(other))
		if got := v.same(one, other, true, true); got != want {
			t.Fatalf("%+v: %q and %q: %v, want %v", v, one, other, got, want)
		}
	})
}

// FuzzVariation: no field and no query breaks anything, and a query is equivalent to
// itself and to its canonical form.
func FuzzVariation(f *testing.F) {
	for _, seed := range [][2]string{
		{"key-order", "b=1&a=2"},
		{`params=("a")`, "a=1&b=%zz"},
		{`params, except=("a" "%C3%A9")`, "\xff=%f6&é"},
		{`params=("a";q=1), x`, "&&=&=="},
		{"except=()", "%"},
		{`params=("\"")`, "a;b"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, field, query string) {
		v := parseVariation([]string{field})
		if v == nil {
			return
		}
		canonical, ok := v.canonical(query)
		if !ok {
			return
		}
		if again, ok := v.canonical(canonical); ok && again != canonical {
			t.Fatalf("%s: %q becomes %q, and then %q", field, query, canonical, again)
		}
		if _, err := url.ParseQuery(strings.TrimPrefix(canonical, "&")); err != nil {
			t.Fatalf("%s: %q becomes %q: %v", field, query, canonical, err)
		}
		if same := parseVariation([]string{field}); same.text != v.text {
			t.Fatalf("%s: %q and %q", field, same.text, v.text)
		}
	})
}

// noVary answers with the path and query that were asked for.
func noVary(field string) Func {
	return func(_ context.Context, r *http.Request) (*http.Response, error) {
		lines := []string{fresh}
		if field != "" {
			lines = append(lines, "No-Vary-Search: "+field)
		}
		return response(200, r.URL.RequestURI(), lines...), nil
	}
}

func TestNoVarySearch(t *testing.T) {
	c := New(config())
	first := func(target, field string) {
		t.Helper()
		if _, body := read(t, c, get(target), noVary(field)); body != target {
			t.Errorf("%s was answered by %s", target, body)
		}
	}
	hit := func(target, by string) {
		t.Helper()
		if _, body := read(t, c, get(target), noFetch(t)); body != by {
			t.Errorf("%s was answered by %q, want %s", target, body, by)
		}
	}
	const params = `params=("utm")`
	first("/a?w=1&utm=1", params)
	hit("/a?w=1&utm=1", "/a?w=1&utm=1")
	hit("/a?w=1&utm=2", "/a?w=1&utm=1")
	hit("/a?utm=3&w=1", "/a?w=1&utm=1")
	hit("/a?%77=1", "/a?w=1&utm=1")
	first("/a?w=2&utm=1", params)
	hit("/a?w=2", "/a?w=2&utm=1")
	first("/a", params)
	hit("/a?", "/a")
	// What one path's responses say is nothing to another path, host or scheme.
	first("/b?w=1&utm=1", "")
	first("/b?w=1&utm=2", "")
	other := get("/a?w=1&utm=2")
	other.Host = "other.example"
	if got := state(c, other); got != Miss {
		t.Errorf("another host: %s", got)
	}
	if got := state(c, httpsGet("/a?w=1&utm=2")); got != Miss {
		t.Errorf("another scheme: %s", got)
	}
	// A response that does not say so answers its own query only.
	first("/a?w=3&utm=1", "")
	first("/a?w=3&utm=2", "")
	hit("/a?w=3&utm=1", "/a?w=3&utm=1")
	// Another kind on the same path goes beside the first.
	first("/a?w=4&utm=1&x", `except=("w")`)
	hit("/a?w=4&y", "/a?w=4&utm=1&x")
	hit("/a?w=1&utm=9", "/a?w=1&utm=1")
	// It works beside Vary.
	read(t, c, get("/v?utm=1", "X: 1"), answers(200, "one", fresh, "No-Vary-Search: "+params, "Vary: X"))
	if got := state(c, get("/v?utm=2", "X: 2")); got != Miss {
		t.Errorf("another variant: %s", got)
	}
	if _, body := read(t, c, get("/v?utm=2", "X: 1"), noFetch(t)); body != "one" {
		t.Errorf("got %q", body)
	}
}

// TestNoVarySearchNeverAnswersAnother: whatever the responses of a path say, in
// whatever order, a stored one answers only queries between which it says itself that
// it does not vary; and none is left after a change of its target.
func TestNoVarySearchNeverAnswersAnother(t *testing.T) {
	fields := []string{"", "key-order", `params=("a")`, `params=("b"), key-order`, `except=("a")`, "except=()", "broken=("}
	queries := []string{"", "?", "?a=1", "?a=2", "?a=1&b=1", "?b=1&a=1", "?b=2", "?b=1&b=2", "?c"}
	c := New(config())
	rapid.Check(t, func(rt *rapid.T) {
		c.Purge()
		for range 25 {
			target := "/p" + rapid.SampledFrom(queries).Draw(rt, "query")
			switch rapid.IntRange(0, 9).Draw(rt, "act") {
			case 0:
				c.Invalidate(request("POST", target), 200, nil)
				if got := state(c, get(target)); got != Miss {
					rt.Fatalf("%s is %s after a change", target, got)
				}
				continue
			case 1:
				c.Purge()
			}
			field := rapid.SampledFrom(fields).Draw(rt, "field")
			_, body := read(t, c, get(target), answers(200, target+" "+field, fresh, "No-Vary-Search: "+field))
			by, said, _ := strings.Cut(body, " ")
			_, one, hasOne := strings.Cut(target, "?")
			_, other, hasOther := strings.Cut(by, "?")
			if v := parseVariation([]string{said}); !v.same(one, other, hasOne, hasOther) {
				rt.Fatalf("%s was answered by %s, which said %q", target, by, said)
			}
		}
	})
}

// TestNoVarySearchCrowd: once a path is known, requests that differ only in what does
// not matter wait for one fetch; and get their own when that says something else.
func TestNoVarySearchCrowd(t *testing.T) {
	const params = "No-Vary-Search: params=(\"utm\")"
	for _, said := range []string{params, "No-Vary-Search: key-order", ""} {
		synctest.Test(t, func(t *testing.T) {
			c, origin, cr := New(config()), &slow{}, &crowd{}
			read(t, c, get("/?utm=x"), answers(200, "x", fresh, params))
			time.Sleep(2 * time.Minute)
			target := func(i int) string { return fmt.Sprint("/?w=1&utm=", i) }
			cr.ask(c, 30, func(i int) *http.Request { return get(target(i)) }, func(i int) Func {
				return origin.fetch(target(i), 200, slices.DeleteFunc([]string{fresh, said}, func(s string) bool { return s == "" })...)
			})
			cr.wg.Wait()
			want := int64(1)
			if said != params {
				want = 30
			}
			if calls := origin.calls.Load(); calls != want {
				t.Errorf("%q: %d fetches, want %d", said, calls, want)
			}
			cr.bodies.Range(func(i, body any) bool {
				if body != target(i.(int)) && said != params {
					t.Errorf("%q: %d got %v", said, i, body)
				}
				return true
			})
		})
	}
}

// TestNoVarySearchRevalidates: an expired response is validated by whoever asks for
// an equivalent target.
func TestNoVarySearchRevalidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		const params = "No-Vary-Search: params=(\"utm\")"
		read(t, c, get("/?utm=1"), answers(200, "x", fresh, params, `Etag: "a"`))
		time.Sleep(2 * time.Minute)
		resp, body := read(t, c, get("/?utm=2"), func(_ context.Context, r *http.Request) (*http.Response, error) {
			if r.Header.Get("If-None-Match") != `"a"` || r.URL.RawQuery != "utm=2" {
				t.Errorf("asked for %s by %q", r.URL, r.Header)
			}
			return response(304, "", fresh), nil
		})
		if !resp.Revalidated || body != "x" {
			t.Errorf("%+v, %q", resp, body)
		}
		if _, body := read(t, c, get("/?utm=3"), noFetch(t)); body != "x" {
			t.Errorf("got %q", body)
		}
		if s := c.State(); s.Entries != 1 {
			t.Errorf("%d entries", s.Entries)
		}
	})
}

// TestForgottenVariationBringsNothingBack: an entry under a key that was forgotten,
// and so missed a change, is not found again.
func TestForgottenVariationBringsNothingBack(t *testing.T) {
	c := New(config())
	first := func(query, field string) { read(t, c, get("/"+query), noVary(field)) }
	first("?w=1&utm=1", `params=("utm")`)
	for i := range maxKnown {
		first(fmt.Sprint("?other=", i), fmt.Sprintf(`params=("p%d")`, i)) // pushes the first out
	}
	read(t, c, request("POST", "/?w=1&utm=1"), answers(200, ""))
	first("?w=2", `params=("utm")`)
	if got := state(c, get("/?w=1&utm=1")); got != Miss {
		t.Errorf("got %s", got)
	}
}

// TestVariationsAreBounded: paths and kinds that a site has without end.
func TestVariationsAreBounded(t *testing.T) {
	vs := newVariations()
	v := parseVariation([]string{"key-order"})
	for i := range uint64(3 * maxPathsPerShard) {
		vs.learn(7+i*variationShards, v) // all of one shard
	}
	if n := vs.paths.Load(); n != maxPathsPerShard {
		t.Errorf("%d paths", n)
	}
	for i := range 3 * maxDistinct {
		vs.learn(7, parseVariation([]string{fmt.Sprintf(`params=("%d")`, i)}))
	}
	if len(vs.distinct) != maxDistinct || len(vs.of(7)) != maxKnown {
		t.Errorf("%d kinds, %d of one path", len(vs.distinct), len(vs.of(7)))
	}
}

// TestVariationsAge: a site that sends ever new kinds neither pushes out what is of use
// nor keeps others from being learned, and what it has sent is not kept for ever.
func TestVariationsAge(t *testing.T) {
	c := New(config())
	read(t, c, get("/used?utm=0"), noVary(`params=("utm")`))
	read(t, c, get("/idle?ref=0"), noVary(`params=("ref")`))
	for i := range 3 * maxDistinct {
		read(t, c, get(fmt.Sprint("/hostile?", i)), noVary(fmt.Sprintf(`params=("p%d")`, i)))
		if got := state(c, get("/used?utm=1")); got != Fresh {
			t.Fatalf("%s after %d kinds", got, i)
		}
	}
	runtime.GC()
	if got := state(c, get("/idle?ref=1")); got != Miss {
		t.Errorf("what was of no use: %s", got)
	}
	read(t, c, get("/idle?ref=2"), noVary(`params=("ref")`))
	if got := state(c, get("/idle?ref=1")); got != Fresh {
		t.Errorf("what is learned again: %s", got)
	}
	if got := state(c, get("/idle?ref=0")); got != Fresh {
		t.Errorf("under the new key: %s", got)
	}
}

// TestNoVarySearchPurgedDuringFill: a response that was asked for before a purge is not
// stored after it, whatever key its No-Vary-Search makes.
func TestNoVarySearchPurgedDuringFill(t *testing.T) {
	for _, known := range []bool{false, true} {
		c := New(config())
		answer := noVary(`params=("utm")`)
		if known {
			read(t, c, get("/?utm=0"), answer)
			c.Purge()
		}
		read(t, c, get("/?utm=1"), func(ctx context.Context, r *http.Request) (*http.Response, error) {
			c.Purge()
			return answer(ctx, r)
		})
		if got := state(c, get("/?utm=1")); got != Miss {
			t.Errorf("known %t: %s after a purge", known, got)
		}
	}
}

// What is purged while an answer comes is not stored, by whatever query it was asked
// for: that the answer is one for others, too, is known last.
func TestPurgeReachesVariedFills(t *testing.T) {
	f := func(purge func(*Cache)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c, d := New(config()), &drip{}
			first, _, err := serve(c, get("/?utm=2"), d.fetch(10, fresh, "Surrogate-Key: t", `No-Vary-Search: params=("utm")`))
			if err != nil {
				t.Fatal(err)
			}
			purge(c)
			d.w.Write([]byte("0123456789"))
			d.w.Close()
			first.Body.Close()
			synctest.Wait()
			// The same when its header comes after the purge.
			answer := answers(200, "body", fresh, "Surrogate-Key: t", `No-Vary-Search: params=("utm")`)
			read(t, c, get("/?utm=3"), func(ctx context.Context, r *http.Request) (*http.Response, error) {
				purge(c)
				return answer(ctx, r)
			})
			synctest.Wait()
			for _, target := range []string{"/?utm=1", "/?utm=2", "/?utm=3"} {
				if got := state(c, get(target)); got != Miss {
					t.Errorf("%s: %s", target, got)
				}
			}
		})
	}
	f(func(c *Cache) { c.PurgeBy(SelectTag("t"), false) })
	f(func(c *Cache) { c.PurgeBy(c.SelectURL(get("/?utm=1"), nil), true) })
	f(func(c *Cache) { c.Invalidate(request("POST", "/?utm=1"), 200, nil) })
}
