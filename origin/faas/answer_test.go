package faas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func decodeOK(t *testing.T, payload, method string) (*http.Response, string) {
	t.Helper()
	resp, err := DecodeAnswer([]byte(payload), method)
	if err != nil {
		t.Fatalf("%.200s: %v", payload, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestAnswerBodies(t *testing.T) {
	f := func(payload string, status int, want string) {
		t.Helper()
		resp, body := decodeOK(t, payload, "GET")
		if resp.StatusCode != status || body != want {
			t.Errorf("%s: %d %q", payload, resp.StatusCode, body)
		}
	}
	f(`{"statusCode":200,"body":"text"}`, 200, "text")
	f(`{"statusCode":"404","body":"text"}`, 404, "text")
	f(`{"statusCode":200}`, 200, "")
	f(`{"statusCode":200,"body":null,"headers":null,"cookies":null,"isBase64Encoded":null}`, 200, "")
	f(`{"statusCode":200,"body":"a\u0000\ufeffb"}`, 200, "a\x00\ufeffb")
	f(`{"statusCode":200,"body":"AP8=","isBase64Encoded":true}`, 200, "\x00\xff")
	f(`{"statusCode":200,"body":"AP8","isBase64Encoded":true}`, 200, "\x00\xff")
	f(`{"statusCode":200,"body":"\/\/8=","isBase64Encoded":true}`, 200, "\xff\xff")
	f(`{"statusCode":200,"body":"","isBase64Encoded":true}`, 200, "")
	f(`{"statusCode":200,"isBase64Encoded":true}`, 200, "")
	f(`{"statusCode":204,"body":"text"}`, 204, "")
	f(`{"statusCode":304,"body":"text"}`, 304, "")
	// Without a statusCode all of it is the body.
	f(`{"message":"hello"}`, 200, `{"message":"hello"}`)
	f(`{"StatusCode":404}`, 200, `{"StatusCode":404}`)
	f(` "hello" `, 200, `"hello"`)
	f(`null`, 200, `null`)
	f(`[1,2]`, 200, `[1,2]`)
}

func TestAnswerThatMakesNoSense(t *testing.T) {
	f := func(payload string) {
		t.Helper()
		_, err := DecodeAnswer([]byte(payload), "GET")
		if e := AsError(err); err == nil || e.Class != FunctionError || !e.Executed {
			t.Errorf("%s: %v", payload, err)
		}
	}
	f(``)
	f(`hello`)
	f(`{"statusCode":200`)
	f(`{"statusCode":200}{}`)
	f(`{"statusCode":null}`)
	f(`{"statusCode":"two hundred"}`)
	f(`{"statusCode":200.5}`)
	f(`{"statusCode":100}`)
	f(`{"statusCode":600}`)
	f(`{"statusCode":-200}`)
	f(`{"statusCode":"+200"}`)
	f(`{"statusCode":200.0}`)
	f(`{"statusCode":2e2}`)
	f(`{"statusCode":200,"body":{"a":1}}`)
	f(`{"statusCode":200,"body":"!","isBase64Encoded":true}`)
	f(`{"statusCode":200,"body":"AP9=","isBase64Encoded":true}`) // bits after the end
	f(`{"statusCode":200,"body":"AP8==","isBase64Encoded":true}`)
	f(`{"statusCode":200,"body":"AP8A=","isBase64Encoded":true}`)
	f(`{"statusCode":200,"body":"A\nP8=","isBase64Encoded":true}`)
	f(`{"statusCode":200,"body":"AP8=\r\n","isBase64Encoded":true}`)
	f(`{"statusCode":200,"isBase64Encoded":"yes"}`)
	f(`{"statusCode":200,"headers":[]}`)
	f(`{"statusCode":200,"headers":{"a":["b"]}}`)
	f(`{"statusCode":200,"cookies":"a=1"}`)
	f(`{"statusCode":200,"multiValueHeaders":{"a":"b"}}`)
}

func TestAnswerHeaders(t *testing.T) {
	resp, _ := decodeOK(t, `{"statusCode":200,
		"headers":{"content-type":"text/plain","X-Number":7,"X-Length":12345678,"X-Float":1.50,"X-Bool":true,"X-Null":null,"x-twice":"b","X-Twice":"a","set-cookie":"x=1"},
		"multiValueHeaders":{"vary":["Accept","Cookie"]},"cookies":["y=2"]}`, "GET")
	want := http.Header{
		"Content-Type": {"text/plain"}, "X-Number": {"7"}, "X-Length": {"12345678"}, "X-Float": {"1.50"}, "X-Bool": {"true"}, "X-Twice": {"b"},
		"Set-Cookie": {"x=1", "y=2"}, "Vary": {"Accept", "Cookie"},
	}
	if fmt.Sprint(resp.Header) != fmt.Sprint(want) {
		t.Errorf("header %v, want %v", resp.Header, want)
	}
}

// A cookie of headers stays beside those of multiValueHeaders; any other field is
// what the list says.
func TestAnswerCookiesAddUp(t *testing.T) {
	resp, _ := decodeOK(t, `{"statusCode":200,"headers":{"Set-Cookie":"a=1","Vary":"Accept"},
		"multiValueHeaders":{"set-cookie":["b=2","a=1"],"vary":["Cookie"]},"cookies":["c=3"]}`, "GET")
	want := http.Header{"Set-Cookie": {"a=1", "b=2", "c=3"}, "Vary": {"Cookie"}}
	if fmt.Sprint(resp.Header) != fmt.Sprint(want) {
		t.Errorf("header %v, want %v", resp.Header, want)
	}
}

func TestAnswerToHead(t *testing.T) {
	f := func(payload string, length int64) {
		t.Helper()
		resp, body := decodeOK(t, payload, "HEAD")
		if body != "" || resp.ContentLength != length {
			t.Errorf("%s: %q, length %d, want %d", payload, body, resp.ContentLength, length)
		}
	}
	f(`{"statusCode":200,"body":"1234"}`, 4)
	f(`{"statusCode":200,"headers":{"content-length":"123"}}`, 123)
	f(`{"statusCode":200,"headers":{"content-length":12345678}}`, 12345678)
	f(`{"statusCode":200,"headers":{"content-length":"-1"}}`, -1)
	f(`{"statusCode":200,"headers":{"content-length":"many"}}`, -1)
	f(`{"statusCode":304,"headers":{"content-length":"123"}}`, -1)
}

func TestInvocation(t *testing.T) {
	f := func(status int, header, payload string, class Class, executed bool, retryAfter time.Duration) {
		t.Helper()
		h := http.Header{}
		for field := range strings.SplitSeq(header, "\n") {
			name, value, _ := strings.Cut(field, ": ")
			h.Set(name, value)
		}
		_, err := DecodeInvocation(&http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(payload))}, ask("GET", "/", "", nil), DecodeAnswer)
		e := AsError(err)
		if err == nil || e.Class != class || e.Executed != executed || e.RetryAfter != retryAfter {
			t.Errorf("%d %s %.80s: %v, executed %t, retry after %v", status, header, payload, err, e.Executed, e.RetryAfter)
		}
		if strings.Contains(fmt.Sprint(err), "handler.go") {
			t.Errorf("a stack trace: %v", err)
		}
	}
	const failed = "X-Amz-Function-Error: Unhandled"
	f(200, failed, `{"errorType":"errorString","errorMessage":"no","stackTrace":["handler.go:1"]}`, FunctionError, true, 0)
	f(200, failed, `{"errorMessage":"2026 id Task timed out after 3.00 seconds"}`, Timeout, true, 0)
	f(200, failed, `{"errorType":"Sandbox.Timedout"}`, Timeout, true, 0)
	f(200, failed, `{"errorType":"Function.ResponseSizeTooLarge"}`, TooLarge, true, 0)
	f(200, failed, `garbage`, FunctionError, true, 0)
	f(200, "", `garbage`, FunctionError, true, 0)
	f(200, "", strings.Repeat("x", MaxAnswerLength+1), TooLarge, true, 0)
	for _, reason := range []string{"ConcurrentInvocationLimitExceeded", "FunctionInvocationRateLimitExceeded", "CallerRateLimitExceeded"} {
		f(429, "X-Amzn-ErrorType: TooManyRequestsException:http://internal", `{"Reason":"`+reason+`","message":"Rate Exceeded."}`, Throttled, false, 0)
	}
	f(429, "", `{"retryAfterSeconds":"2"}`, Throttled, false, 2*time.Second)
	f(429, "", `{"retryAfterSeconds":1.5}`, Throttled, false, 1500*time.Millisecond)
	f(429, "", `{"retryAfterSeconds":"-2"}`, Throttled, false, 0)
	f(429, "Retry-After: 3", ``, Throttled, false, 3*time.Second)
	f(502, "X-Amzn-ErrorType: EC2ThrottledException", ``, Throttled, false, 0)
	f(502, "X-Amzn-ErrorType: SnapStartNotReadyException", ``, Unavailable, false, 0)
	f(409, "X-Amzn-ErrorType: ResourceConflictException", ``, Unavailable, false, 0)
	f(404, "X-Amzn-ErrorType: ResourceNotFoundException", ``, Unavailable, false, 0)
	f(403, "X-Amzn-ErrorType: AccessDeniedException", ``, Auth, false, 0)
	f(400, "X-Amzn-ErrorType: ExpiredTokenException", ``, Auth, false, 0)
	f(400, "X-Amzn-ErrorType: RecursiveInvocationException", ``, Unavailable, false, 0)
	f(413, "X-Amzn-ErrorType: RequestTooLargeException", ``, TooLarge, false, 0)
	f(500, "X-Amzn-ErrorType: ServiceException", ``, Ambiguous, true, 0)
	f(503, "", ``, Ambiguous, true, 0)

	resp, err := DecodeInvocation(&http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"statusCode":418}`))}, ask("GET", "/", "", nil), DecodeAnswer)
	if err != nil || resp.StatusCode != 418 {
		t.Errorf("%v, %v", resp, err)
	}
}

// An answer is not received beyond what may be shown, and what came is known.
func TestInvocationIsHeldToTheLargestAnswer(t *testing.T) {
	r := ask("GET", "/", "", nil)
	r.MaxAnswer = 1000
	f := func(status int, header http.Header, size int64, class Class, received int64) {
		t.Helper()
		source := &io.LimitedReader{R: endless{}, N: size}
		_, err := DecodeInvocation(&http.Response{StatusCode: status, Header: header, Body: io.NopCloser(source)}, r, DecodeAnswer)
		if e := AsError(err); err == nil || e.Class != class || e.Received != received+headerSize(header) || size-source.N != received {
			t.Errorf("%d of %d bytes: %v, %d received of %d", status, size, err, e.Received, size-source.N)
		}
	}
	const most = 1000 + maxHeaderBytes
	f(200, nil, most+500, TooLarge, most+1)
	f(200, http.Header{"X-Amz-Function-Error": {"Unhandled"}}, 700, FunctionError, 700)
	f(200, nil, 700, FunctionError, 700)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestRetryAfter(t *testing.T) {
	f := func(value string, want time.Duration) {
		t.Helper()
		if got := RetryAfter(http.Header{"Retry-After": {value}}, start); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	f("", 0)
	f("0", 0)
	f("120", 2*time.Minute)
	f("-1", 0)
	f("1.5", 0)
	f("99999999999999999999", 0)
	f(start.Add(time.Minute).Format(http.TimeFormat), time.Minute)
	f(start.Add(-time.Minute).Format(http.TimeFormat), 0)
	f("soon", 0)
}

// A stranger writes the answers: whatever they are, they are shown with a proper
// status or told to be the function's failure.
func FuzzDecodeAnswer(f *testing.F) {
	f.Add([]byte(`{"statusCode":200,"headers":{"a":"b"},"cookies":["a=1"],"body":"AP8=","isBase64Encoded":true}`), "GET")
	f.Add([]byte(`{"statusCode":"304","multiValueHeaders":{"a":["b","c"]}}`), "HEAD")
	f.Add([]byte(`"hello"`), "GET")
	f.Add([]byte(`{"statusCode":200,"headers":{"content-length":"7"}}`), "HEAD")
	f.Fuzz(func(t *testing.T, payload []byte, method string) {
		for _, decode := range []Decoder{DecodeAnswer, DecodeAnswerV1} {
			resp, err := decode(payload, method)
			if err != nil {
				if e := AsError(err); e.Class != FunctionError {
					t.Fatalf("%v", err)
				}
				continue
			}
			if resp.StatusCode < 200 || resp.StatusCode > 599 {
				t.Fatalf("status %d", resp.StatusCode)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || method != "HEAD" && resp.ContentLength >= 0 && int64(len(body)) != resp.ContentLength {
				t.Fatalf("%d bytes, length %d, %v", len(body), resp.ContentLength, err)
			}
			if err := clean(resp.Header); err == nil {
				var out bytes.Buffer
				resp.Header.Write(&out)
				if fields := strings.Count(out.String(), "\n"); fields > maxFields {
					t.Fatalf("%d lines of header", fields)
				}
			}
		}
	})
}

// Whatever a platform says of itself, it is a failure of some class, not of the
// function's, and one that can be logged.
func FuzzPlatformError(f *testing.F) {
	f.Add(429, "TooManyRequestsException", "1", []byte(`{"Reason":"CallerRateLimitExceeded","retryAfterSeconds":"1"}`))
	f.Add(403, "InvalidSignatureException:http://internal", "", []byte(`{"message":"Signature expired"}`))
	f.Add(500, "ServiceException", "Wed, 21 Oct 2026 07:28:00 GMT", []byte(`<html>`))
	f.Add(301, "", "-1", []byte(`{"retryAfterSeconds":{"a":[1e400]}}`))
	f.Fuzz(func(t *testing.T, status int, kind, retryAfter string, payload []byte) {
		if status/100 == 2 {
			return
		}
		h := http.Header{"X-Amzn-Errortype": {kind}, "Retry-After": {retryAfter}}
		_, err := DecodeInvocation(&http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(payload))}, &Request{}, DecodeAnswer)
		e := AsError(err)
		if err == nil || reasons[e.Class] == "" || e.Class == FunctionError || e.RetryAfter < 0 {
			t.Fatalf("%v, retry after %v", err, e.RetryAfter)
		}
		if e.AccountWide && e.Class != Throttled {
			t.Fatalf("%v holds for the account", err)
		}
		if len(err.Error()) > 2000 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
	})
}

func BenchmarkDecodeAnswer(b *testing.B) {
	payload, err := json.Marshal(map[string]any{
		"statusCode": 200, "headers": map[string]string{"content-type": "image/jpeg", "cache-control": "no-store"},
		"body": base64.StdEncoding.EncodeToString(make([]byte, 44_000)), "isBase64Encoded": true,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeAnswer(payload, "GET"); err != nil {
			b.Fatal(err)
		}
	}
}
