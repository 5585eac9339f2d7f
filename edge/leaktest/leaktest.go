// Package leaktest fails a package's tests when goroutines are left behind the last. It
// is patient, as a busy machine needs, and says nothing of those that go by themselves.
package leaktest

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines may take to end. Those that are left for ever are found
// as well after a minute.
const patience = time.Minute

// Main runs the tests of a package and ends the process, as [goleak.VerifyTestMain] does,
// which looks for only 0.4 s.
func Main(m *testing.M) { os.Exit(run(m, os.Stderr, patience)) }

func run(m interface{ Run() int }, stderr io.Writer, patience time.Duration) int {
	if code := m.Run(); code != 0 {
		return code
	}
	deadline := time.Now().Add(patience)
	for {
		left := goleak.Find()
		if left == nil {
			return 0
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(stderr, "goroutines are left behind the last test: %v\n", left)
			return 1
		}
	}
}
