package coding

import (
	"bytes"
	"errors"
	"go/build"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A scripted source gives parts, and then an end. Where it stalls it has nothing for who
// has no patience.
type scripted struct {
	parts []string
	stall func() bool
	end   error
}

func (s *scripted) Next(patience time.Duration) ([]byte, error) {
	if patience >= 0 && s.stall != nil && s.stall() {
		return nil, nil
	}
	if len(s.parts) == 0 {
		return nil, s.end
	}
	b := s.parts[0]
	s.parts = s.parts[1:]
	return []byte(b), nil
}

func (s *scripted) Close() error { return nil }

// TestRoundTrip: what is encoded and decoded is what it was, however it comes.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(All).Draw(t, "coding")
		parts := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("ab\n<é")), 1, 3000, -1), 0, 20).Draw(t, "parts")
		stalls := rapid.SliceOfN(rapid.Bool(), 1, 5).Draw(t, "stalls")
		at := 0
		stall := func() bool { at++; return stalls[at%len(stalls)] && at%7 > 0 }
		encoded, err := io.ReadAll(Encode(c, &scripted{parts: parts, stall: stall, end: io.EOF}, NewCores(1)))
		if err != nil {
			t.Fatal(err)
		}
		decoded := Decode(c, &scripted{parts: strings.Split(string(encoded), ""), end: io.EOF}, 1<<30)
		defer decoded.Close()
		got, err := io.ReadAll(decoded)
		if want := strings.Join(parts, ""); err != nil || string(got) != want {
			t.Fatalf("%d bytes instead of %d, %v", len(got), len(want), err)
		}
	})
}

// TestEncodePromptly: what the source has given comes out before it gives more.
func TestEncodePromptly(t *testing.T) {
	for _, c := range All {
		source := &scripted{parts: []string{"first", "second"}, stall: func() bool { return true }, end: io.EOF}
		d := Decode(c, readerSource{Encode(c, source, nil)}, 1<<20)
		b := make([]byte, 5)
		if _, err := io.ReadFull(d, b); err != nil || string(b) != "first" || len(source.parts) != 1 {
			t.Fatalf("%s: %q, %v, %q to come", c, b, err, source.parts)
		}
		if rest, err := io.ReadAll(d); err != nil || string(rest) != "second" {
			t.Errorf("%s: %q, %v", c, rest, err)
		}
	}
}

// A readerSource is what a reader says, as a source.
type readerSource struct{ r io.Reader }

func (s readerSource) Next(time.Duration) ([]byte, error) {
	b := make([]byte, 100)
	n, err := s.r.Read(b)
	if n > 0 {
		return b[:n], nil
	}
	return nil, err
}

func (readerSource) Close() error { return nil }

var errBroken = errors.New("broken")

// TestCut: a body that is cut short, on either side, ends with an error.
func TestCut(t *testing.T) {
	text := strings.Repeat("some text ", 1000)
	for _, c := range All {
		if _, err := io.ReadAll(Encode(c, &scripted{parts: []string{text}, end: errBroken}, nil)); err != errBroken {
			t.Errorf("%s: encoded with %v", c, err)
		}
		encoded, _ := io.ReadAll(Encode(c, NewWhole([]byte(text)), nil))
		for cut := range encoded {
			if _, err := io.ReadAll(Decode(c, NewWhole(encoded[:cut]), 1<<20)); err == nil {
				t.Fatalf("%s: %d of %d bytes are whole", c, cut, len(encoded))
			}
			if _, err := io.ReadAll(Decode(c, &scripted{parts: []string{string(encoded[:cut])}, end: errBroken}, 1<<20)); !errors.Is(err, errBroken) {
				t.Fatalf("%s: the source's error becomes %v", c, err)
			}
		}
		if _, err := io.ReadAll(Decode(c, NewWhole(append(encoded, "more"...)), 1<<20)); err == nil {
			t.Errorf("%s: what stands behind the end is ignored", c)
		}
	}
}

// TestBomb: a body that grows beyond reason, or beyond the limit, fails before it is
// out.
func TestBomb(t *testing.T) {
	for _, c := range All {
		bomb, _ := io.ReadAll(Encode(c, NewWhole(make([]byte, 16<<20)), nil))
		n, err := io.Copy(io.Discard, Decode(c, NewWhole(bomb), 1<<30))
		if !errors.Is(err, ErrBomb) || n > 4<<20 {
			t.Errorf("%s: %d bytes, %v", c, n, err)
		}
		text := bytes.Repeat([]byte("0123456789abcdef\n"), 1000)
		small, _ := io.ReadAll(Encode(c, NewWhole(text), nil))
		if _, err := io.ReadAll(Decode(c, NewWhole(small), int64(len(text)-1))); !errors.Is(err, ErrBomb) {
			t.Errorf("%s: over the limit: %v", c, err)
		}
		if got, err := io.ReadAll(Decode(c, NewWhole(small), int64(len(text)))); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: at the limit: %v", c, err)
		}
	}
}

// FuzzDecode asks that no bytes do more than fail.
func FuzzDecode(f *testing.F) {
	for _, c := range All {
		b, _ := io.ReadAll(Encode(c, NewWhole([]byte("some text, some text")), nil))
		f.Add(byte(c), b)
		f.Add(byte(c), b[:len(b)/2])
	}
	f.Add(byte(Gzip), []byte{})
	f.Fuzz(func(t *testing.T, c byte, b []byte) {
		d := Decode(All[int(c)%len(All)], NewWhole(b), 1<<20)
		if n, err := io.Copy(io.Discard, d); err == nil && n > 1<<20 {
			t.Fatalf("%d bytes", n)
		}
		d.Close()
	})
}

func TestCompressible(t *testing.T) {
	f := func(contentType string, want bool) {
		t.Helper()
		if got := Compressible(contentType); got != want {
			t.Errorf("%q: %v", contentType, got)
		}
	}
	f("text/html; charset=utf-8", true)
	f(" Text/CSS ", true)
	f("application/json", true)
	f("application/problem+json;x=y", true)
	f("image/svg+xml", true)
	f("application/wasm", true)
	f("text/event-stream", false)
	f("text/event-stream; charset=utf-8", false)
	f("image/png", false)
	f("video/mp4", false)
	f("font/woff2", false)
	f("application/zip", false)
	f("application/gzip", false)
	f("application/octet-stream", false)
	f("application/grpc", false)
	f("multipart/byteranges; boundary=x", false)
	f("", false)
}

func TestParse(t *testing.T) {
	f := func(name string, want Coding, ok bool) {
		t.Helper()
		if got, known := Parse(name); got != want || known != ok {
			t.Errorf("%q: %s, %v", name, got, known)
		}
	}
	f("gzip", Gzip, true)
	f("X-GZIP", Gzip, true)
	f("br", Brotli, true)
	f("zstd", Zstd, true)
	f("identity", Identity, true)
	f("deflate", Identity, false)
	f("", Identity, false)
	if _, err := ParseAll([]string{"gzip", "identity"}); err == nil {
		t.Error("identity is a coding")
	}
}

// documents are what is measured: pages, scripts and JSON of Go's own.
func documents(b *testing.B) map[string][]byte {
	all := map[string][]byte{}
	for name, files := range map[string][]string{
		"html": {"doc/go_spec.html", "doc/go_mem.html", "doc/asm.html"},
		"js": {
			"src/cmd/vendor/github.com/google/pprof/internal/driver/html/common.js",
			"src/cmd/vendor/github.com/google/pprof/internal/driver/html/stacks.js", "lib/wasm/wasm_exec.js",
		},
		"json": {
			"src/cmd/vendor/golang.org/x/telemetry/package-lock.json", "src/crypto/hpke/testdata/hpke-pq.json",
			"src/crypto/internal/fips140test/acvp_capabilities_fips140v1.26.json",
		},
	} {
		for _, file := range files {
			body, err := os.ReadFile(filepath.Join(build.Default.GOROOT, file))
			if err != nil {
				b.Skip(err)
			}
			all[name] = append(all[name], body...)
		}
	}
	return all
}

// BenchmarkEncode measures what a body costs, in CPU time, and gains.
func BenchmarkEncode(b *testing.B) {
	for name, body := range documents(b) {
		for _, c := range All {
			b.Run(name+"/"+c.String(), func(b *testing.B) {
				b.ReportAllocs()
				var n int64
				used := cpu(b)
				for b.Loop() {
					e := Encode(c, NewWhole(body), nil)
					n, _ = io.Copy(io.Discard, e)
					e.Close()
				}
				b.ReportMetric(float64(len(body))/float64(n), "ratio")
				mebibytes := float64(len(body)) * float64(b.N) / (1 << 20)
				b.ReportMetric((cpu(b)-used).Seconds()*1000/mebibytes, "cpu-ms/MiB")
			})
		}
	}
}

// BenchmarkDecode measures what it costs to decode, of each mebibyte that comes out.
func BenchmarkDecode(b *testing.B) {
	for name, body := range documents(b) {
		for _, c := range All {
			encoded, err := io.ReadAll(Encode(c, NewWhole(body), nil))
			if err != nil {
				b.Fatal(err)
			}
			b.Run(name+"/"+c.String(), func(b *testing.B) {
				b.ReportAllocs()
				used := cpu(b)
				for b.Loop() {
					d := Decode(c, NewWhole(encoded), 1<<30)
					io.Copy(io.Discard, d)
					d.Close()
				}
				mebibytes := float64(len(body)) * float64(b.N) / (1 << 20)
				b.ReportMetric((cpu(b)-used).Seconds()*1000/mebibytes, "cpu-ms/MiB")
			})
		}
	}
}

// cpu returns what the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
