package edge

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"spillway/edge/outcome"
)

func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "plain", `"quo\ted"`, "\x00\x1f\x7f", "snö ☃ 😀", "\xff\xfe", "a\u2028b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendJSONString(nil, s), &got); err != nil {
			t.Fatalf("%q is not JSON: %v", s, err)
		}
		if utf8.ValidString(s) && got != s {
			t.Fatalf("got %q, want %q", got, s)
		}
	})
}

func loggedExchange() *exchange {
	return &exchange{
		r: httptest.NewRequest("GET", "/a%20b?secret=1", nil), start: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC),
		path: "/a%20b", id: "abc", visitor: visitor{addr: netip.MustParseAddr("192.0.2.1")}, outcome: outcome.Function,
		reason: outcome.OriginSaturated, backend: "thumb", status: 200, bytes: 42,
	}
}

func TestAccessLogLine(t *testing.T) {
	var line map[string]any
	if err := json.Unmarshal(loggedExchange().appendJSON(nil, new(logShard).stampOf(loggedExchange().start), 1500*time.Microsecond), &line); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"time": "2026-01-02T03:04:05.006Z", "client": "192.0.2.1", "proto": "HTTP/1.1", "method": "GET",
		"host": "example.com", "path": "/a%20b", "id": "abc", "status": 200.0, "bytes": 42.0, "ms": 1.5,
		"outcome": "function", "reason": "origin-saturated", "backend": "thumb",
	}
	for name, value := range want {
		if line[name] != value {
			t.Errorf("%s: got %v, want %v", name, line[name], value)
		}
	}
	if len(line) != len(want) {
		t.Errorf("got %d fields, want %d: %v", len(line), len(want), line)
	}
}

// TestAccessLogLoss asks that every line is either written whole or counted as
// lost.
func TestAccessLogLoss(t *testing.T) {
	var out bytes.Buffer
	l := newAccessLog(&out)
	const lines = 20_000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range lines / 4 {
				l.add(loggedExchange(), time.Millisecond)
			}
		})
	}
	wg.Wait()
	l.flush(nil)
	written := 0
	for dec := json.NewDecoder(&out); dec.More(); written++ {
		var line struct{ Outcome string }
		if err := dec.Decode(&line); err != nil || line.Outcome != "function" {
			t.Fatalf("line %d: %v %v", written, line, err)
		}
	}
	if lost := l.losses(); uint64(written)+lost != lines || lost == 0 {
		t.Errorf("%d written and %d lost of %d", written, lost, lines)
	}
}

func TestAccessLogRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := openAccessLog(path)
	if err != nil {
		t.Fatal(err)
	}
	line := func() { l.add(loggedExchange(), 0); l.flush(nil) }
	line()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	line() // what was on its way goes to the old file
	l.follow()
	line()
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{path + ".1": 2, path: 1} {
		b, err := os.ReadFile(name)
		if n := bytes.Count(b, []byte("\n")); err != nil || n != want {
			t.Errorf("%s has %d lines, want %d (%v)", name, n, want, err)
		}
	}
}

func BenchmarkAccessLog(b *testing.B) {
	l := newAccessLog(new(bytes.Buffer))
	x := loggedExchange()
	b.ReportAllocs()
	for b.Loop() {
		l.add(x, time.Millisecond)
		l.shards[0].buf, l.shards[len(l.shards)-1].buf = l.shards[0].buf[:0], l.shards[len(l.shards)-1].buf[:0]
	}
}
