package crowd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The bounds of a phase keep a slip of the keyboard from asking for a crowd that
// no machine can play, or for a schedule whose arithmetic overflows.
const (
	maxRate  = 1e6
	maxPhase = 24 * time.Hour
)

// A Phase is a stretch of the schedule during which visitors arrive at a rate
// that is constant or changes linearly.
type Phase struct {
	Name   string        // as it was written: 10x, 100/s, 0.5x..3x
	From   float64       // visitors per second at its start
	To     float64       // visitors per second at its end
	Length time.Duration // how long it lasts
}

// expected returns how many visitors arrive in the phase on average.
func (p Phase) expected() float64 { return (p.From + p.To) / 2 * p.Length.Seconds() }

// at returns the rate at time t of the phase.
func (p Phase) at(t time.Duration) float64 {
	return p.From + (p.To-p.From)*t.Seconds()/p.Length.Seconds()
}

// ParsePhases reads a schedule such as "0.5x:20s,0.5x..10x:5s,10x:20s". A rate is
// a multiple of capacity (10x) or visitors per second (100/s); two rates with
// ".." between them are a ramp.
func ParsePhases(s string, capacity float64) ([]Phase, error) {
	if !(capacity > 0 && capacity <= maxRate) { // also refuses NaN
		return nil, fmt.Errorf("capacity %g: must be above 0 and at most %g visitors per second", capacity, float64(maxRate))
	}
	var phases []Phase
	for part := range strings.SplitSeq(s, ",") {
		p, err := parsePhase(strings.TrimSpace(part), capacity)
		if err != nil {
			return nil, fmt.Errorf("phase %q: %w", part, err)
		}
		phases = append(phases, p)
	}
	return phases, nil
}

func parsePhase(s string, capacity float64) (Phase, error) {
	name, length, ok := strings.Cut(s, ":")
	if !ok {
		return Phase{}, errors.New("must be RATE:DURATION, such as 10x:20s or 100/s:10s")
	}
	from, to, ramp := strings.Cut(name, "..")
	if !ramp {
		to = from
	}
	p := Phase{Name: name}
	var err error
	if p.From, err = parseRate(from, capacity); err != nil {
		return Phase{}, err
	}
	if p.To, err = parseRate(to, capacity); err != nil {
		return Phase{}, err
	}
	if p.Length, err = time.ParseDuration(length); err != nil {
		return Phase{}, fmt.Errorf("duration %q: must be a number with a unit, such as 20s", length)
	}
	if p.Length < time.Millisecond || p.Length > maxPhase {
		return Phase{}, fmt.Errorf("duration %s: must be between 1ms and %s", p.Length, maxPhase)
	}
	return p, nil
}

func parseRate(s string, capacity float64) (float64, error) {
	number, scale := s, 0.0
	if n, ok := strings.CutSuffix(s, "x"); ok {
		number, scale = n, capacity
	} else if n, ok := strings.CutSuffix(s, "/s"); ok {
		number, scale = n, 1
	} else {
		return 0, fmt.Errorf("rate %q: needs a unit, x of the capacity or /s", s)
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("rate %q: not a number", s)
	}
	v *= scale
	if !(v >= 0 && v <= maxRate) { // also refuses NaN
		return 0, fmt.Errorf("rate %q: must be between 0 and %g visitors per second", s, float64(maxRate))
	}
	return v, nil
}

// Stretch returns the phases stretched or shrunk so that together they last d.
func Stretch(phases []Phase, d time.Duration) []Phase {
	factor := d.Seconds() / Length(phases).Seconds()
	out := make([]Phase, len(phases))
	for i, p := range phases {
		p.Length = max(time.Duration(float64(p.Length)*factor), time.Millisecond)
		out[i] = p
	}
	return out
}

// Length returns how long the phases last together.
func Length(phases []Phase) time.Duration {
	var d time.Duration
	for _, p := range phases {
		d += p.Length
	}
	return d
}

// phaseAt returns the index of the phase at time t and the rate then. Past the
// end it stays in the last phase, at rate 0.
func phaseAt(phases []Phase, t time.Duration) (int, float64) {
	for i, p := range phases {
		if t < p.Length {
			return i, p.at(t)
		}
		t -= p.Length
	}
	return len(phases) - 1, 0
}
