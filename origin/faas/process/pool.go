package process

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// How long a function that keeps crashing is left alone: nothing after the first
// crash, then a pause that doubles. Not knobs.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// A pool runs the instances of one function.
type pool struct {
	name       string
	config     FunctionConfig
	spawner    *spawner
	log        *slog.Logger
	lines      lineLimit
	slots      chan struct{} // one for each invocation that may run
	stats      counters
	background sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	idle      []*instance // the one that was used last is used next
	all       map[*instance]struct{}
	crashes   int       // in a row
	notBefore time.Time // no new instance before this
}

func newPool(name string, c FunctionConfig, s *spawner, log *slog.Logger) *pool {
	return &pool{
		name: name, config: c, spawner: s, log: log,
		slots: make(chan struct{}, c.MaxInstances),
		all:   map[*instance]struct{}{},
	}
}

// A platformError is a call that the function knows nothing of.
type platformError struct {
	status        int
	kind, message string
}

func (e *platformError) Error() string { return e.kind + ": " + e.message }

// invoke runs one invocation. An invocation that has begun runs to its end even
// if ctx does not, as it would on Lambda: killing the instance would cost more.
func (p *pool) invoke(ctx context.Context, payload []byte) (result, error) {
	if err := p.acquire(ctx); err != nil {
		return result{}, err
	}
	type answer struct {
		result result
		err    error
	}
	done := make(chan answer, 1)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.slots
		return result{}, errStopping
	}
	p.background.Go(func() {
		defer func() { <-p.slots }()
		r, err := p.run(newInvocation(payload))
		done <- answer{r, err}
	})
	p.mu.Unlock()
	select {
	case a := <-done:
		return a.result, a.err
	case <-ctx.Done():
		return result{}, ctx.Err()
	}
}

var errStopping = &platformError{http.StatusServiceUnavailable, "ResourceNotReadyException", "the function host is stopping"}

// acquire waits for a free slot, not for long.
func (p *pool) acquire(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(p.config.MaxWait)
	defer timer.Stop()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		p.stats.throttled.Add(1)
		return &platformError{http.StatusTooManyRequests, tooManyRequests, "every instance is busy"}
	}
}

// run gives the invocation to an instance and waits for what comes of it.
func (p *pool) run(inv *invocation) (result, error) {
	for {
		i, cold, err := p.take()
		if err != nil {
			return result{}, err
		}
		startup := time.NewTimer(p.config.InitTimeout)
		select {
		case i.next <- inv:
			startup.Stop()
			p.stats.invocations.Add(1)
			return p.finish(i, inv), nil
		case <-i.exited:
			startup.Stop()
			if cold {
				return result{}, p.unstartable(i)
			}
			// An idle instance that died has not seen the invocation.
		case <-startup.C:
			i.stop()
			return result{}, &platformError{http.StatusBadGateway, "InvalidRuntimeException", "the runtime did not ask for work in time"}
		}
	}
}

// finish waits for the end of an invocation that was delivered.
func (p *pool) finish(i *instance, inv *invocation) result {
	timeout := time.NewTimer(p.config.Timeout)
	defer timeout.Stop()
	var r result
	select {
	case r = <-inv.done:
		p.put(i, !r.failed)
	case <-i.exited:
		select {
		case r = <-inv.done: // it answered and exited, in this order
		default:
			r = failure("Runtime.ExitError", fmt.Sprintf("RequestId: %s Error: Runtime exited %s", inv.id, i.exitText()))
		}
	case <-timeout.C:
		i.stop()
		p.stats.timeouts.Add(1)
		r = failure("Sandbox.Timedout", fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", inv.id, p.config.Timeout.Seconds()))
	}
	if r.failed {
		p.stats.errors.Add(1)
	}
	return r
}

// unstartable is the failure of an instance that exited before it took work.
func (p *pool) unstartable(i *instance) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	why := "the function exited while it started"
	if i.failure != nil {
		why = fmt.Sprintf("%s: %s", i.failure.Type, i.failure.Message)
	}
	return &platformError{http.StatusBadGateway, "InvalidRuntimeException", why}
}

// take returns an idle instance or starts a new one. The slot that the caller
// holds makes room for it.
func (p *pool) take() (i *instance, cold bool, err error) {
	p.mu.Lock()
	for len(p.idle) > 0 {
		i := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if i.alive() {
			p.mu.Unlock()
			return i, false, nil
		}
	}
	wait := time.Until(p.notBefore)
	p.mu.Unlock()
	if wait > 0 {
		return nil, false, &platformError{http.StatusServiceUnavailable, "ResourceNotReadyException", "the function keeps crashing"}
	}
	if i, err = p.start(); err != nil {
		p.log.Warn("function cannot be started", "error", err)
		p.mu.Lock()
		p.crashed()
		p.mu.Unlock()
		return nil, false, &platformError{http.StatusBadGateway, "InvalidRuntimeException", "the function cannot be started"}
	}
	p.stats.coldStarts.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		i.kill()
	case i.alive():
		p.all[i] = struct{}{}
	}
	return i, true, nil
}

// put makes an instance idle. One that answered properly ends a row of crashes.
func (p *pool) put(i *instance, proper bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proper {
		p.crashes = 0
	}
	i.idle = time.Now()
	p.idle = append(p.idle, i)
}

// forget drops an instance whose process is gone, and tells those who wait for that:
// they find it counted. One that was killed from here has been idle, has hung or is
// stopped with all: only the others have crashed.
func (p *pool) forget(i *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(i.exited)
	delete(p.all, i)
	if !i.wasKilled() {
		p.crashed()
	}
}

// crashed delays the next start. The caller holds the lock.
func (p *pool) crashed() {
	p.crashes++
	p.stats.crashes.Add(1)
	if p.crashes < 2 {
		return
	}
	pause := min(firstPause<<min(p.crashes-2, 10), longestPause)
	p.notBefore = time.Now().Add(pause)
	p.log.Warn("function keeps crashing", "crashes_in_row", p.crashes, "pause", pause)
}

// retireIdle ends instances that nobody called for long.
func (p *pool) retireIdle(stop <-chan struct{}) {
	tick := time.NewTicker(max(p.config.IdleTimeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p.retire(now.Add(-p.config.IdleTimeout))
		case <-stop:
			return
		}
	}
}

// retire kills what has been idle since before the given time. The list is in
// the order of last use.
func (p *pool) retire(before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 && p.idle[0].idle.Before(before) {
		p.idle[0].kill()
		p.idle = p.idle[1:]
	}
}

// close kills all instances and waits until they are gone.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for i := range p.all {
		i.kill()
	}
	p.mu.Unlock()
	p.background.Wait()
}
