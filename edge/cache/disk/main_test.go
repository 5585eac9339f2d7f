package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(victimVariable); folder != "" {
		victim(folder)
		return
	}
	leaktest.Main(m)
}

// testing.TB and rapid.T both are one.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// scratch makes a folder that ends with the test, or with one round of it.
func scratch(t tester) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "disk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// opened opens a tier that does nothing by itself: what was asked for is done by
// drain.
func opened(t tester, folder string, size int64) *Tier {
	t.Helper()
	x := New(Config{Path: folder, Size: size}, slog.New(slog.DiscardHandler))
	if err := x.open(context.Background()); err != nil {
		x.letGo()
		t.Fatal(err)
	}
	return x
}

// crash leaves the files as they are, as the end of the process does.
func (t *Tier) crash() { t.letGo() }

func drain(t tester, x *Tier) {
	t.Helper()
	if err := x.drain(); err != nil {
		t.Fatal(err)
	}
}

func closed(t tester, x *Tier) {
	t.Helper()
	if err := x.close(); err != nil {
		t.Fatal(err)
	}
}

// key makes the key of a number.
func key(n int) (k Key) {
	binary.LittleEndian.PutUint64(k[:], uint64(n+1)*0x9E3779B97F4A7C15)
	binary.LittleEndian.PutUint64(k[8:], uint64(n))
	return k
}

// content makes bytes that are different for each seed.
func content(seed uint64, size int) []byte {
	b := make([]byte, size)
	source := rand.NewChaCha8([32]byte(fmt.Appendf(nil, "%032d", seed)))
	_, _ = source.Read(b)
	return b
}

// put puts an object whose content is made of the seed, which its head tells.
func put(x *Tier, n int, seed uint64, size int, marks ...uint64) bool {
	return x.Put(Item{Key: key(n), Marks: marks, Head: heading(n, seed, size), Body: content(seed, size)})
}

func heading(n int, seed uint64, size int) []byte { return fmt.Appendf(nil, "%d %d %d", n, seed, size) }

// read returns the seed of the object, 0 if there is none. What it serves must be
// what was put in.
func read(t tester, x *Tier, n int) (seed uint64) {
	t.Helper()
	o := x.Get(key(n))
	if o == nil {
		return 0
	}
	defer o.Close()
	seed, err := verify(o, n)
	if err != nil {
		t.Fatalf("object %d: %v", n, err)
	}
	return seed
}

func verify(o *Object, n int) (seed uint64, err error) {
	var number, size int
	if _, err := fmt.Sscan(string(o.Head), &number, &seed, &size); err != nil || number != n {
		return 0, fmt.Errorf("head %q", o.Head)
	}
	body, err := io.ReadAll(o)
	if err != nil {
		return 0, err
	}
	if int64(size) != o.Size() || !bytes.Equal(body, content(seed, size)) {
		return 0, fmt.Errorf("the body of %d bytes is not that of %d", len(body), seed)
	}
	return seed, nil
}

// taken is what the files of a folder take of the disk.
func taken(t tester, folder string) (bytes int64) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var stat syscall.Stat_t
		if err := syscall.Stat(name, &stat); err != nil {
			t.Fatal(err)
		}
		bytes += stat.Blocks * 512
	}
	return bytes
}

// segmentFiles are the segments of a folder, the oldest first.
func segmentFiles(t tester, folder string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}
