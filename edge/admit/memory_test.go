package admit

import "testing"

func TestMemTotal(t *testing.T) {
	f := func(text string, want int64, ok bool) {
		t.Helper()
		if got, gotOK := memTotal(text); gotOK != ok || ok && got != want {
			t.Errorf("%q: %d, %v", text, got, gotOK)
		}
	}
	f("MemTotal:        4028440 kB\nMemFree: 1 kB\n", 4028440<<10, true)
	f("MemFree: 1 kB\nMemTotal: 8 kB\n", 8<<10, true)
	f("MemTotal: many kB\n", 0, false)
	f("", 0, false)
}

func TestCgroupLimit(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		if got := cgroupLimit(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	f("max\n", 1<<63-1)
	f("1073741824\n", 1<<30)
	f("", 1<<63-1)
	f("-1\n", 1<<63-1)
}

func TestConnectionsFor(t *testing.T) {
	f := func(bytes, want int64) {
		t.Helper()
		if got := connectionsFor(bytes); got != want {
			t.Errorf("%d bytes: %d, want %d", bytes, got, want)
		}
	}
	f(1<<30, 5461)
	f(64<<20, 1000)
}
