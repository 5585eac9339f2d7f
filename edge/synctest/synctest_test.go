package synctest

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestTimersOfNow sets timers that fire at once, in goroutines beside each other. With
// the race detector and a processor for each the process dies within a second.
func TestTimersOfNow(t *testing.T) {
	before := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(before)
	Test(t, func(*testing.T) {
		var goroutines sync.WaitGroup
		for range 8 {
			goroutines.Go(func() {
				timer := time.NewTimer(time.Hour)
				for range 1000 {
					time.AfterFunc(-1, func() {})
					timer.Reset(0)
					<-timer.C
				}
			})
		}
		goroutines.Wait()
	})
	if got := runtime.GOMAXPROCS(0); got != 4 {
		t.Errorf("%d processors are left of 4", got)
	}
}

// TestBesideEachOther has bubbles whose tests are parallel.
func TestBesideEachOther(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("bubbles", func(t *testing.T) {
		for range 4 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				Test(t, func(*testing.T) {
					time.Sleep(time.Hour)
					Wait()
				})
			})
		}
	})
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("%d processors are left of %d", got, before)
	}
}
