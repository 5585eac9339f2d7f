package edge_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A strictOrigin notes exactly the requests that it gets. What RFC 9112 and RFC
// 9113 do not allow a client to send is noted as broken: some origin would read
// it in another way.
type strictOrigin struct {
	url string

	mu       sync.Mutex
	requests []string
	broken   []string
}

// A received request as it came, field names in lower case.
type received struct {
	method, target, host string
	fields, trailer      [][2]string
	body                 []byte
}

// take returns what came since the last call.
func (o *strictOrigin) take() (requests, broken []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	requests, broken = o.requests, o.broken
	o.requests, o.broken = nil, nil
	return requests, broken
}

func (o *strictOrigin) breach(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = append(o.broken, fmt.Sprintf(format, args...))
}

// note takes a request down and returns the answer to it.
func (o *strictOrigin) note(r *received) (answer string) {
	s := r.method + " "
	if r.host != "edge.test" {
		s += r.host
	}
	s += r.target
	if len(r.body) > 0 {
		s += " " + string(r.body)
	}
	if err := r.check(); err != nil {
		o.breach("%s: %v", s, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = append(o.requests, s)
	return quoted(s)
}

// startStrict starts an origin of a kind.
func startStrict(t *testing.T, kind string) *strictOrigin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &strictOrigin{url: "http://" + l.Addr().String()}
	serve := o.http1
	if kind == "h2 origin" {
		o.url, serve = "h2c://"+l.Addr().String(), o.http2
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { serve(conn); conn.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
	return o
}

// http1 reads requests until the node closes the connection, which it may do
// only where a request ends.
func (o *strictOrigin) http1(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		if _, err := in.Peek(1); err != nil {
			return
		}
		r, err := readRequest(in)
		if err != nil {
			rest, _ := in.Peek(in.Buffered())
			o.breach("%v, left over: %q", err, rest)
			return
		}
		answer := o.note(r)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nAnswers: %s\r\nContent-Length: %d\r\n\r\n", answer, len(answer))
		if r.method != "HEAD" {
			io.WriteString(conn, answer)
		}
	}
}

// readRequest follows RFC 9112 to the letter, without the leniency that it
// allows a recipient.
func readRequest(in *bufio.Reader) (*received, error) {
	line, err := readLine(in)
	if err != nil {
		return nil, err
	}
	r := &received{}
	var rest, version string
	var ok1, ok2 bool
	r.method, rest, ok1 = strings.Cut(line, " ")
	r.target, version, ok2 = strings.Cut(rest, " ")
	if !ok1 || !ok2 || version != "HTTP/1.1" || !isName(r.method) || !isTarget(r.method, r.target) {
		return nil, fmt.Errorf("start line %q", line)
	}
	if r.fields, err = readFields(in); err != nil {
		return nil, err
	}
	lengths, codings, hosts := valuesOf(r.fields, "content-length"), valuesOf(r.fields, "transfer-encoding"), valuesOf(r.fields, "host")
	if len(hosts) != 1 { // section 3.2
		return nil, fmt.Errorf("hosts %q", hosts)
	}
	r.host = hosts[0]
	switch { // section 6.3
	case len(lengths)+len(codings) > 1:
		return nil, fmt.Errorf("lengths %q and transfer codings %q", lengths, codings)
	case len(codings) == 1 && codings[0] == "chunked":
		err = readChunks(in, r)
	case len(codings) == 1:
		return nil, fmt.Errorf("transfer coding %q", codings[0])
	case len(lengths) == 1:
		err = readCounted(in, r, lengths[0])
	}
	return r, err
}

// readLine reads up to CRLF; neither byte stands alone (section 2.2).
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		c, err := in.ReadByte()
		if err != nil {
			return "", fmt.Errorf("line %q: %w", line, err)
		}
		if c == '\n' {
			return "", fmt.Errorf("line %q ends in a bare LF", line)
		}
		if c == '\r' {
			if c, err = in.ReadByte(); err != nil || c != '\n' {
				return "", fmt.Errorf("line %q has a bare CR", line)
			}
			return string(line), nil
		}
		line = append(line, c)
	}
}

func readFields(in *bufio.Reader) (fields [][2]string, err error) {
	for {
		line, err := readLine(in)
		if err != nil || line == "" {
			return fields, err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isName(name) { // a folded line has a space in its name
			return nil, fmt.Errorf("field line %q", line)
		}
		fields = append(fields, [2]string{strings.ToLower(name), strings.Trim(value, " \t")})
	}
}

func readCounted(in *bufio.Reader, r *received, length string) error {
	n, err := strconv.ParseUint(length, 10, 31)
	if err != nil || strconv.FormatUint(n, 10) != length {
		return fmt.Errorf("length %q", length)
	}
	r.body = make([]byte, n)
	if _, err := io.ReadFull(in, r.body); err != nil {
		return fmt.Errorf("body of %d bytes: %w", n, err)
	}
	return nil
}

// readChunks follows section 7.1. The node adds no extensions.
func readChunks(in *bufio.Reader, r *received) error {
	for {
		size, err := readLine(in)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(size, 16, 31)
		if err != nil || strings.ContainsAny(size, "+-_ xX") {
			return fmt.Errorf("chunk size %q", size)
		}
		if n == 0 {
			r.trailer, err = readFields(in)
			return err
		}
		chunk := make([]byte, n)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return fmt.Errorf("chunk of %d bytes: %w", n, err)
		}
		r.body = append(r.body, chunk...)
		if end, err := readLine(in); err != nil || end != "" {
			return fmt.Errorf("chunk of %d bytes ends in %q", n, end)
		}
	}
}

// check looks for fields that must not come from a visitor through the node.
func (r *received) check() error {
	var errs []error
	for _, f := range append(r.fields, r.trailer...) {
		errs = append(errs, breachOf(f[0], f[1]))
	}
	for _, f := range r.trailer {
		if plain := dashed(f[0]); strings.HasPrefix(plain, "x-forwarded-") || plain == "authorization" || plain == "host" ||
			plain == "content-length" || plain == "transfer-encoding" || plain == "cookie" || plain == "content-type" {
			errs = append(errs, fmt.Errorf("trailer %q", f)) // RFC 9110 section 6.5.1
		}
	}
	one := func(name string, is func(string) bool) {
		if v := valuesOf(r.fields, name); len(v) != 1 || !is(v[0]) {
			errs = append(errs, fmt.Errorf("%s: %q", name, v))
		}
	}
	one("x-forwarded-for", func(v string) bool { return v == "127.0.0.1" })
	one("x-forwarded-host", func(v string) bool { return v == r.host })
	one("x-forwarded-proto", func(v string) bool { return v == "https" })
	one("forwarded", func(v string) bool {
		return strings.HasPrefix(v, "for=127.0.0.1;host=") && !strings.Contains(v, "for=6")
	})
	return errors.Join(errs...)
}

// breachOf says what is wrong with a field.
func breachOf(name, value string) error {
	plain := dashed(name)
	switch plain {
	case "keep-alive", "proxy-connection", "proxy-authorization", "http2-settings", "expect", "x-http-method-override",
		"x-http-method", "x-method-override", "x-original-url", "x-rewrite-url", "x-real-ip", "proxy":
		return fmt.Errorf("%q was forwarded", name)
	case "te":
		if value != "trailers" {
			return fmt.Errorf("te: %q", value)
		}
	case "host", "content-length", "transfer-encoding", "connection", "upgrade", "trailer", "forwarded", "x-forwarded-for", "x-forwarded-host":
		if plain != name {
			return fmt.Errorf("%q looks like %s", name, plain)
		}
	}
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f { // RFC 9110 section 5.5
			return fmt.Errorf("value %s: %q", name, value)
		}
	}
	return nil
}

// dashed is how CGI and its like see a name: all that is odd is one and the same.
func dashed(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '-'
	}, name)
}

func valuesOf(fields [][2]string, name string) (values []string) {
	for _, f := range fields {
		if f[0] == name {
			values = append(values, f[1])
		}
	}
	return values
}

// isName follows RFC 9110 section 5.6.2.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isTarget accepts the origin form and the asterisk of OPTIONS (RFC 9112
// section 3.2), and bytes above ASCII, which nobody takes for an end.
func isTarget(method, s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return strings.HasPrefix(s, "/") || method == "OPTIONS" && s == "*"
}
