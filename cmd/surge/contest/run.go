package contest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"spillway/cmd/surge/contest/load"
	"spillway/cmd/surge/program"
)

// lanes is how many connections the crowd shares. It dials no more while it plays:
// the contest is about requests, and a TLS handshake would cost ten of them.
const lanes = 64

// patience is how long a visitor stays. It is longer than a request is of use to
// the measures, so that what is late shows as late.
const patience = 5 * time.Second

// settle is how long the functions have to finish what they run when the crowd is
// gone, so that the bill is whole.
const settle = 5 * time.Second

// play runs one contender through a plan.
func play(ctx context.Context, p *plan, seed uint64, c Contender) (*evidence, *stage, error) {
	dir, err := os.MkdirTemp("", "surge-contest-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	// The crowd leaves much garbage and keeps little.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	s, err := raise(ctx, dir, p, seed, c)
	defer s.lower()
	if err != nil {
		return nil, nil, err
	}
	e := &evidence{plan: p, ledger: math.NaN()}
	before, err := program.CPU(s.edge.Pid())
	if err != nil {
		return nil, nil, err
	}
	own := ownCPU()
	over, end := context.WithCancel(ctx)
	defer end()
	var beside sync.WaitGroup
	var failed error
	e.samples, err = load.Play(ctx, s.crowd(c), p.sent(), func(start time.Time) {
		e.start = start.Round(0) // visits are told in wall time
		beside.Go(func() { failed = s.follow(over, start) })
		beside.Go(func() { e.busy = watchMachine(over) })
		if s.edge.admin != "" {
			beside.Go(func() { e.limits = watchLimit(over, s.edge.admin) })
		}
	})
	after, cpuErr := program.CPU(s.edge.Pid())
	e.cpu, e.own = after-before, ownCPU()-own
	s.settle(ctx)
	end()
	beside.Wait()
	if err := errors.Join(err, cpuErr, failed); err != nil {
		return nil, nil, err
	}
	e.bill, e.stats = s.functions.Bill(), s.functions.Stats()
	if s.edge.admin != "" {
		node, err := askNode(ctx, s.edge.admin)
		if err != nil {
			return nil, nil, err
		}
		e.ledger = node.Functions["spill"].CostUSD
	}
	s.mu.Lock()
	e.visits = s.visits
	s.visits = nil // those who end later come too late
	s.mu.Unlock()
	if p.scenario.Foreign != "" {
		e.nameOrigin()
	}
	return e, s, nil
}

// nameOrigin says where answers came from that do not say it themselves: a foreign
// origin's.
func (e *evidence) nameOrigin() {
	for i := range e.samples {
		if s := &e.samples[i]; s.OK() && s.Place == "" {
			s.Place = "origin"
		}
	}
}

// ownCPU is the CPU time of this process: the crowd, the origin and the functions.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crowd says how the plan is played.
func (s *stage) crowd(c Contender) load.Config {
	return load.Config{
		Protocol: c.Protocol, Address: s.address, Alone: s.alone, RootCAs: s.roots, Lanes: lanes,
		Patience: max(patience, s.plan.scenario.Patience), Retries: s.plan.scenario.Retries, RetryAfter: time.Second,
	}
}

// sent is the requests as the driver sends them.
func (p *plan) sent() []load.Request {
	all := make([]load.Request, len(p.requests))
	for i, r := range p.requests {
		all[i] = r.Request
	}
	return all
}

// follow makes the events happen.
func (s *stage) follow(ctx context.Context, start time.Time) error {
	for _, e := range s.plan.scenario.Events {
		select {
		case <-time.After(time.Until(start.Add(e.At))):
		case <-ctx.Done():
			return nil
		}
		if err := s.act(e); err != nil {
			return fmt.Errorf("%s: %w", e.Text, err)
		}
	}
	return nil
}

// settle waits until the platform runs nothing any more.
func (s *stage) settle(ctx context.Context) {
	for end := time.Now().Add(settle); s.functions.Stats().Running > 0 && time.Now().Before(end); {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// watchMachine returns the share of the CPU time in use in each second.
func watchMachine(ctx context.Context) []float64 {
	var busy []float64
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	idle, total := machineTime()
	for {
		select {
		case <-ctx.Done():
			return busy
		case <-tick.C:
		}
		i, t := machineTime()
		if t > total {
			busy = append(busy, 1-(i-idle)/(t-total))
		}
		idle, total = i, t
	}
}

// machineTime is the idle and the whole CPU time of the machine, in ticks.
func machineTime() (idle, total float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var ticks [8]float64 // user, nice, system, idle, iowait, irq, softirq, steal
	for i, field := range strings.Fields(line) {
		if i == 0 || i > len(ticks) {
			continue
		}
		if _, err := fmt.Sscan(field, &ticks[i-1]); err != nil {
			return 0, 0
		}
		total += ticks[i-1]
	}
	return ticks[3] + ticks[4], total
}
