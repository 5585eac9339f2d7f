package edge

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// leastUpload is what a visitor must send on average of a body that the node
// waits for. It is little, because mobile networks are slow in this direction;
// it is more than nothing, because one byte now and then would keep a request
// for ever.
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

	// By the sweep: how long the node has waited beyond what was paid for, and
	// what was got until then.
	owed time.Duration
	paid int64
}

// behind reports whether the visitor owes more than the stall timeout. Waiting
// runs into debt and bytes pay it off, so that a pause is forgiven and a trickle
// is not. tick is the time since it was asked last.
func (u *upload) behind(tick, stall time.Duration) bool {
	got := u.got.Load()
	if u.reads.going() {
		u.owed += tick
	}
	u.owed = max(u.owed-time.Duration(got-u.paid)*(time.Second/leastUpload), 0)
	u.paid = got
	return u.owed >= stall
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
