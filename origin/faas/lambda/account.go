package lambda

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
	"weak"

	"spillway/origin/faas"
	"spillway/origin/faas/sign"
)

// How long the calls of an account pause. Not knobs.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// An Account is what all Lambda functions of a node share: credentials, and the
// rate of calls that AWS grants them per region. It is safe for concurrent use.
type Account struct {
	log *slog.Logger

	mu      sync.Mutex
	regions map[place]weak.Pointer[region] // each is kept by the functions that use it
}

// A place is an account, as far as its name is known, and a region in it. The
// source's region is never empty.
type place struct {
	source   sign.Source
	endpoint string
}

// NewAccount returns an account that is asked for nothing yet.
func NewAccount(log *slog.Logger) *Account {
	return &Account{log: log, regions: map[place]weak.Pointer[region]{}}
}

// region returns what functions share that have the same source and endpoint. The
// region of a source without one is looked up each time: it may have been changed.
func (a *Account) region(source sign.Source, endpoint string) (*region, error) {
	signer, err := sign.New(context.Background(), source)
	if err != nil {
		return nil, err
	}
	source.Region = signer.Region()
	u, err := parseEndpoint(endpoint, source.Region)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.regions, func(_ place, r weak.Pointer[region]) bool { return r.Value() == nil })
	at := place{source, endpoint}
	if r := a.regions[at].Value(); r != nil {
		return r, nil
	}
	r := &region{endpoint: u, signer: signer, log: a.log.With("region", source.Region)}
	a.regions[at] = weak.Make(r)
	return r, nil
}

// A region is where functions are called with the same credentials.
type region struct {
	endpoint *url.URL
	signer   *sign.Signer
	log      *slog.Logger

	mu     sync.Mutex
	until  time.Time     // no calls before
	length time.Duration // of the last pause; zero since a call got through
}

// paused refuses a call while the account has used up its rate.
func (r *region) paused(now time.Time) *faas.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.until.Sub(now)
	if left <= 0 {
		return nil
	}
	return &faas.Error{
		Class: faas.Throttled, AccountWide: true, RetryAfter: left,
		Err: fmt.Errorf("too many calls of the account in %s: all its functions pause", r.signer.Region()),
	}
}

// learn takes what an answer says about the account.
func (r *region) learn(now time.Time, resp *http.Response, err error) {
	if err == nil {
		r.restart()
		return
	}
	switch e := faas.AsError(err); {
	case e.AccountWide:
		r.pause(now, e)
	case e.Class == faas.Auth:
		r.refused(resp, e)
	case e.Class == faas.FunctionError:
		r.restart()
	}
}

// restart ends a row of refusals: a call got through to its function.
func (r *region) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.length = 0
}

// pause holds all functions back: for as long as AWS asks, or each time in a row
// for twice as long. Calls that were under way together are one refusal. The
// jitter keeps many nodes from coming back in the same moment.
func (r *region) pause(now time.Time, e *faas.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.until) {
		return
	}
	r.length = min(max(2*r.length, firstPause), longestPause)
	pause := time.Duration(float64(r.length) * (0.8 + 0.4*rand.Float64()))
	r.until = now.Add(max(pause, min(e.RetryAfter, longestPause)))
	e.RetryAfter = r.until.Sub(now)
}

// refused looks for the reason why AWS did not accept the caller. A wrong clock is
// put right for the next call; any other reason may be credentials that someone
// has replaced.
func (r *region) refused(resp *http.Response, e *faas.Error) {
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		if behind := r.signer.Correct(date); behind != 0 {
			behind = behind.Round(time.Second)
			r.log.Warn("the clock of this machine is wrong, calls go by that of AWS: set the clock", "behind", behind)
			e.Err = fmt.Errorf("the clock of this machine is %v behind that of AWS: %w", behind, e.Err)
			return
		}
	}
	r.signer.Doubt()
}
