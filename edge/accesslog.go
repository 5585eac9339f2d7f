package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// An accessLog writes one line of JSON per request. Lines are encoded into the
// buffer of a shard, of which there is one per core, and written by one
// goroutine, so that no request waits for the disk. When the writer falls
// behind, lines are lost and counted; requests are never held up.
type accessLog struct {
	out    io.Writer
	path   string // of out, when it is a file of ours
	shards []logShard
	wake   chan struct{}
	lost   atomic.Uint64
}

type logShard struct {
	mu  sync.Mutex
	buf []byte
	// stamp is the date and time of the second in which the last request came.
	second int64
	stamp  []byte
	_      [32]byte // shards do not share a cache line
}

const (
	// logBuffer bounds what a shard holds; not a knob: at 300 bytes a line it is
	// three thousand requests between two writes.
	logBuffer = 1 << 20
	// logWake is the fill at which the writer is woken before its time.
	logWake = logBuffer / 4
	// logEvery bounds how long a line stays in memory.
	logEvery = 200 * time.Millisecond
)

// openAccessLog opens the log that a Config names: stdout, stderr, off, or a
// file that is appended to. The log of off is nil, and logs nothing.
func openAccessLog(name string) (*accessLog, error) {
	switch name {
	case "off":
		return nil, nil
	case "stdout":
		return newAccessLog(os.Stdout), nil
	case "stderr":
		return newAccessLog(os.Stderr), nil
	}
	f, err := openLogFile(name)
	if err != nil {
		return nil, err
	}
	l := newAccessLog(f)
	l.path = name
	return l, nil
}

func openLogFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// follow opens the file again when it was moved away, as log rotation does. A
// file that does not open leaves the old one in use.
func (l *accessLog) follow() {
	f, ok := l.out.(*os.File)
	if l.path == "" || !ok {
		return
	}
	was, err := f.Stat()
	if err != nil {
		return
	}
	if now, err := os.Stat(l.path); err == nil && os.SameFile(was, now) {
		return
	}
	if next, err := openLogFile(l.path); err == nil {
		l.out = next
		f.Close()
	}
}

func newAccessLog(out io.Writer) *accessLog {
	return &accessLog{
		out:    out,
		shards: make([]logShard, runtime.GOMAXPROCS(0)),
		wake:   make(chan struct{}, 1),
	}
}

// run writes lines until ctx ends, then what is left.
func (l *accessLog) run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	spare := make([]byte, 0, logWake)
	for {
		select {
		case <-ctx.Done():
			l.flush(spare)
			return l.close()
		case <-tick.C:
			l.follow()
		case <-l.wake:
		}
		spare = l.flush(spare)
	}
}

func (l *accessLog) close() error {
	if f, ok := l.out.(*os.File); ok && l.path != "" {
		return f.Close()
	}
	return nil
}

// losses returns how many lines were lost.
func (l *accessLog) losses() uint64 {
	if l == nil {
		return 0
	}
	return l.lost.Load()
}

// flush swaps each shard's buffer for an empty one and writes it. It returns
// the last buffer to be used again.
func (l *accessLog) flush(spare []byte) []byte {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		full := s.buf
		s.buf = spare[:0]
		s.mu.Unlock()
		if len(full) > 0 {
			if _, err := l.out.Write(full); err != nil && !errors.Is(err, os.ErrClosed) {
				l.lost.Add(uint64(bytes.Count(full, []byte{'\n'})))
			}
		}
		spare = full
	}
	return spare
}

// add appends the line of a finished exchange.
func (l *accessLog) add(x *exchange, took time.Duration) {
	if l == nil {
		return
	}
	s := &l.shards[rand.Uint32N(uint32(len(l.shards)))]
	s.mu.Lock()
	if len(s.buf) > logBuffer {
		s.mu.Unlock()
		l.lost.Add(1)
		return
	}
	before := len(s.buf)
	s.buf = x.appendJSON(s.buf, s.stampOf(x.start), took)
	after := len(s.buf)
	s.mu.Unlock()
	if before < logWake && after >= logWake {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// stampOf returns the second of t as text. Making it is the deepest call of a
// hit: once for each request, it would make the small stacks of HTTP/3 grow.
func (s *logShard) stampOf(t time.Time) []byte {
	if second := t.Unix(); second != s.second || s.stamp == nil {
		s.second, s.stamp = second, t.UTC().AppendFormat(s.stamp[:0], "2006-01-02T15:04:05.")
	}
	return s.stamp
}

// appendJSON appends the exchange as one line of JSON. stamp is the second in
// which it began.
func (x *exchange) appendJSON(b, stamp []byte, took time.Duration) []byte {
	b = append(b, `{"time":"`...)
	b = append(b, stamp...)
	ms := x.start.Nanosecond() / int(time.Millisecond)
	b = append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	b = append(b, `Z","client":"`...)
	b = x.visitor.addr.AppendTo(b)
	b = appendField(b, `","proto":`, x.r.Proto)
	b = appendField(b, `,"method":`, x.r.Method)
	b = appendField(b, `,"host":`, x.r.Host)
	b = appendField(b, `,"path":`, x.path)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(x.status), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, x.bytes, 10)
	b = append(b, `,"ms":`...)
	b = strconv.AppendFloat(b, float64(took.Microseconds())/1000, 'f', 3, 64)
	b = appendField(b, `,"outcome":`, string(x.outcome))
	if x.reason != "" {
		b = appendField(b, `,"reason":`, string(x.reason))
	}
	if x.backend != "" {
		b = appendField(b, `,"backend":`, x.backend)
	}
	if x.id != "" {
		b = appendField(b, `,"id":`, x.id)
	}
	return append(b, "}\n"...)
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	return appendJSONString(b, value)
}

// appendJSONString appends s as a JSON string by RFC 8259 section 7. Bytes that
// are not UTF-8 become the replacement character, as encoding/json has it.
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}
