package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"spillway/cmd/surge/serve"
)

// maxBody bounds what one answer may hold.
const maxBody = 1 << 30

// ServeHTTP answers a request:
//
//	/stats, /control     counters, and POST ?slots=2&speed=0.5&die=1&revive=1
//	/healthz             200 at once, outside the slots
//	/events              an event stream without end; ?every=1s
//	/*                   a slot's work: Config.Work, or a plain answer
//
// The query of a plain answer may hold bytes, cache (seconds of max-age), status,
// slow (times the service time),
// draw (which of the seed's service times), stream (events after the headers) and every.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/stats":
		serve.JSON(w, o.Stats())
	case "/control":
		o.serveControl(w, r)
	case "/healthz":
		o.serveHealth(w)
	default:
		o.serveWork(w, r)
	}
}

func (o *Origin) serveControl(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || serve.Proxied(r) {
		http.Error(w, "control wants a POST from this machine, not through a proxy", http.StatusForbidden)
		return
	}
	change, err := parseChange(r.URL.Query())
	if err == nil {
		err = o.Control(change)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s := o.Stats()
	s.PerSecond = nil
	serve.JSON(w, s)
}

// parseChange reads the query of a control request. Unknown keys are errors: a
// misspelt key that changes nothing would spoil a measurement.
func parseChange(query url.Values) (Change, error) {
	var c Change
	for key := range query {
		value := query.Get(key)
		switch key {
		case "slots":
			n, err := strconv.Atoi(value)
			if err != nil {
				return c, fmt.Errorf("slots=%s: want a number", value)
			}
			c.Slots = &n
		case "speed":
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return c, fmt.Errorf("speed=%s: want a number", value)
			}
			c.Speed = &f
		case "die", "revive":
			if value != "1" {
				return c, fmt.Errorf("%s=%s: want 1", key, value)
			}
			if c.Dead != nil {
				return c, errors.New("die and revive: want one of them")
			}
			c.Dead = new(key == "die")
		default:
			return c, fmt.Errorf("unknown key %q: want slots, speed, die or revive", key)
		}
	}
	return c, nil
}

func (o *Origin) serveHealth(w http.ResponseWriter) {
	o.mu.Lock()
	dead := o.dead
	o.mu.Unlock()
	if dead {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, "ok\n")
}

// serveWork gives the request its turn and answers.
func (o *Origin) serveWork(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	plain := o.c.Work == nil || r.URL.Path == "/events"
	ask, err := o.parseAsk(r, plain)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// A server sees that its client left only once it has read the request.
	if _, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBody)); err != nil {
		panic(http.ErrAbortHandler)
	}
	in, err := o.enter(ask)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if in.job == nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "backlog full", http.StatusServiceUnavailable)
		return
	}
	var answer *serve.Answer
	var work func()
	if !plain {
		work = func() { answer = serve.Record(o.c.Work, r) }
	}
	e := o.await(r.Context(), in.job, work)
	e.took = time.Since(arrived)
	if !o.leave(in.job, e) {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-True-Inflight", strconv.Itoa(in.inside))
	if answer != nil {
		answer.Send(w)
		return
	}
	o.sendPlain(w, r, ask, in.gone)
}

// await lets the request's turn come, does its work, and waits for the
// schedule's end. Unless told to cancel, it ignores that the client left.
func (o *Origin) await(ctx context.Context, j *job, work func()) ending {
	var left <-chan struct{}
	if o.c.Cancel {
		left = ctx.Done()
	}
	select {
	case <-j.started:
	case <-left:
		return ending{canceled: true}
	}
	overran := false
	if work != nil && !isClosed(j.done) { // else it was killed before its turn came
		work()
		overran = isClosed(j.done)
	}
	select {
	case <-j.done:
	case <-left:
		return ending{canceled: true}
	}
	return ending{overran: overran, left: ctx.Err() != nil}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
