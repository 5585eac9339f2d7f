package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// A scene is a crowd on a path that nobody has asked for yet.
type scene struct {
	name    string
	path    string // an ID is appended
	crowd   int
	late    time.Duration // by which all but the first ask later
	aim     string
	measure func(collapsed) time.Duration
}

var scenes = []scene{
	{name: "may be shared", path: "/shared/", crowd: 100, aim: "1 request, 1.02 s", measure: collapsed.whole},
	{name: "may not be", path: "/private/", crowd: 100, aim: "100 requests, 2.0 s", measure: collapsed.whole},
	{name: "may not be, again", path: "/private/", crowd: 100, aim: "100 requests, 1.02 s", measure: collapsed.whole},
	{
		name: "drips for 2 s, 19 join late", path: "/drip/", crowd: 20, late: 500 * time.Millisecond,
		aim: "1 request, first byte 10 ms", measure: collapsed.lateFirst,
	},
}

// A collapsed is what a crowd met.
type collapsed struct {
	requests int // that the origin saw
	total    time.Duration
	first    []time.Duration // until the first byte of the body, of each visitor but the first
}

func (c collapsed) whole() time.Duration { return c.total }

func (c collapsed) lateFirst() time.Duration {
	return slices.Sorted(slices.Values(c.first))[len(c.first)/2]
}

// A collapse is what a scene came to at a peer.
type collapse struct {
	Peer     string `json:"peer"`
	Scene    string `json:"scene"`
	Aim      string `json:"aim"`
	Requests []int  `json:"origin_requests"` // of each round
	// Seconds is until all had their answer or, where visitors join late, until the
	// first byte of the median one of them: the median of the rounds.
	Seconds float64   `json:"seconds"`
	Rounds  []float64 `json:"rounds_s"` // sorted
}

// collapseRounds is how often each scene is played.
const collapseRounds = 3

// measureCollapse plays all scenes at all caches, in turn.
func (f *field) measureCollapse(ctx context.Context, o options, progress io.Writer) ([]collapse, error) {
	caches := slices.DeleteFunc(slices.Clone(f.peers), func(p *peer) bool { return p.Name == bare })
	all := make([]collapse, 0, len(scenes)*len(caches))
	for _, s := range scenes {
		for _, p := range caches {
			all = append(all, collapse{Peer: p.Name, Scene: s.name, Aim: s.aim})
		}
	}
	for round := range min(o.rounds, collapseRounds) {
		for i, s := range scenes {
			for j, p := range caches {
				c, err := f.play(ctx, p, s, fmt.Sprintf("%s%s-%d", s.path, p.Name, round))
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", p.Name, s.name, err)
				}
				at := &all[i*len(caches)+j]
				at.Requests, at.Rounds = append(at.Requests, c.requests), append(at.Rounds, s.measure(c).Seconds())
				fmt.Fprintf(progress, "%s, round %d: %s %d requests, %.3f s\n", s.name, round+1, p.Name, c.requests, s.measure(c).Seconds())
			}
		}
	}
	for i := range all {
		all[i].Seconds = median(all[i].Rounds)
		slices.Sort(all[i].Rounds)
	}
	return all, nil
}

// play sends a crowd. All have their connection before the first of them asks.
func (f *field) play(ctx context.Context, p *peer, s scene, path string) (collapsed, error) {
	crowd := make([]*visitor, s.crowd)
	for i := range crowd {
		crowd[i] = h1.visit(p.address, p.Plain)
		defer crowd[i].close()
		if _, err := crowd[i].ask(ctx, "/bytes/1"); err != nil {
			return collapsed{}, err
		}
	}
	asked := f.source.Count(path)
	answers, errs := make([]answer, s.crowd), make([]error, s.crowd)
	var asking sync.WaitGroup
	began := time.Now()
	for i, v := range crowd {
		asking.Go(func() {
			if i > 0 {
				time.Sleep(time.Until(began.Add(s.late)))
			}
			answers[i], errs[i] = v.ask(ctx, path)
		})
	}
	asking.Wait()
	c := collapsed{requests: f.source.Count(path) - asked, total: time.Since(began)}
	for i := range crowd {
		if errs[i] != nil {
			return c, errs[i]
		}
		if i > 0 {
			c.first = append(c.first, answers[i].first)
		}
	}
	return c, nil
}

// writeCollapse prints a line for each scene and peer.
func (r report) writeCollapse(w io.Writer) {
	if len(r.Collapse) == 0 {
		return
	}
	fmt.Fprintln(w, "A crowd on a cold key, HTTP/1.1, an origin that takes a second; medians of the rounds")
	fmt.Fprintf(w, "%-28s %-10s %9s %9s   %-18s %s\n", "", "", "requests", "s", "of the rounds", "aim")
	for _, c := range r.Collapse {
		fmt.Fprintf(w, "%-28s %-10s %9d %9.3f   %-18s %s\n", c.Scene, c.Peer, slices.Max(c.Requests), c.Seconds, fmt.Sprintf("%.3f", c.Rounds), c.Aim)
	}
}
