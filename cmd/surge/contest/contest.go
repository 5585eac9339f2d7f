// Package contest plays the same flash crowds against Spillway and against what
// else one could put there, and says who did how well: HAProxy with the right
// number, with wrong ones, no control at all, and other people's rules in our own
// listeners.
//
// Every contender meets the same arrivals with the same service times, drawn from
// the seed, and an oracle replays them in virtual time as the measure of what was
// possible. Work is counted at the origin, latency at the client, money at the
// platform. With several seeds a difference counts when it is larger than half the
// range of the differences by seed.
//
// Each finished run is a file, so a contest that was interrupted goes on where it
// was. A run in which the driver was late, or the machine full, is marked and not
// counted: it tells of the machine. A contender that is not installed is left out,
// and the report says so.
//
// One process holds the crowd, the origin, the functions and the network; the
// contender is another. All share the machine: the CPU time of a contender is
// exact, latencies under 2 ms are not.
package contest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"spillway/cmd/surge/contest/foreign"
	"spillway/cmd/surge/program"
)

// Options say what to play.
type Options struct {
	Scenarios  []string // empty: all
	Contenders []string // empty: those of each scenario
	Dir        string   // of the results
	Short      bool     // a third of the time, one seed: to see that all works
	Again      bool     // also what has been played
	Show       bool     // nothing: only collect what has been played
}

// shortFactor is how much of each schedule a short contest plays.
const shortFactor = 1. / 3

// A contest is under way.
type contest struct {
	o        Options
	store    store
	progress io.Writer
	notes    []string
	results  []Result
	plans    []*plan // one of each scenario, for the report
}

// run plays what has not been played and collects all results.
func run(ctx context.Context, o Options, progress io.Writer) (*contest, error) {
	c := &contest{o: o, progress: progress, store: store{o.Dir}}
	if o.Short {
		c.store.dir = filepath.Join(o.Dir, "short")
	}
	scenarios, err := c.chosen()
	if err != nil {
		return nil, err
	}
	for i := range scenarios {
		if err := c.scenario(ctx, &scenarios[i]); err != nil {
			return c, err
		}
	}
	c.compareBuilds()
	return c, nil
}

// chosen returns the scenarios to play.
func (c *contest) chosen() ([]Scenario, error) {
	all := Scenarios()
	for _, name := range c.o.Scenarios {
		if !slices.ContainsFunc(all, func(s Scenario) bool { return s.Name == name || s.group() == name }) {
			return nil, fmt.Errorf("scenario %q: there is none of that name", name)
		}
	}
	for _, name := range c.o.Contenders {
		if _, err := contender(name); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(s Scenario) bool {
		return len(c.o.Scenarios) > 0 && !slices.Contains(c.o.Scenarios, s.Name) && !slices.Contains(c.o.Scenarios, s.group())
	}), nil
}

// group is a name for several scenarios.
func (s *Scenario) group() string {
	if s.Foreign != "" {
		return "foreign"
	}
	return "crowd"
}

// scenario plays all seeds of a scenario, the contenders of a seed one after the
// other, so that the machine's mood hits all of them.
func (c *contest) scenario(ctx context.Context, s *Scenario) error {
	if s.fit != nil {
		m, err := c.machine(ctx, s)
		if err != nil || m.Cores == 0 {
			return err // there is nothing to show
		}
		s.fit(s, m)
	}
	if c.o.Short {
		s.shorten(shortFactor)
	}
	for seed := range uint64(s.Seeds) {
		p, err := newPlan(s, seed+1)
		if err != nil {
			return err
		}
		if seed == 0 {
			s.Right = p.ideal.bare
			c.plans = append(c.plans, p)
		}
		for _, name := range c.playing(s) {
			if err := c.one(ctx, p, seed+1, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// playing is who plays a scenario: its own contenders, of those that were asked for.
// A fixed limit can be asked for anywhere.
func (c *contest) playing(s *Scenario) []string {
	if len(c.o.Contenders) == 0 {
		return s.Contenders
	}
	return slices.DeleteFunc(slices.Clone(c.o.Contenders), func(name string) bool {
		return !slices.Contains(s.Contenders, name) && !strings.HasPrefix(name, "fixed-")
	})
}

// one plays a run, or finds that it has been played.
func (c *contest) one(ctx context.Context, p *plan, seed uint64, name string) error {
	who, err := contender(name)
	if err != nil {
		return err
	}
	plan := p.digest()
	if !c.o.Again || c.o.Show {
		r, err := c.store.load(p.scenario.Name, name, seed, plan)
		if err != nil {
			return err
		}
		if r != nil && (r.Invalid == "" || c.o.Show) {
			c.results = append(c.results, *r)
			return nil
		}
	}
	if c.o.Show {
		return nil
	}
	began := time.Now()
	fmt.Fprintf(c.progress, "%s  %-9s %-14s seed %d: ", began.Format("15:04:05"), p.scenario.Name, name, seed)
	e, s, err := play(ctx, p, seed, who)
	if err != nil {
		return c.forgive(ctx, p.scenario.Name, name, err)
	}
	r := e.result(s, who, seed, plan)
	if r.Build, err = build(name); err != nil {
		return err
	}
	fmt.Fprintln(c.progress, r.line())
	c.results = append(c.results, r)
	return c.store.save(r)
}

// forgive leaves out what cannot be played, and says so; but nothing goes on when
// the contest itself was ended.
func (c *contest) forgive(ctx context.Context, scenario, name string, err error) error {
	if ctx.Err() != nil {
		fmt.Fprintln(c.progress, "interrupted")
		return context.Cause(ctx)
	}
	note := fmt.Sprintf("%s on %s was not played: %v", name, scenario, err)
	if missing := (*foreign.MissingError)(nil); errors.As(err, &missing) {
		note = missing.Error() + "; " + name + " on " + scenario + " was not played"
	}
	fmt.Fprintln(c.progress, "not played:", err)
	if !slices.Contains(c.notes, note) {
		c.notes = append(c.notes, note)
	}
	return nil
}

// line is a run in a few words.
func (r *Result) line() string {
	var parts []string
	for _, name := range []string{"goodput_all", "p99_peak", "p999_all", "errors", "spill_0.9x", "cpu"} {
		if v, ok := r.Measures[name]; ok {
			parts = append(parts, name+" "+format(name, v))
		}
	}
	if r.Invalid != "" {
		parts = append(parts, "INVALID: "+r.Invalid)
	}
	return strings.Join(parts, ", ")
}

// build is a fingerprint of a contender's program. HAProxy's is that of Debian.
func build(name string) (string, error) {
	executable := "surge"
	switch {
	case isSpillway(name):
		executable = "spillway"
	case strings.HasPrefix(name, "haproxy"):
		return "", nil
	}
	path, err := program.Path(executable)
	if err != nil {
		return "", err
	}
	return digestFile(path)
}

// compareBuilds notes that results of different builds stand beside each other.
func (c *contest) compareBuilds() {
	builds := map[string]bool{}
	for _, r := range c.results {
		if isSpillway(r.Contender) {
			builds[r.Build] = true
		}
	}
	if len(builds) > 1 {
		c.notes = append(c.notes, fmt.Sprintf("Spillway's runs are of %d different builds; --again plays them anew.", len(builds)))
	}
}
