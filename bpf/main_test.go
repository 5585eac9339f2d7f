package bpf

import (
	"os"
	"testing"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) {
	switch role := os.Getenv(childEnv); role {
	case "":
		leaktest.Main(m)
	case roleGeneration:
		beGeneration()
	default:
		beChild(role == "true")
	}
}
