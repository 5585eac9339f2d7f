package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"spillway/edge/admin"
	"spillway/edge/exercise"
	"spillway/edge/outcome"
	"spillway/origin"
	"spillway/origin/faas"
)

// onlinePatience is how long origins and functions have to answer: less than the
// client of the admin listener waits.
const onlinePatience = 8 * time.Second

// An onlineReport says whether what the node stands between is there. Its keys in
// JSON do not change from version to version.
type onlineReport struct {
	OK     bool          `json:"ok"`
	Hash   string        `json:"hash"` // of the configuration that the node runs
	Checks []onlineCheck `json:"checks"`
}

// An onlineCheck is one thing that was asked.
type onlineCheck struct {
	What   string `json:"what"` // node, origin, function or route
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Result string `json:"result"`
}

// online asks the node of that address whether the configuration of that hash works
// now.
func online(ctx context.Context, client *admin.Client, hash string) (*onlineReport, error) {
	r, _, err := askNode[onlineReport](ctx, client, "/online")
	if err != nil {
		return nil, err
	}
	c := onlineCheck{What: "node", Name: "configuration", OK: r.Hash == hash, Result: "runs this one, hash " + hash}
	if !c.OK {
		c.Result = fmt.Sprintf("runs another one, hash %s and not %s; see spillway reload", r.Hash, hash)
	}
	r.Checks = slices.Insert(r.Checks, 0, c)
	r.OK = r.OK && c.OK
	return &r, nil
}

// write prints the checks, if there are any.
func (r *onlineReport) write(out io.Writer) {
	if r == nil {
		return
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, c := range r.Checks {
		verdict := "ok"
		if !c.OK {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "  %s\t%s %s\t%s\n", verdict, c.What, c.Name, oneLine(c.Result))
	}
	w.Flush()
}

// oneLine makes one line of what others have said. Characters that a terminal would
// act on are replaced.
func oneLine(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case !unicode.IsPrint(c), c == utf8.RuneError:
			return '?'
		}
		return c
	}, text)
}

// serveOnline tries all origins and functions: POST /online.
func (n *node) serveOnline(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(n.online(r.Context()))
}

// online tries everything at once, from where the node is and with what it has:
// its user, network, credentials and budgets.
func (n *node) online(ctx context.Context) onlineReport {
	ctx, cancel := context.WithTimeout(ctx, onlinePatience)
	defer cancel()
	n.mu.Lock()
	p, r := n.parts, onlineReport{OK: true, Hash: n.config.Hash()}
	n.mu.Unlock()
	r.Checks = append(r.Checks, n.tryNode())
	var mu sync.Mutex
	var wg sync.WaitGroup
	add := func(checks ...onlineCheck) {
		mu.Lock()
		defer mu.Unlock()
		r.Checks = append(r.Checks, checks...)
	}
	for name, o := range p.origins {
		wg.Go(func() { add(tryOrigin(ctx, name, o)...) })
	}
	for name, f := range p.functions {
		wg.Go(func() { add(tryFunction(ctx, name, f)) })
	}
	wg.Wait()
	order := []string{"node", "origin", "function"}
	slices.SortStableFunc(r.Checks, func(a, b onlineCheck) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.What), slices.Index(order, b.What)), cmp.Compare(a.Name, b.Name))
	})
	r.Checks = append(r.Checks, n.proofChecks()...)
	for _, c := range r.Checks {
		r.OK = r.OK && c.OK
	}
	return r
}

func (n *node) tryNode() onlineCheck {
	c := onlineCheck{What: "node", Name: "traffic", OK: true, Result: "ready"}
	if err := n.ready(); err != nil {
		c.OK, c.Result = false, "not ready: "+err.Error()
	}
	return c
}

func tryOrigin(ctx context.Context, name string, o *origin.Origin) []onlineCheck {
	var checks []onlineCheck
	for _, t := range o.Try(ctx) {
		c := onlineCheck{What: "origin", Name: name, OK: t.Err == nil, Result: fmt.Sprintf("%s answers, %s", t.Server, millis(t.Took))}
		if t.Err != nil {
			c.Result = fmt.Sprintf("%s does not answer: %v", t.Server, t.Err)
		}
		checks = append(checks, c)
	}
	return checks
}

// tryFunction has a function called once. One that has no instance to spare is at work,
// and so it is there.
func tryFunction(ctx context.Context, name string, f *faas.Function) onlineCheck {
	c, began := onlineCheck{What: "function", Name: name, OK: true}, time.Now()
	switch err := f.Try(ctx); {
	case err == nil:
		c.Result = "answers, " + millis(time.Since(began))
	case errors.Is(err, faas.ErrNoWarmUp):
		c.Result = "was not called: its warm_up is off"
	case faas.AsError(err).Refusal == outcome.FunctionBusy:
		c.Result = "has all of its calls with visitors"
	default:
		c.OK, c.Result = false, failing(faas.AsError(err))
	}
	return c
}

// failing says what is wrong with a function that was called in vain. One that cannot
// start and one that fails at a warm-up alone are told apart by its own words only. Either
// way no instance can be made ready ahead of time.
func failing(e *faas.Error) string {
	if e.Class == faas.FunctionError || e.Class == faas.Ambiguous && e.Answered {
		return fmt.Sprintf("fails: %v; see its log on the platform, or if it only knows no warm-ups, "+
			"set warm_up to a path that it answers, or to off", e.Err)
	}
	return fmt.Sprintf("does not answer: %v", e)
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// proofChecks are the proofs of the routes that spill. One that nobody wants is
// missing and not failing.
func (n *node) proofChecks() []onlineCheck {
	var checks []onlineCheck
	for _, p := range n.server.Proofs() {
		c := onlineCheck{What: "route", Name: p.Route + " to " + p.Function, OK: p.Verdict == exercise.Proved, Result: p.Words(time.Now())}
		if p.Verdict == exercise.NotWanted {
			c.OK, c.Result = true, "is not exercised, by its configuration"
		}
		checks = append(checks, c)
	}
	return checks
}
