package cache

import (
	"io"
	"testing"
	"time"

	"spillway/edge/coding"
)

// A hit that needs no work allocates nothing, neither for what it accepts nor for the
// second look.
func TestRecodedHitAllocatesNothing(t *testing.T) {
	c, p := New(config()), compressing(t)
	for _, accept := range everyCoding {
		if _, _, _, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: "+accept), answers(200, pageText, "Cache-Control: max-age=60", "Content-Type: text/html")); err != nil {
			t.Fatal(err)
		}
		for c.recodings.runningNow() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	now := time.Now()
	for accept, want := range map[string]coding.Coding{
		"gzip, deflate, br, zstd": coding.Zstd, "gzip;q=0.5, br": coding.Brotli, "identity": coding.Identity,
	} {
		r := get("/a", "Accept-Encoding: "+accept)
		if n := testing.AllocsPerRun(100, func() {
			found := Result{Policy: p}
			c.Find(r, now, &found)
			if found.Answer(r).coding != want || c.Recode(r.Context(), r, &found) != nil {
				t.Fatal("encoded again")
			}
			found.Release()
		}); n > 0 {
			t.Errorf("%s: %v allocations", accept, n)
		}
	}
}

// BenchmarkRecodedHit is a hit of text: as it came, and in the coding that was made of it.
func BenchmarkRecodedHit(b *testing.B) {
	for _, accept := range []string{"", "identity", "gzip", "gzip, deflate, br, zstd"} {
		b.Run(accept, func(b *testing.B) {
			c, p := New(config()), compressing(b)
			r := get("/a")
			if accept != "" {
				r.Header.Set("Accept-Encoding", accept)
			}
			if _, _, _, err := visitCoded(b, c, p, r, answers(200, pageText, fresh, "Content-Type: text/html")); err != nil {
				b.Fatal(err)
			}
			for c.recodings.runningNow() > 0 {
				time.Sleep(time.Millisecond)
			}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				found := Result{Policy: p}
				c.Find(r, now, &found)
				found.Release()
			}
		})
	}
}

// BenchmarkEncodeOnce is a first hit: the body is encoded, sent and stored.
func BenchmarkEncodeOnce(b *testing.B) {
	body := lines(64 << 10)
	for _, to := range coding.All {
		b.Run(to.String(), func(b *testing.B) {
			c, p := New(config()), compressing(b)
			said := []string{fresh, "Content-Type: text/html"}
			plain, r := get("/a", "Accept-Encoding: identity"), get("/a", "Accept-Encoding: "+to.String())
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				b.StopTimer()
				c.Purge()
				if _, _, _, err := visitCoded(b, c, p, plain, answers(200, body, said...)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				found := Result{Policy: p}
				c.Find(r, time.Now(), &found)
				resp := c.Recode(b.Context(), r, &found)
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				found.Release()
			}
		})
	}
}
