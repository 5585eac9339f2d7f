package edge_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// file has the origin serve a body by net/http, under a strong validator.
func (w *world) file(body []byte, control string) {
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", control)
		rw.Header().Set("Content-Type", "a/b")
		rw.Header().Set("ETag", `"1"`)
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(body))
	})
}

func someBytes(n int) []byte {
	body := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 0))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	return body
}

// ranged expects a part of a body, and whether the origin was asked.
func (w *world) ranged(t *testing.T, how string, body []byte, first, last int, header ...string) answer {
	t.Helper()
	a := w.ask("GET", "/plain/a", "", header...)
	a.check(t, 206, how, "")
	if a.body != string(body[first:last+1]) || a.header.Get("Content-Length") != strconv.Itoa(last+1-first) ||
		a.header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", first, last, len(body)) {
		t.Errorf("%q: %d bytes, %v", header, len(a.body), a.header)
	}
	return a
}

// TestRangesOfAHit: every form of range comes out of what is stored.
func TestRangesOfAHit(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		body := someBytes(200_000)
		w.file(body, "max-age=60")
		w.ask("GET", "/plain/a", "").check(t, 200, "origin", string(body))
		const hit = "hit; reason=fresh"
		a := w.ranged(t, hit, body, 0, 0, "Range", "bytes=0-0")
		if status := a.header.Get("Cache-Status"); !strings.HasPrefix(status, "spillway; hit; ttl=") || a.header.Get("Age") == "" ||
			a.header.Get("Content-Type") != "a/b" {
			t.Errorf("%v", a.header)
		}
		w.ranged(t, hit, body, 100_000, 199_999, "Range", "bytes=100000-")
		w.ranged(t, hit, body, 199_995, 199_999, "Range", "bytes=-5")
		w.ranged(t, hit, body, 0, 199_999, "Range", "bytes=0-999999")
		a = w.ranged(t, hit, body, 5, 9, "Range", "bytes=5-9", "If-Range", `"1"`)
		if a.header.Get("ETag") != `"1"` || a.header.Get("Content-Type") != "" { // RFC 9110 section 15.3.7
			t.Errorf("with If-Range: %v", a.header)
		}
		w.ask("GET", "/plain/a", "", "Range", "bytes=5-9", "If-Range", `"2"`).check(t, 200, hit, string(body))
		w.ask("GET", "/plain/a", "", "Range", "bytes=9-5").check(t, 200, hit, string(body))
		w.ask("GET", "/plain/a", "", "Range", "items=5-9").check(t, 200, hit, string(body))
		w.ask("GET", "/plain/a", "", "Range", "bytes=5-9", "If-None-Match", `"1"`).check(t, 304, hit, "")
		head := w.ask("HEAD", "/plain/a", "", "Range", "bytes=5-9")
		if head.check(t, 200, hit, ""); head.header.Get("Content-Length") != "200000" || head.header.Get("Content-Range") != "" {
			t.Errorf("HEAD: %v", head.header)
		}
		none := w.ask("GET", "/plain/a", "", "Range", "bytes=200000-")
		if none.check(t, 416, hit, ""); none.header.Get("Content-Range") != "bytes */200000" || none.body != "" ||
			none.header.Get("Cache-Control") != "no-store" {
			t.Errorf("416: %v", none.header)
		}

		several := w.ask("GET", "/plain/a", "", "Range", "bytes=1000-1999, -10, 0-9")
		several.check(t, 206, hit, "")
		_, params, err := mime.ParseMediaType(several.header.Get("Content-Type"))
		if err != nil || several.header.Get("Content-Length") != strconv.Itoa(len(several.body)) {
			t.Fatalf("%v: %v", several.header, err)
		}
		parts := multipart.NewReader(strings.NewReader(several.body), params["boundary"])
		for _, want := range [][]byte{body[1000:2000], body[199_990:], body[:10]} {
			part, err := parts.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := io.ReadAll(part); !bytes.Equal(got, want) || part.Header.Get("Content-Type") != "a/b" {
				t.Errorf("part %v: %d bytes", part.Header, len(got))
			}
		}
		if n := w.origin.requests.Load(); n != 1 {
			t.Errorf("the origin was asked %d times", n)
		}
	})
}

// TestPartsAreStoredAndCompleted: each byte is asked for once.
func TestPartsAreStoredAndCompleted(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		body := someBytes(100_000)
		var mu sync.Mutex
		var asked []string
		w.file(body, "max-age=60")
		file := *w.origin.handler.Load()
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked = append(asked, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
			mu.Unlock()
			file(rw, r)
		})
		a := w.ranged(t, "origin", body, 1000, 1999, "Range", "bytes=1000-1999")
		if status := a.header.Get("Cache-Status"); status != "spillway; fwd=uri-miss; fwd-status=206; stored" {
			t.Error(status)
		}
		w.awaitStored(1)
		w.ranged(t, "hit; reason=fresh", body, 1500, 1502, "Range", "bytes=1500-1502")
		a = w.ranged(t, "origin", body, 1500, 2999, "Range", "bytes=1500-2999")
		if status := a.header.Get("Cache-Status"); status != "spillway; fwd=partial; fwd-status=206; stored" {
			t.Error(status)
		}
		w.awaitStored(2)
		w.ranged(t, "hit; reason=fresh", body, 1000, 2999, "Range", "bytes=1000-2999")
		w.ranged(t, "origin", body, 0, 1999, "Range", "bytes=0-1999")
		w.awaitStored(3)
		w.ask("GET", "/plain/a", "").check(t, 200, "origin", string(body))
		w.awaitStored(4)
		w.ask("GET", "/plain/a", "").check(t, 200, "hit; reason=fresh", string(body))
		mu.Lock()
		defer mu.Unlock()
		want := []string{"bytes=1000-1999 ", `bytes=2000-2999 "1"`, `bytes=0-999 "1"`, `bytes=3000- "1"`}
		if strings.Join(asked, "|") != strings.Join(want, "|") {
			t.Errorf("asked for %q, want %q", asked, want)
		}
	})
}

// TestNotModifiedHasNoPart: the visitor's own condition comes before its range (RFC 9110
// section 13.2.2), whether a part had to be fetched or not.
func TestNotModifiedHasNoPart(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.file(someBytes(1000), "max-age=60")
		for _, how := range []string{"origin", "hit; reason=fresh"} {
			a := w.ask("GET", "/plain/a", "", "Range", "bytes=0-9", "If-None-Match", `"1"`)
			a.check(t, 304, how, "")
			if a.header.Get("Content-Range") != "" || a.header.Get("ETag") != `"1"` {
				t.Errorf("%s: %v", how, a.header)
			}
			w.awaitStored(1)
		}
	})
}

// awaitStored returns when so many entries were stored in all: the last bytes of
// an answer may reach the visitor first.
func (w *world) awaitStored(n uint64) {
	for w.cache.State().Stored < n {
		time.Sleep(time.Millisecond)
	}
}

// TestRangesDuringAFill: while the whole comes, ranges of it are right, whoever
// answers them.
func TestRangesDuringAFill(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		body := someBytes(150_000)
		half, rest := make(chan struct{}), make(chan struct{})
		w.file(body, "max-age=60")
		file := *w.origin.handler.Load()
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				file(rw, r)
				return
			}
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("ETag", `"1"`)
			rw.Header().Set("Content-Length", strconv.Itoa(len(body)))
			rw.Write(body[:len(body)/2])
			http.NewResponseController(rw).Flush()
			close(half)
			<-rest
			rw.Write(body[len(body)/2:])
		})
		whole, err := w.visitor.Client.Get(w.visitor.URL + "/plain/a")
		if err != nil {
			t.Fatal(err)
		}
		defer whole.Body.Close()
		<-half
		begin := make([]byte, 1)
		if _, err := io.ReadFull(whole.Body, begin); err != nil { // so the node has some
			t.Fatal(err)
		}
		a := w.ranged(t, "collapsed", body, 0, 9999, "Range", "bytes=0-9999")
		if status := a.header.Get("Cache-Status"); !strings.Contains(status, "; collapsed") {
			t.Error(status)
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				first := i * 7000
				got := w.ask("GET", "/plain/a", "", "Range", fmt.Sprintf("bytes=%d-%d", first, first+6999))
				if got.err == nil && got.status == 206 && got.body != string(body[first:first+7000]) {
					t.Errorf("other bytes from %d on", first)
				}
			})
		}
		close(rest)
		if got, err := io.ReadAll(whole.Body); err != nil || !bytes.Equal(append(begin, got...), body) {
			t.Errorf("the whole: %d bytes, %v", len(got), err)
		}
		wg.Wait()
		await(t, "the end of the fetch", func() bool { return w.cache.State().Flights == 0 })
		w.ranged(t, "hit; reason=fresh", body, 149_999, 149_999, "Range", "bytes=-1")
	})
}

// TestStaleParts: what was stored of a part stands in for the same part, and never
// for the whole.
func TestStaleParts(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		body := someBytes(1000)
		w.file(body, "max-age=0")
		w.ask("GET", "/stale/a", "", "Range", "bytes=0-99").check(t, 206, "origin", string(body[:100]))
		w.awaitStored(1)
		defer w.occupy(t)()
		const stale = "stale; reason=origin-saturated"
		w.ask("GET", "/stale/a", "", "Range", "bytes=10-19").check(t, 206, stale, string(body[10:20]))
		for _, header := range [][]string{nil, {"Range", "bytes=50-100"}, {"Range", "bytes=10-19", "If-Range", `"2"`}} {
			w.ask("GET", "/stale/a", "", header...).check(t, 200, "function; reason=origin-saturated", "first /stale/a")
		}
	})
}
