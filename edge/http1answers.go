package edge

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Answers are hits of one connection that go out in one write.
type answers struct {
	heads  [mostAnswers]head
	hits   [mostAnswers]*exchange
	ends   [mostAnswers]int // of each answer, among all bytes
	n      int
	out    []byte
	rest   []byte // of a large body, after out
	guard  guard
	cutter cutter
}

const (
	// mostAnswers are sent at once to who asks for more before he has an answer; not a
	// knob, as few ask for two.
	mostAnswers = 16
	// record is what TLS encrypts at once (RFC 8446 section 5.1). Answers are collected
	// up to one.
	record = 16 << 10
)

var answersPool = sync.Pool{New: func() any { return new(answers) }}

// head is where the next request is read to.
func (a *answers) head() *head { return &a.heads[a.n] }

// add appends a hit, for the request in head. It reports whether it is time to send.
func (a *answers) add(x *exchange, l *Listeners) (full bool) {
	var altSvc []string
	if !l.short.Load() {
		altSvc = l.rules.Load().altSvc
	}
	i := a.n
	a.hits[i] = x // before anything can panic
	a.n++
	a.out = append(x.appendHead(a.out, protoHTTP1, altSvc, appendHTTP1), "\r\n"...)
	body := x.body()
	a.ends[i] = len(a.out) + len(body)
	copied := len(body)
	if copied > record {
		copied = max(record-len(a.out), 0)
	}
	a.out, a.rest = append(a.out, body[:copied]...), body[copied:]
	return a.n == mostAnswers || len(a.out) >= record
}

// send writes all answers, watched as any other, and ends their exchanges.
func (a *answers) send(h *hitConn) error {
	if a.n == 0 {
		return nil
	}
	a.cutter.conn = h
	a.guard = guard{ResponseWriter: &a.cutter, l: h.l, conn: h.c}
	h.c.enter(&a.guard)
	n, err := h.Conn.Write(a.out)
	if err == nil && len(a.rest) > 0 {
		var m int
		m, err = h.Conn.Write(a.rest)
		n += m
	}
	h.c.leave(&a.guard, false)
	for i, x := range a.hits[:a.n] {
		if i > 0 {
			h.c.answered()
		}
		size := len(x.body())
		a.hits[i] = nil // finish ends it, whatever comes
		if missing := a.ends[i] - n; missing > 0 {
			x.finish(max(size-missing, 0), err)
		} else {
			x.finish(size, nil)
		}
		a.heads[i].forget()
	}
	a.n, a.out, a.rest = 0, a.out[:0], nil
	return err
}

// free gives what was sent back to the pool. What a panic has left is ended, and must not
// meet another visitor.
func (a *answers) free() {
	if a.n > 0 {
		for _, x := range a.hits[:a.n] {
			if x != nil {
				defer x.abandon() // each of them, also if one panics
			}
		}
		return
	}
	a.cutter.conn, a.guard.conn = nil, nil
	answersPool.Put(a)
}

// A cutter is what the sweep knows of the writer of answers: it can cut them off. They
// have no other deadline that it would have to move.
type cutter struct {
	http.ResponseWriter
	conn *hitConn
}

// SetWriteDeadline implements what http.ResponseController looks for.
func (c *cutter) SetWriteDeadline(t time.Time) error {
	if !t.Equal(past) {
		return nil
	}
	return c.conn.Conn.SetWriteDeadline(t)
}

// appendHTTP1 is an encoder: it appends a head as net/http writes it.
func appendHTTP1(b []byte, status int, fields http.Header) []byte {
	out := bytes.NewBuffer(b)
	if status != 0 {
		text := http.StatusText(status)
		if text == "" {
			text = fmt.Sprint("status code ", status)
		}
		fmt.Fprintf(out, "HTTP/1.1 %03d %s\r\n", status, text)
	}
	fields.Write(out) // a buffer never fails
	return out.Bytes()
}
