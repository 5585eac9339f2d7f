package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

// A library is an origin whose only object changes. It has ranges and conditions as
// net/http has them, and each version says which one it is.
type library struct {
	mu       sync.Mutex
	rng      *rand.Rand
	versions [][]byte
	kind     string // of the validator
	cuts     bool   // some answers end early
	slow     bool
	asked    int
}

func (s *library) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

// change puts another object in place.
func (s *library) change(size int) {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(s.intn(256))
	}
	s.mu.Lock()
	s.versions = append(s.versions, body)
	s.mu.Unlock()
}

func (s *library) body(version string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, _ := strconv.Atoi(version)
	return s.versions[n]
}

func (s *library) fetch(ctx context.Context, r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	version := len(s.versions) - 1
	body := s.versions[version]
	s.asked++
	s.mu.Unlock()
	if s.slow {
		time.Sleep(time.Duration(s.intn(2000)) * time.Millisecond)
	}
	rec := httptest.NewRecorder()
	h := rec.Header()
	h.Set("Cache-Control", "max-age=60")
	h.Set("Content-Type", "a/b")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Version", strconv.Itoa(version))
	modified := time.Time{}
	switch s.kind {
	case "strong":
		h.Set("Etag", fmt.Sprintf(`"%d"`, version))
	case "weak":
		h.Set("Etag", fmt.Sprintf(`W/"%d"`, version))
	case "date":
		modified = time.Date(2000, 1, 1, 0, version, 0, 0, time.UTC)
	}
	http.ServeContent(rec, r, "", modified, bytes.NewReader(body))
	resp := rec.Result()
	if s.cuts && s.intn(3) == 0 && resp.ContentLength > 0 {
		all, _ := io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(bytes.NewReader(all[:s.intn(len(all))]))
	}
	if s.slow {
		resp.Body = &drops{ctx, resp.Body, s}
	}
	return resp, nil
}

// drops is a body that comes in small parts.
type drops struct {
	ctx context.Context
	io.ReadCloser
	s *library
}

func (d *drops) Read(p []byte) (int, error) {
	time.Sleep(time.Duration(d.s.intn(300)) * time.Millisecond)
	if d.ctx.Err() != nil {
		return 0, context.Cause(d.ctx)
	}
	return d.ReadCloser.Read(p[:min(len(p), 1+d.s.intn(3000))])
}

// verify checks an answer against the version that it says it is of, byte for
// byte.
func (s *library) verify(t interface{ Errorf(string, ...any) }, r *http.Request, status int, h http.Header, got []byte) {
	version := h.Get("Version")
	whole := s.body(version)
	wrong := func() {
		t.Errorf("%s %v: %d %v with %d bytes, not those of version %s", r.Method, r.Header, status, h, len(got), version)
	}
	switch kind, params, _ := mime.ParseMediaType(h.Get("Content-Type")); {
	case status == 304, status == 416:
	case status == 206 && len(got) == 0: // net/http's answer to bytes=-0, and for an empty file: it is not stored
	case status == 200:
		if !bytes.Equal(got, whole) {
			wrong()
		}
	case status == 206 && kind == "multipart/byteranges":
		reader := multipart.NewReader(bytes.NewReader(got), params["boundary"])
		for {
			part, err := reader.NextRawPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Errorf("%v: %v", r.Header, err)
				return
			}
			content, _ := io.ReadAll(part)
			if at, size, ok := parseContentRange(part.Header["Content-Range"]); !ok || size != int64(len(whole)) ||
				!bytes.Equal(content, whole[at.first:at.end]) {
				wrong()
			}
		}
	case status == 206:
		at, size, ok := parseContentRange(h["Content-Range"])
		if !ok || size != int64(len(whole)) || !bytes.Equal(got, whole[at.first:at.end]) {
			wrong()
		}
	default:
		wrong()
	}
}

// ask makes one request through the cache, as the edge would, and checks what
// comes. A body that is cut off must not look complete.
func (s *library) ask(t interface{ Errorf(string, ...any) }, c *Cache, r *http.Request) {
	found := c.Lookup(r, time.Now())
	defer found.Release()
	if found.State == Fresh {
		e := found.Entry
		if e.NotModified(r) {
			return
		}
		h := maps.Clone(e.Header())
		body, status := e.Body(), e.Status()
		if x, ok := e.Excerpt(r); ok {
			status, body = x.Apply(h), bytes.Join(x.Pieces(), nil)
		}
		if h.Get("Content-Length") != strconv.Itoa(len(body)) {
			t.Errorf("%v: %d bytes, %v", r.Header, len(body), h)
		}
		s.verify(t, r, status, h, body)
		return
	}
	resp, err := c.Fetch(r.Context(), r, found, s.fetch)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.Entry != nil && resp.Entry.NotModified(r) {
		return
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.ContentLength >= 0 && int64(len(body)) < resp.ContentLength && !resp.Stored && !resp.Joined {
		return // cut off, and its length tells
	}
	s.verify(t, r, resp.Status, resp.Header, body)
}

// rangeForms make a Range of two positions.
var rangeForms = []func(a, b int) string{
	func(int, int) string { return "" },
	func(a, b int) string { return fmt.Sprintf("bytes=%d-%d", a, b) },
	func(a, b int) string { return fmt.Sprintf("bytes=%d-%d", a, a+b/8) },
	func(a, _ int) string { return fmt.Sprintf("bytes=%d-", a) },
	func(a, _ int) string { return fmt.Sprintf("bytes=-%d", a) },
	func(a, b int) string { return fmt.Sprintf("bytes=%d-%d, %d-", a/2, a, b) },
	func(int, int) string { return "bytes=0-0,-1" },
	func(int, int) string { return "bytes=0-" },
}

func rangeRequest(form func(a, b int) string, a, b int, lines ...string) *http.Request {
	if asked := form(min(a, b), max(a, b)); asked != "" {
		lines = append(lines, "Range: "+asked)
	}
	return get("/", lines...)
}

// inBubble hides the deadline, which is none of virtual time, from rapid.
type inBubble struct{ *testing.T }

// Whatever is asked for in whatever order, all bytes are those of the object.
func TestRangesAreTheObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(inBubble{t}, func(rt *rapid.T) {
			s := &library{
				rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)), cuts: rapid.Bool().Draw(rt, "cuts"),
				kind: rapid.SampledFrom([]string{"strong", "strong", "weak", "date", "none"}).Draw(rt, "validator"),
			}
			cfg := Config{Memory: 64 << 10, MaxObject: 4 << 10, CollapseWaiters: 20, CollapseWait: time.Second}
			c := poisoned(cfg)
			size := rapid.IntRange(0, 5<<10).Draw(rt, "size")
			s.change(size)
			for range rapid.IntRange(1, 20).Draw(rt, "requests") {
				switch rapid.IntRange(0, 9).Draw(rt, "before") {
				case 0:
					s.change(rapid.SampledFrom([]int{size, size, 0, 100, 3000}).Draw(rt, "new size"))
				case 1:
					time.Sleep(61 * time.Second)
				}
				var lines []string
				switch rapid.IntRange(0, 9).Draw(rt, "condition") {
				case 0:
					lines = append(lines, fmt.Sprintf(`If-Range: "%d"`, len(s.versions)-1))
				case 1:
					lines = append(lines, `If-Range: "0"`)
				case 2:
					lines = append(lines, `If-None-Match: "0"`)
				case 3:
					lines = append(lines, "Cache-Control: no-cache")
				}
				r := rangeRequest(rangeForms[rapid.IntRange(0, len(rangeForms)-1).Draw(rt, "form")],
					rapid.IntRange(0, size+10).Draw(rt, "a"), rapid.IntRange(0, size+10).Draw(rt, "b"), lines...)
				s.ask(rt, c, r)
				synctest.Wait()
				if state := c.State(); state.Bytes > cfg.Memory || state.FillBytes != 0 || state.Pinned != 0 {
					rt.Errorf("%+v", state)
				}
			}
			audit(rt, c.store)
		})
	})
}

// The same with many at once, while fills are under way and the object changes.
func TestConcurrentRanges(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			s := &library{
				rng: rand.New(rand.NewPCG(seed, 1)), kind: []string{"strong", "weak", "date", "none"}[seed%4],
				slow: true, cuts: seed%3 == 0,
			}
			cfg := Config{Memory: 128 << 10, MaxObject: 16 << 10, CollapseWaiters: 20, CollapseWait: 3 * time.Second}
			c := poisoned(cfg)
			const size = 12 << 10
			s.change(size)
			var wg sync.WaitGroup
			for range 300 {
				r := rangeRequest(rangeForms[s.intn(len(rangeForms))], s.intn(size+100), s.intn(size+100))
				at := time.Duration(s.intn(100_000)) * time.Millisecond
				leave := s.intn(5) == 0
				wg.Go(func() {
					time.Sleep(at)
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					if leave {
						time.AfterFunc(time.Second, cancel)
					}
					s.ask(t, c, r.WithContext(ctx))
				})
			}
			wg.Go(func() {
				for range 3 {
					time.Sleep(25 * time.Second)
					s.change(size)
					if seed%2 == 0 {
						c.Invalidate(request("POST", "/"), 200, nil)
					}
				}
			})
			wg.Wait()
			time.Sleep(time.Minute)
			synctest.Wait()
			if state := c.State(); state.FillBytes != 0 || state.Pinned != 0 || state.Flights != 0 || state.Bytes > cfg.Memory {
				t.Errorf("seed %d: %+v", seed, state)
			}
			audit(t, c.store)
		})
	}
}
