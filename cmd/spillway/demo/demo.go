// Package demo shows Spillway's main job on one machine: an origin of known
// capacity that draws pictures, a function host, an edge on its defaults, and a
// crowd that grows to ten times what the origin can do.
//
// The parts are real processes and the crowd speaks HTTP/3 to the edge like any
// visitor. Nothing is simulated but the price: functions run on this machine
// and are priced as a platform would. It listens on loopback only.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"spillway/cmd/surge/crowd"
	"spillway/cmd/surge/report"
)

// Options are the demo's flags.
type Options struct {
	For      time.Duration // length of the crowd
	Protocol string        // h1, h2 or h3
	JSON     bool          // print the Summary as one JSON line at the end
	Report   string        // path of the HTML report; empty: in a temporary folder
	Live     bool          // draw on the terminal
	Presses  []Press       // keys that are pressed by themselves
}

// A Press is a key that the demo presses at a time of its own.
type Press struct {
	At  time.Duration
	Key string
}

// crowdPhases are the shape of the crowd, stretched to the length asked for.
const crowdPhases = "0.5x:12s,3x:18s,10x:25s"

// Run raises the stage, sends the crowd, and reports what came of it.
func Run(ctx context.Context, o Options, out io.Writer) (Summary, error) {
	dir, err := os.MkdirTemp("", "spillway-demo-")
	if err != nil {
		return Summary{}, err
	}
	if o.Report == "" {
		o.Report = filepath.Join(dir, "report.html")
	}
	fmt.Fprintf(out, "starting the origin, the function host and the edge; logs are in %s\n", dir)
	s, err := raise(ctx, dir)
	if err != nil {
		return Summary{}, err
	}
	defer s.lower()
	return s.play(ctx, o, out)
}

// play sends the crowd to the stage.
func (s *stage) play(ctx context.Context, o Options, out io.Writer) (Summary, error) {
	phases, err := crowd.ParsePhases(crowdPhases, capacity)
	if err != nil {
		return Summary{}, err
	}
	phases = crowd.Stretch(phases, o.For)
	c, err := crowd.New(crowd.Config{
		// One picture is the same for all, as a shared link is; the other is made
		// for each visitor.
		URLs: []string{
			"https://localhost/picture/harbour.jpg?w=200",
			"https://localhost/overlay/harbour.jpg?w=200&text=visitor-{visitor}",
		},
		Connect: s.edgeAddr, Protocol: o.Protocol, Addresses: crowd.CarrierNAT,
		Phases: phases, Capacity: capacity, Seed: uint64(time.Now().UnixNano()), Insecure: true,
	})
	if err != nil {
		return Summary{}, err
	}
	// The crowd shares the machine with all that it visits.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	w := &watcher{stage: s, crowd: c}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	show, finish := w.screen(ctx, cancel, o, out)
	var watching sync.WaitGroup
	watching.Go(func() { w.run(ctx, show) })
	watching.Go(func() { w.pressAll(ctx, o.Presses, out) })

	began := time.Now()
	result, err := c.Run(ctx)
	aborted := ctx.Err() != nil
	final := w.look(context.WithoutCancel(ctx))
	cancel()
	watching.Wait()
	finish(final)
	if err != nil || aborted {
		return Summary{}, errors.Join(err, context.Cause(ctx))
	}
	summary := w.summarise(result, began, phases)
	if err := w.writeReport(o.Report, result, summary, began); err != nil {
		return summary, err
	}
	summary.print(out, o.Report)
	return summary, nil
}

// screen returns what shows a frame, and what ends the showing.
func (w *watcher) screen(ctx context.Context, abort context.CancelFunc, o Options, out io.Writer) (show, finish func(frame)) {
	if !o.Live {
		n := 0
		return func(f frame) {
			if n++; n%2 == 0 {
				printFrame(out, f)
			}
		}, func(frame) {}
	}
	program := tea.NewProgram(&view{abort: abort, press: func(key string) error { return w.press(ctx, key) }}, tea.WithOutput(out))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		program.Run()
	}()
	return func(f frame) { program.Send(f) }, func(f frame) {
		program.Send(f)
		program.Send(ended{})
		<-stopped
	}
}

// pressAll presses the keys that were asked for, each at its time, until ctx ends.
func (w *watcher) pressAll(ctx context.Context, presses []Press, out io.Writer) {
	began := time.Now()
	for _, p := range presses {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(p.At))):
		}
		if err := w.press(ctx, p.Key); err != nil && ctx.Err() == nil {
			fmt.Fprintf(out, "key %s: %v\n", p.Key, err)
		}
	}
}

// JSON writes the summary as one line.
func (s Summary) JSON(w io.Writer) error { return json.NewEncoder(w).Encode(s) }

// writeReport writes the HTML report: the crowd's, and the series of the parts.
func (w *watcher) writeReport(path string, r crowd.Result, s Summary, began time.Time) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := report.HTML(f, w.data(r, s, began)); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return f.Close()
}
