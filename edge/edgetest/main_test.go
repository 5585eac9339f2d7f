package edgetest

import (
	"testing"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
