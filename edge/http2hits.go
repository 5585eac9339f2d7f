package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"runtime/debug"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// mostFields is how many fields a request may have that is answered here, those of
// RFC 9113 section 8.3.1 among them: a frame of indexes makes 16,384, and what they take
// stays with the connection.
const mostFields = maxFields + 4

// collect is given each field that the decoder finds.
func (f *fastHTTP2) collect(h hpack.HeaderField) {
	if len(f.fields) <= mostFields {
		f.fields = append(f.fields, h)
	}
}

// takesRequest follows the state of the compression, and answers a hit.
func (f *fastHTTP2) takesRequest(h frameHead, payload []byte) bool {
	opens := h.stream%2 == 1 && h.stream > f.last
	if !f.off {
		block, sound := headerBlock(h, payload)
		plain := sound && keepsTable(block)
		err := f.decode(block)
		defer f.forget(len(block))
		if f.off = !sound || err != nil; plain && opens && !f.off && len(f.fields) <= mostFields && f.answers(h) {
			f.last = h.stream
			if len(f.batch.frames) >= mostBatch {
				f.flush()
			}
			return true
		}
	}
	f.know(h.stream)
	return false
}

func (f *fastHTTP2) decode(block []byte) error {
	_, err := f.decoder.Write(block)
	return errors.Join(err, f.decoder.Close())
}

// forget lets go of the fields of a header block of such a size: the connection may be
// idle next.
func (f *fastHTTP2) forget(size int) {
	if size > mostRead && !f.off {
		// The decoder keeps the room of the last block: let it be that of one which says
		// nothing new, a field of the static table (RFC 7541 section 6.1).
		_ = f.decode(methodGet[:])
	}
	clear(f.fields)
	f.fields = f.fields[:0]
}

// methodGet is a header block.
var methodGet = [...]byte{0x80 | 2}

// headerBlock is that of a HEADERS frame (RFC 9113 section 6.2), without padding and
// priority. It is not sound where the library would not take it.
func headerBlock(h frameHead, payload []byte) (block []byte, sound bool) {
	padding := 0
	if h.flags&http2.FlagHeadersPadded != 0 {
		if len(payload) == 0 {
			return nil, false
		}
		padding, payload = int(payload[0]), payload[1:]
	}
	if h.flags&http2.FlagHeadersPriority != 0 {
		if len(payload) < 5 || binary.BigEndian.Uint32(payload)&math.MaxInt32 == h.stream {
			return nil, false // a stream cannot depend on itself
		}
		payload = payload[5:]
	}
	if padding > len(payload) {
		return nil, false
	}
	return payload[:len(payload)-padding], true
}

// answers answers a request, if it is a hit. Its fields have been decoded.
func (f *fastHTTP2) answers(h frameHead) (ok bool) {
	if h.flags&http2.FlagHeadersEndStream == 0 || !f.hold() {
		return false
	}
	defer f.survive(len(f.batch.frames), len(f.batch.answers))
	r := f.batch.request()
	if !r.read(f.fields, uint32(f.l.c.Limits.HeaderBytes), f.remote, &f.tls) {
		return false
	}
	x := f.l.hits.hitWithin(&r.Request, int(min(mostFrame, int64(f.most), f.window.left())))
	if x == nil {
		return false
	}
	var altSvc []string
	if !f.l.short.Load() {
		altSvc = f.l.rules.Load().altSvc
	}
	f.window.take(f.batch.answer(h.stream, x, altSvc))
	return true
}

// survive is deferred: a panic would end the process, for the library catches those of
// its handlers only. So the library gets the request at which it happened, before which
// there were so many bytes and answers, and all that follow.
func (f *fastHTTP2) survive(frames, answers int) {
	if p := recover(); p != nil {
		f.off = true
		f.tell(p)
		f.batch.cut(frames, answers)
	}
}

// fail is deferred: a panic at anything but the making of one answer ends the connection.
// What was answered before goes out, for the library has to write that it is the end.
func (f *fastHTTP2) fail() {
	if p := recover(); p != nil {
		f.off, f.err = true, http2.ConnectionError(http2.ErrCodeInternal)
		f.tell(p)
		defer f.fail()
		f.flush()
	}
}

// tell logs a panic as the library does.
func (f *fastHTTP2) tell(p any) {
	f.l.tcp.server.ErrorLog.Printf("http2: panic serving %s: %v\n%s", f.remote, p, debug.Stack())
}

// fallbackParts is how many requests the library gets within an idle time-out that it
// need not: each tells it that the connection is not idle.
const fallbackParts = sweepsPerTimeout

// hold keeps the library from writing, until flush. It does not where the library must
// have the request: while the visitors are told to go (RFC 9113 section 6.8), and once
// in a while, for else it would find an idle connection.
func (f *fastHTTP2) hold() bool {
	if f.batch != nil {
		return true
	}
	if f.l.leaving() || time.Since(f.when) >= f.l.c.Timeouts.Idle/fallbackParts || !f.conn.hold() {
		return false
	}
	f.l.handlers.Add(1)
	f.batch = batches.Get().(*batch)
	return true
}

// flush sends the answers in one write. It may block until the visitor takes them: then
// nothing more is read of him, and the sweep ends it (see tcpConn.Write).
func (f *fastHTTP2) flush() {
	b := f.batch
	if b == nil {
		return
	}
	f.batch = nil
	defer f.l.handlers.Add(-1)
	err := f.send(b.frames)
	for range b.answers {
		f.of.answered()
	}
	b.finish(err)
	if err != nil {
		f.err = err
	}
}

// send writes frames, if there are any, and lets the library write again.
func (f *fastHTTP2) send(frames []byte) (err error) {
	defer f.conn.release()
	if len(frames) > 0 {
		_, err = f.conn.Conn.Write(frames)
	}
	return err
}

// withdraw takes an answer back that was not sent yet, because the visitor gives the
// request up, and reports whether there was one. That counts as it would have if the
// library had begun on it.
func (f *fastHTTP2) withdraw(stream uint32) (ok bool) {
	if f.batch == nil {
		return false
	}
	body, ok := f.batch.withdraw(stream, context.Canceled)
	if !ok {
		return false
	}
	f.window.take(-body)
	f.of.charge(churnWork)
	if f.of.giveUp() {
		f.l.excess(f.of)
	}
	return true
}
