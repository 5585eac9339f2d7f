package edge

import (
	"errors"
	"io"
)

// keep reads up to room bytes of a request's body into memory, as long as the
// bodies in memory of all requests are within the buffer. It reports whether that
// is all of the body. Room is taken as bytes come, so that a sender holds what it
// has sent and not what it announced.
func (x *exchange) keep(body io.Reader, room int64) (kept []byte, whole bool, err error) {
	size := min(room+1, likelyEmpty) // one byte more tells too much from just enough
	x.takeRoom(size)                 // always granted: without it a GET over HTTP/3 could not be told from a POST
	kept = make([]byte, 0, size)
	for {
		if len(kept) == cap(kept) {
			more := min(int64(cap(kept)), room+1-int64(cap(kept)))
			if more <= 0 || !x.takeRoom(more) {
				return kept, false, nil
			}
			kept = append(make([]byte, 0, int64(cap(kept))+more), kept...)
		}
		n, err := body.Read(kept[len(kept):cap(kept)])
		kept = kept[:len(kept)+n]
		if errors.Is(err, io.EOF) {
			return kept, int64(len(kept)) <= room, nil
		}
		if err != nil {
			return kept, false, err
		}
	}
}

// takeRoom takes room in the buffer until the exchange ends, and reports whether
// there was any. What was not there is not taken, but for the first of a body.
func (x *exchange) takeRoom(n int64) bool {
	if x.s.kept.Add(n) > x.s.settings.Load().buffer && x.kept > 0 {
		x.s.kept.Add(-n)
		return false
	}
	x.kept += n
	return true
}
