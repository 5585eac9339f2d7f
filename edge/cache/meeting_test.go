package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Codings, slices, the disk, renewals and purges at once, in little memory: who asks after
// a purge gets nothing from before it, whole and in a coding that it can read, and in the
// end nobody holds anything.
func TestPartsOfTheCacheMeet(t *testing.T) {
	c := config()
	c.Memory, c.MaxObject = 2<<20, 128<<10
	s := onShelf(t, t.TempDir(), c)
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { s.Revalidate(ctx) })
	end := sync.OnceFunc(func() { cancel(); background.Wait() })
	defer end()
	p, err := NewPolicy(PolicyConfig{Slice: SliceLeast})
	if err != nil {
		t.Fatal(err)
	}
	const paths = 40
	var version, floor [paths]atomic.Int64
	size := func(i int) int { return 2<<10 + i*i*i*4 } // the largest are sliced
	origin := func(_ context.Context, r *http.Request) (*http.Response, error) {
		i, _ := strconv.Atoi(r.URL.Path[1:])
		v := version[i].Load()
		body := strings.Repeat(fmt.Sprintf("%07d\n", v), size(i)/8)
		tag := fmt.Sprintf(`Etag: "%d"`, v)
		lines := []string{"Cache-Control: max-age=1, stale-while-revalidate=60", tag, "Accept-Ranges: bytes", "Content-Type: text/plain", "Cache-Tag: t"}
		if i%3 == 0 {
			lines = append(lines, "Vary: Accept-Encoding")
		}
		if matchesETag(r.Header["If-None-Match"], tag[6:]) {
			return response(304, "", lines...), nil
		}
		if ranges, ok := parseRanges(r.Header["Range"]); ok && len(resolve(ranges, int64(len(body)))) == 1 {
			sp := resolve(ranges, int64(len(body)))[0]
			lines = append(lines, "Content-Range: "+contentRange(sp, int64(len(body))))
			return response(206, body[sp.first:sp.end], lines...), nil
		}
		return response(200, body, lines...), nil
	}
	visit := func(rng *rand.Rand) {
		i := rng.IntN(paths)
		r := get(fmt.Sprint("/", i))
		if ae := [...]string{"", "gzip", "br, gzip", "zstd, br"}[rng.IntN(4)]; ae != "" {
			r.Header.Set("Accept-Encoding", ae)
		}
		switch rng.IntN(12) {
		case 0:
			r.Method = "HEAD"
		case 1:
			r.Header.Set("Range", "bytes=8-15")
		case 2:
			r.Header.Set("Cache-Control", "no-cache")
		case 3:
			r.Header.Set("If-None-Match", fmt.Sprintf(`"%d"`, version[i].Load()-1))
		}
		from := floor[i].Load()
		found := Result{Policy: p}
		s.Find(r, time.Now(), &found)
		if found.State == StaleWhileRevalidate {
			s.Renew(r, &found, func() Func { return origin })
		}
		found.Release()
		status, h, body, err := visitCoded(t, s.Cache, p, r, origin)
		if err != nil {
			return // overtaken while it was put together
		}
		if r.Method == "HEAD" || status != 200 && status != 206 {
			return
		}
		if n, told := h["Content-Length"]; told && n[0] != strconv.Itoa(len(body)) {
			t.Errorf("%s %v: %d bytes, and %s were told", r.URL, r.Header, len(body), n[0])
		}
		said := string(body)
		if status == 200 {
			said = decoded(t, h, body)
			if len(said) != size(i)/8*8 || said != strings.Repeat(said[:8], len(said)/8) {
				t.Errorf("%s %v: %d bytes, %.20q", r.URL, r.Header, len(said), said)
				return
			}
		} else if h.Get("Content-Encoding") != "" {
			return
		}
		if got, _ := strconv.ParseInt(strings.TrimSpace(said[:8]), 10, 64); got < from {
			t.Errorf("%s %v: version %d after a purge of %d: %v", r.URL, r.Header, got, from, h)
		}
	}
	change := func(rng *rand.Rand) {
		i := rng.IntN(paths)
		to := version[i].Add(1)
		switch rng.IntN(6) {
		case 0:
			s.Invalidate(request("POST", fmt.Sprint("/", i)), 200, header())
		case 1:
			s.PurgeBy(SelectTag("t"), false)
		case 2:
			s.PurgeBy(SelectAll(), true)
			return
		case 3:
			s.PurgeBy(s.SelectURL(get(fmt.Sprint("/", i)), p), true)
			return
		default:
			s.PurgeBy(s.SelectURL(get(fmt.Sprint("/", i)), p), false)
		}
		for was := floor[i].Load(); was < to && !floor[i].CompareAndSwap(was, to); was = floor[i].Load() {
		}
	}
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 1))
			for range 400 {
				if rng.IntN(25) == 0 {
					change(rng)
				}
				visit(rng)
			}
		})
	}
	wg.Wait()
	end()
	for s.recodings.runningNow() > 0 {
		time.Sleep(time.Millisecond)
	}
	s.stop()
	settled(t, s.Cache)
	audit(t, s.store)
	st := s.State()
	t.Logf("%d recoded, %d slices, %d recalled, %d renewed, %d evicted",
		st.Recoded.Gzip+st.Recoded.Brotli+st.Recoded.Zstd, st.Slices.Stored, st.Disk.Recalled, st.Renewed, st.Evicted)
}
