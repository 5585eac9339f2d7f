package edge

import (
	"math/rand/v2"
	"net/http/httptest"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/overflow"
)

func TestHedgeLearnsWhatIsLate(t *testing.T) {
	for _, mean := range []time.Duration{200 * time.Microsecond, 20 * time.Millisecond, 2 * time.Second} {
		h := newHedge(0.02)
		rng := rand.New(rand.NewPCG(1, 2))
		late, all := 0, 0
		for i := range 20_000 {
			h.note(false)
			d := time.Duration(rng.ExpFloat64() * float64(mean))
			if after, may := h.after(); i >= 2000 {
				if !may {
					t.Fatalf("no hedge may be made after %d requests", i)
				}
				if all++; d > after {
					late++
				}
			}
			h.learn(d)
		}
		if share := float64(late) / float64(all); share < 0.04 || share > 0.06 {
			t.Errorf("mean %v: %.3f of the requests are late", mean, share)
		}
	}
}

func TestHedgeHoldsBack(t *testing.T) {
	known := func(share float64) *hedge {
		h := newHedge(share)
		for range 1000 {
			h.note(false)
			h.learn(time.Millisecond)
		}
		return h
	}
	if h := newHedge(0); h != nil {
		t.Error("hedges without a share")
	}
	var off *hedge
	off.note(true)
	if _, may := off.after(); may {
		t.Error("a nil hedge hedges")
	}
	h := newHedge(0.02)
	for range hedgeKnown - 1 {
		h.note(false)
		h.learn(time.Millisecond)
	}
	if _, may := h.after(); may {
		t.Error("hedges by what it hardly knows")
	}
	h = known(0.02)
	for range 100 {
		h.note(true)
	}
	if _, may := h.after(); may {
		t.Error("hedges while most requests spill")
	}
	for range 100 {
		h.note(false)
	}
	if _, may := h.after(); !may {
		t.Error("does not hedge after that")
	}
}

func TestHedgeKeepsToItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(0.001, 0.02).Draw(t, "share")
		h, asked, spent := newHedge(share), 0, 0
		for _, tries := range rapid.SliceOf(rapid.IntRange(0, 5)).Draw(t, "tries") {
			h.note(false)
			asked++
			for range tries {
				if h.spend() {
					spent++
				}
			}
			if float64(spent) > share*float64(asked)+1e-9 {
				t.Fatalf("%d of %d, the share is %v", spent, asked, share)
			}
		}
	})
}

// A visitor who has been answered by what had expired waits for no function.
func TestHedgeIsForVisitors(t *testing.T) {
	functions, _ := someFunctions(1)
	policy := overflow.New(overflow.Config{To: []string{"f"}, Methods: []string{"GET"}})
	for _, unwanted := range []bool{false, true} {
		l := &ladder{
			route: &route{policy: policy, functions: functions, shedUnpaid: []bool{false}, hedge: newHedge(1)}, // nothing saved
			facts: overflow.Facts{Policy: policy, Method: "GET", BodyKept: true},
		}
		l.unwanted.Store(unwanted)
		l.startHedge(t.Context(), httptest.NewRequest("GET", "/", nil))
		if _, may := overflow.Hedge(&l.facts); may == unwanted {
			t.Errorf("unwanted %t: may hedge %t", unwanted, may)
		}
	}
}
