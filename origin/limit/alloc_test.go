//go:build !race

package limit

import "testing"

// The race detector makes sync.Pool drop what it is given at random, so that
// make test runs this test without it.

func TestHotPathDoesNotAllocate(t *testing.T) {
	l := New(Config{Max: 1})
	f := func() {
		p, _ := l.Acquire(1, 1)
		l.Acquire(2, 0.5)
		p.Release(OK)
	}
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%v allocations per acquire, refusal and release", n)
	}
}
