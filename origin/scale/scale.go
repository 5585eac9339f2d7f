// Package scale says how much of an origin should be there, and tells it to whoever
// can add or remove servers: functions bridge the minutes until they have come.
//
// What is wanted follows from two things that the node knows anyway: the work that
// is asked of the origin, whoever does it in the end, and how much work at once the
// origin makes progress on. It rises within seconds and falls within minutes, and
// nobody is told of a need that has not lasted.
//
// It fails towards leaving things as they are: what is not known reads as a ratio
// of 1, and is told to nobody. A message that cannot be delivered is tried again
// for some minutes, then lost and counted; no request waits for it. It orders no
// servers itself, and knows of none but those in the configuration.
package scale

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// An Asked is what was asked of an origin in a while, by all who the cache could
// not answer: those whom functions or stale entries served, who were sent to wait
// and who were turned away are among them.
type Asked struct {
	// Work is how long they would take an idle origin, one after the other, in
	// seconds: their number times the learned latencies of their classes.
	Work float64
	// Taken is the part of it that the origin was given.
	Taken float64
	// Waiting is the work of all visitors who are in the waiting room now.
	Waiting float64
	// CostUSD is what functions have cost for them.
	CostUSD float64
}

// A Standing is how an origin stands now.
type Standing struct {
	Up bool
	// Servers is how many there are, without those that an operator takes out, and
	// Ready how many of them take requests.
	Servers, Ready int
	// Useful is how many requests at once those make progress on; 0 is not known.
	Useful          float64
	Limit, InFlight int
}

// A State is what the metrics, the status page and the messages say.
type State struct {
	// Known says that the ratio is more than a stopgap: the origin is up, and what it
	// can do was learned.
	Known bool `json:"known"`
	// Ratio is what is wanted over what is there.
	Ratio float64 `json:"ratio"`
	// Servers is how many there are, Wanted how many there should be.
	Servers int `json:"servers"`
	Wanted  int `json:"wanted_servers"`
	// Needed says that more is wanted for so long that it counts, Since from when on.
	// After it Since stays until nothing more has to be told.
	Needed bool      `json:"needed"`
	Since  time.Time `json:"since,omitzero"`
	// Spilled is the share of the work that the origin does not get.
	Spilled float64 `json:"spilled_share"`
	// SpendPerHour is what functions cost at the present pace, in US dollars.
	SpendPerHour float64 `json:"spend_usd_per_hour"`
	// Delivered and Failed count attempts to deliver messages.
	Delivered uint64 `json:"messages_delivered"`
	Failed    uint64 `json:"messages_failed"`
}

// A Signal follows what is wanted of one origin. It is safe for concurrent use.
type Signal struct {
	name string
	post *post

	mu     sync.Mutex
	config Config
	last   time.Time

	work, taken, spend average // a second
	held               crest   // of the work
	measure            measure

	unit    average // useful concurrency of one server
	ready   int
	changed time.Time // when ready was another number

	need  need
	state State
}

// New returns the signal of the origin of that name, without a webhook until
// Prepare. It starts nothing.
func New(name string, log *slog.Logger) *Signal {
	return &Signal{name: name, post: newPost(log)}
}

// Prepare makes what the configuration c of an origin with so many servers needs,
// and changes nothing. The returned function puts it in force and cannot fail. What
// was observed is kept.
func (s *Signal) Prepare(c Config, servers int) (apply func(), err error) {
	r, _, err := newReceiver(&c)
	if err != nil {
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.config = c; s.last.IsZero() {
			s.state = State{Ratio: 1, Servers: servers, Wanted: servers}
		}
		s.post.to.Store(r)
	}, nil
}

// Run delivers messages until ctx ends.
func (s *Signal) Run(ctx context.Context) error { return s.post.run(ctx) }

// State returns what is wanted as of the last observation.
func (s *Signal) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Delivered, st.Failed = s.post.delivered.Load(), s.post.failed.Load()
	return st
}

// Factor is how much more work requests are than the learned latencies say, at least
// 1: those are geometric means, which no arithmetic mean is below. It is 1 until it is
// known.
func (s *Signal) Factor() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.measure.settled() {
		return 1
	}
	return max(1, s.measure.factor())
}

// clearing is within what time those who wait shall be served beside all who come.
// Not a knob: it is about what a server takes to come.
const clearing = time.Minute

// Observe takes what was asked since the last observation, and how the origin
// stands at that time.
func (s *Signal) Observe(at time.Time, a Asked, st Standing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, passed := s.last.IsZero(), at.Sub(s.last)
	if s.last = at; first {
		s.ready = st.Ready
	}
	if first || passed <= 0 {
		return // of what time this is, is not known
	}
	seconds := passed.Seconds()
	s.work.observe(amount(a.Work)/seconds+amount(a.Waiting)/clearing.Seconds(), passed, rise)
	s.taken.observe(amount(a.Taken)/seconds, passed, rise)
	s.spend.observe(amount(a.CostUSD)/seconds, passed, rise)
	s.measure.observe(amount(a.Taken)/seconds, &st, passed)
	s.learnUnit(at, passed, &st)
	s.conclude(at, passed, &st)
}

// amount keeps what cannot be out of the averages, which would never forget it.
func amount(v float64) float64 {
	const most = 1e12
	if !(v > 0) {
		return 0
	}
	return min(v, most)
}

// settling is how long what was learned of a server is kept when their number has
// changed: until the limiter knows what the others can do, it knows those who have
// gone, or not yet those who have come. Without it, who orders servers by the number
// would order them again as soon as they come. Not a knob.
const settling = 30 * time.Second

func (s *Signal) learnUnit(at time.Time, held time.Duration, st *Standing) {
	if st.Ready != s.ready {
		s.ready, s.changed = st.Ready, at
	}
	if st.Useful > 0 && st.Ready > 0 && (s.changed.IsZero() || at.Sub(s.changed) >= settling) {
		s.unit.observe(st.Useful/float64(st.Ready), held, learning)
	}
}

// conclude says what is wanted, and tells it if that is due.
func (s *Signal) conclude(at time.Time, held time.Duration, st *Standing) {
	if !s.work.settled() {
		s.held = 0 // the first moments are mostly chance
	}
	s.held.follow(s.work.value(), held)
	unit, factor := 0.0, s.measure.factor()
	if st.Up && s.measure.settled() {
		unit = s.unit.value()
	}
	now := want(factor*s.work.value(), unit, st.Servers, s.config.Target)
	wanted := want(factor*float64(s.held), unit, st.Servers, s.config.Target)
	if s.post.lost.Swap(false) {
		s.need.again()
	}
	due := false
	if wanted.Known {
		due = s.need.step(at, now.Ratio, wanted.Ratio, &s.config)
	} else {
		s.need.unsure()
	}
	s.state = State{
		Known: wanted.Known, Ratio: wanted.Ratio, Servers: st.Servers, Wanted: wanted.Servers,
		Needed: s.need.stage == needed, Since: s.need.since,
		SpendPerHour: s.spend.value() * time.Hour.Seconds(),
	}
	if asked := s.work.value(); asked > 0 {
		s.state.Spilled = max(0, 1-s.taken.value()/asked)
	}
	if due {
		s.post.tell(newMessage(s.name, at, &s.state, st))
		s.need.rest(now.Ratio, wanted.Ratio)
	}
}
