package origin

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A Model says how the slots are shared by the requests inside.
type Model string

// The models.
const (
	// FIFO gives each slot to one request; the others wait in order of arrival.
	// It is a worker pool: latency of the work stays, waiting grows.
	FIFO Model = "fifo"
	// Sharing serves every request inside at once, each at an equal share of the
	// slots. It is a machine with threads: everything slows down together.
	Sharing Model = "sharing"
)

// Config describes an origin. The zero value of a field means its default.
type Config struct {
	Model   Model         // FIFO
	Slots   int           // 4
	Service time.Duration // 110ms; the mean time of one slot for one request at speed 1
	// CV is the coefficient of variation of the service time: 0 is a fixed time,
	// otherwise times are lognormal.
	CV float64
	// Knee is the number of requests inside, as a multiple of the slots, above
	// which the origin loses speed. 1.5.
	Knee float64
	// Thrash is how much speed is lost: with n requests inside the rate is divided
	// by 1 + Thrash*(n-Knee*Slots)/Slots. Zero means none.
	Thrash float64
	// Backlog bounds the requests inside beyond the slots; the next is answered
	// 503. 1024; negative is none.
	Backlog int
	// Cancel drops a request at once when its client leaves. By default an origin
	// does not notice, and works on for nobody: that is what makes an overload
	// last.
	Cancel bool
	// Patience is how long a visitor would wait: what takes longer is completed
	// but of no use. 5s.
	Patience time.Duration
	// Body is the size of an answer without Work. 1KiB; negative is none.
	Body int64
	// Work answers the requests, inside the slot. What it leaves of the service
	// time is slept; when it takes longer, the answer is late, the slot is not,
	// and the overrun is counted.
	Work http.Handler
	Seed uint64 // of the service times
	// Visited, unless nil, is told of each request that came in, as soon as it has
	// ended. It is called one at a time and must return at once.
	Visited func(Visit)
}

// withDefaults fills in c and checks it.
func (c Config) withDefaults() (Config, error) {
	if c.Model == "" {
		c.Model = FIFO
	}
	if c.Slots == 0 {
		c.Slots = 4
	}
	if c.Service == 0 {
		c.Service = 110 * time.Millisecond
	}
	if c.Knee == 0 {
		c.Knee = 1.5
	}
	if c.Backlog == 0 {
		c.Backlog = 1024
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Second
	}
	if c.Body == 0 {
		c.Body = 1 << 10
	}
	c.Backlog, c.Body = max(0, c.Backlog), max(0, c.Body)
	switch {
	case c.Model != FIFO && c.Model != Sharing:
		return c, fmt.Errorf("model %q: want %s or %s", c.Model, FIFO, Sharing)
	case c.Slots < 1:
		return c, errors.New("slots: want at least 1")
	case c.Service < 0:
		return c, errors.New("service: want a time above 0, such as 110ms")
	case !(c.CV >= 0 && c.CV <= 10):
		return c, errors.New("cv: want 0 to 10")
	case !(c.Knee > 0):
		return c, errors.New("knee: want a multiple of the slots above 0")
	case !(c.Thrash >= 0):
		return c, errors.New("thrash: want 0 or more")
	case c.Patience < 0:
		return c, errors.New("patience: want a time above 0, such as 5s")
	case c.Body > maxBody:
		return c, fmt.Errorf("body: want at most %d bytes", int64(maxBody))
	}
	return c, nil
}
