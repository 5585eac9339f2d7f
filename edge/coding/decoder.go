package coding

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// ErrBomb says that a body grows beyond reason when it is decoded.
var ErrBomb = errors.New("the encoded body grows beyond reason")

// A body of text shrinks to a tenth, and of repetitions to a fiftieth. What grows more
// once a mebibyte is out, or beyond what is asked for, was made to fill memories.
const (
	maxRatio  = 200
	freeOfUse = 1 << 20
)

// maxWindow is what a decoder of zstd keeps in memory at most: RFC 9659 section 3.
const maxWindow = 8 << 20

// A decompressor is what all decoders are.
type decompressor interface {
	io.Reader
	Reset(r io.Reader) error
}

var decompressors = [...]sync.Pool{
	Gzip:   {New: func() any { return new(gzip.Reader) }},
	Brotli: {New: func() any { return brotli.NewReader(nil) }},
	Zstd: {New: func() any {
		r, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		return r
	}},
}

// A decoder is an encoded body, decoded as it is read.
type decoder struct {
	source Source
	coding Coding
	in     counted
	ahead  *bufio.Reader
	reader decompressor // nil when it is back in the pool
	begun  bool
	out    int64
	limit  int64
	ended  error
}

// counted is a source as the decoders read it.
type counted struct {
	source Source
	rest   []byte
	n      int64
}

// Read waits for bytes.
func (c *counted) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		b, err := c.source.Next(-1)
		if err != nil {
			return 0, err
		}
		c.rest = b
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	c.n += int64(n)
	return n, nil
}

// Decode returns what a source in a coding says, at most so many bytes of it. Its Read
// fails when the source does, is cut short, or was made to grow without end. Close
// closes the source; only who reads may call it.
func Decode(c Coding, s Source, limit int64) io.ReadCloser {
	d := &decoder{source: s, coding: c, in: counted{source: s}, limit: limit}
	d.reader = decompressors[c].Get().(decompressor)
	d.ahead = bufio.NewReader(&d.in) // gzip would read byte by byte
	return d
}

// Read decodes.
func (d *decoder) Read(p []byte) (n int, err error) {
	if d.ended != nil {
		return 0, d.ended
	}
	// The bytes are a stranger's, and this may run where a panic ends the process.
	defer func() {
		if r := recover(); r != nil {
			n, d.ended = 0, fmt.Errorf("decode %s: %v", d.coding, r)
			err = d.ended
		}
	}()
	if n, err = d.read(p); err != nil {
		d.ended = err
	}
	return n, err
}

func (d *decoder) read(p []byte) (int, error) {
	if !d.begun {
		d.begun = true
		if err := d.reader.Reset(d.ahead); err != nil {
			return 0, cut(err)
		}
	}
	n, err := d.reader.Read(p[:min(len(p), piece)])
	d.out += int64(n)
	if d.out > d.limit || d.out > freeOfUse && d.out/maxRatio > d.in.n {
		return 0, ErrBomb
	}
	if err == io.EOF {
		if d.in.n == 0 {
			return 0, io.ErrUnexpectedEOF // no coding says nothing with nothing
		}
		if _, more := d.ahead.ReadByte(); more != io.EOF {
			return 0, fmt.Errorf("decode %s: there is more behind the end", d.coding)
		}
		return n, io.EOF
	}
	return n, cut(err)
}

// cut makes an end within a body an error. Only the reader of a whole body may say
// io.EOF.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close gives the decoder back, unless it has failed: its state is not to be relied on.
func (d *decoder) Close() error {
	if d.reader != nil && d.ended == io.EOF {
		_ = d.reader.Reset(strings.NewReader("")) // it lets go of the source, and says that there is nothing
		decompressors[d.coding].Put(d.reader)
	}
	d.reader, d.ended = nil, io.ErrClosedPipe
	return d.source.Close()
}
