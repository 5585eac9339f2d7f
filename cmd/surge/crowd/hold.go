package crowd

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// holdEvery paces the opening of event streams, so that they do not arrive as a
// crowd of their own.
const holdEvery = 20 * time.Millisecond

// firstHolder numbers those who hold event streams, apart from the crowd.
const firstHolder = 1 << 32

// holders keep event streams open while the crowd comes and goes.
type holders struct {
	crowd  *Crowd
	stream template

	running sync.WaitGroup
	stop    context.CancelFunc

	mu     sync.Mutex
	open   int
	result HeldResult
}

// hold starts opening the streams.
func (c *Crowd) hold(ctx context.Context) *holders {
	h := &holders{crowd: c, stream: c.holdURL, result: HeldResult{Asked: c.config.Hold, Errors: map[string]int64{}}}
	ctx, h.stop = context.WithCancel(ctx)
	h.running.Go(func() {
		for n := range c.config.Hold {
			v := c.config.visitor(firstHolder + uint64(n))
			v.slow = false
			h.running.Go(func() { h.keep(ctx, v) })
			if sleep(ctx, holdEvery) != nil {
				return
			}
		}
	})
	return h
}

// keep opens one stream and reads it until it ends.
func (h *holders) keep(ctx context.Context, v visitor) {
	if class := h.read(ctx, v); ctx.Err() == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.result.Errors[class]++
	}
}

// finish counts the streams still open and closes them.
func (h *holders) finish() *HeldResult {
	h.mu.Lock()
	h.result.OpenAtEnd = h.open
	h.mu.Unlock()
	h.stop()
	h.running.Wait()
	return &h.result
}

// read reads one stream until it ends, and names why it did.
func (h *holders) read(ctx context.Context, v visitor) string {
	dialing, cancel := context.WithTimeoutCause(ctx, h.crowd.config.Timeout, errPatience)
	defer cancel()
	conn, err := h.crowd.dialer.connect(dialing, v)
	if err != nil {
		return classifyDial(dialing, err)
	}
	defer conn.close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.stream.expand(h.crowd.config.Seed, v.n), nil)
	if err != nil {
		panic("BUG: a URL checked in New does not parse: " + err.Error())
	}
	req.Header = http.Header{"User-Agent": userAgent, "Accept": {"text/event-stream"}}
	resp, err := conn.RoundTrip(req)
	if err != nil {
		return classifyExchange(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		word, _, class, _ := classifyAnswer(resp)
		return word + class
	}
	h.mu.Lock()
	h.result.Opened++
	h.open++
	h.mu.Unlock()
	n, err := io.Copy(io.Discard, resp.Body)
	h.mu.Lock()
	h.result.Bytes += n
	h.open--
	h.mu.Unlock()
	if err != nil {
		return classifyExchange(ctx, err)
	}
	return "ended"
}
