package edgetest

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// An Origin is a handler of known capacity: it works on as many requests at a
// time as it has slots, each for the service time, and keeps others waiting. It
// sleeps instead of working, so that its capacity is exact in virtual time and
// does not depend on the machine otherwise.
type Origin struct {
	service time.Duration
	slots   chan struct{}
	backlog int64

	inside, most, served, refused atomic.Int64
}

// NewOrigin returns an origin. Requests beyond the backlog that waits for slots
// are answered 503.
func NewOrigin(slots int, service time.Duration, backlog int) *Origin {
	return &Origin{service: service, slots: make(chan struct{}, slots), backlog: int64(backlog)}
}

// ServeHTTP implements http.Handler. The answer tells how many requests the
// origin had, this one included, when it came.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := o.inside.Add(1)
	defer o.inside.Add(-1)
	for most := o.most.Load(); n > most && !o.most.CompareAndSwap(most, n); most = o.most.Load() {
	}
	w.Header().Set("In-Flight", strconv.FormatInt(n, 10))
	if n > int64(cap(o.slots))+o.backlog {
		o.refused.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	select {
	case o.slots <- struct{}{}:
	case <-r.Context().Done():
		return
	}
	defer func() { <-o.slots }()
	time.Sleep(o.service)
	o.served.Add(1)
	io.WriteString(w, r.URL.Path)
}

// InFlight returns how many requests the origin has, and the most it ever had.
func (o *Origin) InFlight() (now, most int64) { return o.inside.Load(), o.most.Load() }

// Served returns how many requests were answered, and how many were refused.
func (o *Origin) Served() (served, refused int64) { return o.served.Load(), o.refused.Load() }
