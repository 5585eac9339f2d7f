package coding

import (
	"io"
	"time"
)

// A Source is a body as it comes.
type Source interface {
	// Next returns bytes that have come, which must not be changed. Without any it
	// waits; no bytes and no error mean that patience has ended. Negative patience
	// never does. The error is io.EOF only when the body was complete.
	Next(patience time.Duration) ([]byte, error)
	// Close gives up what the source holds on to. What Next has returned must not be read
	// any more.
	Close() error
}

// piece bounds what is encoded in one go, so that who is next in turn for a core
// waits a millisecond or two.
const piece = 64 << 10

// Whole is a source that is complete.
type Whole struct{ rest []byte }

// NewWhole returns a source of a body, which must not change.
func NewWhole(body []byte) *Whole { return &Whole{body} }

// Next returns the next piece.
func (w *Whole) Next(time.Duration) ([]byte, error) {
	if len(w.rest) == 0 {
		return nil, io.EOF
	}
	b := w.rest[:min(len(w.rest), piece)]
	w.rest = w.rest[len(b):]
	return b, nil
}

// Close does nothing.
func (w *Whole) Close() error { return nil }

// Cores bounds how many pieces are worked on at once. The nil value bounds nothing.
type Cores chan struct{}

// NewCores returns a bound.
func NewCores(n int) Cores { return make(Cores, n) }

// work calls f when a core is free.
func (c Cores) work(f func() error) error {
	if c != nil {
		c <- struct{}{}
		defer func() { <-c }()
	}
	return f()
}
