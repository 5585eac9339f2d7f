package admit

import (
	"testing"
	"time"

	"spillway/edge/synctest"
)

// TestOverwhelmed: only the last level overwhelms, only while admission is enforced, and
// not for longer than a level lasts that nobody renews.
func TestOverwhelmed(t *testing.T) {
	f := func(enforce bool, level Level, want bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(Config{Enforce: enforce, HandshakesPerCore: 500, HalfOpen: 1000}, 2)
			if err := c.SetLevel(level, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if got := c.Overwhelmed(); got != want {
				t.Errorf("level %v, enforced %v: %v, want %v", level, enforce, got, want)
			}
			time.Sleep(stale + time.Second)
			if c.Overwhelmed() {
				t.Errorf("level %v still overwhelms", level)
			}
		})
	}
	f(true, Normal, false)
	f(true, Shedding, false)
	f(true, Closed, true)
	f(false, Closed, false)
}
