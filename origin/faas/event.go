package faas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An event is a request in AWS Lambda's payload format 2.0, as HTTP APIs and
// function URLs send it.
type event struct {
	Version         string            `json:"version"`
	RouteKey        string            `json:"routeKey"`
	RawPath         string            `json:"rawPath"`
	RawQuery        string            `json:"rawQueryString"`
	Cookies         []string          `json:"cookies,omitempty"`
	Headers         map[string]string `json:"headers"`
	Query           map[string]string `json:"queryStringParameters,omitempty"`
	Context         eventContext      `json:"requestContext"`
	Body            string            `json:"body,omitempty"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
}

type eventContext struct {
	AccountID    string    `json:"accountId"`
	APIID        string    `json:"apiId"`
	DomainName   string    `json:"domainName"`
	DomainPrefix string    `json:"domainPrefix"`
	HTTP         eventHTTP `json:"http"`
	RequestID    string    `json:"requestId"`
	RouteKey     string    `json:"routeKey"`
	Stage        string    `json:"stage"`
	Time         string    `json:"time"`
	TimeEpoch    int64     `json:"timeEpoch"`
}

type eventHTTP struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// eventTime is how events write the time, as the logs of web servers do.
const eventTime = "02/Jan/2006:15:04:05 -0700"

// EncodeEvent writes a request as an event of format 2.0. Trailers have no place in one, and
// fields that are sent twice are joined by commas. An event that is too large is
// an *[Error], before anything ran.
//
// JSON holds no raw bytes. Those above ASCII are percent-encoded in the path and
// the query, and read as ISO 8859-1 in the header, as Node.js and RFC 9110 section
// 5.5 do: a function that meant UTF-8 can turn them back.
func EncodeEvent(r *Request, now time.Time) ([]byte, error) {
	body, encoded := eventBody(r)
	host, path, query := latin1(r.Host), escape(r.Path), escape(r.Query)
	prefix, _, _ := strings.Cut(host, ".")
	var client string
	if r.Client.IsValid() {
		client = r.Client.String()
	}
	e := event{
		Version: "2.0", RouteKey: "$default",
		RawPath: path, RawQuery: query,
		Cookies: cookies(r.Header), Headers: eventHeaders(r), Query: eventQuery(query),
		Context: eventContext{
			AccountID: "anonymous", APIID: "spillway", DomainName: host, DomainPrefix: prefix,
			HTTP: eventHTTP{
				Method: r.Method, Path: path, Protocol: "HTTP/1.1",
				SourceIP: client, UserAgent: latin1(r.Header.Get("User-Agent")),
			},
			RequestID: r.ID, RouteKey: "$default", Stage: "$default",
			Time: now.UTC().Format(eventTime), TimeEpoch: now.UnixMilli(),
		},
		Body: body, IsBase64Encoded: encoded,
	}
	return marshalEvent(e, len(body))
}

// marshalEvent writes an event whose body has about that size.
func marshalEvent(e any, size int) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(size + 2048)
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // else each & of a query takes six bytes
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	payload := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	if len(payload) > MaxPayload {
		return nil, &Error{Class: TooLarge, Err: fmt.Errorf("event of %d bytes is over %d", len(payload), MaxPayload)}
	}
	return payload, nil
}

// eventHeaders lower-cases the names and joins what is sent more than once. The
// cookies have a place of their own.
func eventHeaders(r *Request) map[string]string {
	fields := eventFields(r)
	headers := make(map[string]string, len(fields))
	for name, values := range fields {
		headers[strings.ToLower(name)] = latin1(strings.Join(values, ","))
	}
	return headers
}

// eventFields are the header fields that a function sees, without the cookies.
func eventFields(r *Request) http.Header {
	h := r.Fields()
	delete(h, "Cookie")
	delete(h, "Content-Length") // of the body as it was, not as it stands here
	h["Host"] = []string{r.Host}
	if len(r.Body) > 0 {
		h["Content-Length"] = []string{strconv.Itoa(len(r.Body))}
	}
	return h
}

// cookies splits the Cookie fields, of which HTTP/2 and HTTP/3 may send several,
// RFC 9113 section 8.2.3.
func cookies(h http.Header) []string {
	var all []string
	for _, field := range h["Cookie"] {
		for pair := range strings.SplitSeq(field, ";") {
			if pair = strings.TrimSpace(pair); pair != "" {
				all = append(all, latin1(pair))
			}
		}
	}
	return all
}

// eventQuery decodes the query; values of one name are joined by commas. What
// cannot be decoded, or not to text, stays as it is: rawQueryString has the truth.
func eventQuery(raw string) map[string]string {
	if raw == "" {
		return nil
	}
	query := make(map[string]string)
	for name, value := range parameters(raw) {
		if first, ok := query[name]; ok {
			value = first + "," + value
		}
		query[name] = value
	}
	return query
}

// parameters are the decoded names and values of a query, in their order.
func parameters(raw string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for pair := range strings.SplitSeq(raw, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if pair != "" && !yield(unescape(name), unescape(value)) {
				return
			}
		}
	}
}

func unescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil && utf8.ValidString(plain) {
		return plain
	}
	return s
}

// escape percent-encodes what is not ASCII and leaves the rest as it is.
func escape(s string) string {
	if isASCII(s) {
		return s
	}
	var out strings.Builder
	for i := range len(s) {
		if s[i] < utf8.RuneSelf {
			out.WriteByte(s[i])
		} else {
			fmt.Fprintf(&out, "%%%02X", s[i])
		}
	}
	return out.String()
}

// latin1 turns ISO 8859-1 into UTF-8: each byte is the character of its number.
func latin1(s string) string {
	if isASCII(s) {
		return s
	}
	var out strings.Builder
	for i := range len(s) {
		out.WriteRune(rune(s[i]))
	}
	return out.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// eventBody writes the body as text where a function would expect text, and as
// base64 otherwise.
func eventBody(r *Request) (body string, encoded bool) {
	if len(r.Body) == 0 {
		return "", false
	}
	if isText(r.Header.Get("Content-Type")) && r.Header.Get("Content-Encoding") == "" && utf8.Valid(r.Body) {
		return string(r.Body), false
	}
	return base64.StdEncoding.EncodeToString(r.Body), true
}

func isText(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	switch kind {
	case "application/json", "application/xml", "application/javascript", "application/x-www-form-urlencoded":
		return true
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml")
}
