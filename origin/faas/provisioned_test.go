package faas

import (
	"log/slog"
	"testing"
	"time"

	"spillway/origin/faas/budget"
)

// Instances that are kept ready are paid though nobody calls them, and though
// nothing is left.
func TestProvisionedInstancesArePaid(t *testing.T) {
	b := budget.New("spill", budget.Config{PerHour: 0.01})
	c := Config{Memory: 2 << 30, Provisioned: 3, Price: PriceConfig{Platform: "none", PerProvisionedGBHour: new(0.015)}}
	f := New("thumb", c, answering(200, "", true), b, slog.New(slog.DiscardHandler))
	for range 60 {
		f.Hold(time.Minute)
	}
	const want = 3 * 2 * 0.015
	if s := f.State(); !near(spent(b), want) || !near(s.CostUSD, want) || !near(s.HeldUSD, want) || b.Left(time.Now()) != 0 {
		t.Errorf("spent %v, state %+v, want %v", spent(b), s, want)
	}
	if c.Free() {
		t.Error("what is kept ready is not free")
	}
	c.Provisioned = 0
	New("thumb", c, answering(200, "", true), b, slog.New(slog.DiscardHandler)).Hold(time.Hour)
	if !near(spent(b), want) || !c.Free() {
		t.Errorf("without instances: spent %v", spent(b))
	}
}
