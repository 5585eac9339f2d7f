package bpf

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if wait := os.Getenv(childEnv); wait != "" {
		beChild(wait == "true")
		return
	}
	goleak.VerifyTestMain(m)
}
