package faas

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestCleanRequest(t *testing.T) {
	h := http.Header{
		"Connection": {"close, X-Private", "x-other"}, "X-Private": {"1"}, "X-Other": {"1"}, "Te": {"trailers"}, "Upgrade": {"h2c"},
		"Keep-Alive": {"1"}, "Proxy-Authorization": {"1"}, "Proxy-Connection": {"1"}, "Trailer": {"1"}, "Transfer-Encoding": {"1"},
		"X-Amzn-Trace-Id": {"1"}, "X-Amz-Invocation-Type": {"Event"}, "X-Spillway-Signature": {"1"}, "X-Functions-Key": {"1"},
		"X-Serverless-Authorization": {"1"}, "Authorization": {"1"}, "Range": {"bytes=0-1"}, "If-None-Match": {`"a"`},
		"Idempotency-Key": {"1"}, "Traceparent": {"1"}, "X-Forwarded-For": {"192.0.2.1"},
	}
	CleanRequest(h)
	want := http.Header{
		"Authorization": {"1"}, "Range": {"bytes=0-1"}, "If-None-Match": {`"a"`},
		"Idempotency-Key": {"1"}, "Traceparent": {"1"}, "X-Forwarded-For": {"192.0.2.1"},
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("left %v", h)
	}
}

func TestCleanAnswer(t *testing.T) {
	h := http.Header{
		"Connection": {"X-Private"}, "X-Private": {"1"}, "Transfer-Encoding": {"chunked"}, "Content-Length": {"7"},
		"Date": {"now"}, "Alt-Svc": {"h3"}, "Server-Timing": {"a"}, "X-Amzn-Requestid": {"1"}, "X-Amz-Cf-Id": {"1"},
		"X-Google-Status": {"1"}, "Spillway": {"hit"}, "Trailer": {"X"},
		"Endpoint-Load-Metrics": {"TEXT cpu_utilization=1"}, "endpoint-load-metrics-bin": {"CQ=="},
		"Content-Type": {"image/jpeg"}, "Set-Cookie": {"a=1", "b=2"}, "Cache-Control": {"no-store"},
	}
	err := clean(h)
	want := http.Header{"Content-Type": {"image/jpeg"}, "Set-Cookie": {"a=1", "b=2"}, "Cache-Control": {"no-store"}}
	if err != nil || !reflect.DeepEqual(h, want) || headerSize(h) != 26+2*17+25 {
		t.Errorf("left %v, %d bytes, %v", h, headerSize(h), err)
	}
}

func TestCleanRefusesWhatCannotBeShown(t *testing.T) {
	f := func(name, value string, ok bool) {
		t.Helper()
		if err := clean(http.Header{name: {value}}); (err == nil) != ok {
			t.Errorf("%q: %q: %v", name, value, err)
		}
	}
	f("X-A", "tab\tand \x80 bytes", true)
	f("X-A", "", true)
	f("X-A", "a\r\nB: c", false)
	f("X-A", "a\nb", false)
	f("X-A", "a\x00b", false)
	f("X-A", "a\x7fb", false)
	f(":status", "200", false)
	f("", "a", false)
	f("a b", "c", false)
	f("a\n", "c", false)
	f("X-A", strings.Repeat("a", maxHeaderBytes), false)

	many := http.Header{}
	for i := range maxFields {
		many.Add(fmt.Sprintf("X-%d", i%7), "v")
	}
	if err := clean(many); err != nil {
		t.Errorf("%d fields: %v", maxFields, err)
	}
	many.Add("X-1", "v")
	if err := clean(many); err == nil {
		t.Errorf("%d fields pass", maxFields+1)
	}
}
