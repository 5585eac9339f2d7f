package recorder

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/leaktest"
	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func entry(id string, at time.Time) *Entry {
	e := &Entry{
		At: at, Took: 20 * time.Millisecond, ID: id, Method: "GET", Route: "img.example.com/thumb/*",
		Outcome: outcome.Function, Reason: outcome.OriginSaturated, Backend: "thumb", Status: 200, Limit: 6, InFlight: 6,
	}
	e.Client.Set([]byte("203.0.113.0/24"))
	e.Trail.Add(Step{Outcome: outcome.Queued, Backend: "app"})
	e.Trail.Leave(5 * time.Millisecond)
	e.Trail.Add(Step{Outcome: outcome.Function, Reason: outcome.OriginSaturated, Backend: "thumb"})
	e.Trail.Leave(15 * time.Millisecond)
	return e
}

// TestMemoryIsBounded: whatever comes, a minute holds no more than it may, and what
// was seen is counted.
func TestMemoryIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, now := New(Config{}), start
		seen := map[int64]uint64{}
		for i, burst := range rapid.SliceOfN(rapid.IntRange(0, 2000), 1, 100).Draw(t, "arrivals") {
			for j := range burst {
				r.Add(entry(fmt.Sprint(i, ".", j), now), now)
				seen[now.Unix()]++
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
		}
		seconds, entries := r.Last(now)
		kept := 0
		for _, s := range seconds {
			if s.Seen != seen[s.At.Unix()] || s.Kept > PerSecond || uint64(s.Kept) > s.Seen ||
				s.Seen <= uint64(r.each) && uint64(s.Kept) != s.Seen {
				t.Fatalf("%+v of %d", s, seen[s.At.Unix()])
			}
			if age := now.Unix() - s.At.Unix(); age < 0 || age >= keep {
				t.Fatalf("a second of %d s ago", age)
			}
			kept += s.Kept
		}
		if kept != len(entries) {
			t.Fatalf("%d entries, %d kept", len(entries), kept)
		}
		for i := 1; i < len(entries); i++ {
			if entries[i].At.Before(entries[i-1].At) {
				t.Fatal("out of order")
			}
		}
	})
}

// TestMemoryIsGivenBack: a node that nobody asks any more holds nothing of the crowd.
func TestMemoryIsGivenBack(t *testing.T) {
	r := New(Config{})
	for second := range keep {
		at := start.Add(time.Duration(second) * time.Second)
		for range PerSecond {
			r.Add(entry("a", at), at)
		}
	}
	held := func() (n int) {
		for i := range r.shards {
			for j := range r.shards[i].slots {
				n += cap(r.shards[i].slots[j].entries)
			}
		}
		return n
	}
	last := start.Add((keep - 1) * time.Second)
	r.forget(last)
	if _, entries := r.Last(last); len(entries) < keep*PerSecond*9/10 {
		t.Fatalf("%d entries of the last minute", len(entries))
	}
	r.forget(last.Add((keep + 1) * time.Second))
	if n := held(); n != 0 {
		t.Errorf("a minute later there is still room for %d", n)
	}
}

// TestSampleIsFair: of too many requests in a second, the first are as likely to be
// kept as the last. A quarter of them has a quarter of the sample, within six times
// its standard deviation.
func TestSampleIsFair(t *testing.T) {
	r := New(Config{})
	const all = 40 * PerSecond
	for i := range all {
		e := entry("x", start.Add(time.Duration(i)*10*time.Microsecond))
		e.Status = 4 * i / all
		r.Add(e, start)
	}
	_, entries := r.Last(start)
	var quarters [4]int
	for i := range entries {
		quarters[entries[i].Status]++
	}
	for _, n := range quarters {
		if want, spread := float64(len(entries))/4, 6*9.8; float64(n) < want-spread || float64(n) > want+spread {
			t.Errorf("%v of %d", quarters, len(entries))
		}
	}
}

func TestFind(t *testing.T) {
	r := New(Config{})
	r.Add(entry("a", start), start)
	later := entry("a", start.Add(2*time.Second))
	later.Status = 503
	r.Add(later, start.Add(2*time.Second))
	f := func(id string, after time.Duration, status int) {
		t.Helper()
		if e, ok := r.Find(id, start.Add(after)); ok != (status > 0) || e.Status != status {
			t.Errorf("%s after %v: %+v", id, after, e)
		}
	}
	f("a", 3*time.Second, 503)
	f("b", 3*time.Second, 0)
	f("a", 70*time.Second, 0)
}

// TestClockThatWasSetBack: what a clock dated ahead is not taken for the minute that
// the right one tells of.
func TestClockThatWasSetBack(t *testing.T) {
	r := New(Config{})
	for range 100 { // in all shards
		r.Add(entry("ahead", start.Add(time.Hour)), start.Add(time.Hour))
	}
	r.addHits(7, start.Add(time.Hour+time.Second))
	r.Add(entry("now", start), start)
	seconds, entries := r.Last(start)
	if len(seconds) != 1 || seconds[0] != (Second{At: start, Seen: 1, Kept: 1}) || len(entries) != 1 || entries[0].ID != "now" {
		t.Errorf("%+v, %d entries", seconds, len(entries))
	}
}

// TestTrailIsCut: a request that tried a hundred backends takes no more room.
func TestTrailIsCut(t *testing.T) {
	var trail Trail
	for i := range 100 {
		trail.Add(Step{Backend: fmt.Sprint(i)})
		trail.Leave(time.Second)
	}
	if s := trail.Steps(); len(s) != mostSteps || s[mostSteps-1].Backend != fmt.Sprint(mostSteps-1) {
		t.Errorf("%v", s)
	}
}

func TestClientIsCut(t *testing.T) {
	var c Client
	c.Set([]byte(strings.Repeat("x", 100)))
	if len(c.String()) != 48 {
		t.Errorf("%q", c.String())
	}
}

// TestSheddingIsWrittenOnce: the first request that is shed after a quiet minute
// writes a file, and the others write none.
func TestSheddingIsWrittenOnce(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "flights")
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		r := New(Config{Folder: folder, Log: slog.New(slog.NewTextHandler(&told, nil))})
		var hits, shed atomic.Uint64
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx, func() (uint64, uint64) { return hits.Load(), shed.Load() }) })
		written := func() int {
			synctest.Wait()
			all, err := filepath.Glob(filepath.Join(folder, "*"))
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		r.Add(entry("a", time.Now()), time.Now())
		hits.Add(7)
		time.Sleep(1500 * time.Millisecond)
		if n := written(); n != 0 {
			t.Errorf("%d files before anything was shed", n)
		}
		for range 200 { // an overload of two hundred seconds
			shed.Add(3)
			time.Sleep(time.Second)
		}
		if n := written(); n != 1 || strings.Count(told.String(), "requests are shed") != 1 {
			t.Errorf("%d files, told %s", n, told.String())
		}
		time.Sleep(59 * time.Second)
		shed.Add(1)
		time.Sleep(2 * time.Second)
		if n := written(); n != 1 {
			t.Errorf("%d files after 59 quiet seconds", n)
		}
		for i := range 2 * mostFiles {
			time.Sleep(62 * time.Second)
			shed.Add(1)
			time.Sleep(2 * time.Second)
			if n := written(); n != min(i+2, mostFiles) {
				t.Errorf("%d files after %d overloads", n, i+2)
			}
		}
		state := r.State()
		if info, err := os.Stat(state.File); err != nil || info.Mode().Perm() != 0o600 || state.Error != "" {
			t.Errorf("%+v: %v", state, err)
		}
		stop()
		wg.Wait()
	})
}

// TestLines: what is written can be read, line by line.
func TestLines(t *testing.T) {
	r := New(Config{})
	r.Add(entry("a", start), start)
	r.addHits(9, start)
	var out bytes.Buffer
	if n, err := r.WriteTo(&out, start, "asked"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	lines := bufio.NewScanner(&out)
	var first head
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &first) != nil || first.Why != "asked" ||
		len(first.Seconds) != 1 || first.Seconds[0] != (Second{start, 1, 1, 9}) {
		t.Errorf("%s", lines.Bytes())
	}
	const want = `{"time":"2026-11-01T12:00:00Z","id":"a","client":"203.0.113.0/24","method":"GET","route":"img.example.com/thumb/*",` +
		`"outcome":"function","reason":"origin-saturated","backend":"thumb","status":200,"ms":20,"limit":6,"in_flight":6,` +
		`"steps":[{"outcome":"queued","backend":"app","seconds":0.005},` +
		`{"outcome":"function","reason":"origin-saturated","backend":"thumb","seconds":0.015}]}`
	if !lines.Scan() || lines.Text() != want {
		t.Errorf("%s", lines.Bytes())
	}
}

// TestFolderThatCannotBe: the node goes on, and says why there is no file.
func TestFolderThatCannotBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var told bytes.Buffer
	r := New(Config{Folder: file, Log: slog.New(slog.NewTextHandler(&told, nil))})
	r.save(start)
	if s := r.State(); s.Error == "" || s.File != "" || !strings.Contains(told.String(), "cannot be written") {
		t.Errorf("%+v, %s", s, told.String())
	}
	New(Config{Log: slog.New(slog.NewTextHandler(&told, nil))}).save(start)
	if !strings.Contains(told.String(), "nowhere written") {
		t.Error(told.String())
	}
}

// TestDraftsOfACrashAreRemoved: a node that is killed again and again fills no disk.
func TestDraftsOfACrashAreRemoved(t *testing.T) {
	folder := t.TempDir()
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("flight-20261101T11000%dZ.jsonl.123", i)), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := New(Config{Folder: folder, Log: slog.New(slog.DiscardHandler)})
	r.save(start)
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("left are %v (%v)", left, err)
	}
}

// TestDraftsOfOthers: in a folder of many, nobody leads the node to another file, nor
// to one that others may read.
func TestDraftsOfOthers(t *testing.T) {
	folder := t.TempDir()
	other := filepath.Join(folder, "other")
	if err := os.WriteFile(other, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(folder, start.Format(fileName)+".draft")); err != nil {
		t.Fatal(err)
	}
	r := New(Config{Folder: folder, Log: slog.New(slog.DiscardHandler)})
	r.save(start)
	info, err := os.Lstat(r.State().File)
	if kept, _ := os.ReadFile(other); err != nil || info.Mode() != 0o600 || string(kept) != "kept" {
		t.Errorf("%+v: %v, the other file holds %q", r.State(), err, kept)
	}
}

// TestOldFilesThatStay: that one cannot be removed does not deny that another is there.
func TestOldFilesThatStay(t *testing.T) {
	folder := t.TempDir()
	for i := range mostFiles {
		if err := os.MkdirAll(filepath.Join(folder, fmt.Sprintf("flight-0%dT0Z.jsonl", i), "full"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var told bytes.Buffer
	r := New(Config{Folder: folder, Log: slog.New(slog.NewTextHandler(&told, nil))})
	r.save(start)
	if s := r.State(); s.File != filepath.Join(folder, start.Format(fileName)) || s.Error != "" ||
		!strings.Contains(told.String(), "is written") || !strings.Contains(told.String(), "cannot be removed") {
		t.Errorf("%+v, %s", s, told.String())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestDiskThatIsFull(t *testing.T) {
	r := New(Config{})
	for i := range 1000 {
		r.Add(entry(fmt.Sprint(i), start), start)
	}
	if _, err := r.WriteTo(fullDisk{}, start, "asked"); err == nil {
		t.Error("no error")
	}
}

func TestManyAtOnce(t *testing.T) {
	r := New(Config{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				r.Add(entry(fmt.Sprint(i), start), start.Add(time.Duration(i)*time.Millisecond))
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			r.Last(start.Add(2 * time.Second))
			r.Find("7", start.Add(2*time.Second))
		}
	})
	wg.Wait()
	var seen uint64
	seconds, _ := r.Last(start.Add(2 * time.Second))
	for _, s := range seconds {
		seen += s.Seen
	}
	if seen != 16000 {
		t.Errorf("%d seen", seen)
	}
}

func BenchmarkAdd(b *testing.B) {
	r, e := New(Config{}), entry("0123456789abcdef01234567", start)
	b.ReportAllocs()
	for b.Loop() {
		r.Add(e, start)
	}
}
