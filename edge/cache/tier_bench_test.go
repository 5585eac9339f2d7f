package cache

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A load is a set of keys with an entry that all of them get: what is measured is
// the store.
type load struct {
	store   *store
	request *http.Request
	entry   *Entry
	keys    []target
}

const million = 1_000_000

func newLoad(b *testing.B, memory int64, keys, size int) *load {
	b.Helper()
	c := New(Config{Memory: memory, MaxObject: 1 << 20, CollapseWaiters: 1, CollapseWait: time.Second})
	r := get("/")
	l := &load{store: c.store, request: r, keys: make([]target, keys)}
	l.entry = entryFor(r, 200, "Content-Type: image/jpeg", `Etag: "a"`, fresh).complete(make([]byte, size))
	for i := range l.keys {
		r.RequestURI = "/picture/" + strconv.Itoa(i) + ".jpg"
		l.keys[i] = c.target(r)
	}
	return l
}

func (l *load) set(i int) bool { return l.store.put(&l.keys[i], l.entry, l.request) }

func (l *load) get(i int) bool {
	e, _ := l.store.get(&l.keys[i], l.request)
	if e == nil {
		return false
	}
	e.touch()
	e.release()
	return true
}

// memory is one line of /proc/self/status, in bytes.
func memory(b *testing.B, name string) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) * 1024
}

// cpu is what the process has used, by all its threads: on a busy machine wall
// time says nothing.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// forgetPeak gives back what earlier benchmarks held, and returns what is left.
func forgetPeak(b *testing.B) float64 {
	b.Helper()
	for range 10 {
		debug.FreeOSMemory()
		time.Sleep(100 * time.Millisecond) // for cleanups to unmap
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Skip(err)
	}
	return memory(b, "VmRSS")
}

// A million objects of 1 KiB, all there, at random.
func BenchmarkMillionGet(b *testing.B) {
	l := newLoad(b, 1600<<20, million, 1024)
	for i := range l.keys {
		l.set(i)
	}
	runtime.GC()
	b.ReportAllocs()
	hits, n, began := 0, 0, cpu(b)
	for b.Loop() {
		if n++; l.get(rand.IntN(million)) {
			hits++
		}
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(n), "cpu-ns/op")
	b.ReportMetric(float64(hits)/float64(n), "hits/op")
}

// What the collector does for a million objects: how much more CPU one forced
// collection takes than for a store without any. The keys of the load are gone by
// then: a million strings of our own would take twenty times as long.
func BenchmarkMillionCollect(b *testing.B) {
	const room = 1600 << 20
	collect := func() time.Duration {
		best := time.Hour
		for range 20 {
			start := cpu(b)
			runtime.GC()
			best = min(best, cpu(b)-start)
		}
		return best
	}
	empty := newLoad(b, room, 0, 1024)
	without := collect()
	runtime.KeepAlive(empty)
	l := newLoad(b, room, million, 1024)
	for i := range l.keys {
		l.set(i)
	}
	for i := range l.keys {
		l.get(i) // decodes heads
		l.get(i)
	}
	l.keys = nil
	for b.Loop() {
		runtime.GC()
	}
	b.ReportMetric(float64(collect()-without)/1e6, "cpu-ms-more")
	runtime.KeepAlive(l)
}

// A store that is full all the time and gets other objects than it has: CPU of a
// set, and the most memory that the process took beyond what it had before,
// beside what is configured.
func BenchmarkMillionSet(b *testing.B) {
	const configured = 543 << 20
	l := newLoad(b, configured, million, 1024)
	before := forgetPeak(b)
	for i := range l.keys {
		l.set(i)
	}
	b.ReportAllocs()
	n, began := 0, cpu(b)
	for b.Loop() {
		l.set(n % million)
		n++
	}
	for ; n < 1_600_000; n++ { // the same churn, however long that took
		l.set(n % million)
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(n), "cpu-ns/op")
	b.ReportMetric((memory(b, "VmHWM")-before)/configured, "peak/configured")
	runtime.KeepAlive(l)
}

// The same with sizes of all kinds, a tenth of the bytes in objects of a mebibyte.
func BenchmarkMixedSet(b *testing.B) {
	const configured = 256 << 20
	l := newLoad(b, configured, 1<<16, 1<<20)
	before := forgetPeak(b)
	whole := l.entry.body
	b.ReportAllocs()
	bytes, n, began := 0, 0, cpu(b)
	for ; n < 200_000 || b.Loop(); n++ {
		size := 1 << (8 + rand.IntN(9))
		if size += rand.IntN(size); n%500 == 0 {
			size = 1<<20 - 1024
		}
		l.entry.body = whole[:size]
		if l.set(n % len(l.keys)) {
			bytes += size
		}
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(n), "cpu-ns/op")
	b.ReportMetric(float64(bytes)/float64(n), "B-stored/op")
	held := int64(0)
	for i := range l.store.shards {
		held += l.store.shards[i].bytes.Load()
	}
	b.ReportMetric(float64(held)/configured, "used/configured")
	b.ReportMetric((memory(b, "VmHWM")-before)/configured, "peak/configured")
}

// Bodies of 100 KiB are not copied: a get costs what one of 1 KiB costs.
func BenchmarkGetBySize(b *testing.B) {
	for _, kib := range []int{1, 100} {
		b.Run(fmt.Sprintf("%dKiB", kib), func(b *testing.B) {
			l := newLoad(b, 512<<20, 4000, kib<<10)
			for i := range l.keys {
				l.set(i)
			}
			b.ReportAllocs()
			n, began := 0, cpu(b)
			for b.Loop() {
				l.get(rand.IntN(len(l.keys)))
				n++
			}
			b.ReportMetric(float64(cpu(b)-began)/float64(n), "cpu-ns/op")
		})
	}
}
