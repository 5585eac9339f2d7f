package cache

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// A got is what one visitor got, and how.
type got struct {
	step      step
	r         *http.Request
	at        time.Time // when the visitor asked
	answered  time.Time // when the answer began
	fromStore bool      // nobody was asked first
	stood     bool      // a stored answer stood in for an error
	refused   bool      // only-if-cached
	failed    error
	status    int
	header    http.Header
	body      string
	cut       error
	seen      []*exchange
}

// A lived cache has an origin behind it, and is asked as package edge asks it.
type lived struct {
	cache  *Cache
	origin *origin
}

// visit makes one request and waits until nothing goes on.
func (n *lived) visit(s step) *got {
	r := request(s.Method, s.URL)
	for _, line := range s.Fields {
		name, value, _ := strings.Cut(line, ": ")
		if value == "{lm}" {
			value = n.origin.began.Add(-10000 * time.Second).UTC().Format(http.TimeFormat)
		}
		r.Header.Add(name, value)
	}
	g := &got{step: s, r: r, at: time.Now()}
	n.origin.next, n.origin.changed = s.reaction, false
	before := len(n.origin.seen)
	n.ask(g)
	synctest.Wait() // a flight ends after its last reader
	for s := n.cache.State(); s.Background+s.Flights > 0; s = n.cache.State() {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	g.seen = n.origin.seen[before:]
	if slices.ContainsFunc(g.seen, func(x *exchange) bool { return x.behind }) {
		time.Sleep(time.Second) // if it has failed nothing is renewed for so long
	}
	return g
}

func (n *lived) ask(g *got) {
	found := n.cache.Lookup(g.r, g.at)
	defer found.Release()
	if found.State == Fresh || found.State == StaleWhileRevalidate {
		g.fromStore = true
		g.take(found.Entry)
		if found.State == StaleWhileRevalidate {
			n.cache.Renew(g.r, &found, func() Func { return n.origin.renew })
		}
		return
	}
	standsIn := found.Entry != nil && found.State != Unavailable && found.Entry.StaleIfDown(g.at, g.r)
	ownError := found.StaleIfError(g.at, g.r)
	fetch := func(ctx context.Context, r *http.Request) (*http.Response, error) {
		resp, err := n.origin.fetch(ctx, r)
		if err == nil && (resp.StatusCode == 503 && standsIn || resp.StatusCode == 500 && ownError) {
			return nil, errors.New("spared") // as the ladder of package edge does
		}
		return resp, err
	}
	resp, err := n.cache.Fetch(g.r.Context(), g.r, found, fetch)
	switch {
	case errors.Is(err, ErrOnlyIfCached):
		g.refused = true
	case err != nil && standsIn:
		g.stood = true
		g.take(found.Entry)
	case err != nil:
		g.failed = err
	default:
		g.receive(resp)
	}
}

// take answers out of an entry.
func (g *got) take(e *Entry) {
	g.answered = time.Now()
	g.header = maps.Clone(e.Header())
	g.header.Set("Age", strconv.Itoa(int(e.Age(g.answered)/time.Second)))
	if e.NotModified(g.r) {
		g.status = 304
	} else if x, ok := e.Excerpt(g.r); ok {
		g.status = x.Apply(g.header)
		for _, piece := range x.Pieces() {
			g.body += string(piece)
		}
	} else {
		g.status, g.body = e.Status(), string(e.Body())
	}
}

// receive reads a fetched answer to its end.
func (g *got) receive(resp *Response) {
	defer resp.Body.Close()
	if resp.Entry != nil {
		g.take(resp.Entry)
		return
	}
	g.answered = time.Now()
	g.status, g.header = resp.Status, resp.Header
	if NotModified(g.r, resp.Status, resp.Header) {
		g.status = 304
		return
	}
	body, err := io.ReadAll(resp.Body)
	g.body, g.cut = string(body), err
}

// live lets a cache live through a history beside the model, and returns the first
// thing that they do not agree on.
func live(t *testing.T, h history) (complaint string, at int) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := &lived{New(config()), &origin{versions: map[string]int{}, modified: map[string]int{}, began: time.Now()}}
		ended := make(chan struct{})
		go func() {
			n.cache.Revalidate(ctx)
			close(ended)
		}()
		synctest.Wait()
		m := &model{}
		for i, s := range h {
			time.Sleep(time.Duration(s.Wait) * time.Second)
			if s.Purge != "" {
				n.cache.PurgeBy(n.cache.SelectURL(request("GET", s.URL), nil), s.Purge == "soft")
				m.purge(s.URL, s.Purge == "soft", time.Now())
				continue
			}
			if complaint = m.check(n.visit(s)); complaint != "" {
				at = i + 1
				break
			}
		}
		cancel()
		<-ended
	})
	return complaint, at
}
