package demo

import (
	"testing"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
