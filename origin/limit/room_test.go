package limit

import "testing"

// TestRoomIsWhatAcquireFinds compares the answers with what a request then gets.
func TestRoomIsWhatAcquireFinds(t *testing.T) {
	l := New(Config{Min: 8, Max: 8})
	var permits []Permit
	for n := range 8 {
		if l.Full(1) || l.Full(0.5) != (n >= 4) {
			t.Errorf("%d of 8 in flight: full %t, at a half %t", n, l.Full(1), l.Full(0.5))
		}
		if limit, inFlight := l.Gate(); limit != 8 || inFlight != n {
			t.Errorf("the gate says %d of %d", inFlight, limit)
		}
		p, ok := l.Acquire(0, 1)
		if !ok {
			t.Fatalf("no permit with %d of 8 in flight", n)
		}
		permits = append(permits, p)
	}
	if _, ok := l.Acquire(0, 1); ok || !l.Full(1) || l.Idle() {
		t.Errorf("8 of 8 in flight: full %t, idle %t", l.Full(1), l.Idle())
	}
	for _, p := range permits {
		p.Release(Cancel)
	}
	if l.Full(1) || !l.Idle() {
		t.Errorf("at rest: full %t, idle %t", l.Full(1), l.Idle())
	}
}
