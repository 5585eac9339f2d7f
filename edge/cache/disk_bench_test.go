package cache

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"spillway/edge/cache/disk"
)

// BenchmarkDisk writes entries of 100 KiB to the disk and brings them back into memory,
// by the ways that visitors' requests take. cpu-µs is of the process, its kernel
// included; written is by how much more is written than the entries have.
func BenchmarkDisk(b *testing.B) {
	const size, entries = 100 << 10, 2000
	c := Config{Memory: 512 << 20, MaxObject: 1 << 20, CollapseWaiters: 10, CollapseWait: time.Second}
	folder := b.TempDir()
	open := func() (ca *Cache, stop func()) {
		ca = New(c)
		tier := disk.New(disk.Config{Path: folder, Size: 512 << 20}, slog.New(slog.DiscardHandler))
		ca.UseDisk(tier)
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = tier.Run(ctx) })
		if err := ca.Sync(ctx); err != nil {
			b.Fatal(err)
		}
		return ca, func() { cancel(); wg.Wait() }
	}
	path := func(i int) string { return fmt.Sprint("/", i) }
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			ca, stop := open()
			ca.Purge()
			for i := range entries {
				put(ca, path(i), size, `Etag: "1"`)
			}
			begun := cpu(b)
			for i := range entries {
				for looked(ca, get(path(i)), epoch0.Add(time.Second)) != Fresh || !ca.disk.Willing(size) {
					time.Sleep(time.Millisecond)
				}
			}
			if err := ca.disk.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
			s := ca.State().Disk
			b.ReportMetric(float64((cpu(b)-begun).Nanoseconds())/float64(s.Objects)/1e3, "cpu-µs/object")
			b.ReportMetric(float64(s.Written)/float64(s.Objects)/size, "written")
			b.ReportMetric(float64(s.Objects), "objects")
			stop()
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			ca, stop := open()
			begun := cpu(b)
			for i := range entries {
				looked(ca, get(path(i)), time.Now())
			}
			s := ca.State().Disk
			b.ReportMetric(float64((cpu(b)-begun).Nanoseconds())/float64(max(1, s.Recalled))/1e3, "cpu-µs/object")
			b.ReportMetric(float64(s.Recalled), "objects")
			stop()
		}
	})
}
