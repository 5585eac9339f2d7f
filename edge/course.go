package edge

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/edge/recorder"
)

// A course is the way of a request down the ladder, for the flight recorder.
type course struct {
	// limit and inFlight are the origin's when it began.
	limit, inFlight int
	trail           recorder.Trail
}

// note adds a step that begins now.
func (r *route) note(c *course, d overflow.Decision) time.Time {
	step := recorder.Step{Outcome: placeOutcomes[d.Place], Reason: d.Reason, Backend: r.backendOf(d)}
	c.trail.Add(step)
	return time.Now()
}

// placeOutcomes are the places in the words of the outcomes.
var placeOutcomes = map[overflow.Place]outcome.Outcome{
	overflow.Origin: outcome.Origin, overflow.Queue: outcome.Queued, overflow.Function: outcome.Function,
	overflow.Stale: outcome.Stale, overflow.Waiting: outcome.Waiting,
	overflow.Shed: outcome.Shed, overflow.Fail: outcome.Failed,
}

// backendOf names the origin or function that a decision is about, if any.
func (r *route) backendOf(d overflow.Decision) string {
	switch d.Place {
	case overflow.Origin, overflow.Queue:
		return r.originName
	case overflow.Function:
		return r.functions[d.Function].Name()
	}
	return ""
}

// returned reports whether a fetch that ended with err has no ladder under way any
// more: a visitor who leaves does not wait for the end of it.
func returned(err error) bool {
	return err == nil || errors.As(err, new(*ending))
}

// record hands a finished exchange to the flight recorder, unless the cache answered
// it.
func (x *exchange) record(took time.Duration) {
	if x.outcome == outcome.Hit {
		return
	}
	e := recorder.Entry{
		At: x.start, Took: took, ID: x.id, Method: method(x.r.Method),
		Outcome: x.outcome, Reason: x.reason, Backend: x.backend, Status: x.status,
	}
	if c := x.course; c != nil {
		e.Limit, e.InFlight, e.Trail = c.limit, c.inFlight, c.trail
	}
	if x.route != nil {
		e.Route = x.route.name
	}
	var name [48]byte
	e.Client.Set(x.s.clients.appendName(name[:0], x.visitor.addr, x.start))
	x.s.recorder.Add(&e, x.start.Add(took))
}

// method returns a method as a text of its own: the one of a request may be a part
// of all that its first line says.
func method(m string) string {
	for _, known := range [...]string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	} {
		if m == known {
			return known
		}
	}
	return strings.Clone(m[:min(len(m), 16)])
}

// recorderFolder is where the flight recorder writes, or empty.
func recorderFolder(c Config) string {
	switch {
	case c.Log.Recorder == "off", c.Log.Recorder == "" && c.State == "":
		return ""
	case c.Log.Recorder == "":
		return filepath.Join(c.State, "flights")
	}
	return c.Log.Recorder
}

// Record watches for the begin of shedding, and writes the last minute of decisions
// out then, until ctx ends.
func (s *Server) Record(ctx context.Context) error {
	return s.recorder.Run(ctx, func() (hits, shed uint64) {
		s.clients.forget(time.Now())
		all := s.counts.outcomes()
		return all[outcome.Hit], all[outcome.Shed]
	})
}

// Recorder returns the flight recorder, to be read.
func (s *Server) Recorder() *recorder.Recorder { return s.recorder }
