package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hitSizes are the bodies of the hits.
var hitSizes = []int{1 << 10, 100 << 10}

// askers is how many visitors ask, each for one thing at a time.
const askers = 50

// A hit is the CPU time that a peer takes for one answer of a size in a protocol.
type hit struct {
	Peer     string   `json:"peer"`
	Protocol protocol `json:"protocol"`
	Bytes    int      `json:"bytes"`
	Skipped  string   `json:"skipped,omitempty"`
	Plain    bool     `json:"plain,omitempty"` // without TLS
	// CPU is in microseconds, the median of the rounds, and CPUs all of them, sorted.
	CPU  float64   `json:"cpu_us"`
	CPUs []float64 `json:"cpus_us"`
	// Bare is how many times the bare server's it is: the median of the rounds' ratios.
	Bare float64 `json:"ratio"`
	// Busy is the share of its core that the peer used: below .9 or so it waited for
	// the load, and each wait costs it a little.
	Busy   float64 `json:"busy"`
	ratios []float64
	busy   []float64
}

// measureHits lets all peers answer what they have stored, in turn, round by round.
func (f *field) measureHits(ctx context.Context, o options, progress io.Writer) ([]hit, error) {
	defer leaveFirstCore()()
	var hits []hit
	for _, p := range protocols {
		for _, size := range hitSizes {
			cells, err := f.compare(ctx, o, p, size, progress)
			if err != nil {
				return nil, fmt.Errorf("%s, %d bytes: %w", p, size, err)
			}
			hits = append(hits, cells...)
		}
	}
	return hits, nil
}

// leaveFirstCore takes one core from us, the load, until the returned function is
// called: the peers have it.
func leaveFirstCore() func() {
	cores := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(1, cores-1))
	return func() { runtime.GOMAXPROCS(cores) }
}

// compare measures one protocol and size at all peers that speak it. The bare server
// is the first of them, and what the others are divided by.
func (f *field) compare(ctx context.Context, o options, p protocol, size int, progress io.Writer) ([]hit, error) {
	cells := make([]hit, len(f.peers))
	for i, peer := range f.peers {
		cells[i] = hit{Peer: peer.Name, Protocol: p, Bytes: size, Plain: peer.Plain, Skipped: peer.Lacks[p]}
	}
	for round := range o.rounds {
		var least float64
		for i, peer := range f.peers {
			c := &cells[i]
			if c.Skipped != "" {
				continue
			}
			used, busy, err := f.load(ctx, peer, p, size, o.each)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", peer.Name, err)
			}
			if i == 0 {
				least = used
			}
			c.CPUs, c.busy, c.ratios = append(c.CPUs, used), append(c.busy, busy), append(c.ratios, used/least)
			fmt.Fprintf(progress, "%-8s %6d bytes, round %d: %-8s %.1f us\n", p, size, round+1, peer.Name, used)
		}
	}
	for i := range cells {
		if c := &cells[i]; c.Skipped == "" {
			c.CPU, c.Bare, c.Busy = median(c.CPUs), median(c.ratios), median(c.busy)
			slices.Sort(c.CPUs)
		}
	}
	return cells, nil
}

// load lets visitors ask a peer for d and returns its CPU time for each answer in
// microseconds, and the share of a core that it used. Their connections are there
// before, and what they ask for must come out of the peer's store.
func (f *field) load(ctx context.Context, p *peer, proto protocol, size int, d time.Duration) (used, busy float64, err error) {
	path := fmt.Sprintf("/bytes/%d", size)
	crowd, err := gather(ctx, p, proto, size, path)
	defer crowd.leave()
	if err != nil {
		return 0, 0, err
	}
	asked := f.source.Count(path)
	began := time.Now()
	var answers int64
	spent, err := p.usage(func() (err error) {
		answers, err = crowd.keepAsking(ctx, path, d)
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	if again := f.source.Count(path); again != asked {
		return 0, 0, fmt.Errorf("the origin was asked for what was stored, %d times", again-asked)
	}
	return float64(spent.Microseconds()) / float64(answers), spent.Seconds() / took.Seconds(), nil
}

// A gathering is visitors whose connections are there.
type gathering []*visitor

// gather lets each visitor ask once; the answers must be whole, and in the protocol.
func gather(ctx context.Context, p *peer, proto protocol, size int, path string) (gathering, error) {
	var g gathering
	for range askers {
		v := proto.visit(p.address, p.Plain)
		g = append(g, v)
		a, err := v.ask(ctx, path)
		if err != nil {
			return g, err
		}
		if a.bytes != int64(size) || !strings.HasPrefix(a.proto, string(proto)) {
			return g, fmt.Errorf("%d bytes over %s, want %d over %s", a.bytes, a.proto, size, proto)
		}
	}
	return g, nil
}

func (g gathering) leave() {
	for _, v := range g {
		v.close()
	}
}

// keepAsking lets all ask again and again for d, and returns how many answers came.
func (g gathering) keepAsking(ctx context.Context, path string, d time.Duration) (int64, error) {
	over := errors.New("time is up")
	ctx, cancel := context.WithTimeoutCause(ctx, d, over)
	defer cancel()
	var answers atomic.Int64
	var asking sync.WaitGroup
	failed := make(chan error, len(g))
	for _, v := range g {
		asking.Go(func() {
			for {
				_, err := v.ask(ctx, path)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					failed <- err
					return
				}
				answers.Add(1)
			}
		})
	}
	asking.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
	}
	if cause := context.Cause(ctx); !errors.Is(cause, over) {
		return 0, cause
	}
	if answers.Load() == 0 {
		return 0, errNoAnswer
	}
	return answers.Load(), nil
}

// writeHits prints a line for each protocol, size and peer.
func (r report) writeHits(w io.Writer) {
	if len(r.Hits) == 0 {
		return
	}
	fmt.Fprintf(w, "CPU per hit, medians; the origin is not asked; %d connections, one request at a time each\n", askers)
	fmt.Fprintf(w, "%-9s %7s  %-10s %9s %8s %6s   %s\n", "", "bytes", "", "us", "x bare", "busy", "us of the rounds")
	for _, h := range r.Hits {
		name := h.Peer
		if h.Plain {
			name += "*"
		}
		if h.Skipped != "" {
			fmt.Fprintf(w, "%-9s %7d  %-10s skipped: %s\n", h.Protocol, h.Bytes, name, h.Skipped)
			continue
		}
		fmt.Fprintf(w, "%-9s %7d  %-10s %9.1f %8.2f %5.0f%%   %.1f\n", h.Protocol, h.Bytes, name, h.CPU, h.Bare, 100*h.Busy, h.CPUs)
	}
	fmt.Fprintln(w, "* without TLS, which it does not speak, and without an access log")
}
