package budget

import (
	"math"
	"time"
)

// memory is over which time spending is averaged for a forecast. Not a knob.
const memory = time.Minute

// pace is how fast money is spent: an average that fades.
type pace struct {
	at   time.Time
	heat float64
}

func (p *pace) add(now time.Time, amount float64) {
	p.fade(now)
	p.heat += amount
}

// fade works in whole seconds: an exponential for each call would be waste.
func (p *pace) fade(now time.Time) {
	if d := now.Sub(p.at); d >= time.Second {
		p.heat *= math.Exp(-d.Seconds() / memory.Seconds())
		p.at = now
	}
}

// rate is in US dollars a second.
func (p *pace) rate(now time.Time) float64 {
	p.fade(now)
	return p.heat / memory.Seconds()
}
