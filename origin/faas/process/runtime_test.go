package process

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"spillway/origin/faas"
)

// runtimeAPI is the Runtime API of an instance without a process.
func runtimeAPI() (*instance, http.Handler) {
	p := newPool("f", FunctionConfig{Timeout: time.Minute, MaxInstances: 1}, nil, slog.New(slog.DiscardHandler))
	i := &instance{next: make(chan *invocation, 1), exited: make(chan struct{})}
	return i, p.runtimeAPI(i)
}

func serve(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Lambda-Runtime-Function-Error-Type", "Runtime.Told")
	h.ServeHTTP(w, r)
	return w
}

// The endpoints, headers and statuses are those of AWS, to which runtimes hold.
func TestRuntimeAPI(t *testing.T) {
	i, h := runtimeAPI()
	inv := newInvocation([]byte(`{"a":1}`))
	i.next <- inv
	w := serve(h, "GET", "/2018-06-01/runtime/invocation/next", "")
	if w.Code != 200 || w.Body.String() != `{"a":1}` || w.Header().Get("Lambda-Runtime-Aws-Request-Id") != inv.id {
		t.Errorf("next: %d %s %v", w.Code, w.Body, w.Header())
	}
	for name, pattern := range map[string]string{
		"Lambda-Runtime-Deadline-Ms": `^\d{13}$`, "Lambda-Runtime-Invoked-Function-Arn": `^arn:aws:lambda:local:0{12}:function:f$`,
		"Lambda-Runtime-Trace-Id": `^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Sampled=0$`, "Lambda-Runtime-Aws-Request-Id": `^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`,
	} {
		if value := w.Header().Get(name); !regexp.MustCompile(pattern).MatchString(value) {
			t.Errorf("%s: %q", name, value)
		}
	}
	post := func(path, body string, status int) {
		t.Helper()
		if w := serve(h, "POST", "/2018-06-01/runtime/"+path, body); w.Code != status {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, status)
		}
	}
	post("invocation/another/response", "{}", 400)
	post("invocation/"+inv.id+"/response", `{"b":2}`, 202)
	post("invocation/"+inv.id+"/response", `{"b":3}`, 400)
	if r := <-inv.done; r.failed || string(r.payload) != `{"b":2}` {
		t.Errorf("result %s", r.payload)
	}
	if w := serve(h, "POST", "/2020-01-01/extension/register", ""); w.Code != 404 {
		t.Errorf("extensions API: %d", w.Code)
	}
	post("init/error", `{"errorType":"Runtime.NoSuchModule","errorMessage":"no"}`, 202)
	if i.failure == nil || i.failure.Type != "Runtime.NoSuchModule" {
		t.Errorf("failure %+v", i.failure)
	}
}

func TestRuntimeReportsFailures(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		i, h := runtimeAPI()
		inv := newInvocation(nil)
		i.current = inv
		if w := serve(h, "POST", "/2018-06-01/runtime/invocation/"+inv.id+"/error", body); w.Code != 202 {
			t.Errorf("%.80s: %d", body, w.Code)
		}
		if r := <-inv.done; !r.failed || string(r.payload) != want {
			t.Errorf("%.80s: %s, want %s", body, r.payload, want)
		}
	}
	f(`{"errorType":"T","errorMessage":"M","stackTrace":["main.go:1"]}`, `{"errorType":"T","errorMessage":"M"}`)
	f(`garbage`, `{"errorType":"Runtime.Told","errorMessage":""}`)
	f(`{"errorMessage":"`+strings.Repeat("M", 5000)+`"}`, `{"errorType":"Runtime.Told","errorMessage":"`+strings.Repeat("M", 1000)+`"}`)
}

func TestRuntimeThatGivesUpOnItsWork(t *testing.T) {
	i, h := runtimeAPI()
	first, second := newInvocation(nil), newInvocation(nil)
	i.current = first
	i.next <- second
	serve(h, "GET", "/2018-06-01/runtime/invocation/next", "")
	if r := <-first.done; !r.failed || !strings.Contains(string(r.payload), "Runtime.Unknown") {
		t.Errorf("result %s", r.payload)
	}
	if i.current != second {
		t.Error("the second invocation is not the current one")
	}
}

// What the provider would not send, another client may.
func TestLargePayloadIsRefused(t *testing.T) {
	h, p := host(t, self(t))
	resp, err := p.client.Post(p.url, "application/json", bytes.NewReader(make([]byte, faas.MaxPayload+1)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = faas.DecodeInvocation(resp, get("/"), faas.DecodeAnswer)
	if e := faas.AsError(err); e.Class != faas.TooLarge || e.Executed {
		t.Errorf("%v", err)
	}
	if s := h.Stats().Functions["f"]; s.Invocations != 0 {
		t.Errorf("stats %+v", s)
	}
	if _, err := readAll(io.LimitReader(neverEnding{}, 1<<30), 10); err != errTooLarge {
		t.Errorf("error %v", err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }
