package exercise

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// When a function counts as proven. Not knobs.
const (
	// recentMost is how many comparisons must all be equal. One odd answer, such as of
	// a page that changed between the two requests, is over after so many.
	recentMost = 10
	// staleAfter is how old a proof may be: every site has its quiet night.
	staleAfter = 24 * time.Hour
	// toldEvery is how often the same trouble is worth a line in the log.
	toldEvery = 10 * time.Minute
)

// A Verdict is what is known about a function.
type Verdict string

// The verdicts. Only the first is a proof.
const (
	Proved    Verdict = "proved"       // its last answers were those of the origin
	Never     Verdict = "never"        // nothing was compared yet
	Differs   Verdict = "differs"      // some of its last answers were not
	Stale     Verdict = "stale"        // the last proof is too old
	NotWanted Verdict = "exercise-off" // it is not to be exercised
)

// A Result is what came of one comparison. An empty Kind is an equal answer.
type Result struct {
	Difference
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Path   string    `json:"path"` // as sent, without the query
	ID     string    `json:"id"`   // of the request, at both
}

// A Proof is what comparisons have said about one function in the place of an
// origin. The zero value knows nothing yet. It is safe for concurrent use.
type Proof struct {
	mu      sync.Mutex
	counts  State
	recent  uint64 // the last comparisons, one bit each; the lowest is the latest
	length  int    // how many of them there are
	verdict Verdict
	told    time.Time
}

// A News is what the log should be told of a comparison.
type News string

// What there may be to tell.
const (
	NoNews   News = ""
	Broke    News = "differs" // or differs still
	Mended   News = "proved"  // after it differed, or for the first time
	WentCold News = "stale"
)

// Note adds a comparison.
func (p *Proof) Note(r Result) News {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Compared++
	p.counts.ComparedAt = r.At
	p.recent <<= 1
	p.length = min(p.length+1, recentMost)
	if r.Kind == "" {
		p.counts.Equal++
		p.counts.ProvedAt = r.At
	} else {
		p.recent |= 1
		if p.counts.Differences == nil {
			p.counts.Differences = map[Kind]uint64{}
		}
		p.counts.Differences[r.Kind]++
		p.counts.Last = &r
	}
	p.recent &= 1<<recentMost - 1
	return p.news(r.At, r.Kind != "")
}

// Check looks at the clock.
func (p *Proof) Check(now time.Time) News {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.news(now, false)
}

// news tells a change of the verdict, and repeats bad news now and then.
func (p *Proof) news(now time.Time, differs bool) News {
	was := p.verdict
	p.verdict = p.judge(now)
	switch changed := p.verdict != was; {
	case p.verdict == Differs && (changed || differs && now.Sub(p.told) >= toldEvery):
		p.told = now
		return Broke
	case p.verdict == Stale && changed:
		return WentCold
	case p.verdict == Proved && changed:
		return Mended
	}
	return NoNews
}

func (p *Proof) judge(now time.Time) Verdict {
	switch {
	case p.length == 0:
		return Never
	case p.recent != 0:
		return Differs
	case now.Sub(p.counts.ProvedAt) > staleAfter:
		return Stale
	}
	return Proved
}

// Skip counts a request that was to be compared and could not be.
func (p *Proof) Skip(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts.Uncompared == nil {
		p.counts.Uncompared = map[string]uint64{}
	}
	p.counts.Uncompared[why]++
}

// A State is a snapshot for metrics and the status view. Counters only grow.
type State struct {
	Verdict  Verdict `json:"verdict"`
	Compared uint64  `json:"compared"`
	Equal    uint64  `json:"equal"`
	// Recent are the comparisons that the verdict rests on, ten at most, and
	// RecentDiffering those of them that differed.
	Recent          int             `json:"recent"`
	RecentDiffering int             `json:"recent_differing"`
	ComparedAt      time.Time       `json:"compared_at,omitzero"`
	ProvedAt        time.Time       `json:"proved_at,omitzero"` // the last equal answer
	Differences     map[Kind]uint64 `json:"differences,omitempty"`
	Last            *Result         `json:"last_difference,omitempty"`
	// Uncompared are requests that were to be compared, by why they were not.
	Uncompared map[string]uint64 `json:"uncompared,omitempty"`
}

// State returns a snapshot.
func (p *Proof) State(now time.Time) State {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.counts
	s.Verdict, s.Recent, s.RecentDiffering = p.judge(now), p.length, bits.OnesCount64(p.recent)
	s.Differences, s.Uncompared = maps.Clone(s.Differences), maps.Clone(s.Uncompared)
	return s
}

// Words say what is known, as an operator reads it.
func (s *State) Words(now time.Time) string {
	switch s.Verdict {
	case NotWanted:
		return "UNPROVEN: not exercised"
	case Proved:
		return fmt.Sprintf("proved %s ago, %d of %d equal", ago(now, s.ProvedAt), s.Equal, s.Compared)
	case Stale:
		return fmt.Sprintf("UNPROVEN: proved %s ago, which is too long", ago(now, s.ProvedAt))
	case Differs:
		return fmt.Sprintf("UNPROVEN: %d of the last %d differ, %s ago: %s", s.RecentDiffering, s.Recent, ago(now, s.Last.At), s.Last.words())
	}
	if len(s.Uncompared) > 0 {
		why := slices.MaxFunc(slices.Sorted(maps.Keys(s.Uncompared)), func(a, b string) int {
			return cmp.Compare(s.Uncompared[a], s.Uncompared[b])
		})
		return fmt.Sprintf("UNPROVEN: never compared, %d times because of %s", s.Uncompared[why], why)
	}
	return "UNPROVEN: never compared"
}

// words name a difference and the request that showed it. A path is a stranger's
// choice, and may hold what a terminal takes for commands.
func (r *Result) words() string {
	what := string(r.Kind)
	if r.Kind == Failed {
		what = "no answer,"
	}
	if r.What != "" {
		what += " " + r.What
	}
	return fmt.Sprintf("%s (%s %q)", what, r.Method, r.Path)
}

// ago is about how long ago something was.
func ago(now, then time.Time) string {
	switch d := max(now.Sub(then), 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	default:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	}
}
