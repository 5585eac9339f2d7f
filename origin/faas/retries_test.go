package faas

import (
	"testing"
	"time"
)

func TestRetries(t *testing.T) {
	var r retries
	f := func(what string, after time.Duration, want int) {
		t.Helper()
		n := 0
		for r.allow(start.Add(after)) {
			n++
		}
		if n != want {
			t.Errorf("%s: %d retries, want %d", what, n, want)
		}
	}
	f("at first", 0, retriesSaved)
	f("at once again", 0, 0)
	f("a second later", time.Second, retriesASecond)
	f("a clock that goes back", -time.Hour, 0)
	for range 51 {
		r.earn()
	}
	f("after fifty-one that succeeded", time.Second, 5)
	f("an hour later", time.Hour, retriesSaved)
}
