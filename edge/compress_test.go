package edge_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"spillway/edge/cache"
)

var pageText = strings.Repeat("<p>Some text of a page, and some more.</p>\n", 200)

// pageFor is an answer of text for a minute.
func pageFor(h http.Header) {
	h.Set("Cache-Control", "max-age=60")
	h.Set("Content-Type", "text/html")
	h.Set("Etag", `"1"`)
}

// decoded returns what a body says, by a decoder of somebody else's.
func decoded(t *testing.T, name string, body io.Reader) io.Reader {
	t.Helper()
	switch name {
	case "gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			t.Error(err)
			return strings.NewReader("")
		}
		return z
	case "br":
		return brotli.NewReader(body)
	case "zstd":
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Error(err)
			return strings.NewReader("")
		}
		return z
	}
	return body
}

func (a answer) decoded(t *testing.T) string {
	t.Helper()
	b, err := io.ReadAll(decoded(t, a.header.Get("Content-Encoding"), strings.NewReader(a.body)))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestCompressCrowd: a crowd gets a page in the codings that it likes, from one request to
// the origin, and each is encoded once.
func TestCompressCrowd(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		var asked atomic.Int32
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			pageFor(rw.Header())
			for part := range strings.SplitAfterSeq(pageText, "\n") {
				io.WriteString(rw, part)
			}
		})
		codings := []string{"zstd", "br", "gzip", "identity"} // without the field, clients of Go ask for gzip and decode it
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				a := w.ask("GET", "/plain/a", "", "Accept-Encoding", codings[i%4])
				if a.err != nil || a.header.Get("Content-Encoding") != strings.TrimPrefix(codings[i%4], "identity") || a.decoded(t) != pageText || a.header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("%q: %v, %v", codings[i%4], a.err, a.header)
				}
			})
		}
		wg.Wait()
		for w.cache.State().Entries != 4 {
			if t.Context().Err() != nil {
				t.Fatalf("%+v", w.cache.State())
			}
		}
		if n, made := asked.Load(), w.cache.State().Recoded; n != 1 || made != (cache.RecodedState{Zstd: 1, Brotli: 1, Gzip: 1}) {
			t.Errorf("the origin was asked %d times; %+v", n, made)
		}
		for _, coding := range codings {
			a := w.ask("GET", "/plain/a", "", "Accept-Encoding", coding)
			if a.spillway != hit || a.decoded(t) != pageText || a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
				t.Errorf("%q: %s, %v", coding, a.spillway, a.header)
			}
			if h := w.ask("HEAD", "/plain/a", "", "Accept-Encoding", coding); h.header.Get("Etag") != a.header.Get("Etag") || h.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
				t.Errorf("HEAD %q: %v", coding, h.header)
			}
			again := w.ask("GET", "/plain/a", "", "Accept-Encoding", coding, "If-None-Match", a.header.Get("Etag"))
			if again.check(t, 304, hit, ""); again.header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("304 %q: %v", coding, again.header)
			}
			part := w.ask("GET", "/plain/a", "", "Accept-Encoding", coding, "Range", "bytes=10-19", "If-Range", a.header.Get("Etag"))
			part.check(t, 206, hit, a.body[10:20])
		}
	})
}

// TestCompressFirstHit: what is stored as it came is encoded for the first who likes that,
// and counts as a hit.
func TestCompressFirstHit(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
			pageFor(rw.Header())
			io.WriteString(rw, pageText)
		})
		w.ask("GET", "/plain/a", "", "Accept-Encoding", "identity").check(t, 200, full, pageText)
		for range 2 {
			a := w.ask("GET", "/plain/a", "", "Accept-Encoding", "br")
			if a.spillway != hit || a.header.Get("Content-Encoding") != "br" || a.decoded(t) != pageText || a.header.Get("Age") == "" ||
				!strings.HasPrefix(a.header.Get("Cache-Status"), "spillway; hit") {
				t.Errorf("%s, %v", a.spillway, a.header)
			}
		}
	})
}

// TestCompressStreams: what the origin has sent reaches the visitor at once, and what it
// cuts off is cut off.
func TestCompressStreams(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			pageFor(rw.Header())
			io.WriteString(rw, pageText)
			http.NewResponseController(rw).Flush()
			<-goOn
			if strings.HasSuffix(r.URL.Path, "/cut") {
				panic(http.ErrAbortHandler)
			}
			io.WriteString(rw, "the end")
		})
		for _, path := range []string{"/plain/whole", "/plain/cut"} {
			req, err := http.NewRequest(http.MethodGet, w.visitor.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "br")
			resp, err := w.visitor.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body := decoded(t, resp.Header.Get("Content-Encoding"), resp.Body)
			first := make([]byte, len(pageText))
			if _, err := io.ReadFull(body, first); err != nil || string(first) != pageText || resp.Header.Get("Content-Encoding") != "br" {
				t.Fatal(err, resp.Header)
			}
			goOn <- struct{}{}
			rest, err := io.ReadAll(body)
			resp.Body.Close()
			if cut := path == "/plain/cut"; cut != (err != nil) || !cut && string(rest) != "the end" {
				t.Errorf("%s: %q, %v", path, rest, err)
			}
		}
	})
}

// TestCompressNothingPersonal: what is not stored is sent as it came, and so is all of a
// route that says so.
func TestCompressNothingPersonal(t *testing.T) {
	f := func(policy cache.PolicyConfig, header ...string) {
		t.Helper()
		runCaching(t, policy, func(t *testing.T, w *world) {
			w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
				pageFor(rw.Header())
				for i := 0; i < len(header); i += 2 {
					rw.Header().Set(header[i], header[i+1])
				}
				io.WriteString(rw, pageText)
			})
			for range 2 {
				if a := w.ask("GET", "/plain/a", "", "Accept-Encoding", "br, gzip"); a.body != pageText || a.header.Get("Content-Encoding") != "" {
					t.Errorf("%v", a.header)
				}
			}
		})
	}
	f(cache.PolicyConfig{}, "Cache-Control", "private, max-age=60")
	f(cache.PolicyConfig{}, "Cache-Control", "no-store")
	f(cache.PolicyConfig{}, "Set-Cookie", "a=b")
	f(cache.PolicyConfig{}, "Content-Type", "image/png")
	f(cache.PolicyConfig{Compress: cache.CompressConfig{Off: true}})
}

// TestCompressEdit: who has read a page that was encoded here may change it, on the
// condition that nobody else has (RFC 9110 section 13.1.1).
func TestCompressEdit(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			pageFor(rw.Header())
			http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(pageText))
		})
		f := func(coding string) {
			t.Helper()
			tag := w.ask("GET", "/plain/a", "", "Accept-Encoding", coding).header.Get("Etag")
			if a := w.ask("PUT", "/plain/a", "new", "If-Match", tag); a.status != 200 {
				t.Errorf("%s: %d for %s", coding, a.status, tag)
			}
			if a := w.ask("PUT", "/plain/a", "new", "If-Match", `"2`+tag[2:]); a.status != 412 {
				t.Errorf("%s: %d for what another has changed", coding, a.status)
			}
		}
		f("identity")
		f("br")
		f("gzip")
	})
}

// TestCompressStale: an expired entry stands in for a failing origin in every coding.
func TestCompressStale(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
			pageFor(rw.Header())
			rw.Header().Set("Cache-Control", "max-age=0, stale-if-error=60")
			io.WriteString(rw, pageText)
		})
		w.ask("GET", "/plain/a", "", "Accept-Encoding", "identity").check(t, 200, full, pageText)
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) })
		for range 2 {
			if a := w.ask("GET", "/plain/a", "", "Accept-Encoding", "zstd"); a.status != 200 || a.header.Get("Content-Encoding") != "zstd" || a.decoded(t) != pageText {
				t.Errorf("%d, %s, %v", a.status, a.spillway, a.header)
			}
		}
	})
}

// TestDecompress: what the origin sends encoded, whatever is asked for, is decoded for
// those who cannot.
func TestDecompress(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
			pageFor(rw.Header())
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			io.WriteString(z, pageText)
			z.Close()
		})
		for i, accept := range []string{"gzip", "identity", "br", "identity"} {
			a := w.ask("GET", "/plain/a", "", "Accept-Encoding", accept)
			if plain := i > 0; a.status != 200 || (a.body == pageText) != plain || a.decoded(t) != pageText || a.header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: %v", accept, a.header)
			}
		}
		if made := w.cache.State().Recoded; made != (cache.RecodedState{Identity: 1}) {
			t.Errorf("%+v", made)
		}
	})
}

// TestCompressChoice: what is chosen by what visitors say they accept (RFC 9110 section
// 12.5.3), and that the answer says so.
func TestCompressChoice(t *testing.T) {
	runCaching(t, cache.PolicyConfig{Compress: cache.CompressConfig{Codings: []string{"br", "gzip"}}}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
			pageFor(rw.Header())
			io.WriteString(rw, pageText)
		})
		f := func(accept, want string, more ...string) {
			t.Helper()
			for _, method := range []string{"GET", "HEAD"} {
				a := w.ask(method, "/plain/a", "", append(more, "Accept-Encoding", accept)...)
				if a.status != 200 || a.header.Get("Content-Encoding") != want || a.header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("%s %q: %d, %v", method, accept, a.status, a.header)
				}
				if method == "GET" && a.decoded(t) != pageText {
					t.Errorf("%q: another body", accept)
				}
				tag, status := a.header.Get("Etag"), a.header.Get("Cache-Status")
				if coded := want != ""; strings.HasPrefix(tag, `"1~`+want+`~`) != coded || strings.HasSuffix(status, "; detail="+want) != coded {
					t.Errorf("%s %q: %s, %s", method, accept, tag, status)
				}
			}
		}
		f("gzip, deflate, br, zstd", "br")
		f("gzip;q=1, br;q=0.9", "gzip")
		f("zstd", "") // the route has none
		f("*", "br")
		f("*;q=0.1, br;q=0", "gzip")
		f("identity;q=0", "")
		f("identity, br;q=0.5", "")
		f("br;q=2", "")
		f("br", "", "Cache-Control", "no-transform")
	})
}

// TestCompressFunctions: what a function says is sent as what the origin says is.
func TestCompressFunctions(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		w.first.says(func(rw http.ResponseWriter, _ *http.Request) {
			pageFor(rw.Header())
			io.WriteString(rw, pageText)
		})
		for _, want := range []string{"function; reason=origin-saturated", hit} {
			a := w.ask("GET", "/spill/a", "", "Accept-Encoding", "zstd, br;q=0.1")
			if a.spillway != want || a.header.Get("Content-Encoding") != "zstd" || a.decoded(t) != pageText || a.header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: %v", a.spillway, a.header)
			}
		}
		if n := w.first.requests.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}
