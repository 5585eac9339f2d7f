package cache

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// Who asks for the same range at the same time shares one fetch, and those who
// ask for others do not wait.
func TestRangesCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		var asked atomic.Int64
		origin := func(_ context.Context, r *http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(time.Second)
			ranges, _ := parseRanges(r.Header["Range"])
			s, _ := ranges[0].within(10)
			return response(206, "0123456789"[s.first:s.end], fresh, tag, "Content-Range: "+contentRange(s, 10)), nil
		}
		cr := &crowd{}
		lines := []string{"bytes=0-1", "bytes=4-5", "bytes=-1"}
		began := time.Now()
		cr.ask(c, 30, func(i int) *http.Request { return get("/", "Range: "+lines[i%3]) }, func(int) Func { return origin })
		cr.wg.Wait()
		if asked.Load() != 3 || cr.joined.Load() != 27 || time.Since(began) != time.Second {
			t.Errorf("%d asked, %d joined, in %v", asked.Load(), cr.joined.Load(), time.Since(began))
		}
		cr.bodies.Range(func(i, body any) bool {
			if want := []string{"01", "45", "9"}[i.(int)%3]; body != want {
				t.Errorf("%d got %q", i, body)
			}
			return true
		})
		synctest.Wait()
		// All of it is held, though the parts have come at once.
		for _, line := range lines {
			if got := state(c, get("/", "Range: "+line)); got != Fresh {
				t.Errorf("%s: %s", line, got)
			}
		}
		// If-Range makes it another request.
		a := get("/2", "Range: bytes=0-1", `If-Range: "a"`)
		b := get("/2", "Range: bytes=0-1", `If-Range: "b"`)
		asked.Store(0)
		cr.ask(c, 2, func(i int) *http.Request { return []*http.Request{a, b}[i] }, func(int) Func { return origin })
		cr.wg.Wait()
		if asked.Load() != 2 {
			t.Errorf("%d asked", asked.Load())
		}
	})
	// Even if their keys were the same by accident.
	f := &flight{leader: get("/", "Range: bytes=0-1")}
	if f.joinable(&group{}, get("/"), &Result{}, epoch0) || !f.joinable(&group{}, get("/", "Range: bytes=0-1"), &Result{}, epoch0) {
		t.Error("joins another range")
	}
}

// What a range may not be shared for says nothing about the whole.
func TestRangeDoesNotMarkTheWhole(t *testing.T) {
	c := New(config())
	for _, line := range []string{"bytes=0-1", "items=0-1", "bytes=1-0"} {
		read(t, c, get("/", "Range: "+line), answers(206, "ab", "Cache-Control: private", "Content-Range: bytes 0-1/9"))
	}
	if g := peek(t, c, get("/"), time.Now(), nil); g.Alone {
		t.Error("a crowd would not collapse")
	}
}

// A range whose bytes are there already comes out of the fill of the whole.
func TestRangeRidesOnAFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := New(config()), &drip{}
		first, _, err := serve(c, get("/"), d.fetch(10, fresh, tag, "Content-Type: a/b"))
		if err != nil {
			t.Fatal(err)
		}
		d.w.Write([]byte("01234"))
		synctest.Wait() // it is read by now, and may not be in the fill yet
		ride := func(want, contentRange string, lines ...string) *Response {
			t.Helper()
			resp, _, err := serve(c, get("/", lines...), noFetch(t))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Status != 206 || !resp.Joined || resp.Header.Get("Content-Range") != contentRange || resp.ContentLength != int64(len(want)) {
				t.Errorf("%q: %+v", lines, resp)
			}
			return resp
		}
		resp := ride("12", "bytes 1-2/10", "Range: bytes=1-2")
		if body, err := io.ReadAll(resp.Body); string(body) != "12" || err != nil {
			t.Errorf("while the fill is open: %q, %v", body, err)
		}
		resp.Body.Close()
		ride("34", "bytes 3-4/10", "Range: bytes=3-4", `If-Range: "a"`).Body.Close()

		// What is not there yet is fetched, and not waited for.
		for _, lines := range [][]string{{"Range: bytes=5-6"}, {"Range: bytes=-2"}, {"Range: bytes=20-"}, {"Range: bytes=1-2", `If-Range: "b"`}} {
			if resp, body := read(t, c, get("/", lines...), answers(206, "x", "Content-Range: bytes 0-0/1")); resp.Joined || body != "x" {
				t.Errorf("%q: %+v", lines, resp)
			}
		}

		// The rest of what has begun comes as it comes.
		resp = ride("3456", "bytes 3-6/10", "Range: bytes=3-6")
		got := make(chan string)
		go func() { b, _ := io.ReadAll(resp.Body); resp.Body.Close(); got <- string(b) }()
		synctest.Wait()
		d.w.Write([]byte("56"))
		if body := <-got; body != "3456" {
			t.Errorf("got %q", body)
		}
		cut := ride("456789", "bytes 4-9/10", "Range: bytes=4-")
		d.w.CloseWithError(io.ErrUnexpectedEOF)
		if body, err := io.ReadAll(cut.Body); err == nil || !strings.HasPrefix("456789", string(body)) {
			t.Errorf("%q, %v", body, err)
		}
		cut.Body.Close()
		first.Body.Close()
		synctest.Wait()
		if s := c.State(); s.FillBytes != 0 || s.Flights != 0 {
			t.Errorf("%+v", s)
		}
		hit(t, c, 206, "0123456", "Range: bytes=0-6")
	})
}

// Nobody rides on what is not for all, and nobody's Authorization is forgotten.
func TestRangeDoesNotRideOnAnothersFill(t *testing.T) {
	f := func(r *http.Request, lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c, d := New(config()), &drip{}
			first, _, err := serve(c, get("/"), d.fetch(10, lines...))
			if err != nil {
				t.Fatal(err)
			}
			go d.w.Write([]byte("0123456789"))
			synctest.Wait()
			if resp, body := read(t, c, r, answers(206, "x", "Content-Range: bytes 0-0/1")); resp.Joined || body != "x" {
				t.Errorf("%v %q: %+v", r.Header, lines, resp)
			}
			d.w.Close()
			first.Body.Close()
			synctest.Wait()
		})
	}
	f(get("/", "Range: bytes=0-0"), "Cache-Control: private, max-age=60")
	f(get("/", "Range: bytes=0-0", "Authorization: x"), fresh)
	f(get("/", "Range: bytes=0-0", "X: 1"), fresh, "Vary: X")
	f(get("/", "Range: bytes=0-0", "Cache-Control: no-store"), fresh)
	f(request("HEAD", "/", "Range: bytes=0-0"), fresh)
}

// Nor on another query's, once responses vary on all of it, nor on what was purged
// while it came.
func TestRangeDoesNotRideOnWhatHasChanged(t *testing.T) {
	f := func(change func(*Cache), lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c, d := New(config()), &drip{}
			read(t, c, get("/?utm=1"), answers(200, "old", "Cache-Control: max-age=1", `No-Vary-Search: params=("utm")`))
			time.Sleep(2 * time.Second)
			first, _, err := serve(c, get("/?utm=2"), d.fetch(10, append(lines, fresh)...))
			if err != nil {
				t.Fatal(err)
			}
			d.w.Write([]byte("01234"))
			synctest.Wait()
			change(c)
			for _, target := range []string{"/?utm=2", "/?utm=3"} {
				resp, body := read(t, c, get(target, "Range: bytes=0-0"), answers(206, "x", "Content-Range: bytes 0-0/1"))
				if own := target == "/?utm=2" && c.State().Purges.Tag == 0; resp.Joined != own || !own && body != "x" {
					t.Errorf("%s %q: %q, %+v", target, lines, body, resp)
				}
			}
			d.w.Close()
			first.Body.Close()
			synctest.Wait()
		})
	}
	f(func(*Cache) {})
	f(func(c *Cache) { c.PurgeBy(SelectTag("t"), false) }, "Surrogate-Key: t", `No-Vary-Search: params=("utm")`)
}
