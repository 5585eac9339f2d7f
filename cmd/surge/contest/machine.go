package contest

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"time"
)

// A Machine is what one request of a scenario costs here, in microseconds of CPU
// time: the dearest contender's.
type Machine struct {
	Bench float64 `json:"bench_us"` // the crowd, the network, the origin and the functions
	Edge  float64 `json:"edge_us"`
	Cores int     `json:"cores"`
}

// perSecond is how many requests a second this machine can play and leave a third of
// itself free: latencies of a full machine are those of its scheduler.
func (m Machine) perSecond() float64 {
	return max(100, math.Floor(float64(m.Cores)*1e6/(m.Bench+m.Edge)*2/3/100)*100)
}

func (m Machine) String() string {
	return fmt.Sprintf("This machine can play %.0f requests a second: for each, the crowd, the origin and the functions take %.0f us of CPU time and the edge "+
		"%.0f us, and there are %d cores", m.perSecond(), m.Bench, m.Edge, m.Cores)
}

// stretchToFit slows the origin down, so that the machine can play the crowd with
// as many in flight as without.
func stretchToFit(s *Scenario, m Machine) {
	named := s.peak()
	if s.stretch(m.perSecond()); s.Stretched == 1 {
		return
	}
	s.About += fmt.Sprintf(" As named it would be %.0f requests a second at its peak. %s. So the origin's times are %.1f times as long, %s, and all rates as much "+
		"lower; numbers in flight and shares mean what they say, but the run holds as many times fewer requests to learn from.",
		named, m, s.Stretched, s.Origin.Service.Round(time.Millisecond))
}

// lowerToFit takes the top off the crowd, where the origin's times must keep their
// proportion to those of the network.
func lowerToFit(s *Scenario, m Machine) {
	multiple := math.Floor(2*m.perSecond()/s.capacity()) / 2
	if named := s.peak(); s.lower(max(1.5, multiple)) {
		s.About += fmt.Sprintf(" As named it would be %.0f requests a second at its peak. %s. So the crowd is of at most %gx.", named, m, max(1.5, multiple))
	}
}

// machine measures, or finds, what a request of a scenario costs: by a load of 600
// a second for five seconds. Without either it is the zero Machine.
func (c *contest) machine(ctx context.Context, like *Scenario) (Machine, error) {
	file := filepath.Join(c.store.dir, like.Name, "machine.json")
	var m Machine
	if !c.o.Again && readJSON(file, &m) == nil && m.Bench > 0 && m.Edge > 0 && m.Cores == runtime.NumCPU() {
		return m, nil
	}
	if c.o.Show {
		return Machine{}, nil
	}
	s := *like
	// The reference's capacity is enough: the others go to the functions, as they do
	// in the crowd.
	s.Origin.Slots, s.Phases, s.Events = reference().Slots, "600/s:5s", nil
	p, err := newPlan(&s, 1)
	if err != nil {
		return m, err
	}
	m.Cores = runtime.NumCPU()
	for _, name := range s.Contenders {
		if !isSpillway(name) {
			continue
		}
		who, err := contender(name)
		if err != nil {
			return m, err
		}
		fmt.Fprintf(c.progress, "%s  %-9s %-14s what a request costs: ", time.Now().Format("15:04:05"), s.Name, name)
		e, _, err := play(ctx, p, 1, who)
		if err != nil {
			return m, fmt.Errorf("measure the machine: %w", err)
		}
		n := float64(len(e.samples))
		bench, edge := float64(e.own.Microseconds())/n, float64(e.cpu.Microseconds())/n
		fmt.Fprintf(c.progress, "%.0f us the bench, %.0f us the edge\n", bench, edge)
		if bench+edge > m.Bench+m.Edge {
			m.Bench, m.Edge = bench, edge
		}
	}
	return m, writeJSON(file, m)
}
