package exercise

import (
	"compress/gzip"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
)

// maxDecoded bounds a body once it is decompressed. Not a knob: no more is read of
// one that pretends to be small.
const maxDecoded = 8 << 20

// Why a body has no digest.
var (
	errTooLong  = errors.New("too long")
	errEncoding = errors.New("unknown or broken encoding")
	errNotJSON  = errors.New("not JSON")
)

// seed makes a digest mean something in this process only, so that nobody can make a
// body that passes for another. 64 bits are enough for what is no attack.
var seed = maphash.MakeSeed()

// digest reads a body of that header to its end. It holds no more of it than a
// decoder needs, and of JSON a sum for each name of an object.
func digest(body io.Reader, h http.Header, how string) (uint64, error) {
	source := &watched{source: body}
	plain, err := decoder(source, encoding(h))
	if err != nil {
		return 0, source.explain(err)
	}
	limited := &limited{source: plain, left: maxDecoded}
	var sum uint64
	if how == JSON {
		sum, err = digestJSON(limited)
	} else {
		var hash maphash.Hash
		hash.SetSeed(seed)
		_, err = io.Copy(&hash, limited)
		sum = hash.Sum64()
	}
	switch {
	case err == nil:
		return sum, nil
	case limited.left < 0:
		return 0, errTooLong
	}
	return 0, source.explain(err)
}

func decoder(body io.Reader, coding string) (io.Reader, error) {
	switch {
	case coding == "":
		return body, nil
	case !isGzip(coding):
		return nil, errEncoding
	}
	z, err := gzip.NewReader(body)
	if errors.Is(err, io.EOF) { // of nothing at all
		return nil, errEncoding
	}
	return z, err
}

// watched remembers how reading failed, to tell a body that broke off from one that
// is broken.
type watched struct {
	source io.Reader
	err    error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.source.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// explain returns the cause of an error that a decoder met.
func (w *watched) explain(err error) error {
	switch {
	case w.err != nil:
		return fmt.Errorf("read body: %w", w.err)
	case errors.Is(err, errNotJSON), errors.Is(err, errEncoding):
		return err
	}
	return errEncoding
}

// limited ends in errTooLong where io.LimitedReader would end as if all were there.
type limited struct {
	source io.Reader
	left   int64 // negative once it was too much
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.source.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
