package disk

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"syscall"
	"testing"
	"time"
)

var sizes = []struct {
	name string
	body int
}{{"1KiB", 1 << 10}, {"100KiB", 100 << 10}}

// processor is the time that the process has had of processors.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measured reports the processor time of an operation, that of the writer and the
// kernel included.
func measured(b *testing.B, from time.Duration, operations int) {
	b.ReportMetric(float64((processor()-from).Nanoseconds())/float64(operations), "cpu-ns/op")
}

func benchTier(b *testing.B, size int64) *Tier {
	x := New(Config{Path: b.TempDir(), Size: size}, slog.New(slog.DiscardHandler))
	if err := x.open(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(x.crash)
	return x
}

func BenchmarkPut(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			x := benchTier(b, 512<<20)
			item := Item{Head: make([]byte, 300), Body: content(1, s.body), Marks: []uint64{1, 2, 3}}
			b.SetBytes(int64(s.body))
			from, n := processor(), 0
			for b.Loop() {
				item.Key = key(n)
				n++
				x.Put(item)
				if n%100 == 0 {
					drain(b, x)
				}
			}
			drain(b, x)
			measured(b, from, n)
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			x := benchTier(b, 512<<20)
			count := 256 << 20 / (s.body + 500) / 4
			for n := range count {
				x.Put(Item{Key: key(n), Head: make([]byte, 300), Body: content(1, s.body), Marks: []uint64{1, 2, 3}})
				drain(b, x)
			}
			b.SetBytes(int64(s.body))
			b.ReportAllocs()
			from, n := processor(), 0
			for b.Loop() {
				o := x.Get(key(n * 7919 % count))
				n++
				if _, err := o.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
				o.Close()
			}
			measured(b, from, n)
		})
	}
}

// BenchmarkTurnover fills a tier and then once more, with every tenth object asked
// for, and reports how much was written for each byte that was to be kept.
func BenchmarkTurnover(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			const size = 512 << 20
			count := size / (s.body + 300)
			body := content(1, s.body)
			from, n := processor(), 0
			var last State
			for b.Loop() {
				x := benchTier(b, size)
				for i := range 2 * count {
					x.Put(Item{Key: key(i), Head: make([]byte, 300), Body: body})
					n++
					if i%100 == 99 {
						drain(b, x)
						for hot := range 10 {
							if o := x.Get(key(i - hot)); o != nil {
								o.Close()
							}
						}
					}
				}
				drain(b, x)
				last = x.State()
				x.crash()
			}
			measured(b, from, n)
			b.ReportMetric(float64(last.Written)/float64(last.Asked), "written/asked")
			b.ReportMetric(float64(last.Moved)/float64(last.Written), "moved/written")
		})
	}
}

// BenchmarkScan opens a full tier whose files are in the kernel's memory.
func BenchmarkScan(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			x := benchTier(b, 512<<20)
			body := content(1, s.body)
			for i := range 600 << 20 / (s.body + 300) {
				x.Put(Item{Key: key(i), Head: make([]byte, 300), Body: body})
				if i%100 == 0 {
					drain(b, x)
				}
			}
			drain(b, x)
			x.crash()
			from, n := processor(), 0
			began := time.Now()
			for b.Loop() {
				if err := x.open(context.Background()); err != nil {
					b.Fatal(err)
				}
				n += x.index.len()
				x.crash()
			}
			measured(b, from, n)
			b.ReportMetric(float64(n)/time.Since(began).Seconds(), "objects/s")
		})
	}
}

// BenchmarkIndex reports what the index takes of memory for each object, and how
// long the collector marks it.
func BenchmarkIndex(b *testing.B) {
	for _, count := range []int{1_000_000, 1_500_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var x *index
			var before, after runtime.MemStats
			for b.Loop() {
				x = nil
				runtime.GC()
				runtime.ReadMemStats(&before)
				x = newIndex()
				for n := range count {
					k := key(n)
					x.set(k.hash(), entry{place: place{1, uint32(n % (1 << 24) * 8)}})
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
			}
			began := time.Now()
			runtime.GC()
			b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "gc-ms")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(count), "B/object")
			runtime.KeepAlive(x)
		})
	}
}
