// Package synctest is testing/synctest for tests that the race detector watches.
//
// Since Go 1.26 a timer of a bubble that is set for now or before fires in the goroutine
// that sets it, and two that do so at once share one context of the race detector. It is
// made for one at a time: the process dies of SIGSEGV, or of "ThreadSanitizer: CHECK
// failed" (https://go.dev/issue/78156). So bubbles have one processor while the detector
// watches; it finds races by what happens before what, not by what happens at once. The
// price: what has a shard for each processor has one there. When Go has mended it,
// testing/synctest can stand in each place where this package does.
package synctest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// bubbles counts those that exist, for tests may be parallel, and remembers how many
// processors there were before the first.
var bubbles struct {
	sync.Mutex
	n, processors int
}

// Test runs f in a new bubble, as [synctest.Test] does.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceDetector {
		enter()
		defer leave()
	}
	synctest.Test(t, f)
}

// Wait waits until all other goroutines of the bubble do, as [synctest.Wait] does.
func Wait() { synctest.Wait() }

func enter() {
	bubbles.Lock()
	defer bubbles.Unlock()
	if bubbles.n == 0 {
		bubbles.processors = runtime.GOMAXPROCS(1)
	}
	bubbles.n++
}

func leave() {
	bubbles.Lock()
	defer bubbles.Unlock()
	bubbles.n--
	if bubbles.n == 0 {
		runtime.GOMAXPROCS(bubbles.processors)
	}
}
