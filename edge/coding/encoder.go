package coding

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Levels are measured: BenchmarkEncode. Not knobs.
const (
	gzipLevel   = 6
	brotliLevel = 5
	zstdLevel   = zstd.SpeedDefault
	// window is how far back the encoders look, in bits. Browsers take 8 MiB; more than
	// this gains little for a page and costs memory for each body under way.
	window = 19
)

// flushAfter is how long an encoder waits for more before it hands out what it has.
// A flush costs some bytes; a visitor must not wait for what the origin has not said
// yet. Not a knob.
const flushAfter = 5 * time.Millisecond

// A compressor is what all encoders are.
type compressor interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

var compressors = [...]sync.Pool{
	Gzip: {New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzipLevel) // fails for a level that is none
		return w
	}},
	Brotli: {New: func() any {
		return brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: brotliLevel, LGWin: window})
	}},
	Zstd: {New: func() any {
		w, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstdLevel), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<window), zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
		return w
	}},
}

// An encoder is a body, encoded as it is read.
type encoder struct {
	source Source
	coding Coding
	cores  Cores
	writer compressor // nil when it is back in the pool
	out    bytes.Buffer
	held   bool // the writer holds bytes back
	ended  error
}

// Encode returns what comes out of a source in a coding. What has come is handed out
// within milliseconds, whatever follows. Its Read fails as the source does: then what
// was read is no complete body. Close closes the source; only who reads may call it.
func Encode(c Coding, s Source, cores Cores) io.ReadCloser {
	e := &encoder{source: s, coding: c, cores: cores, writer: compressors[c].Get().(compressor)}
	e.writer.Reset(&e.out)
	return e
}

// Read encodes until there is something to hand out.
func (e *encoder) Read(p []byte) (int, error) {
	for e.out.Len() == 0 {
		if e.ended != nil {
			return 0, e.ended
		}
		e.step()
	}
	return e.out.Read(p)
}

// step encodes what comes next.
func (e *encoder) step() {
	patience := time.Duration(-1)
	if e.held {
		patience = flushAfter
	}
	b, err := e.source.Next(patience)
	switch {
	case err == io.EOF:
		if e.ended = e.cores.work(e.writer.Close); e.ended == nil {
			e.ended = io.EOF
		}
	case err != nil:
		e.ended = err
	case len(b) == 0:
		e.held = false
		e.ended = e.cores.work(e.writer.Flush)
	default:
		e.held = true
		for len(b) > 0 && e.ended == nil {
			n := min(len(b), piece)
			e.ended = e.cores.work(func() error {
				_, err := e.writer.Write(b[:n])
				return err
			})
			b = b[n:]
		}
	}
}

// Close gives the encoder back.
func (e *encoder) Close() error {
	if e.writer != nil {
		e.writer.Reset(io.Discard)
		compressors[e.coding].Put(e.writer)
		e.writer, e.ended = nil, io.ErrClosedPipe
		e.out = bytes.Buffer{}
	}
	return e.source.Close()
}
