package foreign

import (
	"errors"
	"testing"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestUnknownOrigin(t *testing.T) {
	if _, err := Start(t.Context(), "apache"); err == nil {
		t.Error("an origin was started that is not there")
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	_, err := find("no-such-program[0-9]*", t.TempDir())
	if missing := (*MissingError)(nil); !errors.As(err, &missing) || missing.Program != "no-such-program" {
		t.Errorf("error %v", err)
	}
}
