package edge

import (
	"slices"
	"sync"

	"golang.org/x/net/http2"
)

// A batch is what the fast path of HTTP/2 answers to what it read at once. All that it
// is made of is used again.
type batch struct {
	frames   []byte
	answers  []streamAnswer
	requests []*streamRequest // as many as there were answers at most, and one more
}

// A streamAnswer is one of a batch.
type streamAnswer struct {
	stream     uint32
	x          *exchange
	body       int
	start, end int // in frames
}

// mostBatch is when a batch is sent although there is more to answer.
const mostBatch = 64 << 10

var batches = sync.Pool{New: func() any { return new(batch) }}

// request is one for the next answer to be to.
func (b *batch) request() *streamRequest {
	if n := len(b.answers); n == len(b.requests) {
		b.requests = append(b.requests, new(streamRequest))
	}
	return b.requests[len(b.answers)]
}

// answer appends the frames of an answer, whose body fits into one, and returns the size
// of the body.
func (b *batch) answer(stream uint32, x *exchange, altSvc []string) int {
	i, start := len(b.answers), len(b.frames)
	b.answers = append(b.answers, streamAnswer{stream: stream, x: x}) // before anything can panic
	body := x.body()
	var end http2.Flags
	if len(body) == 0 {
		end = http2.FlagHeadersEndStream
	}
	b.frames = append(b.frames, make([]byte, frameHeader)...)
	b.frames = x.appendHead(b.frames, protoHTTP2, altSvc, encodeHTTP2)
	b.frames = frameHeaders(b.frames, start, end, stream)
	if len(body) > 0 {
		b.frames = appendFrameHeader(b.frames, len(body), http2.FrameData, http2.FlagDataEndStream, stream)
		b.frames = append(b.frames, body...)
	}
	b.answers[i] = streamAnswer{stream, x, len(body), start, len(b.frames)}
	return len(body)
}

// frameHeaders makes a HEADERS frame of a header block at the end of b, before which
// start has the room for its header, and CONTINUATION frames of what does not fit (RFC
// 9113 section 6.10).
func frameHeaders(b []byte, start int, flags http2.Flags, stream uint32) []byte {
	size := len(b) - start - frameHeader
	if size <= mostFrame {
		appendFrameHeader(b[:start], size, http2.FrameHeaders, flags|http2.FlagHeadersEndHeaders, stream)
		return b
	}
	block := slices.Clone(b[start+frameHeader:])
	b = appendFrameHeader(b[:start], mostFrame, http2.FrameHeaders, flags, stream)
	b, block = append(b, block[:mostFrame]...), block[mostFrame:]
	for part := range slices.Chunk(block, mostFrame) {
		var last http2.Flags
		if block = block[len(part):]; len(block) == 0 {
			last = http2.FlagContinuationEndHeaders
		}
		b = append(appendFrameHeader(b, len(part), http2.FrameContinuation, last, stream), part...)
	}
	return b
}

// appendFrameHeader appends what RFC 9113 section 4.1 says.
func appendFrameHeader(b []byte, length int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// withdraw takes an answer out, and returns the size of its body.
func (b *batch) withdraw(stream uint32, why error) (body int, ok bool) {
	i := slices.IndexFunc(b.answers, func(a streamAnswer) bool { return a.stream == stream })
	if i < 0 {
		return 0, false
	}
	a := b.answers[i]
	b.frames = slices.Delete(b.frames, a.start, a.end)
	b.answers = slices.Delete(b.answers, i, i+1)
	for j := range b.answers[i:] {
		b.answers[i+j].start -= a.end - a.start
		b.answers[i+j].end -= a.end - a.start
	}
	a.x.finish(0, why)
	// Its request is free, those of the answers behind it are not.
	free := b.requests[i]
	free.forget()
	b.requests = append(slices.Delete(b.requests, i, i+1), free)
	return a.body, true
}

// cut takes out the answer that a panic has interrupted, if it is there: all beyond so
// many bytes and answers.
func (b *batch) cut(frames, answers int) {
	rest := b.answers[answers:]
	b.frames, b.answers = b.frames[:frames], b.answers[:answers]
	for _, a := range rest {
		a.x.abandon()
	}
}

// finish ends the answers, which were sent unless there is an error. After a panic the batch
// is not used again.
func (b *batch) finish(err error) {
	b.end(err)
	for _, r := range b.requests {
		if r.TLS == nil {
			break // as are those behind it
		}
		r.forget()
	}
	clear(b.answers)
	b.frames, b.answers = b.frames[:0], b.answers[:0]
	batches.Put(b)
}

// end ends the exchanges of the answers. Where one panics, the others end all the same.
func (b *batch) end(err error) {
	ended := 0
	defer func() {
		if ended < len(b.answers) {
			b.answers = b.answers[ended:]
			b.end(err)
		}
	}()
	for _, a := range b.answers {
		ended++
		n := a.body
		if err != nil {
			n = 0
		}
		a.x.finish(n, err)
	}
}
