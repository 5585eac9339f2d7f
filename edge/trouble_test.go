package edge

import (
	"testing"
	"time"
)

func TestTroubleIsToldOnce(t *testing.T) {
	var x trouble
	f := func(at time.Duration, wrong, want bool) {
		t.Helper()
		tell := x.pass
		if wrong {
			tell = x.meet
		}
		if got := tell(day0.Add(at)); got != want {
			t.Errorf("at %v: told %v, want %v", at, got, want)
		}
	}
	f(0, false, false)
	f(0, true, true)
	f(time.Second, true, false)
	f(time.Second, false, false)
	f(troubleOver, false, false) // a second after the last
	f(troubleOver, true, false)  // now and then is not over
	f(2*troubleOver, false, true)
	f(2*troubleOver, false, false)
	f(3*troubleOver, true, true)
}
