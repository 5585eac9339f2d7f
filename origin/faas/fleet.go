package faas

import (
	"math"
	"time"
)

// What is believed of a platform's instances. Not knobs: platforms do not tell how
// many there are, and keep an idle one for at least these five minutes.
const (
	keptWarm    = 5 * time.Minute
	peakBucket  = 30 * time.Second
	peakBuckets = int(keptWarm / peakBucket)
	// learnLeast is the least weight of a new time, which makes about twenty calls
	// the memory.
	learnLeast = 0.05
	// What a function is taken to need before its first answers.
	firstCall      = 100 * time.Millisecond
	firstStart     = 500 * time.Millisecond
	firstHostStart = 20 * time.Millisecond // on the function host: 14 to 17 ms were measured
	// startLeast is how many times as long as on a ready instance a call must take that
	// is believed to have started one.
	startLeast = 3
	// leastTime keeps a time that was not to be measured out of the logarithm.
	leastTime = time.Millisecond
)

// A fleet is what is known of a function's instances, from its own calls: how many
// are ready, and how long they take. An instance serves one call at a time.
type fleet struct {
	ready    int // have answered a call and been used in the last five minutes
	busy     int // of these, with a call
	starting int // calls that have made the platform start one
	peaks    [peakBuckets]peak
	call     span // of a call on a ready instance
	start    span // that a start adds to it
}

// A peak is the most instances that were used at once in one bucket of time.
type peak struct {
	at   int64
	most int
}

func newFleet(c Config) fleet {
	f := fleet{call: span{standard: firstCall}, start: span{standard: firstStart}}
	if c.Provider == "process" {
		f.start.standard = firstHostStart
	}
	return f
}

// advance notes how many instances are used, and forgets those that were not for
// so long that the platform may have stopped them.
func (f *fleet) advance(now time.Time) {
	number := now.UnixNano() / int64(peakBucket)
	p := &f.peaks[int(number%int64(peakBuckets)+int64(peakBuckets))%peakBuckets]
	if p.at != number {
		*p = peak{at: number}
	}
	p.most = max(p.most, f.busy+f.starting)
	most := 0
	for _, p := range f.peaks {
		if p.at > number-int64(peakBuckets) && p.at <= number {
			most = max(most, p.most)
		}
	}
	f.ready = max(f.busy, min(f.ready, most))
}

// learnStart takes the time of a call that was to start an instance. If it took hardly
// longer than one that was not, the platform had an instance already: from before the
// node was restarted, or for another node.
func (f *fleet) learnStart(took time.Duration, warmUp bool) {
	call := f.call.value()
	switch {
	case took < startLeast*call:
	case warmUp:
		f.start.learn(took)
	default:
		f.start.learn(took - call)
	}
}

// A span is a time that is learned, as a mean in the log domain: one call that
// hangs moves it as little as one that is fast. The zero span knows nothing.
type span struct {
	standard time.Duration // until there was a sample
	n        float64
	ln       float64 // of seconds
}

func (s *span) learn(d time.Duration) {
	s.n++
	s.ln += max(1/s.n, learnLeast) * (math.Log(max(d, leastTime).Seconds()) - s.ln)
}

func (s *span) value() time.Duration {
	if s.n == 0 {
		return s.standard
	}
	return time.Duration(math.Exp(s.ln) * float64(time.Second))
}
