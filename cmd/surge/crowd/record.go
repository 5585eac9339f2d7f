package crowd

import (
	"maps"
	"sync"
	"time"
)

// A sample is how one request ended.
type sample struct {
	intended time.Duration // since the start of the run
	phase    int

	// Exactly one of word (the node's outcome) and class (the client's) is set.
	word, reason string
	class        string

	answered bool
	timed    bool // its latency may be compared: not that of a slow visitor
	latency  time.Duration
	bytes    int64
}

// windowSeconds is how far back the live percentiles look.
const windowSeconds = 5

// A recorder adds up samples. One lock is enough: a generator makes some thousand
// samples a second, and adding one takes well under a microsecond.
type recorder struct {
	patience time.Duration // of visitors

	mu       sync.Mutex
	visitors int64
	total    tally
	phases   []tally
	seconds  []second // by intended time
	closed   int      // how many of them have given up their histogram
	words    map[string]*histogram
	reasons  map[string]int64
	lag      histogram
	bytes    int64
	window   [windowSeconds + 1]tally // by time of the answer; the last is being filled
	windowAt int                      // the second that is being filled
}

// A tally is counts and latencies of some requests.
type tally struct {
	Counts
	hist histogram
}

// A second keeps its histogram only while answers may still come: a run of hours
// would otherwise hold one for each.
type second struct {
	Counts
	Latency
	hist *histogram
}

func newRecorder(phases int, patience time.Duration) *recorder {
	return &recorder{
		patience: patience,
		phases:   make([]tally, phases),
		words:    map[string]*histogram{},
		reasons:  map[string]int64{},
	}
}

// schedule counts the n requests of a visitor, whether they can be sent or not.
// They are counted here and their ends in add, so that a request that got lost in
// between shows.
func (r *recorder) schedule(now, intended time.Duration, phase, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	r.visitors++
	live := &r.window[windowSeconds]
	for _, c := range []*Counts{&r.total.Counts, &r.phases[phase].Counts, &r.second(intended).Counts, &live.Counts} {
		c.Offered += int64(n)
	}
}

func (r *recorder) lagged(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lag.add(by)
}

// add counts how a request ended, at time now of the run.
func (r *recorder) add(now time.Duration, s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	live := &r.window[windowSeconds]
	sec := r.second(s.intended)
	for _, c := range []*Counts{&r.total.Counts, &r.phases[s.phase].Counts, &sec.Counts, &live.Counts} {
		c.end(s)
	}
	r.bytes += s.bytes
	if s.word != "" && s.reason != "" {
		r.reasons[s.word+"; "+s.reason]++
	}
	if !s.answered || !s.timed {
		return
	}
	if r.words[s.word] == nil {
		r.words[s.word] = new(histogram)
	}
	for _, h := range []*histogram{&r.total.hist, &r.phases[s.phase].hist, sec.hist, &live.hist, r.words[s.word]} {
		if h != nil {
			h.add(s.latency)
		}
	}
}

// end counts how one request ended.
func (c *Counts) end(s sample) {
	if s.answered {
		c.Answered++
	} else {
		c.Errors++
	}
	m, key := &c.Outcomes, s.word
	if s.class != "" {
		m, key = &c.ClientErrors, s.class
	}
	if *m == nil {
		*m = map[string]int64{}
	}
	(*m)[key]++
}

// second returns the second that t lies in, with a histogram to add to.
func (r *recorder) second(t time.Duration) *second {
	i := int(t / time.Second)
	for len(r.seconds) <= i {
		r.seconds = append(r.seconds, second{hist: new(histogram)})
	}
	return &r.seconds[i]
}

// turn moves the live window on to the second of now, and closes the seconds whose
// last visitor has been answered or has given up.
func (r *recorder) turn(now time.Duration) {
	at := int(now / time.Second)
	for ; r.windowAt < at; r.windowAt++ {
		if at-r.windowAt > len(r.window) {
			r.windowAt = at - len(r.window)
		}
		copy(r.window[:], r.window[1:])
		r.window[windowSeconds] = tally{}
	}
	over := int((now-r.patience)/time.Second) - 1
	for ; r.closed < min(over, len(r.seconds)); r.closed++ {
		sec := &r.seconds[r.closed]
		sec.Latency, sec.hist = latency(sec.hist), nil
	}
}

// result fills in what was counted.
func (r *recorder) result(res *Result, phases []Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	res.Counts, res.Latency = r.total.Counts.clone(), latency(&r.total.hist)
	res.Visitors, res.Bytes, res.LagP99 = r.visitors, r.bytes, ms(r.lag.quantile(.99))
	res.Reasons = maps.Clone(r.reasons)
	res.OutcomeLatency = map[string]Latency{}
	for word, h := range r.words {
		res.OutcomeLatency[word] = latency(h)
	}
	var start time.Duration
	for i, p := range phases {
		res.Phases = append(res.Phases, PhaseResult{
			Name: p.Name, From: p.From, To: p.To, Start: start.Seconds(), Seconds: p.Length.Seconds(),
			Counts: r.phases[i].Counts.clone(), Latency: latency(&r.phases[i].hist),
		})
		start += p.Length
	}
	for i, sec := range r.seconds {
		if sec.hist != nil {
			sec.Latency = latency(sec.hist)
		}
		res.PerSecond = append(res.PerSecond, SecondResult{T: i, Counts: sec.Counts.clone(), Latency: sec.Latency})
	}
}

// snapshot fills in the live view.
func (r *recorder) snapshot(s *Snapshot, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	s.Counts = r.total.Counts.clone()
	s.Last = r.window[windowSeconds-1].Counts.clone()
	var h histogram
	for i := range windowSeconds {
		h.merge(&r.window[i].hist)
	}
	s.Latency = latency(&h)
}

// clone copies the counts so that they can be read without the lock, with maps
// that are never nil: an empty object reads better than null.
func (c Counts) clone() Counts {
	outcomes, errs := make(map[string]int64, len(c.Outcomes)), make(map[string]int64, len(c.ClientErrors))
	maps.Copy(outcomes, c.Outcomes)
	maps.Copy(errs, c.ClientErrors)
	c.Outcomes, c.ClientErrors = outcomes, errs
	return c
}
