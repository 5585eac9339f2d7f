package scale

import (
	"math"
	"testing"
	"time"
)

// TestAverageIsUnbiased: it tells the level from the first observation on, whatever
// the times between, and counts as settled after its time constant.
func TestAverageIsUnbiased(t *testing.T) {
	var a average
	if a.value() != 0 || a.settled() {
		t.Errorf("%v before anything was observed", a.value())
	}
	seen := time.Duration(0)
	for _, held := range []time.Duration{time.Millisecond, time.Second, 7 * time.Second, 6 * time.Second, time.Second, time.Hour} {
		seen += held
		if a.observe(3, held, rise); math.Abs(a.value()-3) > 1e-9 || a.settled() != (seen >= rise) {
			t.Errorf("after %v: %v, settled %v", seen, a.value(), a.settled())
		}
	}
	a.observe(4, rise, rise)
	if want := 4 - math.Exp(-1); math.Abs(a.value()-want) > 1e-3 {
		t.Errorf("a time constant after a step: %v, want %v", a.value(), want)
	}
}

func TestCrestFallsSlowly(t *testing.T) {
	var c crest
	c.follow(5, time.Millisecond)
	if c != 5 {
		t.Errorf("it rose to %v", c)
	}
	for range 1200 { // two minutes
		c.follow(1, 100*time.Millisecond)
	}
	if want := 1 + 4*math.Exp(-1); math.Abs(float64(c)-want) > 1e-9 {
		t.Errorf("it fell to %v, want %v", c, want)
	}
}
