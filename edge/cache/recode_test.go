package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"pgregory.net/rapid"

	"spillway/edge/coding"
)

var pageText = strings.Repeat("<p>Some text of a page, and some more.</p>\n", 200)

// TestRecodeOnce: a crowd that likes three codings asks the origin once, and each body is
// encoded once; what comes later is a hit with a length.
func TestRecodeOnce(t *testing.T) {
	c, p := poisoned(config()), compressing(t)
	var asked atomic.Int32
	release := make(chan struct{})
	fetch := func(context.Context, *http.Request) (*http.Response, error) {
		asked.Add(1)
		<-release
		return response(200, pageText, "Cache-Control: max-age=60", "Content-Type: text/html", `Etag: "v1"`), nil
	}
	accepts := []string{"gzip, deflate, br, zstd", "gzip, br", "gzip", ""}
	want := []string{"zstd", "br", "gzip", ""}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			_, h, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: "+accepts[i%4]), fetch)
			if err != nil || h.Get("Content-Encoding") != want[i%4] || decoded(t, h, body) != pageText || h.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%q: %v, %v", accepts[i%4], err, h)
			}
		})
	}
	for c.State().Flights == 0 || asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	c.awaitEntries(4)
	if s := c.State(); asked.Load() != 1 || s.Recoded != (RecodedState{1, 1, 1, 0}) {
		t.Errorf("the origin was asked %d times; %+v", asked.Load(), s.Recoded)
	}
	for i, accept := range accepts {
		status, h, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: "+accept), noFetch(t))
		if err != nil || status != 200 || h.Get("Content-Encoding") != want[i] || decoded(t, h, body) != pageText ||
			h.Get("Content-Length") != fmt.Sprint(len(body)) || h.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %d, %v, %v", accept, status, err, h)
		}
	}
	if s := c.State(); s.Recoded != (RecodedState{1, 1, 1, 0}) || s.Hits < 4 {
		t.Errorf("hits were encoded: %+v", s)
	}
}

// TestRecodeLeavesAlone: what is sent as it came.
func TestRecodeLeavesAlone(t *testing.T) {
	f := func(what, accept string, header ...string) {
		t.Helper()
		c, p := poisoned(config()), compressing(t)
		body := pageText
		if what == "small" {
			body = "small"
		}
		fetch := answers(200, body, append([]string{"Cache-Control: max-age=60"}, header...)...)
		for range 2 {
			_, h, got, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: "+accept, "Cookie: a=b"), fetch)
			if err != nil || string(got) != body || c.State().Recoded != (RecodedState{}) {
				t.Errorf("%s: %v, %v", what, err, h)
			}
		}
	}
	f("an image", "br", "Content-Type: image/png")
	f("no type", "br")
	f("events", "br", "Content-Type: text/event-stream")
	f("no-transform", "br", "Content-Type: text/css", "Cache-Control: no-transform")
	f("an unknown coding", "br", "Content-Type: text/css", "Content-Encoding: x-own")
	f("two codings", "br", "Content-Type: text/css", "Content-Encoding: gzip", "Content-Encoding: gzip")
	f("a visitor's own", "br", "Content-Type: text/css", "Vary: Cookie")
	f("private", "br", "Content-Type: text/css", "Cache-Control: private")
	f("small", "br", "Content-Type: text/css")
	f("identity preferred", "br;q=0.5, identity", "Content-Type: text/css")
	f("none known", "deflate", "Content-Type: text/css")
	f("broken field", "br;q=x", "Content-Type: text/css")
	f("already so", "br", "Content-Type: text/css", "Content-Encoding: br")

	off, err := NewPolicy(PolicyConfig{Compress: CompressConfig{Off: true}})
	if err != nil {
		t.Fatal(err)
	}
	c := poisoned(config())
	if _, h, got, err := visitCoded(t, c, off, get("/a", "Accept-Encoding: br"), answers(200, pageText, "Cache-Control: max-age=60", "Content-Type: text/css")); err != nil || string(got) != pageText || h["Vary"] != nil {
		t.Errorf("switched off: %v, %v", err, h)
	}
	if _, h, got, err := visitCoded(t, c, compressing(t), get("/a", "Accept-Encoding: br", "Cache-Control: no-transform"), noFetch(t)); err != nil || string(got) != pageText {
		t.Errorf("the request says no-transform: %v, %v", err, h)
	}
}

// TestRecodeUnknownLength: a body without a length is encoded as it comes, unless it turns
// out to be small.
func TestRecodeUnknownLength(t *testing.T) {
	for _, body := range []string{"small", pageText} {
		c, p := poisoned(config()), compressing(t)
		fetch := func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(200, body, "Cache-Control: max-age=60", "Content-Type: text/css")
			resp.ContentLength = -1
			return resp, nil
		}
		_, h, got, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: gzip"), fetch)
		if err != nil || decoded(t, h, got) != body || (h.Get("Content-Encoding") != "") != (body == pageText) {
			t.Errorf("%d bytes: %v, %v", len(body), err, h)
		}
	}
}

// TestRecodeStreams: what the origin has sent reaches a visitor, encoded, while the rest
// is still to come; and what is cut short ends with an error for all, and is not stored.
func TestRecodeStreams(t *testing.T) {
	for _, cut := range []bool{false, true} {
		c, p := poisoned(config()), compressing(t)
		in, out := io.Pipe()
		fetch := func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(200, "", "Cache-Control: max-age=60", "Content-Type: text/html")
			resp.Body, resp.ContentLength = in, -1
			return resp, nil
		}
		go io.WriteString(out, pageText)
		found := Result{Policy: p}
		r := get("/a", "Accept-Encoding: gzip")
		c.Find(r, time.Now(), &found)
		defer found.Release()
		resp, err := c.Fetch(t.Context(), r, found, fetch)
		if err != nil {
			t.Fatal(err)
		}
		joined, err := c.Fetch(t.Context(), r, found, noFetch(t))
		if err != nil || joined.Header.Get("Etag") != resp.Header.Get("Etag") || joined.Header.Get("Content-Encoding") != "gzip" {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, len(pageText))
		if _, err := io.ReadFull(z, first); err != nil || string(first) != pageText {
			t.Fatal(err)
		}
		if cut {
			out.CloseWithError(errors.New("gone"))
		} else {
			go func() { io.WriteString(out, "the end"); out.Close() }()
		}
		rest, err := io.ReadAll(z)
		whole, joinedErr := io.ReadAll(joined.Body)
		resp.Body.Close()
		joined.Body.Close()
		if cut {
			if err == nil || joinedErr == nil {
				t.Error("a cut body is whole")
			}
			allRecoded(t, c)
			if s := c.State(); s.Entries != 0 || s.FillBytes != 0 || s.Recoded.Gzip != 0 {
				t.Errorf("left: %+v", s)
			}
		} else if err != nil || string(rest) != "the end" || joinedErr != nil || decoded(t, resp.Header, whole) != pageText+"the end" {
			t.Error(err, joinedErr, string(rest))
		}
	}
}

// TestRecodeFollowsEntry: what is made of an entry goes with it, and is refreshed with it
// without being made again.
func TestRecodeFollowsEntry(t *testing.T) {
	c, p := poisoned(config()), compressing(t)
	says := func(body, tag string, more ...string) Func {
		return answers(200, body, append(more, "Cache-Control: max-age=60", "Content-Type: text/html", "Etag: "+tag, "Surrogate-Key: shop", "Last-Modified: Sun, 01 Nov 2026 12:00:00 GMT")...)
	}
	ask := func(fetch Func, lines ...string) (int, http.Header, string) {
		t.Helper()
		status, h, body, err := visitCoded(t, c, p, get("/a", append(lines, "Accept-Encoding: br")...), fetch)
		if err != nil {
			t.Fatal(err)
		}
		if status != 200 {
			return status, h, string(body)
		}
		return status, h, decoded(t, h, body)
	}
	recoded := func(n uint64) {
		t.Helper()
		allRecoded(t, c)
		if got := c.State().Recoded.Brotli; got != n {
			t.Errorf("encoded %d times, want %d", got, n)
		}
	}
	_, first, _ := ask(says(pageText, `"1"`, "X: old", "Content-Md5: x", "Accept-Ranges: bytes"))
	recoded(1)
	if tag := first.Get("Etag"); !strings.HasPrefix(tag, `"1~br~`) || first.Get("Content-Md5") != "" {
		t.Errorf("%v", first)
	}

	// A soft purge and a 304: another header, the same body.
	c.PurgeBy(SelectTag("shop"), true)
	_, h, body := ask(answers(304, "", `Etag: "1"`, "X: new", "Cache-Control: max-age=60"))
	if body != pageText || h.Get("X") != "new" || h.Get("Etag") != first.Get("Etag") || h.Get("Content-Encoding") != "br" {
		t.Errorf("after a 304: %v", h)
	}
	_, h, _ = ask(noFetch(t))
	if h.Get("X") != "new" || h.Get("Etag") != first.Get("Etag") {
		t.Errorf("a hit after a 304: %v", h)
	}
	recoded(1)

	// Conditions and ranges.
	if status, h, _ := ask(noFetch(t), "If-None-Match: "+first.Get("Etag")); status != 304 || h.Get("Etag") != first.Get("Etag") {
		t.Errorf("its own tag: %d", status)
	}
	other := strings.Replace(first.Get("Etag"), "~br~", "~gzip~", 1)
	if status, _, _ := ask(noFetch(t), "If-None-Match: "+other); status != 200 {
		t.Errorf("the tag of another coding: %d", status)
	}
	if status, h, _ := ask(noFetch(t), `If-None-Match: "1"`); status != 304 || h.Get("Etag") != `"1"` {
		t.Errorf("the tag of the original: %d, %v", status, h)
	}
	anotherNode := recodedTag(`"1"`, coding.Brotli, "0123456789")
	if status, h, _ := ask(noFetch(t), `If-None-Match: "x", W/`+anotherNode); status != 304 {
		t.Errorf("another node's tag: %d", status)
	} else if tag, other := NotModifiedTag(get("/a", "If-None-Match: "+anotherNode), h); !other || tag != anotherNode {
		t.Errorf("the 304 names %s", tag)
	}
	_, full, whole, _ := visitCoded(t, c, p, get("/a", "Accept-Encoding: br"), noFetch(t))
	status, h, part := ask(noFetch(t), "Range: bytes=3-9")
	if status != 206 || part != string(whole[3:10]) || h.Get("Content-Range") != fmt.Sprintf("bytes 3-9/%d", len(whole)) || h.Get("Content-Encoding") != "br" {
		t.Errorf("a range: %d, %v", status, h)
	}
	if status, _, _ = ask(noFetch(t), "Range: bytes=3-9", "If-Range: "+full.Get("Etag")); status != 206 {
		t.Errorf("its own If-Range: %d", status)
	}
	for _, differs := range []string{anotherNode, full.Get("Last-Modified")} {
		if status, _, body = ask(noFetch(t), "Range: bytes=3-9", "If-Range: "+differs); status != 200 || body != pageText {
			t.Errorf("If-Range: %s: %d", differs, status)
		}
	}
	if status, h, part = ask(noFetch(t), "Range: bytes=3-9", `If-Range: "1"`); status != 206 || part != pageText[3:10] || h.Get("Content-Encoding") != "" {
		t.Errorf("the If-Range of the original: %d, %v", status, h)
	}

	// A new body is another one.
	c.PurgeBy(SelectTag("shop"), true)
	if _, h, body = ask(says("new "+pageText, `"2"`)); body != "new "+pageText {
		t.Errorf("the old body: %v", h)
	}
	recoded(2)

	// By tag, by URL, and by an unsafe request: nothing is left.
	c.PurgeBy(SelectTag("shop"), false)
	if n := c.State().Entries; n != 0 {
		t.Errorf("%d entries are left by the tag", n)
	}
	ask(says(pageText, `"3"`))
	recoded(3)
	if looks, _, _ := c.List(c.SelectURL(get("/a"), nil), "", 10, time.Now()); len(looks) != 2 || looks[0].Coding+looks[1].Coding != "br" {
		t.Errorf("%+v", looks)
	}
	c.Invalidate(request("POST", "/a"), 200, nil)
	if n := c.State().Entries; n != 0 {
		t.Errorf("%d entries are left by the URL", n)
	}
}

// TestRecodePurgedMeanwhile: what is being encoded when a purge comes is not stored.
func TestRecodePurgedMeanwhile(t *testing.T) {
	for _, purge := range []func(*Cache){
		(*Cache).Purge,
		func(c *Cache) { c.PurgeBy(c.SelectURL(get("/a"), nil), false) },
		func(c *Cache) { c.PurgeBy(SelectTag("shop"), false) },
	} {
		c, p := poisoned(config()), compressing(t)
		in, out := io.Pipe()
		fetch := func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(200, "", "Cache-Control: max-age=60", "Content-Type: text/html", "Surrogate-Key: shop")
			resp.Body, resp.ContentLength = in, -1
			return resp, nil
		}
		go func() {
			io.WriteString(out, pageText)
			purge(c)
			out.Close()
		}()
		_, h, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: zstd"), fetch)
		if err != nil || decoded(t, h, body) != pageText {
			t.Fatal(err)
		}
		allRecoded(t, c)
		if n := c.State().Entries; n != 0 {
			t.Errorf("%d entries", n)
		}
	}
}

// TestRecodeBound: when too many bodies are being encoded, bytes go out as they are.
func TestRecodeBound(t *testing.T) {
	c, p := poisoned(config()), compressing(t)
	fetch := answers(200, pageText, "Cache-Control: max-age=60", "Content-Type: text/html")
	most := c.recodings.most
	c.recodings.most = 0
	for range 2 {
		_, h, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: br"), fetch)
		if err != nil || string(body) != pageText || h.Get("Content-Encoding") != "" || h.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%v, %v", err, h)
		}
	}
	if c.State().Unrecoded != 2 {
		t.Errorf("%+v", c.State())
	}
	c.recodings.most = most
	if _, h, _, _ := visitCoded(t, c, p, get("/a", "Accept-Encoding: br"), noFetch(t)); h.Get("Content-Encoding") != "br" {
		t.Errorf("%v", h)
	}
}

// TestRecodeAlone: who is encoded for may leave, and what nobody may store ends then.
func TestRecodeAlone(t *testing.T) {
	c, p := poisoned(config()), compressing(t)
	in, out := io.Pipe()
	fetch := func(context.Context, *http.Request) (*http.Response, error) {
		resp := response(200, "", "Cache-Control: max-age=60", "Content-Type: text/html")
		resp.Body, resp.ContentLength = in, -1
		return resp, nil
	}
	go io.WriteString(out, pageText)
	ctx, leave := context.WithCancel(t.Context())
	found := Result{Policy: p}
	r := get("/a", "Accept-Encoding: br")
	c.Find(r, time.Now(), &found)
	defer found.Release()
	resp, err := c.Fetch(ctx, r, found, fetch)
	if err != nil {
		t.Fatal(err)
	}
	leave()
	resp.Body.Close()
	out.Close() // the rest of it
	c.awaitEntries(2)
	if _, h, body, err := visitCoded(t, c, p, r, noFetch(t)); err != nil || decoded(t, h, body) != pageText || c.State().Recoded.Brotli != 1 {
		t.Error(err, h)
	}
}

// TestRecodeRoundTrip: whatever a body is, and however it arrives, each visitor decodes
// what the origin said.
func TestRecodeRoundTrip(t *testing.T) {
	p := compressing(t)
	rapid.Check(t, func(r *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.ByteRange('a', 'f'), 1, 40_000), 1, 8).Draw(r, "parts")
		told := rapid.Bool().Draw(r, "told")
		sent := rapid.SampledFrom(forms).Draw(r, "sent")
		whole := bytes.Join(parts, nil)
		var in io.Reader = inParts(parts)
		length := int64(len(whole))
		header := []string{"Cache-Control: max-age=60", "Content-Type: text/plain"}
		if sent != coding.Identity {
			b, _ := io.ReadAll(coding.Encode(sent, coding.NewWhole(whole), nil))
			in, length, header = bytes.NewReader(b), int64(len(b)), append(header, "Content-Encoding: "+sent.String())
		}
		c := poisoned(Config{Memory: 1 << 20, MaxObject: 64 << 10, CollapseWaiters: 10, CollapseWait: time.Second})
		fetch := func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(200, "", header...)
			if resp.Body, resp.ContentLength = io.NopCloser(in), length; !told {
				resp.ContentLength = -1
			}
			return resp, nil
		}
		accept := rapid.SampledFrom([]string{"gzip", "br", "zstd", "identity"}).Draw(r, "accept")
		_, h, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: "+accept), fetch)
		if err != nil || decoded(t, h, body) != string(whole) {
			r.Fatalf("%v, %v", err, h)
		}
	})
}

// inParts reads each part for itself.
func inParts(parts [][]byte) io.Reader {
	readers := make([]io.Reader, len(parts))
	for i, p := range parts {
		readers[i] = bytes.NewReader(p)
	}
	return io.MultiReader(readers...)
}

func (rs *recodings) runningNow() int {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return len(rs.running)
}
