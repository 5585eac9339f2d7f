package lambda

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"spillway/cmd/surge/functions"
	"spillway/edge/synctest"
	"spillway/origin/faas"
)

// When the account makes too many calls, its functions pause together; those of
// another region go on.
func TestCallerRateHoldsAllFunctionsBack(t *testing.T) {
	machine(t, accessKey, secretKey)
	c := functions.Config{AccessKey: accessKey, SecretKey: secretKey}
	e, err := functions.New(c)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e)
	defer server.Close()
	if err := e.Control(functions.Change{Throttle: new(true), Reason: new("CallerRateLimitExceeded")}); err != nil {
		t.Fatal(err)
	}
	a := NewAccount(slog.New(slog.DiscardHandler))
	one := providerOf(t, Config{Function: "one", Endpoint: server.URL}, a)
	one.region.length = longestPause // as after many refusals, so that the pause outlives a stall of the machine
	two := providerOf(t, Config{Function: "two", Endpoint: server.URL}, a)
	far := providerOf(t, Config{Function: "one", Endpoint: server.URL, Region: "us-east-1"}, a)
	f := func(p *Provider, arrived int) {
		t.Helper()
		_, err := p.Invoke(t.Context(), get("/"))
		got := faas.AsError(err)
		if got.Class != faas.Throttled || !got.AccountWide || got.Executed || got.RetryAfter <= 0 {
			t.Errorf("%v, account-wide %t, retry after %v", err, got.AccountWide, got.RetryAfter)
		}
		if n := e.Stats().Arrived; n != arrived {
			t.Errorf("%d calls have arrived, want %d", n, arrived)
		}
	}
	f(one, 1)
	f(two, 1)
	f(far, 2)
}

func TestPausesGrow(t *testing.T) {
	machine(t, accessKey, secretKey)
	synctest.Test(t, func(t *testing.T) {
		r := &region{signer: providerSigner(t)}
		refusal := func(after time.Duration) *faas.Error {
			return &faas.Error{Class: faas.Throttled, AccountWide: true, RetryAfter: after}
		}
		f := func(after, least, most time.Duration) {
			t.Helper()
			e := refusal(after)
			r.learn(time.Now(), nil, e)
			r.learn(time.Now(), nil, refusal(0)) // one that was under way at the time
			if e.RetryAfter < least || e.RetryAfter > most || r.paused(time.Now()) == nil {
				t.Errorf("pause of %v, want %v to %v", e.RetryAfter, least, most)
			}
			time.Sleep(e.RetryAfter)
			if r.paused(time.Now()) != nil {
				t.Error("the pause does not end")
			}
		}
		const ms = time.Millisecond
		f(0, 80*ms, 120*ms)
		f(0, 160*ms, 240*ms)
		f(2*time.Second, 2*time.Second, 2*time.Second)
		for range 6 {
			f(0, 0, 6*time.Second)
		}
		f(0, 4*time.Second, 6*time.Second)
		f(time.Hour, 4*time.Second, 6*time.Second)
		r.learn(time.Now(), nil, nil)
		f(0, 80*ms, 120*ms)
		r.learn(time.Now(), nil, &faas.Error{Class: faas.Throttled})
		if r.paused(time.Now()) != nil {
			t.Error("one function's throttle holds back all")
		}
	})
}

func TestWrongClockIsCorrectedAndTold(t *testing.T) {
	machine(t, accessKey, secretKey)
	_, emulated := emulator(t, functions.Config{})
	first := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if first {
			first = false
			w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			w.Header().Set("X-Amzn-ErrorType", "InvalidSignatureException")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		emulated.Config.Handler.ServeHTTP(w, r)
	}))
	defer server.Close()
	var log bytes.Buffer
	p := providerOf(t, Config{Function: "thumb", Endpoint: server.URL}, NewAccount(slog.New(slog.NewTextHandler(&log, nil))))
	_, err := p.Invoke(t.Context(), get("/"))
	if got := faas.AsError(err); got.Class != faas.Auth || got.Executed || !strings.Contains(err.Error(), "behind that of AWS") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(log.String(), "the clock of this machine is wrong") {
		t.Errorf("logged %q", log.String())
	}
	// The next call is signed an hour ahead, which the emulator, whose clock is ours, refuses.
	_, err = p.Invoke(t.Context(), get("/"))
	if err == nil || !strings.Contains(err.Error(), "Signature expired or not yet current") {
		t.Errorf("%v", err)
	}
	if resp, err := p.Invoke(t.Context(), get("/")); err != nil {
		t.Errorf("the clock was not put right by the emulator's: %v", err)
	} else {
		resp.Body.Close()
	}
}

func TestAccountIsSharedByRegionAndSource(t *testing.T) {
	machine(t, accessKey, secretKey)
	a := NewAccount(slog.New(slog.DiscardHandler))
	one := providerOf(t, Config{Function: "one"}, a)
	two := providerOf(t, Config{Function: "two:live"}, a)
	role := providerOf(t, Config{Function: "one", RoleARN: "arn:aws:iam::123456789012:role/a"}, a)
	if one.region != two.region || one.region == role.region {
		t.Error("functions share the wrong account")
	}
	if _, err := New(Config{Function: "a"}, a); err == nil {
		t.Error("a function without a region was made")
	}
	t.Setenv("AWS_REGION", "eu-central-1")
	f := func(same bool) {
		t.Helper()
		p, err := New(Config{Function: "one"}, a)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if got := p.region == one.region; got != same {
			t.Errorf("the account is shared: %t, want %t", got, same)
		}
	}
	f(true)
	t.Setenv("AWS_REGION", "us-east-1")
	f(false) // the region has been changed
}

// What no function uses any more is forgotten, as often as the settings change.
func TestAccountForgetsWhatNobodyUses(t *testing.T) {
	machine(t, accessKey, secretKey)
	a := NewAccount(slog.New(slog.DiscardHandler))
	kept := providerOf(t, Config{Function: "kept"}, a)
	for i := range 20 {
		p, err := New(Config{Function: "a", Region: "eu-central-1", RoleARN: fmt.Sprint("arn:aws:iam::123456789012:role/", i)}, a)
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
	runtime.GC()
	again := providerOf(t, Config{Function: "again"}, a)
	if len(a.regions) != 1 || kept.region != again.region {
		t.Errorf("%d regions are kept, one is used", len(a.regions))
	}
}
