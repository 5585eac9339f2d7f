package edge

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// leastUpload is what a visitor must send on average of all bodies together, on
// one connection, that the node waits for. It is little, because mobile networks
// are slow in this direction; it is more than nothing, because one byte now and
// then would keep a request for ever.
const leastUpload = 1 << 10 // bytes per second

// An upload is a request's body. Beyond the limit Read fails with
// *http.MaxBytesError.
type upload struct {
	from  io.ReadCloser
	reads mark
	limit int64
	left  int64
	err   error
	// done is set with err: a transport may still read when the handler has ended.
	done atomic.Bool
	got  atomic.Int64

	// By the sweep: how long the node has waited beyond what all bodies of the
	// connection paid for, and beyond what this one did; and what was got of it
	// until then.
	owed, alone time.Duration
	paid        int64
}

// waits reports whether there may be more of the body than the node has read, and
// the node does not ask for it.
func (u *upload) waits() bool { return u.from != nil && !u.done.Load() && !u.reads.going() }

// behind reports whether the visitor owes more than the stall timeout. Waiting
// runs into debt and bytes pay it off, so that a pause is forgiven and a trickle
// is not. It is a matter of the whole connection, on which bodies share what the
// network gives and may be sent one after the other; for how long others may pay
// for a body, and the node leave it no window, is bounded by starved.
func (u *upload) behind(s sight, p *pace) bool {
	got, waiting := u.got.Load(), u.reads.going()
	if waiting {
		u.alone += s.tick
		if !p.full {
			u.owed += s.tick
		}
	}
	u.owed = max(u.owed-p.sent, 0)
	u.alone = max(u.alone-atRate(got-u.paid, leastUpload), 0)
	u.paid = got
	return waiting && (u.owed >= s.stall || u.alone >= starved*s.stall)
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.err != nil || len(p) == 0 {
		return 0, u.err
	}
	if int64(len(p))-1 > u.left {
		p = p[:u.left+1] // one more tells too much from just enough
	}
	u.reads.begin()
	n, err := u.from.Read(p)
	u.reads.end()
	if int64(n) > u.left {
		n, err = int(u.left), &http.MaxBytesError{Limit: u.limit}
	}
	u.left -= int64(n)
	u.got.Add(int64(n))
	if u.err = err; err != nil {
		u.done.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (u *upload) Close() error { return u.from.Close() }
