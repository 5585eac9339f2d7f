package process

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// What of a function's output reaches the log. Not knobs: a function in a loop
// must not fill a disk.
const (
	linesPerSecond = 50 // of all instances of a function
	maxLine        = 4 << 10
)

// An output passes the lines that an instance prints on to the log.
type output struct {
	limit *lineLimit
	log   *slog.Logger

	mu   sync.Mutex
	line []byte // begun and not yet ended
}

// Write takes output; it never fails, for a function must not block on its log.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	for {
		part, rest, ended := bytes.Cut(p, []byte("\n"))
		o.line = append(o.line, part[:min(len(part), maxLine-len(o.line))]...)
		if !ended {
			return n, nil
		}
		o.emit()
		p = rest
	}
}

// flush logs a last line that was not ended.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.emit()
}

func (o *output) emit() {
	defer func() { o.line = o.line[:0] }()
	if len(o.line) == 0 {
		return
	}
	ok, dropped := o.limit.take(time.Now())
	if dropped > 0 {
		o.log.Warn("function output was dropped", "lines", dropped)
	}
	if ok {
		o.log.Info("function output", "line", string(o.line))
	}
}

// A lineLimit bounds the lines of one second.
type lineLimit struct {
	mu      sync.Mutex
	second  int64
	lines   int
	dropped int
}

// take reports whether a line may pass, and how many did not in the seconds
// before.
func (l *lineLimit) take(now time.Time) (ok bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if second := now.Unix(); second != l.second {
		l.second, l.lines = second, 0
		dropped, l.dropped = l.dropped, 0
	}
	l.lines++
	if l.lines > linesPerSecond {
		l.dropped++
		return false, dropped
	}
	return true, dropped
}
