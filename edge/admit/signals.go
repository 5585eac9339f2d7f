package admit

import (
	"runtime/metrics"
	"slices"
	"syscall"
	"time"
)

// firstCost is what a handshake is taken for to cost until the node has learned it,
// measured on a machine of two cores.
const firstCost = 750 * time.Microsecond

// The bounds of what is learned of that, and how many handshakes between two beats
// teach something.
const (
	leastCost, mostCost = firstCost / 8, 2 * firstCost
	telling             = 50
)

// gauges read what the machine says. Tests put others in their place.
type gauges struct {
	cpu    func() time.Duration // of the process, since it began
	delay  func() time.Duration // since the last call
	memory func() float64       // part of what there is beside the cache that the process holds
}

// A reading is what had been counted at a beat.
type reading struct {
	at                           time.Duration
	cpu                          time.Duration
	started, startedTCP, retries uint64
	newQUIC, newTCP              uint64 // that passed
	dropped                      uint64 // that would have begun a connection
	asked                        uint64 // handshakes, those that were dropped not among them
	kernel                       bool   // by the kernel, which counts from another beginning
}

// judged takes over what the kernel counted. A SYN that nobody follows up costs the
// node nothing, so that TCP is asked for by who connects.
func (r *reading) judged(counts []Count) {
	r.newQUIC, r.newTCP, r.asked, r.kernel = 0, 0, 0, true
	for _, c := range counts {
		switch c.Reason {
		case "new_quic":
			r.newQUIC = c.Packets
			r.asked += c.Packets
		case "new_tcp":
			r.newTCP = c.Packets
		case "known", "trickle":
			r.asked += c.Packets
		case "source", "budget", "closed":
			r.dropped += c.Packets + c.Unenforced
		}
	}
}

// A senses turns readings into signals.
type senses struct {
	gauges
	last  reading
	pace  pace
	asked float64 // handshakes that were asked for, per second
	// delays are the last ones, of which the least counts: a stall of the machine or of
	// the process makes one long, and turning visitors away would not shorten it.
	delays [3]time.Duration
	beats  int
}

// smooth is what a beat counts beside what was before: two seconds, five beats each.
const smooth = .3

// look takes a reading, and returns what it says.
func (s *senses) look(r reading, cores int) {
	last, p := s.last, &s.pace
	span := (r.at - last.at).Seconds()
	if p.cores == 0 {
		*p = pace{cost: firstCost, cores: float64(cores)}
	} else if r.at-last.at < beat/2 {
		return // too short to tell anything
	}
	s.last = r
	if span == 0 {
		return
	}
	begun := float64(r.started - last.started)
	cpu := (r.cpu - last.cpu).Seconds()
	s.learn(begun, cpu)
	follow := func(average *float64, now, before uint64) {
		*average += smooth * (float64(max(now, before)-before)/span - *average)
	}
	follow(&p.tcp, r.startedTCP, last.startedTCP)
	follow(&p.quic, r.started-r.startedTCP, last.started-last.startedTCP)
	follow(&p.retries, r.retries, last.retries)
	// A kernel that was just attached may have counted for a process before, and one
	// that just failed takes with it what it counted.
	if r.kernel == last.kernel {
		follow(&p.passed[0], r.newQUIC, last.newQUIC)
		follow(&p.passed[1], r.newTCP, last.newTCP)
		follow(&s.asked, r.asked+r.dropped, last.asked+last.dropped)
	}
	// Handshakes take no more than the process does.
	used := (begun + retryPart*float64(r.retries-last.retries)) * p.cost.Seconds()
	p.cpu += smooth * (min(used, cpu)/span/p.cores - p.cpu)
	s.delays[s.beats%len(s.delays)] = s.delay()
	s.beats++
	p.delay = slices.Min(s.delays[:])
}

// learn corrects what a handshake costs: it is no more than all that the process did
// meanwhile, so that a beat full of handshakes and of little else tells most. What is
// believed rises slowly, as the machine may have become slower.
func (s *senses) learn(begun, cpu float64) {
	if begun < telling {
		return
	}
	p := &s.pace
	most := time.Duration(cpu / begun * float64(time.Second))
	p.cost = min(max(min(most, p.cost+p.cost/1000), leastCost), mostCost)
}

// processCPU returns what the process has used.
func processCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// schedulerDelay returns a function that tells for how long goroutines that could run
// had to wait for a processor since its last call: nine of ten less. Of fewer than
// twenty it tells nothing.
func schedulerDelay() func() time.Duration {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	var last []uint64
	return func() time.Duration {
		metrics.Read(sample)
		if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
			return 0
		}
		h := sample[0].Value.Float64Histogram()
		if last == nil {
			last = make([]uint64, len(h.Counts))
		}
		var since []uint64
		total := uint64(0)
		for i, n := range h.Counts {
			since = append(since, n-last[i])
			total += n - last[i]
			last[i] = n
		}
		if total < 20 {
			return 0
		}
		seen := uint64(0)
		for i, n := range since {
			if seen += n; seen >= total*9/10 {
				return time.Duration(h.Buckets[i] * float64(time.Second))
			}
		}
		return 0
	}
}

// leastForHeap is the least part of all memory that a share is of, however large the
// cache is said to be. The runtime's limit is hardly less (cmd/spillway/memory.go).
const leastForHeap = .25

// heapShare returns what part the process holds of the memory that is not its cache's,
// which has its own outside of the heap. What the collector has not yet given back is
// none that visitors could lack: the heap grows to its limit at any load.
func heapShare(of, cache int64) func() float64 {
	const total, objects, live = 0, 1, 2 // what follows them is free
	names := [...]string{
		"/memory/classes/total:bytes", "/memory/classes/heap/objects:bytes", "/gc/heap/live:bytes",
		"/memory/classes/heap/free:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/released:bytes",
	}
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	room := max(float64(of-cache), leastForHeap*float64(of))
	return func() float64 {
		metrics.Read(samples)
		bytes := func(i int) float64 {
			if samples[i].Value.Kind() != metrics.KindUint64 {
				return 0
			}
			return float64(samples[i].Value.Uint64())
		}
		held := bytes(total) - max(bytes(objects)-bytes(live), 0)
		for i := live + 1; i < len(names); i++ {
			held -= bytes(i)
		}
		return max(held, 0) / room
	}
}
