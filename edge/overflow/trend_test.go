package overflow

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
)

func TestTrend(t *testing.T) {
	f := func(what string, value func(bin int) float64, ahead time.Duration, low, high float64) {
		t.Helper()
		var trend Trend
		for bin := range 50 {
			trend.Observe(value(bin))
		}
		if got := trend.Ahead(ahead); got < low || got > high {
			t.Errorf("%s: %v, want %v to %v", what, got, low, high)
		}
	}
	f("steady", func(int) float64 { return 20 }, time.Minute, 19.9, 20.1)
	f("rising by one a bin", func(bin int) float64 { return float64(bin) }, 600*time.Millisecond, 54.5, 55.5)
	f("falling to nothing", func(bin int) float64 { return max(0, 40-float64(bin)) }, time.Minute, 0, 0)
	f("a step, three bins ago", func(bin int) float64 { return 10 + 90*float64(bin/47) }, 0, 90, 110)
	if (&Trend{}).Ahead(time.Hour) != 0 || (&Trend{}).Level() != 0 {
		t.Error("a trend out of nothing")
	}
}

func TestTrendIsNeverNegative(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var trend Trend
		for _, v := range rapid.SliceOf(rapid.Float64Range(0, 1e9)).Draw(t, "values") {
			trend.Observe(v)
			if ahead := trend.Ahead(time.Second); !(ahead >= 0) || math.IsInf(ahead, 0) || trend.Level() < 0 {
				t.Fatalf("%v ahead of %v", ahead, trend.Level())
			}
		}
	})
}

func TestInstances(t *testing.T) {
	f := func(rate float64, call time.Duration, want int) {
		t.Helper()
		if got := Instances(rate, call); got != want {
			t.Errorf("%v calls a second of %v: %d, want %d", rate, call, got, want)
		}
	}
	f(0, time.Second, 0)
	f(-5, time.Second, 0)
	f(math.NaN(), time.Second, 0)
	f(1, 10*time.Millisecond, 9)
	f(1800, 60*time.Millisecond, 149)
	f(math.Inf(1), time.Second, 1<<20+8)
}

// A function is asked beside the origin for safe methods, and where it could be
// asked in the origin's stead.
func TestHedge(t *testing.T) {
	f := func(facts Facts, function int, ok bool) {
		t.Helper()
		if got, may := Hedge(&facts); may != ok || may && got != function {
			t.Errorf("%+v: %d, %t", facts, got, may)
		}
	}
	f(Facts{Policy: policy, Method: "GET", BodyKept: true, Functions: ready}, 0, true)
	f(Facts{Policy: policy, Method: "GET", BodyKept: true, Functions: []Candidate{{Reason: outcome.FunctionBusy}, {}}}, 1, true)
	f(Facts{Policy: policy, Method: "PUT", BodyKept: true, Functions: ready}, 0, false)
	f(Facts{Policy: policy, Method: "GET", BodyKept: true, Functions: ready, Barred: outcome.Crawler}, 0, false)
	f(Facts{Policy: policy, Method: "GET", Functions: ready}, 0, false)
	f(Facts{Method: "GET", BodyKept: true, Functions: ready}, 0, false)
}

// A function gets a request, too, where it could have had it alone, nothing can
// happen twice, and the origin had room.
func TestExercise(t *testing.T) {
	f := func(facts Facts, want bool) {
		t.Helper()
		if got := Exercise(&facts); got != want {
			t.Errorf("%+v: %t", facts, got)
		}
	}
	all := New(Config{Methods: []string{"GET", "HEAD", "OPTIONS", "POST"}})
	f(Facts{Policy: policy, Method: "GET", BodyKept: true}, true)
	f(Facts{Policy: policy, Method: "HEAD", BodyKept: true}, true)
	f(Facts{Policy: all, Method: "POST", BodyKept: true}, false)
	f(Facts{Policy: all, Method: "OPTIONS", BodyKept: true}, false)
	f(Facts{Policy: New(Config{Methods: []string{"POST"}}), Method: "GET", BodyKept: true}, false)
	f(Facts{Method: "GET", BodyKept: true}, false)
	f(Facts{Policy: policy, Method: "GET"}, false)
	f(Facts{Policy: policy, Method: "GET", BodyKept: true, Barred: outcome.Crawler}, false)
	f(Facts{Policy: policy, Method: "GET", BodyKept: true, Waited: outcome.OriginSaturated}, false)
}
