package program

import (
	"os"
	"testing"
	"time"
)

func TestParseSchedstat(t *testing.T) {
	f := func(text string, want time.Duration, ok bool) {
		t.Helper()
		if got, err := parseSchedstat([]byte(text)); got != want || (err == nil) != ok {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	f("1234567890 42 7\n", 1234567890, true)
	f("0 0 0\n", 0, true)
	f("", 0, false)
	f("12 13\n", 0, false)
	f("x 1 2\n", 0, false)
}

func TestParseResident(t *testing.T) {
	f := func(text string, want int64, ok bool) {
		t.Helper()
		if got, err := parseResident(text); got != want || (err == nil) != ok {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	f("Name:\tnginx\nVmHWM:\t  9000 kB\nVmRSS:\t  8192 kB\nThreads:\t1\n", 8<<20, true)
	f("Name:\tkthreadd\n", 0, false)
}

func TestUsageOfItself(t *testing.T) {
	before, err := OnCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// The kernel books the time of a thread that runs at its ticks, some milliseconds apart.
	after := before
	for began := time.Now(); err == nil && after <= before && time.Since(began) < 30*time.Second; {
		after, err = OnCPU(os.Getpid())
	}
	if err != nil || after <= before {
		t.Errorf("%v of CPU time, then %v, %v", before, after, err)
	}
	if resident, err := Resident(os.Getpid()); err != nil || resident < 1<<20 {
		t.Errorf("%d bytes of memory, %v", resident, err)
	}
	if _, err := OnCPU(1 << 30); err == nil {
		t.Error("a process that is not there has CPU time")
	}
}
