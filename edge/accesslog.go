package edge

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// An accessLog writes one line of JSON per request. Lines are encoded into the
// buffer of a shard, of which there is one per core, and written by one
// goroutine, so that no request waits for the disk. When the writer falls
// behind, or the disk is full, lines are lost and counted; requests are never
// held up.
type accessLog struct {
	out    io.Writer
	name   string // of out, as the setting has it
	file   bool   // whether out is a file of ours, which name leads to
	client *logClient
	log    *slog.Logger
	shards []logShard
	wake   chan struct{}
	lost   atomic.Uint64
	// writing is how many lines are being written. Who takes them out of it counts
	// them if they are lost.
	writing atomic.Uint64
	// What follows is the writer's. torn tells that out ends in half a line, moved
	// that the file was moved away and cannot be opened again.
	trouble, moved trouble
	torn           bool
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
	// logFinish bounds how long the end waits for what is left to be written: who
	// reads the other end of a pipe may have stopped.
	logFinish = 2 * time.Second
	// logText bounds what a visitor can write into a field; not a knob: no browser
	// sends a path of that length, and a header may be sixteen times as long.
	logText = 2 << 10
	// logCut stands at the end of what was cut off.
	logCut = "…"
)

// openAccessLog opens the log that a Config names: stdout, stderr, off, or a
// file that is appended to. The log of off is nil, and logs nothing.
func openAccessLog(c LogConfig, log *slog.Logger) (*accessLog, error) {
	switch c.Access {
	case "off":
		return nil, nil
	case "", "stdout":
		c.Access = "stdout"
		return newAccessLog(os.Stdout, c, log), nil
	case "stderr":
		return newAccessLog(os.Stderr, c, log), nil
	}
	f, err := openLogFile(c.Access)
	if err != nil {
		return nil, err
	}
	l := newAccessLog(f, c, log)
	l.file = true
	return l, nil
}

func openLogFile(path string) (*os.File, error) {
	if err := checkLogFile(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// checkLogFile refuses what is no file to append to. To open a named pipe would
// wait for its reader, and with it the whole start. Character devices are taken:
// /dev/null is one.
func checkLogFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return nil // it is made, or opening it says why not
	}
	switch kind := info.Mode().Type(); kind {
	case 0, fs.ModeDevice | fs.ModeCharDevice:
		return nil
	case fs.ModeDir:
		return fmt.Errorf("%s is a folder, not a file", path)
	case fs.ModeNamedPipe:
		return fmt.Errorf("%s is a pipe, not a file", path)
	case fs.ModeSocket:
		return fmt.Errorf("%s is a socket, not a file", path)
	}
	return fmt.Errorf("%s is a disk, not a file", path)
}

// Check reports whether Access can be a log, as far as that shows without opening
// it. Its error says why not.
func (c LogConfig) Check() error {
	switch c.Access {
	case "", "off", "stdout", "stderr":
		return nil
	}
	folder := filepath.Dir(c.Access)
	if _, err := os.Stat(folder); err != nil {
		return fmt.Errorf("there is no folder %s", folder)
	}
	return checkLogFile(c.Access)
}

// follow opens the file again when it was moved away, as log rotation does. A
// file that does not open leaves the old one in use.
func (l *accessLog) follow(now time.Time) {
	f, ok := l.out.(*os.File)
	if !l.file || !ok {
		return
	}
	was, err := f.Stat()
	if err != nil {
		return
	}
	if is, err := os.Stat(l.name); err == nil && os.SameFile(was, is) {
		if l.moved.pass(now) {
			l.log.Info("the access log has its own file again", "file", l.name)
		}
		return
	}
	next, err := openLogFile(l.name)
	if err != nil {
		if l.moved.meet(now) {
			l.log.Warn("the access log was moved away and cannot be opened again, the old file is in use",
				"file", l.name, "error", err)
		}
		return
	}
	l.out, l.torn = next, false
	f.Close()
}

func newAccessLog(out io.Writer, c LogConfig, log *slog.Logger) *accessLog {
	return &accessLog{
		out:    out,
		name:   c.Access,
		client: &logClient{mode: c.Client},
		log:    log,
		shards: make([]logShard, runtime.GOMAXPROCS(0)),
		wake:   make(chan struct{}, 1),
	}
}

// run writes lines until ctx ends, then what is left. It waits for that no longer
// than logFinish.
func (l *accessLog) run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- l.work(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(logFinish):
	}
	if n := l.abandon(); n > 0 {
		l.log.Warn("the access log was not taken to its end, lines are lost", "file", l.name, "lost", n)
	}
	return nil
}

// abandon counts as lost what is left, and returns how much that is. The writer
// is stuck, and ends with the process.
func (l *accessLog) abandon() uint64 {
	n := l.writing.Swap(0)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += lineCount(s.buf)
		s.buf = nil
		s.mu.Unlock()
	}
	l.lost.Add(n)
	return n
}

// work is the writer: it writes until ctx ends, then what is left.
func (l *accessLog) work(ctx context.Context) error {
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	spare := make([]byte, 0, logWake)
	for {
		select {
		case <-ctx.Done():
			l.flush(spare)
			return l.close()
		case <-tick.C:
			now := time.Now()
			l.follow(now)
			l.client.forget(now)
		case <-l.wake:
		}
		spare = l.flush(spare)
	}
}

func (l *accessLog) close() error {
	if f, ok := l.out.(*os.File); ok && l.file {
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
			l.write(full)
		}
		spare = full
	}
	return spare
}

// write writes lines, and counts those that did not get through whole.
func (l *accessLog) write(lines []byte) {
	l.writing.Store(lineCount(lines))
	err := l.mend()
	n := 0
	if err == nil {
		n, err = l.out.Write(lines)
	}
	abandoned := l.writing.Swap(0) == 0
	switch {
	case abandoned:
	case err != nil:
		l.torn = l.torn || n > 0 && lines[n-1] != '\n'
		if l.trouble.meet(time.Now()) {
			l.log.Warn("the access log cannot be written, lines are lost", "file", l.name, "error", err)
		}
		l.lost.Add(lineCount(lines[n:])) // who sees the count finds the reason in the log
	case l.trouble.met():
		if l.trouble.pass(time.Now()) {
			l.log.Info("the access log is written again", "file", l.name, "lost", l.lost.Load())
		}
	}
}

func lineCount(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }

// mend ends the line of which a full disk took the beginning only, so that it
// spoils no other.
func (l *accessLog) mend() error {
	if !l.torn {
		return nil
	}
	_, err := l.out.Write([]byte{'\n'})
	l.torn = err != nil
	return err
}

// add appends the line of a finished exchange.
func (l *accessLog) add(x *exchange, took time.Duration) {
	if l == nil {
		return
	}
	s := &l.shards[rand.Uint32N(uint32(len(l.shards)))]
	before, after := s.add(x, l.client, took)
	if before == after {
		l.lost.Add(1)
	}
	if before < logWake && after >= logWake {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// add appends the line of a finished exchange, unless there is no room. It returns the
// size of what the shard has, before and after. A line that panics holds up no other.
func (s *logShard) add(x *exchange, client *logClient, took time.Duration) (before, after int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = len(s.buf)
	if before <= logBuffer {
		s.buf = x.appendJSON(s.buf, s.stampOf(x.start), client, took)
	}
	return before, len(s.buf)
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
// which it began. What a visitor chooses freely is cut to logText.
func (x *exchange) appendJSON(b, stamp []byte, client *logClient, took time.Duration) []byte {
	b = append(b, `{"time":"`...)
	b = append(b, stamp...)
	ms := x.start.Nanosecond() / int(time.Millisecond)
	b = append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	b = append(b, `Z",`...)
	b = client.appendTo(b, x.visitor.addr, x.start.Add(took))
	b = appendField(b, `"proto":`, x.r.Proto)
	b = appendField(b, `,"method":`, x.r.Method)
	b = appendField(b, `,"host":`, x.r.Host)
	b = appendField(b, `,"path":`, x.path)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(x.status), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, x.bytes, 10)
	b = append(b, `,"ms":`...)
	us := took.Microseconds()
	b = strconv.AppendInt(b, us/1000, 10)
	b = append(b, '.', byte('0'+us/100%10), byte('0'+us/10%10), byte('0'+us%10))
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
	b = append(b, '"')
	if len(value) <= logText {
		b = appendEscaped(b, value)
	} else {
		b = appendEscaped(b, cutText(value))
		b = append(b, logCut...)
	}
	return append(b, '"')
}

// cutText returns the first logText bytes of s, or a little less, so that no
// character is cut in two.
func cutText(s string) string {
	n := logText
	for n > logText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// appendEscaped appends s as the inside of a JSON string by RFC 8259 section 7.
// Bytes that are not UTF-8 become the replacement character, as encoding/json
// has it. What does not show is escaped, too: a terminal would take some of it for
// commands, a viewer for the end of a line or for text from right to left.
func appendEscaped(b []byte, s string) []byte {
	for {
		n := unescaped(s)
		b = append(b, s[:n]...)
		if s = s[n:]; s == "" {
			return b
		}
		c, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case unicode.IsPrint(c):
			b = utf8.AppendRune(b, c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			b = appendUnit(appendUnit(b, high), low)
		default:
			b = appendUnit(b, c)
		}
	}
}

// unescaped returns for how many bytes s is what is mostly logged: ASCII that shows, and
// needs no escape.
func unescaped(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}

// appendUnit appends a unit of UTF-16 as an escape.
func appendUnit(b []byte, unit rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
}
