package bpf

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(childEnv); role {
	case "":
		goleak.VerifyTestMain(m)
	case roleGeneration:
		beGeneration()
	default:
		beChild(role == "true")
	}
}
