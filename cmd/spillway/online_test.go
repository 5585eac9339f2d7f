package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"spillway/cmd/surge/functions"
	"spillway/origin/faas"
	"spillway/origin/faas/lambda"
	"spillway/origin/faas/web"
)

// TestOnlineReportIsATable: whatever a function says of why it failed, which is often a
// stack of lines, stays in its place and moves no terminal.
func TestOnlineReportIsATable(t *testing.T) {
	var b strings.Builder
	r := &onlineReport{Checks: []onlineCheck{
		{What: "function", Name: "thumb", Result: "fails: Cannot find module 'x'\nRequire stack:\n- a\tb\x1b[2J\xff"},
		{What: "function", Name: "größer", Result: "does not answer"},
	}}
	r.write(&b)
	want := "  FAILED  function thumb   fails: Cannot find module 'x' Require stack: - a b?[2J?\n" +
		"  FAILED  function größer  does not answer\n"
	if got := b.String(); got != want {
		t.Errorf("got:\n%q\nwant:\n%q", got, want)
	}
}

// TestOnlineTellsWhatFunctionsDo: a function that breaks when it is called is not there,
// whatever the platform; one that answers anything else is.
func TestOnlineTellsWhatFunctionsDo(t *testing.T) {
	useCredentials(t)
	const remedy = "; see its log on the platform, or if it only knows no warm-ups, set warm_up to a path that it answers, or to off"
	f := func(c functions.Config, change functions.Change, ok bool, want string) {
		t.Helper()
		emulator, err := functions.New(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := emulator.Control(change); err != nil {
			t.Fatal(err)
		}
		platform := httptest.NewServer(emulator)
		defer platform.Close()
		var p faas.Provider
		if c.Platform == functions.Lambda {
			p, err = lambda.New(lambda.Config{Function: "thumb", Region: "eu-central-1", Endpoint: platform.URL}, lambda.NewAccount(slog.New(slog.DiscardHandler)))
		} else {
			p, err = web.New(web.Config{URL: platform.URL})
		}
		if err != nil {
			t.Fatal(err)
		}
		function := faas.New("thumb", faas.Config{
			Memory: 128 << 20, Timeout: 5 * time.Second, MaxConcurrency: 4, MaxResponse: 1 << 20, WarmUp: "/warm-up",
		}, p, nil, slog.New(slog.DiscardHandler))
		got := tryFunction(t.Context(), "thumb", function)
		if got.OK != ok || !regexp.MustCompile("^"+want+"$").MatchString(got.Result) {
			t.Errorf("%s: %t, %q; want %t, %q", c.Platform, got.OK, got.Result, ok, want)
		}
	}
	crashes, throttles := functions.Change{Fail: new(1.0)}, functions.Change{Throttle: new(true)}
	for _, platform := range []functions.Platform{functions.Lambda, functions.CloudRun, functions.Azure, functions.OpenFaaS} {
		f(functions.Config{Platform: platform}, functions.Change{}, true, `answers, [\d.]+ ms`)
		f(functions.Config{Platform: platform, Work: http.NotFoundHandler()}, functions.Change{}, true, `answers, [\d.]+ ms`)
	}
	f(functions.Config{Platform: functions.Lambda}, crashes, false,
		"fails: function failed: Runtime.ExitError: .* Runtime exited with error: exit status 1"+remedy)
	for _, platform := range []functions.Platform{functions.CloudRun, functions.Azure, functions.OpenFaaS} {
		f(functions.Config{Platform: platform}, crashes, false, "fails: function answered 500"+remedy)
	}
	overloaded := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	f(functions.Config{Platform: functions.Lambda, Work: overloaded}, functions.Change{}, false, "fails: function answered 503"+remedy)
	f(functions.Config{Platform: functions.OpenFaaS, Work: overloaded}, functions.Change{}, false, "fails: function answered 503"+remedy)
	f(functions.Config{Platform: functions.Lambda}, throttles, false, "does not answer: throttled: .*")
}
