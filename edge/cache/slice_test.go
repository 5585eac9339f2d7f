package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
)

func TestLargeObjectIsSliced(t *testing.T) {
	c, p := slicingCache(t)
	o := &largeObject{size: 10*testSlice + 5}
	_, body := mustAsk(t, c, p, get("/a"), o.fetch, 200) // passes through, and is learned
	o.check(t, body, 0, 0)
	if n := o.requests.Load(); n != 1 {
		t.Fatalf("%d requests", n)
	}
	resp, body := mustAsk(t, c, p, get("/a"), o.fetch, 200)
	if o.check(t, body, 0, 0); int64(len(body)) != o.size || resp.ContentLength != o.size || resp.Header.Get("Content-Range") != "" {
		t.Errorf("%d bytes, %v", len(body), resp.Header)
	}
	if n := o.requests.Load(); n != 12 || resp.Hit {
		t.Errorf("%d requests for 11 slices, hit %t", n, resp.Hit)
	}
	for _, f := range []struct {
		fields      []string
		status      int
		first, last int64
	}{
		{nil, 200, 0, o.size - 1},
		{[]string{"Range: bytes=0-0"}, 206, 0, 0},
		{[]string{"Range: bytes=70000-70009"}, 206, 70000, 70009},
		{[]string{"Range: bytes=65535-65536"}, 206, 65535, 65536},
		{[]string{"Range: bytes=1000-400000"}, 206, 1000, 400000},
		{[]string{"Range: bytes=-7"}, 206, o.size - 7, o.size - 1},
		{[]string{"Range: bytes=600000-"}, 206, 600000, o.size - 1},
		{[]string{"Range: bytes=0-9", `If-Range: "0"`}, 206, 0, 9},
		{[]string{"Range: bytes=5-100000", `If-Range: "other"`}, 200, 0, o.size - 1},
		{[]string{"Range: bytes=9-5"}, 200, 0, o.size - 1},
		{[]string{"Range: bytes=9-5", `If-None-Match: "other"`}, 200, 0, o.size - 1},
		{[]string{"Range: bytes=5-100000", `If-None-Match: "0"`}, 304, 0, -1},
		{[]string{`If-None-Match: "0"`}, 304, 0, -1},
		{[]string{"Range: bytes=10000000-"}, 416, 0, -1},
	} {
		resp, body := mustAsk(t, c, p, get("/a", f.fields...), noFetch(t), f.status)
		o.check(t, body, 0, f.first)
		if int64(len(body)) != f.last+1-f.first || !resp.Hit {
			t.Errorf("%v: %d bytes, hit %t", f.fields, len(body), resp.Hit)
		}
		switch said := resp.Header.Get("Content-Range"); {
		case f.status == 206 && said != contentRange(span{f.first, f.last + 1}, o.size),
			f.status == 416 && said != fmt.Sprintf("bytes */%d", o.size), f.status == 200 && said != "":
			t.Errorf("%v: Content-Range %q", f.fields, said)
		}
		if length := resp.Header.Get("Content-Length"); f.status == 200 && length != strconv.FormatInt(o.size, 10) {
			t.Errorf("%v: Content-Length %q", f.fields, length)
		}
	}
	head, _ := mustAsk(t, c, p, request("HEAD", "/a"), noFetch(t), 200)
	if head.Header.Get("Content-Length") != strconv.FormatInt(o.size, 10) {
		t.Errorf("HEAD: %v", head.Header)
	}
	several, body := mustAsk(t, c, p, get("/a", "Range: bytes=0-99999,-5"), noFetch(t), 206)
	if kind := several.Header.Get("Content-Type"); !strings.HasPrefix(kind, "multipart/byteranges; boundary=") ||
		several.Header.Get("Content-Length") != strconv.Itoa(len(body)) || several.ContentLength != int64(len(body)) ||
		strings.Count(body, "Content-Type: a/b\r\n") != 2 {
		t.Errorf("%v, %d bytes", several.Header, len(body))
	} else {
		_, part, _ := strings.Cut(body, "\r\n\r\n")
		o.check(t, part[:100000], 0, 0)
		_, part, _ = strings.Cut(part[100000:], "\r\n\r\n")
		o.check(t, part[:5], 0, o.size-5)
	}
	settled(t, c)
}

// A range that comes first teaches as well, and only what is asked for is fetched.
func TestSlicesOfRanges(t *testing.T) {
	c, p := slicingCache(t)
	o := &largeObject{size: 100 * testSlice}
	mustAsk(t, c, p, get("/a", "Range: bytes=0-9"), o.fetch, 206)
	_, body := mustAsk(t, c, p, get("/a", "Range: bytes=-10"), o.fetch, 206)
	o.check(t, body, 0, o.size-10)
	_, body = mustAsk(t, c, p, get("/a", "Range: bytes=1000000-1200000"), o.fetch, 206)
	o.check(t, body, 0, 1000000)
	if n, b := o.requests.Load(), o.bytes.Load(); n != 6 || b != 10+5*testSlice {
		t.Errorf("%d requests, %d bytes", n, b)
	}
	// Without a slice that tells, nothing is known of what lies behind the end.
	c.Purge()
	resp, _ := mustAsk(t, c, p, get("/a", "Range: bytes=100000000-"), o.fetch, 416)
	if resp.Header.Get("Content-Range") != fmt.Sprintf("bytes */%d", o.size) {
		t.Errorf("%v", resp.Header)
	}
	settled(t, c)
}

// A visitor makes the node fetch what it reads, the rest of that slice, and one more.
func TestReadAheadIsOneSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := slicingCache(t)
		o := &largeObject{size: 100 * testSlice}
		mustAsk(t, c, p, get("/a", "Range: bytes=0-9"), o.fetch, 206)
		before := o.requests.Load()
		for _, f := range []struct{ read, most int64 }{{1, 1}, {testSlice/2 + 1, 2}, {3 * testSlice, 4}} {
			c.Purge()
			found := Result{Policy: p}
			r := get("/a")
			c.Find(r, time.Now(), &found)
			resp, err := c.Fetch(t.Context(), r, found, o.fetch)
			if err != nil {
				t.Fatal(err)
			}
			io.CopyN(io.Discard, resp.Body, f.read)
			resp.Body.Close()
			found.Release()
			synctest.Wait() // what was ahead and is wanted no more may be asked for yet
			settled(t, c)
			if n := o.requests.Load() - before; n > f.most {
				t.Errorf("%d bytes read, %d slices fetched", f.read, n)
			}
			before = o.requests.Load()
		}
	})
}

func TestSlicesCollapse(t *testing.T) {
	c, p := slicingCache(t)
	o := &largeObject{size: 20 * testSlice}
	mustAsk(t, c, p, get("/a", "Range: bytes=0-9"), o.fetch, 206)
	begin := make(chan struct{})
	before := o.requests.Load()
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			fields := []string{fmt.Sprintf("Range: bytes=%d-%d", testSlice+n, testSlice+n+100)}
			if n%10 == 0 {
				fields = nil
			}
			<-begin
			_, body, err := slicedAnswer(c, p, get("/a", fields...), o.fetch)
			if err != nil {
				t.Error(err)
			} else if n%10 != 0 {
				o.check(t, body, 0, int64(testSlice+n))
			} else if o.check(t, body, 0, 0); int64(len(body)) != o.size {
				t.Errorf("%d bytes", len(body))
			}
		})
	}
	close(begin)
	wg.Wait()
	if n := o.requests.Load() - before; n != 20 {
		t.Errorf("%d requests for 20 slices", n)
	}
	settled(t, c)
}

// Every kind of purge reaches the slices, and nothing that was on its way is stored.
func TestPurgesReachSlices(t *testing.T) {
	prefix, _ := SelectPrefix("http://example.com/")
	for name, f := range map[string]func(c *Cache, soft bool) int{
		"url":    func(c *Cache, soft bool) int { return c.PurgeBy(c.SelectURL(get("/a?b"), nil), soft) },
		"prefix": func(c *Cache, soft bool) int { return c.PurgeBy(prefix, soft) },
		"tag":    func(c *Cache, soft bool) int { return c.PurgeBy(SelectTag("big"), soft) },
		"all":    func(c *Cache, soft bool) int { return c.PurgeBy(SelectAll(), soft) },
		"post": func(c *Cache, soft bool) int {
			if soft {
				return c.PurgeBy(SelectAll(), true)
			}
			c.Invalidate(request("POST", "/a?b"), 200, header())
			return 10
		},
	} {
		for _, soft := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, soft %t", name, soft), func(t *testing.T) {
				c, p := slicingCache(t)
				o := &largeObject{size: 10 * testSlice}
				mustAsk(t, c, p, get("/a?b"), o.fetch, 200)
				mustAsk(t, c, p, get("/a?b"), o.fetch, 200)
				if list, _, _ := c.List(c.SelectURL(get("/a?b"), nil), "", 100, time.Now()); len(list) != 10 ||
					list[0].URL != "http://example.com/a?b" || list[0].Whole != o.size || list[0].Bytes != testSlice {
					t.Errorf("listed %+v", list)
				}
				if n := f(c, soft); n != 10 {
					t.Errorf("%d purged", n)
				}
				before, bytes := o.requests.Load(), o.bytes.Load()
				_, body := mustAsk(t, c, p, get("/a?b"), o.fetch, 200)
				o.check(t, body, 0, 0)
				if n := o.requests.Load() - before; n != 10 {
					t.Errorf("%d requests", n)
				}
				if n := o.bytes.Load() - bytes; soft != (n == 0) { // softly purged ones are validated
					t.Errorf("%d bytes", n)
				}
				mustAsk(t, c, p, get("/a?b"), noFetch(t), 200)
				// In the middle of an answer: what was open is of the same version.
				c.Purge()
				found := Result{Policy: p}
				c.Find(get("/a?b"), time.Now(), &found)
				resp, err := c.Fetch(t.Context(), get("/a?b"), found, o.fetch)
				if err != nil {
					t.Fatal(err)
				}
				io.CopyN(io.Discard, resp.Body, testSlice+testSlice/4)
				f(c, soft)
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 10*testSlice-testSlice-testSlice/4 {
					t.Errorf("%d bytes, %v", n, err)
				}
				resp.Body.Close()
				found.Release()
				settled(t, c)
			})
		}
	}
}

// An object that changes is never mixed: where nothing was sent the answer begins anew,
// else it breaks, and the next one is whole.
func TestVersionsAreNotMixed(t *testing.T) {
	c, p := slicingCache(t)
	o := &largeObject{size: 10 * testSlice}
	mustAsk(t, c, p, get("/a", "Range: bytes=0-9"), o.fetch, 206)
	mustAsk(t, c, p, get("/a", "Range: bytes=0-99999"), o.fetch, 206) // slices 0 and 1
	settled(t, c)
	o.version.Store(1)
	_, body := mustAsk(t, c, p, get("/a"), o.fetch, 200) // 2 is another: anew
	if o.check(t, body, 1, 0); int64(len(body)) != o.size {
		t.Errorf("%d bytes", len(body))
	}

	c.Purge()
	found := Result{Policy: p}
	c.Find(get("/a"), time.Now(), &found)
	resp, err := c.Fetch(t.Context(), get("/a"), found, o.fetch)
	if err != nil {
		t.Fatal(err)
	}
	begin, _ := io.ReadAll(io.LimitReader(resp.Body, 10))
	o.version.Store(2)
	rest, err := io.ReadAll(resp.Body)
	if o.check(t, string(begin)+string(rest), 1, 0); err == nil || int64(len(rest)) >= o.size-10 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	resp.Body.Close()
	found.Release()
	_, body = mustAsk(t, c, p, get("/a"), o.fetch, 200)
	o.check(t, body, 2, 0)

	o.version.Store(3) // shorter, and no longer large
	o.size = testSlice + 7
	c.Purge()
	_, body = mustAsk(t, c, p, get("/a"), o.fetch, 200)
	if o.check(t, body, 3, 0); int64(len(body)) != o.size {
		t.Errorf("%d bytes", len(body))
	}
	settled(t, c)
}

// What lies, or knows no ranges, is passed on as it comes or asked for as the request
// came, and nothing of it is stored as a slice.
func TestOriginsThatCannotBeSliced(t *testing.T) {
	for name, lie := range map[string]func(resp *http.Response, r *http.Request){
		"other range": func(resp *http.Response, _ *http.Request) { resp.Header.Set("Content-Range", "bytes 5-9/10000000") },
		"another slice": func(resp *http.Response, r *http.Request) {
			resp.Header.Set("Content-Range", "bytes 65536-131071/655360")
		},
		"no range":     func(resp *http.Response, _ *http.Request) { resp.Header.Del("Content-Range") },
		"no size":      func(resp *http.Response, _ *http.Request) { resp.Header.Set("Content-Range", "bytes 0-65535/*") },
		"no validator": func(resp *http.Response, _ *http.Request) { resp.Header.Del("Etag") },
		"weak":         func(resp *http.Response, _ *http.Request) { resp.Header.Set("Etag", `W/"0"`) },
		"short": func(resp *http.Response, r *http.Request) {
			resp.Header.Set("Content-Range", "bytes 0-9/655360")
			resp.ContentLength = 10
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := slicingCache(t)
			o := &largeObject{size: 10 * testSlice}
			mustAsk(t, c, p, get("/a"), o.fetch, 200)
			o.lies = func(resp *http.Response, r *http.Request) {
				if resp.StatusCode == 206 {
					lie(resp, r)
				}
			}
			for range 2 {
				_, body := mustAsk(t, c, p, get("/a"), o.fetch, 200)
				if o.check(t, body, 0, 0); int64(len(body)) != o.size {
					t.Errorf("%d bytes", len(body))
				}
			}
			if n := o.requests.Load(); n != 4 { // one was for a slice
				t.Errorf("%d requests", n)
			}
			settled(t, c)
			if stored := c.slicesOf(targetAt(c, "/a")); len(stored) > 0 {
				t.Errorf("stored as a slice: %+v", stored[0].entry.part)
			}
		})
	}
	t.Run("ignores ranges", func(t *testing.T) {
		c, p := slicingCache(t)
		o := &largeObject{size: 10 * testSlice}
		mustAsk(t, c, p, get("/a"), o.fetch, 200)
		deaf := func(ctx context.Context, r *http.Request) (*http.Response, error) {
			return o.fetch(ctx, get("/a"))
		}
		_, body := mustAsk(t, c, p, get("/a", "Range: bytes=100000-"), deaf, 200)
		if o.check(t, body, 0, 0); int64(len(body)) != o.size || o.requests.Load() != 2 {
			t.Errorf("%d bytes, %d requests", len(body), o.requests.Load())
		}
		settled(t, c)
	})
	t.Run("cut", func(t *testing.T) { // a body that ends early never completes an answer
		c, p := slicingCache(t)
		o := &largeObject{size: 10 * testSlice}
		mustAsk(t, c, p, get("/a"), o.fetch, 200)
		o.lies = func(resp *http.Response, r *http.Request) {
			if strings.HasPrefix(r.Header.Get("Range"), "bytes=131072-") {
				resp.Body = io.NopCloser(io.LimitReader(resp.Body, 100))
			}
		}
		_, body, err := slicedAnswer(c, p, get("/a"), o.fetch)
		if o.check(t, body, 0, 0); err == nil || len(body) > 2*testSlice+100 {
			t.Errorf("%d bytes, %v", len(body), err)
		}
		o.lies = nil
		_, body = mustAsk(t, c, p, get("/a"), o.fetch, 200)
		o.check(t, body, 0, 0)
		settled(t, c)
	})
}

// What may not be shared is not sliced.
func TestWhatIsNotSliced(t *testing.T) {
	for _, f := range []struct{ control, field string }{
		{"no-store", ""},
		{"private", ""},
		{"no-cache", ""},
		{"max-age=0", ""},
		{"max-age=60", "Set-Cookie: a=b"},
		{"max-age=60", "Vary: *"},
		{"max-age=60", `Etag: W/"0"`},
		{"max-age=60", "Accept-Ranges: none"},
	} {
		c, p := slicingCache(t)
		o := &largeObject{size: 10 * testSlice, control: f.control}
		name, value, _ := strings.Cut(f.field, ": ")
		o.lies = func(resp *http.Response, _ *http.Request) {
			if name != "" {
				resp.Header.Set(name, value)
			}
		}
		for range 3 {
			mustAsk(t, c, p, get("/a"), o.fetch, 200)
		}
		if n := o.requests.Load(); n != 3 {
			t.Errorf("%s, %s: %d requests", f.control, f.field, n)
		}
		settled(t, c)
	}
	c, p := slicingCache(t)
	o := &largeObject{size: 10 * testSlice}
	for range 2 {
		mustAsk(t, c, p, get("/a", "Authorization: x"), o.fetch, 200)
		mustAsk(t, c, nil, get("/a"), o.fetch, 200)
	}
	if n := o.requests.Load(); n != 4 {
		t.Errorf("with Authorization, and without a policy: %d requests", n)
	}
}

// A visitor with whom an answer is not shared, or who is not let in, does not end what is
// known of an object: the next one would get all of it from the origin.
func TestStrangersDoNotUnslice(t *testing.T) {
	c, p := slicingCache(t)
	o := &largeObject{size: 10 * testSlice}
	o.lies = func(resp *http.Response, r *http.Request) {
		if status, err := strconv.Atoi(r.Header.Get("X-Status")); err == nil {
			resp.StatusCode = status
			delete(resp.Header, "Content-Range")
			delete(resp.Header, "Cache-Control")
		}
	}
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	ask := func(status int, lines ...string) {
		t.Helper()
		for _, offset := range []int64{0, 5 * testSlice} {
			mustAsk(t, c, p, get("/a", append(lines, fmt.Sprintf("Range: bytes=%d-%d", offset, offset))...), o.fetch, status)
			if _, ok := c.larges.sizeOf(targetAt(c, "/a").hash, time.Now()); !ok {
				t.Errorf("%v: the object is not known any more", lines)
				mustAsk(t, c, p, get("/a"), o.fetch, 200)
				c.PurgeBy(c.SelectURL(get("/a"), p), false)
			}
		}
	}
	ask(206, "Authorization: x")
	for _, status := range []int{401, 403, 429} {
		ask(status, fmt.Sprint("X-Status: ", status))
	}
	settled(t, c)
}

// An expired slice is validated with a conditional request of its own.
func TestExpiredSlicesAreValidated(t *testing.T) {
	c, p := slicingCache(t)
	o := &largeObject{size: 10 * testSlice}
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	requests, bytes := o.requests.Load(), o.bytes.Load()
	_, body := mustAsk(t, c, p, get("/a", "Cache-Control: no-cache"), o.fetch, 200)
	if o.check(t, body, 0, 0); o.requests.Load() != requests+10 || o.bytes.Load() != bytes {
		t.Errorf("%d requests, %d bytes", o.requests.Load()-requests, o.bytes.Load()-bytes)
	}
	mustAsk(t, c, p, get("/a", "Range: bytes=70000-70001", "Cache-Control: no-cache"), o.fetch, 206)
	if o.requests.Load() != requests+11 || o.bytes.Load() != bytes {
		t.Errorf("one: %d requests, %d bytes", o.requests.Load()-requests, o.bytes.Load()-bytes)
	}
	// With one gone, only that is asked for.
	key := c.sliceTarget(targetAt(c, "/a"), 3*testSlice)
	e, _ := c.store.get(&key, get("/a"))
	c.store.removeEntry(&key, e)
	e.release()
	mustAsk(t, c, p, get("/a", "Cache-Control: only-if-cached", "Range: bytes=0-9"), noFetch(t), 206)
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	if o.requests.Load() != requests+12 {
		t.Errorf("one gone: %d requests", o.requests.Load()-requests)
	}
	settled(t, c)
}

func targetAt(c *Cache, path string) *target {
	t := c.target(get(path))
	return &t
}

// Several ranges do not multiply slices: unless all is there, the request is passed on.
func TestSeveralRangesAreNotAmplified(t *testing.T) {
	c, p := slicingCache(t)
	o := &largeObject{size: 50 * testSlice}
	mustAsk(t, c, p, get("/a", "Range: bytes=0-9"), o.fetch, 206)
	before := o.bytes.Load()
	mustAsk(t, c, p, get("/a", "Range: bytes=5-5,200000-200000,500000-500000"), o.fetch, 206)
	if n := o.bytes.Load() - before; n > 3 {
		t.Errorf("%d bytes", n)
	}
	settled(t, c)
}

// Variants of one target have sizes of their own, and leave each other alone.
func TestSlicesOfVariants(t *testing.T) {
	c, p := slicingCache(t)
	de, fr := &largeObject{size: 10 * testSlice}, &largeObject{size: 12*testSlice + 1}
	fr.version.Store(1)
	fetch := func(ctx context.Context, r *http.Request) (*http.Response, error) {
		o := de
		if r.Header.Get("Accept-Language") == "fr" {
			o = fr
		}
		resp, err := o.fetch(ctx, r)
		resp.Header.Set("Vary", "Accept-Language")
		return resp, err
	}
	for range 4 {
		_, body := mustAsk(t, c, p, get("/a", "Accept-Language: de"), fetch, 200)
		de.check(t, body, 0, 0)
		_, body = mustAsk(t, c, p, get("/a", "Accept-Language: fr"), fetch, 200)
		fr.check(t, body, 1, 0)
		if int64(len(body)) != fr.size {
			t.Errorf("%d bytes", len(body))
		}
	}
	if s := c.State(); s.Slices.Changes != 0 || s.Slices.Fetched != 10+13 {
		t.Errorf("%+v", s.Slices)
	}
	settled(t, c)
}

// Visitors who stop reading hold no more than bodies in flight may take.
func TestSlowReadersOfSlicesAreBounded(t *testing.T) {
	p, _ := NewPolicy(PolicyConfig{Slice: testSlice})
	k := config()
	k.Memory, k.MaxObject = 4<<20, 256<<10
	c := New(k)
	o := &largeObject{size: 10 * testSlice}
	var open []func()
	for n := range 60 {
		r := get(fmt.Sprintf("/%d", n))
		mustAsk(t, c, p, get(r.URL.Path, "Range: bytes=0-9"), o.fetch, 206)
		found := Result{Policy: p}
		c.Find(r, time.Now(), &found)
		resp, err := c.Fetch(t.Context(), r, found, o.fetch)
		if err != nil {
			t.Fatal(err)
		}
		io.CopyN(io.Discard, resp.Body, testSlice/2+1)
		open = append(open, func() { resp.Body.Close(); found.Release() })
		if s := c.State(); s.FillBytes > s.FillLimit || s.Bytes > s.Limit {
			t.Fatalf("%d readers: %+v", n+1, s)
		}
	}
	for _, end := range open {
		end()
	}
	settled(t, c)
}

// An expired slice stands in for an origin that fails, and is renewed in the background,
// as any entry.
func TestStaleSlices(t *testing.T) {
	c, p := slicingCache(t)
	background := t.Context()
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(background)
	go func() { defer close(ended); c.Revalidate(ctx) }()
	defer func() { stop(); <-ended }()
	o := &largeObject{size: 10 * testSlice, control: "max-age=60, stale-if-error=60, stale-while-revalidate=60"}
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	c.PurgeBy(SelectAll(), true)
	down := func(context.Context, *http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
	_, body := mustAsk(t, c, p, get("/a", "Cache-Control: max-stale=0"), down, 200)
	if o.check(t, body, 0, 0); int64(len(body)) != o.size {
		t.Errorf("%d bytes", len(body))
	}
	found := Result{Policy: p}
	r := get("/a", "Range: bytes=70000-70001")
	c.Find(r, time.Now(), &found)
	defer found.Release()
	if found.State != StaleWhileRevalidate {
		t.Fatalf("a stale slice is %s", found.State)
	}
	before, bytes := o.requests.Load(), o.bytes.Load()
	c.Renew(r, &found, func() Func { return o.fetch })
	for c.State().Renewed == 0 {
		time.Sleep(time.Millisecond)
	}
	if asked, ok := o.asked.Load("bytes=65536-131071"); !ok || asked.(*atomic.Int64).Load() != 2 ||
		o.requests.Load() != before+1 || o.bytes.Load() != bytes {
		t.Errorf("%d requests, %d bytes", o.requests.Load()-before, o.bytes.Load()-bytes)
	}
	mustAsk(t, c, p, r, noFetch(t), 206)
}

// A slice that tells of the whole gives back all that it took, also where it could not be
// pinned and is a copy.
func TestHeadOfSlicesGivesCopiesBack(t *testing.T) {
	p, err := NewPolicy(PolicyConfig{Slice: testSlice})
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{Memory: 1 << 20, MaxObject: 100 << 10, CollapseWaiters: 1, CollapseWait: time.Second})
	o := &largeObject{size: 3 * testSlice}
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	mustAsk(t, c, p, get("/a"), o.fetch, 200)
	for i := range uint64(38) {
		keep(c, fmt.Sprint("/", i), i, 20<<10)
		slow := c.Lookup(get(fmt.Sprint("/", i)), time.Now())
		defer slow.Release()
	}
	for i, r := range []*http.Request{request("HEAD", "/a"), get("/a", `If-None-Match: "0"`), get("/a", "Range: bytes=9-")} {
		found := Result{Policy: p}
		c.Find(r, time.Now(), &found)
		if i < 2 && (found.State != Fresh || found.Entry.hold.lent == nil) {
			t.Errorf("%s: %s, and no copy", r.Method, found.State)
		}
		found.Release()
	}
	if used := c.State().FillBytes; used != 0 {
		t.Errorf("%d bytes are not given back", used)
	}
}
