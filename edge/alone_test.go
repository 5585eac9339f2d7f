package edge

import (
	"errors"
	"fmt"
	"testing"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
)

func TestWhoWaitedInVainGoesAlone(t *testing.T) {
	f := func(want bool, err error, stale bool) {
		t.Helper()
		if got := goesAlone(err, &overflow.Facts{Stale: stale}); got != want {
			t.Errorf("%v, stale %t: %t", err, stale, got)
		}
	}
	led := func(o outcome.Outcome) error {
		return fmt.Errorf("%w: %w", cache.ErrLeaderFailed, &ending{o, outcome.OriginSaturated})
	}
	f(true, cache.ErrCollapseFull, false)
	f(true, cache.ErrCollapseTimeout, true)
	f(true, led(outcome.Shed), true) // it may have been a crawler
	f(false, led(outcome.Failed), true)
	f(true, led(outcome.Stale), false)
	f(false, led(outcome.Stale), true)
	f(true, fmt.Errorf("%w: %w", cache.ErrLeaderFailed, errors.New("other")), true)
	f(false, &ending{outcome.Stale, outcome.OriginSaturated}, true) // its own
	f(false, nil, true)

	// What expired may stand in for an origin that is down, and not for a full one.
	ifDown := &overflow.Facts{StaleIfDown: true}
	down := fmt.Errorf("%w: %w", cache.ErrLeaderFailed, &ending{outcome.Stale, outcome.OriginDown})
	if goesAlone(down, ifDown) || !goesAlone(led(outcome.Stale), ifDown) {
		t.Error("whether an expired entry answers does not follow from why it answered others")
	}
}
