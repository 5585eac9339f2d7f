package recorder

import (
	"time"

	"spillway/edge/outcome"
)

// mostSteps is how many steps of a request are kept: a request that has tried more
// backends is rare, and its first ones tell most.
const mostSteps = 6

// An Entry is what became of one request, and why. It has a fixed size; its texts
// are short, and none of them keeps a request of a visitor alive.
type Entry struct {
	At     time.Time
	Took   time.Duration
	ID     string // at most 64 bytes
	Method string
	Route  string // its name in the configuration; empty if there is none
	Client Client

	Outcome outcome.Outcome
	Reason  outcome.Reason
	Backend string
	Status  int

	// Limit and InFlight are the origin's when the request came to the ladder; both
	// are zero for one that did not.
	Limit, InFlight int
	Trail           Trail
}

// A Client names a visitor as the access log does.
type Client struct {
	text   [48]byte // an address in full is the longest, of 39 bytes
	length int
}

// Set takes a copy of a name; what is too long is cut.
func (c *Client) Set(name []byte) { c.length = copy(c.text[:], name) }

func (c *Client) String() string { return string(c.text[:c.length]) }

// A Step is one place that a request comes to, in the words of the outcomes.
type Step struct {
	Outcome outcome.Outcome `json:"outcome"`
	Reason  outcome.Reason  `json:"reason,omitempty"` // why it went there
	Backend string          `json:"backend,omitempty"`
	// Seconds is how long it was there, and in an explanation how long it would wait
	// there at most.
	Seconds float64 `json:"seconds,omitempty"`
}

// A Trail is the steps that a request has taken. The zero value has none.
type Trail struct {
	steps [mostSteps]Step
	n     int
}

// Add notes a step that begins.
func (t *Trail) Add(s Step) {
	if t.n < mostSteps {
		t.steps[t.n] = s
	}
	t.n++
}

// Leave notes how long the step that was added last did take.
func (t *Trail) Leave(took time.Duration) {
	if t.n > 0 && t.n <= mostSteps {
		t.steps[t.n-1].Seconds = took.Seconds()
	}
}

// Steps returns the steps that were kept.
func (t *Trail) Steps() []Step { return t.steps[:min(t.n, mostSteps)] }

// A Line is an Entry as a line of JSON, under the names of the access log.
type Line struct {
	Time         time.Time       `json:"time"`
	ID           string          `json:"id,omitempty"`
	Client       string          `json:"client,omitempty"`
	Method       string          `json:"method"`
	Route        string          `json:"route,omitempty"`
	Outcome      outcome.Outcome `json:"outcome"`
	Reason       outcome.Reason  `json:"reason,omitempty"`
	Backend      string          `json:"backend,omitempty"`
	Status       int             `json:"status"`
	Milliseconds float64         `json:"ms"`
	Limit        int             `json:"limit,omitempty"`
	InFlight     int             `json:"in_flight,omitempty"`
	Steps        []Step          `json:"steps,omitempty"`
}

// Line returns the entry as it is written.
func (e *Entry) Line() Line {
	return Line{
		Time: e.At.UTC(), ID: e.ID, Client: e.Client.String(), Method: e.Method, Route: e.Route,
		Outcome: e.Outcome, Reason: e.Reason, Backend: e.Backend, Status: e.Status,
		Milliseconds: float64(e.Took.Microseconds()) / 1000,
		Limit:        e.Limit, InFlight: e.InFlight, Steps: e.Trail.Steps(),
	}
}
