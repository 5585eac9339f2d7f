package crowd

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// slowVisit bounds the stay of a slow visitor, whose patience starts anew with
// every piece it gets.
const slowVisit = time.Minute

// A visit is one visitor's stay.
type visit struct {
	visitor
	phase    int
	intended time.Duration // of its arrival, since the start of the run
	arrived  time.Time     // the same
	ctx      context.Context
	patience *time.Timer
}

// visit plays one visitor: connect, ask for everything, leave.
func (c *Crowd) visit(ctx context.Context, n uint64, intended time.Duration, phase int) {
	v := &visit{visitor: c.config.visitor(n), phase: phase, intended: intended, arrived: c.started.Add(intended)}
	c.record.lagged(time.Since(v.arrived))
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	v.ctx = ctx
	// Patience runs from the intended time: a visitor does not care whose fault a
	// late start is.
	v.patience = time.AfterFunc(time.Until(v.arrived.Add(c.config.Timeout)), func() { leave(errPatience) })
	defer v.patience.Stop()
	if c.config.Protocol == H1 {
		c.askInTurn(v)
	} else {
		c.askTogether(v)
	}
}

// askTogether sends all requests at once over one connection, as a browser asks
// for what it finds on a page.
func (c *Crowd) askTogether(v *visit) {
	conn, err := c.dialer.connect(v.ctx, v.visitor)
	if err != nil {
		class := classifyDial(v.ctx, err)
		for range c.targets.urls {
			c.ended(v, sample{class: class})
		}
		return
	}
	defer conn.close()
	var others sync.WaitGroup
	for _, t := range c.targets.urls[1:] {
		others.Go(func() { c.ended(v, c.fetch(v, conn, t)) })
	}
	c.ended(v, c.fetch(v, conn, c.targets.urls[0]))
	others.Wait()
}

// askInTurn sends one request after the other, as HTTP/1.1 has to on one
// connection, and dials again where the server closed it in between.
func (c *Crowd) askInTurn(v *visit) {
	var conn *connection
	defer func() {
		if conn != nil {
			conn.close()
		}
	}()
	for _, t := range c.targets.urls {
		if conn != nil && (conn.last.Load() || conn.broken()) {
			conn.close()
			conn = nil
		}
		if conn == nil {
			var err error
			if conn, err = c.dialer.connect(v.ctx, v.visitor); err != nil {
				c.ended(v, sample{class: classifyDial(v.ctx, err)})
				continue
			}
		}
		c.ended(v, c.fetch(v, conn, t))
	}
}

// ended records how a request of the visitor ended, just now.
func (c *Crowd) ended(v *visit, s sample) {
	now := time.Since(c.started)
	// On a busy machine the timer that ends a visitor's patience fires late.
	if s.answered && !v.slow && now-v.intended > c.config.Timeout {
		s = sample{class: ClassTimeout, bytes: s.bytes}
	}
	s.phase, s.intended = v.phase, v.intended
	s.latency, s.timed = now-v.intended, !v.slow
	c.record.add(now, s)
}

// fetch sends one request and reads the whole answer.
func (c *Crowd) fetch(v *visit, conn *connection, t template) sample {
	req, err := http.NewRequestWithContext(v.ctx, http.MethodGet, t.expand(c.config.Seed, v.n), nil)
	if err != nil {
		panic("BUG: a URL checked in New does not parse: " + err.Error())
	}
	req.Header["User-Agent"] = userAgent
	resp, err := conn.RoundTrip(req)
	if err != nil {
		return sample{class: classifyExchange(v.ctx, err)}
	}
	defer resp.Body.Close()
	conn.last.Store(resp.Close)
	if !c.speaks(resp) {
		return sample{class: ClassProtocol}
	}
	n, err := c.read(v, resp.Body)
	// A server that ends its answer when it sees the visitor leave may still be heard.
	if err == nil {
		err = v.ctx.Err()
	}
	if err != nil {
		return sample{class: classifyExchange(v.ctx, err), bytes: n}
	}
	s := sample{bytes: n}
	s.word, s.reason, s.class, s.answered = classifyAnswer(resp)
	return s
}

var userAgent = []string{"surge"}

// speaks reports whether the answer came over the protocol asked for.
func (c *Crowd) speaks(resp *http.Response) bool {
	return resp.ProtoMajor == int(c.config.Protocol[1]-'0')
}

func (c *Crowd) read(v *visit, body io.Reader) (int64, error) {
	if !v.slow {
		return io.Copy(io.Discard, body)
	}
	return c.readSlowly(v, body)
}

// readSlowly reads in pieces of at most an eighth of a second's worth.
func (c *Crowd) readSlowly(v *visit, body io.Reader) (int64, error) {
	piece := make([]byte, min(max(c.config.SlowRate/8, 1), slowWindow))
	leave := v.arrived.Add(slowVisit)
	for total := int64(0); ; {
		n, err := body.Read(piece)
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		pause := time.Duration(float64(n) / float64(c.config.SlowRate) * float64(time.Second))
		v.patience.Reset(min(c.config.Timeout+pause, time.Until(leave)))
		if err := sleep(v.ctx, pause); err != nil {
			return total, err
		}
	}
}

// sleep pauses for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
