package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

func FuzzAppendField(f *testing.F) {
	for _, s := range []string{"", "plain", `"quo\ted"`, "\x00\x1f\x7f", "snö ☃ 😀", "\xff\xfe", "a\u2028b", "\u009b31m", "\u202egpj", "\U000e0041", strings.Repeat("☃", logText)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendField(nil, "", s), &got); err != nil {
			t.Fatalf("%q is not JSON: %v", s, err)
		}
		want := s
		if len(s) > logText {
			want = cutText(s) + logCut
		}
		if utf8.ValidString(s) && got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		if line := appendField(nil, "", s); bytes.ContainsFunc(line, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Fatalf("%q has what a terminal may take for commands", line)
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
	x := loggedExchange()
	text := x.appendJSON(nil, new(logShard).stampOf(x.start), &logClient{mode: "full"}, 1500*time.Microsecond)
	if err := json.Unmarshal(text, &line); err != nil {
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
	l := newAccessLog(&out, LogConfig{Client: "prefix"}, slog.New(slog.DiscardHandler))
	lines := 10_000 * len(l.shards) // twice what they hold
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
	if lost := l.losses(); uint64(written)+lost != uint64(lines) || lost == 0 {
		t.Errorf("%d written and %d lost of %d", written, lost, lines)
	}
}

// A disk holds so many bytes more, and writes what fits.
type disk struct {
	bytes.Buffer
	room int
}

func (d *disk) Write(b []byte) (int, error) {
	n, err := min(len(b), d.room), error(nil)
	if n < len(b) {
		err = syscall.ENOSPC
	}
	d.room -= n
	d.Buffer.Write(b[:n])
	return n, err
}

// TestAccessLogOutlivesAFullDisk asks that what a full disk cuts off spoils no
// other line, that all lines are either whole or counted, and that the log tells
// of it twice.
func TestAccessLogOutlivesAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		d := &disk{}
		l := newAccessLog(d, LogConfig{Access: "stdout", Client: "prefix"}, slog.New(slog.NewTextHandler(&told, nil)))
		size := len(loggedExchange().appendJSON(nil, new(logShard).stampOf(day0), l.client, 0))
		const lines = 10
		write := func(room int) {
			d.room = room
			for range lines {
				l.add(loggedExchange(), 0)
			}
			l.flush(nil)
			time.Sleep(logEvery)
		}
		full := lines * size * 2
		write(full)
		write(3*size + size/2) // cut in the middle of a line
		write(0)
		write(1) // room for the end of that line only
		write(4 * size)
		if got := told.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "file=stdout") {
			t.Errorf("while it lasts the log says:\n%s", got)
		}
		time.Sleep(troubleOver)
		write(full)
		write(full)
		if got := told.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "is written again") {
			t.Errorf("at the end the log says:\n%s", got)
		}
		whole, torn := 0, 0
		for line := range bytes.Lines(d.Bytes()) {
			if json.Valid(line) {
				whole++
			} else {
				torn++
			}
		}
		if lost := int(l.losses()); whole+lost != 7*lines || torn != 1 || lost != lines-3+2*lines+lines-4 {
			t.Errorf("%d lines whole, %d torn and %d lost of %d", whole, torn, lost, 7*lines)
		}
	})
}

// stuck is a stream whose reader has stopped. It takes what comes once it is
// released.
type stuck struct{ release chan struct{} }

func (s stuck) Write(b []byte) (int, error) {
	<-s.release
	return len(b), nil
}

// TestAccessLogEndsWithoutItsReader asks that a reader who has stopped holds the
// end up for a moment only, and that what it did not take counts as lost once.
func TestAccessLogEndsWithoutItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		out := stuck{make(chan struct{})}
		l := newAccessLog(out, LogConfig{Access: "stdout"}, slog.New(slog.NewTextHandler(&told, nil)))
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.run(ctx) }()
		const lines = 10
		for range 2 { // some are being written, others wait
			for range lines {
				l.add(loggedExchange(), 0)
			}
			time.Sleep(2 * logEvery)
		}
		end()
		start := time.Now()
		if err := <-ended; err != nil || time.Since(start) != logFinish {
			t.Errorf("ended after %s: %v", time.Since(start), err)
		}
		if got := told.String(); l.losses() != 2*lines || !strings.Contains(got, "file=stdout") || !strings.Contains(got, "lost=20") {
			t.Errorf("%d lost of %d, and the log says:\n%s", l.losses(), 2*lines, got)
		}
		close(out.release)
		synctest.Wait()
		if l.losses() != 2*lines {
			t.Errorf("%d lost in the end", l.losses())
		}
	})
}

// TestAccessLogRefusesWhatIsNoFile asks that a name which no line can be appended
// to is refused at once: to open a pipe would wait for its reader.
func TestAccessLogRefusesWhatIsNoFile(t *testing.T) {
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := func(path, want string) {
		t.Helper()
		c := LogConfig{Access: path}
		_, err := openAccessLog(c, slog.New(slog.DiscardHandler))
		for _, err := range []error{err, c.Check()} {
			if err == nil || !strings.Contains(err.Error(), path+want) {
				t.Errorf("%s: %v, want one about %q", path, err, want)
			}
		}
	}
	f(pipe, " is a pipe, not a file")
	f(folder, " is a folder, not a file")
	f(socket, " is a socket, not a file")
	for _, path := range []string{"/dev/null", filepath.Join(folder, "access.log"), "stdout", "stderr", "off", ""} {
		c := LogConfig{Access: path}
		l, err := openAccessLog(c, slog.New(slog.DiscardHandler))
		if err != nil || c.Check() != nil {
			t.Errorf("%s: %v, %v", path, err, c.Check())
			continue
		}
		if path != "off" {
			l.close()
		}
		if path == "" && (l.out != os.Stdout || l.name != "stdout") {
			t.Errorf("without a name it goes to %s", l.name)
		}
	}
	if err := (LogConfig{Access: filepath.Join(folder, "none", "access.log")}).Check(); err == nil {
		t.Error("no error about a folder that is not there")
	}
}

func TestAccessLogRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := openAccessLog(LogConfig{Access: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	line := func() { l.add(loggedExchange(), 0); l.flush(nil) }
	line()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	line() // what was on its way goes to the old file
	l.follow(time.Now())
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

// TestAccessLogThatCannotFollow asks that a file which was moved away and has no
// successor is written on, and that the log tells once that it begins and once
// that it is over.
func TestAccessLogThatCannotFollow(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "access.log")
	var told bytes.Buffer
	l, err := openAccessLog(LogConfig{Access: path}, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if err := os.Rename(folder, folder+".1"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l.follow(day0)
	}
	l.add(loggedExchange(), 0)
	l.flush(nil)
	b, err := os.ReadFile(filepath.Join(folder+".1", "access.log"))
	if n := bytes.Count(b, []byte("\n")); err != nil || n != 1 || strings.Count(told.String(), "level=WARN") != 1 {
		t.Errorf("%d lines in the old file, %v, and the log says:\n%s", n, err, told.String())
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	l.follow(day0)
	l.follow(day0.Add(troubleOver))
	if _, err := os.Stat(path); err != nil || !strings.Contains(told.String(), "has its own file again") {
		t.Errorf("%v, and the log says:\n%s", err, told.String())
	}
}

// TestAccessLogBoundsWhatVisitorsWrite sends the longest request that a visitor
// can send, full of what grows by escaping.
func TestAccessLogBoundsWhatVisitorsWrite(t *testing.T) {
	x := loggedExchange()
	long := strings.Repeat("\x01", 32<<10)
	x.path, x.r.Host, x.r.Method = long, long, long
	text := x.appendJSON(nil, nil, new(logClient), 0)
	if want := 3*6*logText + 1<<10; len(text) > want {
		t.Errorf("the line has %d bytes, more than %d", len(text), want)
	}
	var line struct{ Path, Host, Method string }
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{line.Path, line.Host, line.Method} {
		if got != long[:logText]+logCut {
			t.Errorf("got %d bytes ending in %q", len(got), got[max(0, len(got)-8):])
		}
	}
}

func TestAccessLogDoesNotAllocate(t *testing.T) {
	for _, mode := range clientModes {
		l, x := newAccessLog(new(bytes.Buffer), LogConfig{Client: mode}, nil), loggedExchange()
		l.add(x, 0) // makes the day's secret
		for i := range l.shards {
			l.shards[i].buf = make([]byte, 0, logBuffer)
			l.shards[i].stampOf(x.start)
		}
		if n := testing.AllocsPerRun(1000, func() { l.add(x, time.Millisecond) }); n != 0 {
			t.Errorf("%s: %v allocations a line", mode, n)
		}
	}
}

func BenchmarkAccessLog(b *testing.B) {
	for _, mode := range clientModes {
		b.Run(mode, func(b *testing.B) {
			l, x := newAccessLog(new(bytes.Buffer), LogConfig{Client: mode}, nil), loggedExchange()
			b.ReportAllocs()
			for b.Loop() {
				l.add(x, time.Millisecond)
				l.shards[0].buf, l.shards[len(l.shards)-1].buf = l.shards[0].buf[:0], l.shards[len(l.shards)-1].buf[:0]
			}
		})
	}
}
