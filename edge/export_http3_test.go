package edge

import (
	"bytes"
	"net/http"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/quic-go/qpack"
)

// Glance returns what the fast path of HTTP/3 makes of a stream that brought p and ended,
// and whether it makes anything of it.
func Glance(p []byte, limit int) (*http.Request, bool) {
	q := new(request3)
	ok := q.parse(p, limit)
	return &q.request, ok
}

// Request3 returns what http3 makes of the field section in a HEADERS frame.
func Request3(block []byte, limit int) (*http.Request, error) {
	var fields []qpack.HeaderField
	return requestFromHeaders(qpack.NewDecoder().Decode(block), limit, &fields)
}

//go:linkname requestFromHeaders github.com/quic-go/quic-go/http3.requestFromHeaders
func requestFromHeaders(decode qpack.DecodeFunc, limit int, fields *[]qpack.HeaderField) (*http.Request, error)

// HeadersOnly returns the field section of a stream that is one HEADERS frame.
var HeadersOnly = headersOnly

// AppendSection encodes the fields of an answer.
var AppendSection = appendSection

// StaticTable are the field sections with one entry of the static table each.
func StaticTable() (sections [][]byte) {
	for i := range staticTable {
		sections = append(sections, appendPrefixed(bytes.Clone([]byte(sectionPrefix)), 0xc0, 6, i))
	}
	return sections
}

// NewGlance returns Glance that makes one request after the other, in one place.
func NewGlance() func(p []byte, limit int) bool { return new(request3).parse }

// Look has the sweep look at the requests of all connections once more.
func (l *Listeners) Look() {
	for _, c := range l.conns.snapshot(nil) {
		c.sweep(sight{now: time.Since(l.conns.start), stall: time.Hour, finish: time.Hour})
	}
}

// EndHit ends a stream with a hit on the one connection there is. Beside it ends another,
// between the hit's booking and that of its stream; it brought no request, and overdraws
// the account.
func (l *Listeners) EndHit() {
	c := l.conns.snapshot(nil)[0]
	excess := c.ended(false)
	c.mu.Lock()
	c.churn.owed = c.churn.depth
	c.mu.Unlock()
	c.streamEnded()
	(&hits3{q: l.quic, c: c}).ended(excess, false)
}

// A Panicky handler panics when it is asked for a hit.
type Panicky struct{ http.Handler }

func (Panicky) hit(*http.Request) *exchange { panic("a hit") }

func (p Panicky) hitWithin(r *http.Request, _ int) *exchange { return p.hit(r) }
