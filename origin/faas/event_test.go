package faas

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

func ask(method, path, query string, header http.Header) *Request {
	return &Request{
		Method: method, Host: "img.example.com", Path: path, Query: query, Header: header,
		Client: netip.MustParseAddr("2001:db8::7"), Proto: "https", ID: "id-1",
	}
}

// decode reads the event with the types that functions in Go use.
func decode(t *testing.T, r *Request) events.APIGatewayV2HTTPRequest {
	t.Helper()
	payload, err := EncodeEvent(r, start)
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields() // a name that Lambda does not have is a mistake here
	var e events.APIGatewayV2HTTPRequest
	if err := dec.Decode(&e); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
	return e
}

func TestEventAsFunctionsReadIt(t *testing.T) {
	r := ask("GET", "/thumb/a%2Fb.jpg", "w=480&t=%C3%A4", http.Header{
		"Accept": {"image/avif", "image/webp"}, "Cookie": {"a=1; b=2", "c=3"}, "User-Agent": {"Mozilla/5.0"},
		"X-Forwarded-For": {"2001:db8::7"}, "X-Forwarded-Proto": {"https"}, "Range": {"bytes=0-9"},
		"Te": {"trailers"}, "X-Amzn-Trace-Id": {"theirs"}, "Traceparent": {"00-1-2-01"}, "Host": {"theirs"},
	})
	want := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RouteKey: "$default", RawPath: "/thumb/a%2Fb.jpg", RawQueryString: "w=480&t=%C3%A4",
		Cookies: []string{"a=1", "b=2", "c=3"},
		Headers: map[string]string{
			"accept": "image/avif,image/webp", "host": "img.example.com", "user-agent": "Mozilla/5.0",
			"x-forwarded-for": "2001:db8::7", "x-forwarded-proto": "https", "range": "bytes=0-9", "traceparent": "00-1-2-01",
		},
		QueryStringParameters: map[string]string{"w": "480", "t": "ä"},
		RequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey: "$default", AccountID: "anonymous", Stage: "$default", RequestID: "id-1", APIID: "spillway",
			DomainName: "img.example.com", DomainPrefix: "img", Time: "01/Mar/2026:12:00:00 +0000", TimeEpoch: start.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method: "GET", Path: "/thumb/a%2Fb.jpg", Protocol: "HTTP/1.1", SourceIP: "2001:db8::7", UserAgent: "Mozilla/5.0",
			},
		},
	}
	if got := decode(t, r); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if _, ok := r.Header["Cookie"]; !ok {
		t.Error("the visitor's header was changed in place")
	}
}

func TestEventQueryAndPath(t *testing.T) {
	f := func(path, query string, want map[string]string) {
		t.Helper()
		e := decode(t, ask("GET", path, query, nil))
		if e.RawPath != path || e.RequestContext.HTTP.Path != path || e.RawQueryString != query {
			t.Errorf("%s?%s became %s?%s", path, query, e.RawPath, e.RawQueryString)
		}
		if !reflect.DeepEqual(e.QueryStringParameters, want) {
			t.Errorf("%s: parameters %v, want %v", query, e.QueryStringParameters, want)
		}
	}
	f("/", "", nil)
	f("/a%2Fb", "a=1&a=2&b=%20", map[string]string{"a": "1,2", "b": " "})
	f("//a", "a+b=c+d", map[string]string{"a b": "c d"})
	f("/../a", "a;b=1;c", map[string]string{"a;b": "1;c"})
	f("/%00", "=1&a", map[string]string{"": "1", "a": ""})
	f("/<&>", "a=%zz&%zz=a", map[string]string{"a": "%zz", "%zz": "a"})
	f("/", "a==&&b=<&>", map[string]string{"a": "=", "b": "<", ">": ""})
	f("/", "a=%ff&%ff=a", map[string]string{"a": "%ff", "%ff": "a"})
}

// No byte becomes a replacement character, which would hide what was asked.
func TestEventKeepsRawBytes(t *testing.T) {
	r := ask("GET", "/\xc3\xa4/\xff%2f", "t=\xc3\xa4&u=\xff", http.Header{
		"User-Agent": {"M\xfcnchen"}, "X-Name": {"\xe4", "\xc3\xa4"}, "Cookie": {"a=\xff"},
	})
	r.Host, r.Client = "b\xfccher.example", netip.Addr{}
	e := decode(t, r)
	const path = "/%C3%A4/%FF%2f"
	if e.RawPath != path || e.RequestContext.HTTP.Path != path || e.RawQueryString != "t=%C3%A4&u=%FF" {
		t.Errorf("%s (%s) ? %s", e.RawPath, e.RequestContext.HTTP.Path, e.RawQueryString)
	}
	if q := e.QueryStringParameters; q["t"] != "\u00e4" || q["u"] != "%FF" {
		t.Errorf("parameters %q", q)
	}
	if h := e.Headers; h["x-name"] != "\u00e4,\u00c3\u00a4" || h["host"] != "b\u00fccher.example" || h["user-agent"] != "M\u00fcnchen" {
		t.Errorf("header %q", h)
	}
	if c := e.RequestContext; c.DomainName != "b\u00fccher.example" || c.HTTP.UserAgent != "M\u00fcnchen" || c.HTTP.SourceIP != "" {
		t.Errorf("context %+v", c)
	}
	if len(e.Cookies) != 1 || e.Cookies[0] != "a=\u00ff" {
		t.Errorf("cookies %q", e.Cookies)
	}
}

func TestEventBody(t *testing.T) {
	f := func(contentType, contentEncoding string, body []byte, encoded bool) {
		t.Helper()
		r := ask("POST", "/", "", http.Header{"Content-Type": {contentType}, "Content-Length": {"999"}})
		if contentEncoding != "" {
			r.Header.Set("Content-Encoding", contentEncoding)
		}
		r.Body = body
		e := decode(t, r)
		got := []byte(e.Body)
		if e.IsBase64Encoded {
			var err error
			if got, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
				t.Fatal(err)
			}
		}
		if e.IsBase64Encoded != encoded || !bytes.Equal(got, body) {
			t.Errorf("%s %s: base64 %t, %d bytes of %d", contentType, contentEncoding, e.IsBase64Encoded, len(got), len(body))
		}
		if length := e.Headers["content-length"]; length == "999" {
			t.Error("content-length is not the body's")
		}
	}
	random := make([]byte, 4096)
	rand.Read(random)
	f("application/json", "", []byte(`{"a":"<&>"}`), false)
	f("application/json; charset=utf-8", "", []byte(`{}`), false)
	f("application/problem+json", "", []byte(`{}`), false)
	f("image/svg+xml", "", []byte(`<svg/>`), false)
	f("text/plain", "", []byte("\ufeffbyte order mark"), false)
	f("application/x-www-form-urlencoded", "", []byte("a=1&b=2"), false)
	f("text/plain", "", []byte("a\x00b"), false)
	f("text/plain", "", []byte("\xff"), true)
	f("text/plain", "gzip", []byte("\x1f\x8b\x08"), true)
	f("image/jpeg", "", random, true)
	f("", "", []byte("text of unknown kind"), true)
	f("not a / type", "", []byte("text"), true)
	f("image/jpeg", "", nil, false)
}

func TestEventThatIsTooLarge(t *testing.T) {
	r := ask("POST", "/", "", http.Header{})
	r.Body = make([]byte, MaxPayload*3/4)
	_, err := EncodeEvent(r, start)
	if e := AsError(err); e.Class != TooLarge || e.Executed {
		t.Errorf("%v", err)
	}
	r.Body = r.Body[:MaxPayload*3/4-1024]
	if _, err := EncodeEvent(r, start); err != nil {
		t.Error(err)
	}
}

func TestEventIsNotInflated(t *testing.T) {
	payload, err := EncodeEvent(ask("HEAD", "/", "a=1&b=2", nil), start)
	if err != nil || !bytes.Contains(payload, []byte(`"a=1&b=2"`)) || !bytes.Contains(payload, []byte(`"method":"HEAD"`)) {
		t.Errorf("%s, %v", payload, err)
	}
}

// What a function in Go returns is read back as it was meant.
func TestAnswerAsFunctionsWriteIt(t *testing.T) {
	random := make([]byte, 10_000)
	rand.Read(random)
	payload, err := json.Marshal(events.APIGatewayV2HTTPResponse{
		StatusCode: 201,
		Headers:    map[string]string{"Content-Type": "image/jpeg", "content-encoding": "gzip", "Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT"},
		Cookies:    []string{"a=1; Path=/", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"},
		Body:       base64.StdEncoding.EncodeToString(random), IsBase64Encoded: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, body := decodeOK(t, string(payload), "GET")
	want := http.Header{
		"Content-Type": {"image/jpeg"}, "Content-Encoding": {"gzip"}, "Last-Modified": {"Wed, 21 Oct 2026 07:28:00 GMT"},
		"Set-Cookie": {"a=1; Path=/", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"},
	}
	if resp.StatusCode != 201 || !reflect.DeepEqual(resp.Header, want) || body != string(random) || resp.ContentLength != 10_000 {
		t.Errorf("%d, %v, %d bytes, length %d", resp.StatusCode, resp.Header, len(body), resp.ContentLength)
	}
}

func BenchmarkEncodeEvent(b *testing.B) {
	r := ask("GET", "/overlay/market.jpg", "w=480&text=visitor", http.Header{
		"Accept": {"image/avif,image/webp,*/*"}, "User-Agent": {strings.Repeat("Mozilla/5.0 ", 8)}, "X-Forwarded-For": {"192.0.2.1"},
	})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := EncodeEvent(r, time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
}
