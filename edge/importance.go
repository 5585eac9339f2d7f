package edge

import (
	"hash/maphash"
	"net/http"
	"strings"
	"time"

	"spillway/edge/overflow"
	"spillway/origin/limit"
)

// takePriority returns how important a request is, 0 to 7: what a trusted proxy
// says in the field, else what its route says. What strangers say, or nobody can
// read, is ignored and goes no further.
func (x *exchange) takePriority(field string, rt *route) (priority int, ignored bool) {
	said := x.r.Header[field]
	if len(said) == 0 {
		return rt.priority, false
	}
	if x.visitor.trusted && len(said) == 1 && len(said[0]) == 1 && '0' <= said[0][0] && said[0][0] < '0'+limit.Priorities {
		return int(said[0][0] - '0'), false
	}
	delete(x.r.Header, field)
	return rt.priority, true
}

// A lottery divides visitors into groups, by which it is decided who is served when
// not all can be: one visitor's requests, and so all of a page, share one fate.
// Nothing is kept of any visitor, and nobody can tell a group ahead. Nil has one
// group for all.
type lottery struct {
	seed  maphash.Seed
	begun time.Time
}

func newLottery() lottery { return lottery{maphash.MakeSeed(), time.Now()} }

// round is how long a visitor stays in a group. Not a knob: far longer than a page
// takes, and how long somebody may have to wait for better luck.
const round = time.Hour

// stride is how many groups further a visitor is in the next round: their number
// times the golden ratio less one, which spreads any rounds that follow each other
// best (Knuth, The Art of Computer Programming 3, 6.4). It is odd, so that all
// groups have their turn.
const stride = 79

func (l *lottery) group(visitor uint64) int {
	if l == nil {
		return 0
	}
	return groupAt(maphash.Comparable(l.seed, visitor), time.Since(l.begun))
}

// groupAt is the group of a visitor at a time. Each visitor's rounds begin at a time
// of its own: at no time do all groups change.
func groupAt(hash uint64, at time.Duration) int {
	rounds := (at + time.Duration(hash>>8)%round) / round
	return int((hash%limit.Users + uint64(rounds)*stride) % limit.Users)
}

// Urgencies of a request that says nothing (RFC 9218 section 4.1), and of those that
// say the least.
const (
	usualUrgency = 3
	leastUrgency = 7
)

// urgency says in which order the requests of one visitor are wanted: by the
// urgency of RFC 9218, then what is of use as a whole before what is of use in
// parts, then pictures last. It is a hint, so it is read leniently, and there is no
// more to gain by a lie than to hurt oneself.
func urgency(h http.Header) uint8 {
	u, incremental := byte(usualUrgency), byte(0)
	for _, line := range h["Priority"] {
		for member := range strings.SplitSeq(line, ",") {
			member, _, _ = strings.Cut(member, ";")
			switch name, value, _ := strings.Cut(strings.Trim(member, " \t"), "="); {
			case name == "u" && len(value) == 1 && '0' <= value[0] && value[0] <= '0'+leastUrgency:
				u = value[0] - '0'
			case name == "i" && (value == "" || value == "?1"): // RFC 9218 section 4.2
				incremental = 1
			case name == "i" && value == "?0":
				incremental = 0
			}
		}
	}
	picture := byte(0)
	if h.Get("Sec-Fetch-Dest") == "image" {
		picture = 1
	}
	return u<<2 | incremental<<1 | picture
}

// bid is what the request says for itself in the origin's queue. What a function
// may still take, or a stale entry, goes after all of its priority for whom there is
// nothing else: to be shed is worse than to be served elsewhere.
func (l *ladder) bid(r *http.Request, patient bool) limit.Request {
	q := limit.Request{
		Class: l.route.classOf(r.Method), Share: l.share(),
		Wait: l.route.queueWait(patient), Patient: patient, Length: l.route.queue.Length,
	}
	if l.facts.Called {
		return q // of the first level: its turn has come
	}
	q.Visitor, q.Urgency = l.visitor.hash(r.Header), urgency(r.Header)
	group := limit.Users - 1
	if patient { // the last two groups are one, for no visitor may stand with those who may spill
		group = min(l.lottery.group(q.Visitor), limit.Users-2)
	}
	q.Level = limit.LevelOf(l.priority, group)
	return q
}

// probeLate is how many requests that are expected to be late go to a function for
// each that goes to the origin all the same: what is known of an origin has to be
// found out at the origin. Not a knob.
const probeLate = 64

// late reports whether a request that came now would probably miss the route's
// deadline at the origin.
func (r *route) late(method string, share float64) bool {
	if r.deadline <= 0 {
		return false
	}
	predicted, known := r.origin.Limiter().Predicted(r.classOf(method), share)
	return known && predicted > r.deadline
}

// leavesEarly reports whether the request goes to a function without asking the
// origin, which would be late.
func (l *ladder) leavesEarly(r *http.Request, key *string) bool {
	l.facts.Late = l.route.late(r.Method, l.share()) && l.route.lates.Add(1)%probeLate != 0
	if !l.facts.Late {
		return false
	}
	*key = l.visitor.key(r.Header)
	l.refreshCandidates(*key)
	return overflow.Early(&l.facts)
}
