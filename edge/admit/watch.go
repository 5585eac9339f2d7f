package admit

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// logEvery is how often the log tells of dropped packets, logLines of how many
	// reasons at once.
	logEvery = 5 * time.Second
	logLines = 3
)

// drops are what is known of packets that the kernel judged.
type drops struct {
	counts []Count
	lost   uint64 // samples

	// established is how many packets of connections there were at a beat, grown when
	// they last became more.
	established uint64
	grown       time.Duration

	logged  time.Duration
	mu      sync.Mutex // guards what follows
	sampled map[string]sampledDrops
}

// sampledDrops are those for one reason since the log told of them.
type sampledDrops struct {
	samples    int
	unenforced bool
	last       netip.Prefix // the range that the last one claims to come from
}

func (d *drops) note(now time.Duration, established uint64) {
	if established > d.established {
		d.grown = now
	}
	d.established = established
}

// flowing reports whether packets of established connections came within a second.
func (d *drops) flowing(now time.Duration) bool { return d.grown > 0 && now-d.grown <= time.Second }

// readSamples reads what the kernel samples until it is closed or ctx ends. What goes
// wrong is said once and waited out, ever longer: packets are judged all the same.
func (c *Controller) readSamples(ctx context.Context) {
	k := &c.control
	said, delay := "", firstRetry
	for {
		s, err := k.kernel.Next()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err == nil:
			delay = firstRetry
			if s.Drop {
				k.drops.add(s)
			}
			continue
		}
		if reason := err.Error(); reason != said {
			said = reason
			k.log.Warn("cannot read samples of packets", "error", reason)
		}
		select {
		case <-time.After(delay):
			delay = min(2*delay, lastRetry)
		case <-ctx.Done():
			return
		}
	}
}

func (d *drops) add(s Sample) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sampled == nil {
		d.sampled = map[string]sampledDrops{}
	}
	e := d.sampled[s.Reason]
	e.samples++
	e.unenforced = !s.Enforced
	e.last = rangeOf(s.Source.Addr())
	d.sampled[s.Reason] = e
}

// rangeOf returns the /24 or /48 of an address: whose it is is not for the log.
func rangeOf(addr netip.Addr) netip.Prefix {
	bits := 24
	if addr = addr.Unmap(); addr.Is6() {
		bits = 48
	}
	p, _ := addr.Prefix(bits) // of no address there is none
	return p
}

// log tells of dropped packets, those of most samples first.
func (d *drops) log(log *slog.Logger, now time.Duration) {
	if now-d.logged < logEvery {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.sampled) == 0 {
		return
	}
	d.logged = now
	reasons := slices.SortedFunc(maps.Keys(d.sampled), func(a, b string) int {
		return cmp.Or(cmp.Compare(d.sampled[b].samples, d.sampled[a].samples), cmp.Compare(a, b))
	})
	for _, reason := range reasons[:min(len(reasons), logLines)] {
		e := d.sampled[reason]
		log.Info("packets were dropped", "reason", reason, "samples", e.samples, "enforced", !e.unenforced, "last_from", e.last)
	}
	clear(d.sampled)
}
