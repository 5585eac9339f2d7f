package disk

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryTornTail opens what each prefix of a segment leaves. All records that
// are whole count, and what follows is cut off: the tier goes on behind them.
func TestEveryTornTail(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, smallestTier)
	// What was there when the file was so long.
	states := map[int64]map[int]uint64{0: {}}
	now := map[int]uint64{}
	note := func() {
		drain(t, x)
		states[x.current.size] = maps.Clone(now)
	}
	for n := range 6 {
		put(x, n, uint64(n+1), 10+13*n, uint64(n%2))
		now[n] = uint64(n + 1)
		note()
	}
	x.Delete(key(1))
	delete(now, 1)
	note()
	x.Purge(0)
	delete(now, 0)
	delete(now, 2)
	delete(now, 4)
	note()
	put(x, 0, 10, 33)
	now[0] = 10
	note()
	x.crash()
	whole, err := os.ReadFile(segmentFiles(t, folder)[0])
	if err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), "torn")
	file := filepath.Join(path, segmentName(1))
	want := states[0]
	for n := range int64(len(whole) + 1) {
		// Padding behind a record may be missing, it is whole without.
		for end := n; end <= align(n); end++ {
			if state, ok := states[end]; ok && end-n < alignment && unpadded(whole, end) <= n {
				want = state
			}
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		x := opened(t, path, smallestTier)
		for k := range 6 {
			if got := read(t, x, k); got != want[k] {
				t.Fatalf("after %d of %d bytes object %d is of %d, not %d", n, len(whole), k, got, want[k])
			}
		}
		// It goes on, with a record that is shorter than what was torn.
		put(x, 7, 70, 0)
		drain(t, x)
		x.crash()
		x = opened(t, path, smallestTier)
		if read(t, x, 7) != 70 || x.counts.damaged.Load() > 0 {
			t.Fatalf("after %d bytes nothing can be added", n)
		}
		x.crash()
		os.RemoveAll(path)
	}
}

// unpadded returns the end, without padding, of the last record before end.
func unpadded(segment []byte, end int64) int64 {
	last := int64(preambleBytes)
	for offset := last; offset < end; {
		h, err := parseHeader(segment[offset:])
		if err != nil {
			panic(err)
		}
		last = offset + h.bytes()
		offset = align(last)
	}
	return last
}

// TestFlippedBits flips one bit anywhere in a tier with a history, again and again.
// Whatever is still served is what was put in last, nothing that was deleted,
// purged or replaced comes back, and nearly all is still there when the bit was in
// a body.
func TestFlippedBits(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, smallestTier)
	want := map[int]uint64{}
	source := rand.New(rand.NewPCG(1, 2))
	for seed := uint64(1); seed < 400; seed++ {
		n := source.IntN(40)
		switch source.IntN(10) {
		case 0:
			x.Delete(key(n))
			delete(want, n)
		case 1:
			x.Purge(uint64(n % 7))
			for k := range want {
				if k%7 == n%7 {
					delete(want, k)
				}
			}
		default:
			put(x, n, seed, source.IntN(9<<10), uint64(n%7))
			want[n] = seed
		}
	}
	drain(t, x)
	x.crash()
	names := segmentFiles(t, folder)
	originals := make([][]byte, len(names))
	for i, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		originals[i] = data
	}

	rounds, missing := 120, 0
	for range rounds {
		damaged := t.TempDir()
		which := source.IntN(len(names))
		for i, name := range names {
			data := append([]byte(nil), originals[i]...)
			if i == which {
				data[source.IntN(len(data))] ^= 1 << source.IntN(8)
			}
			if err := os.WriteFile(filepath.Join(damaged, filepath.Base(name)), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// The second time what was found to be damaged is deleted.
		for range 2 {
			x := New(Config{Path: damaged, Size: smallestTier}, slog.New(slog.DiscardHandler))
			if err := x.open(context.Background()); err != nil {
				if !strings.Contains(err.Error(), "version") {
					t.Fatal(err)
				}
				x.crash()
				break
			}
			for n := range 40 {
				if seed := read(t, x, n); seed != want[n] && seed != 0 {
					t.Fatalf("object %d is of %d, not %d", n, seed, want[n])
				} else if seed == 0 && want[n] != 0 {
					missing++
				}
			}
			drain(t, x)
			x.crash()
		}
	}
	t.Logf("%d flips: %d of %d objects were lost", rounds, missing, 2*rounds*len(want))
}

// TestFlippedBlock damages a large body under the hands of a reader. The blocks
// before it are served, the damaged one is not, and the object is gone, also after
// a restart.
func TestFlippedBlock(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, 4<<20)
	size := 5*blockBytes + 100
	put(x, 1, 1, size)
	drain(t, x)
	o := x.Get(key(1))
	defer o.Close()
	f, err := os.OpenFile(segmentFiles(t, folder)[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("?"), o.from+3*blockBytes+7); err != nil {
		t.Fatal(err)
	}
	whole := content(1, size)
	got, err := io.ReadAll(o)
	if !errors.Is(err, ErrDamaged) || string(got) != string(whole[:3*blockBytes]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	all := make([]byte, size)
	if n, err := o.ReadAt(all, 0); n != 3*blockBytes || !errors.Is(err, ErrDamaged) {
		t.Fatalf("%d bytes in one piece, %v", n, err)
	}
	if n, err := o.ReadAt(all[:50], 4*blockBytes+1); n != 50 || err != nil || string(all[:50]) != string(whole[4*blockBytes+1:][:50]) {
		t.Fatalf("%d bytes of a sound block, %v", n, err)
	}
	if x.Get(key(1)) != nil || x.counts.damaged.Load() != 1 {
		t.Fatalf("it is still there, %d damaged", x.counts.damaged.Load())
	}
	drain(t, x)
	x.crash()
	if x = opened(t, folder, 4<<20); x.Has(key(1)) {
		t.Error("it is there after a restart")
	}
	x.crash()
}

// TestWhatIsMissingInTheLog removes a segment from the middle: what stood in it may
// have been deletes, so all before it goes, and all behind it stays.
func TestWhatIsMissingInTheLog(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, 4<<20)
	for n := range 30 { // of which ten fill a segment
		put(x, n, uint64(n+1), 100<<10)
	}
	drain(t, x)
	x.crash()
	names := segmentFiles(t, folder)
	if len(names) < 3 {
		t.Fatalf("%d segments", len(names))
	}
	if err := os.Remove(names[1]); err != nil {
		t.Fatal(err)
	}
	x = opened(t, folder, 4<<20)
	defer x.crash()
	if read(t, x, 0) != 0 || read(t, x, 29) != 30 {
		t.Errorf("object 0 is of %d, object 29 of %d", read(t, x, 0), read(t, x, 29))
	}
	if _, err := os.Stat(names[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", names[0], err)
	}
}

// TestOtherVersions are refused with a reason, and left as they are.
func TestOtherVersions(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, segmentName(1))
	data := make([]byte, 200)
	copy(data, family+"2\n")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	x := New(Config{Path: folder, Size: smallestTier}, slog.New(slog.DiscardHandler))
	err := x.open(context.Background())
	if err == nil || !strings.Contains(err.Error(), "it has version 2, this program knows 1; move the folder away") {
		t.Errorf("%v", err)
	}
	x.fail(err)
	if s := x.State(); s.Phase != "off" || !strings.Contains(s.Error, "version 2") {
		t.Errorf("%+v", s)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(data) {
		t.Errorf("the file has changed: %v", err)
	}
}
