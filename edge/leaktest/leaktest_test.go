package leaktest

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// tests that start goroutines and end with a code.
type tests func() int

func (f tests) Run() int { return f() }

func TestLeaks(t *testing.T) {
	end := make(chan struct{})
	defer close(end)
	f := func(tests tests, patience time.Duration, code int, says string) {
		t.Helper()
		var out bytes.Buffer
		if got := run(tests, &out, patience); got != code || !strings.Contains(out.String(), says) || (says == "") != (out.Len() == 0) {
			t.Errorf("ends with %d, want %d, and says %q", got, code, &out)
		}
	}
	f(func() int { return 0 }, 0, 0, "")
	f(func() int { return 7 }, 0, 7, "")
	f(func() int { go time.Sleep(1500 * time.Millisecond); return 0 }, time.Minute, 0, "")
	f(func() int { go func() { <-end }(); return 0 }, 0, 1, "leaktest.TestLeaks.")
}
