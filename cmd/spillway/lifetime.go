package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"spillway/config"
)

// Run serves until ctx ends or a successor serves, then drains: the node stops being
// ready, takes no new connections, tells clients to go elsewhere, and gives requests in
// flight until the drain time-out.
func (n *node) Run(ctx context.Context) error {
	n.mu.Lock()
	n.setRules(&config.Config{}, n.config)
	n.stopping = ctx
	n.runOrigins(n.parts)
	n.mu.Unlock()

	// A successor answers the operator as soon as it serves.
	operator, closeAdmin := context.WithCancel(n.ctx)
	defer closeAdmin()
	n.start(&n.running, n.ctx, "admission", n.admit.Run)
	n.start(&n.running, n.ctx, "access log", n.server.Run)
	n.start(&n.running, n.ctx, "memory", reclaim)
	n.start(&n.running, n.ctx, "flight recorder", n.server.Record)
	n.takeDuties()
	n.start(&n.running, operator, "admin listener", n.admin.Run)
	n.start(&n.running, n.ctx, "listeners", n.listeners.Run)
	n.start(&n.running, n.ctx, "connection IDs", n.ids.run)
	announced := make(chan struct{})
	n.running.Go(func() { n.announce(n.ctx); close(announced) })

	err := n.awaitEnd(ctx, announced)
	if ctx.Err() != nil {
		// An upgrade gives up, or has come so far that it is done in a moment.
		n.upgrading.Lock()
		defer n.upgrading.Unlock()
		n.passStop()
	}
	if n.wasReplaced() {
		closeAdmin()
		n.kernel.yield()
	}
	return errors.Join(err, n.end())
}

// awaitEnd returns when the node is to end, with an error if it failed. One that is told
// to stop very soon serves first: the process before waits for that.
func (n *node) awaitEnd(ctx context.Context, announced <-chan struct{}) error {
	select {
	case <-announced:
	case err := <-n.failed:
		return err
	}
	select {
	case <-ctx.Done():
	case err := <-n.failed:
		return err
	case <-n.replaced:
	}
	return nil
}

// end drains, ends the background work, and closes what is still open.
func (n *node) end() error {
	err := n.drain()
	n.stop()
	n.layDown()
	n.running.Wait()
	if n.wasReplaced() {
		return errors.Join(err, n.leave())
	}
	if failure := n.parts.ledger.Close(); failure != nil {
		err = errors.Join(err, fmt.Errorf("close budget ledger: %w", failure))
	}
	return err
}

func (n *node) wasReplaced() bool {
	select {
	case <-n.replaced:
		return true
	default:
		return false
	}
}

// takeDuties begins what one process does at a time: it writes the files of the state
// folder and of the disk cache, and spends money without a visitor's request.
func (n *node) takeDuties() {
	ctx, end := context.WithCancel(n.ctx)
	n.mu.Lock()
	n.endDuties = end
	folder := n.config.Edge.State
	n.mu.Unlock()
	if folder != "" {
		n.duties.Go(func() { n.keepLearned(ctx, folder) })
	}
	n.start(&n.duties, ctx, "budget ledger", n.parts.ledger.Run)
	n.start(&n.duties, ctx, "prewarming", n.server.Prewarm)
	n.start(&n.duties, ctx, "exercise", n.server.Exercise)
	n.start(&n.duties, ctx, "revalidation", n.cache.Revalidate)
	if n.disk != nil {
		n.start(&n.duties, ctx, "disk cache", n.disk.Run)
	}
	n.start(&n.duties, ctx, "provisioned instances", n.payProvisioned)
}

// layDown ends the duties: what they write is written when it returns.
func (n *node) layDown() {
	n.mu.Lock()
	end := n.endDuties
	n.mu.Unlock()
	end()
	n.duties.Wait()
}

func (n *node) start(group *sync.WaitGroup, ctx context.Context, name string, run func(context.Context) error) {
	group.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil && !n.draining.Load() {
			n.failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// runOrigins starts the background work of the origins that do not run yet.
func (n *node) runOrigins(p *parts) {
	for name, o := range p.origins {
		if p.stop[name] != nil {
			continue
		}
		n.restoreLearned(name)
		ctx, stop := context.WithCancel(n.ctx)
		p.stop[name] = stop
		n.running.Go(func() { o.Run(ctx) })
	}
}

// payProvisioned books what functions cost that are kept ready, a minute at a time.
func (n *node) payProvisioned(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		n.mu.Lock()
		functions := n.parts.functions
		n.mu.Unlock()
		for _, f := range functions {
			f.Hold(time.Minute)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// patience is how long requests in flight may take when the node drains.
func (n *node) patience() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.config.Edge.Timeouts.Drain
}

func (n *node) drain() error {
	n.draining.Store(true)
	patience := n.patience()
	n.log.Info("draining", "in_flight", n.server.InFlight(), "deadline", patience)
	if n.wasReplaced() {
		n.running.Go(func() { n.report(n.ctx, time.Now().Add(patience)) })
	}
	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	var left atomic.Int64
	defer time.AfterFunc(patience, func() {
		left.Store(n.server.InFlight())
		cut()
	}).Stop()
	leave := n.listeners.Shutdown
	if n.wasReplaced() && !n.stopPassed {
		leave = n.listeners.HandOver
	}
	err := leave(ctx)
	n.awaitPredecessor(ctx)
	if left.Load() > 0 {
		n.log.Warn("drain deadline reached, requests were cut off", "requests", left.Load())
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
