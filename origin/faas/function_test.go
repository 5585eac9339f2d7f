package faas

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/leaktest"
	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/faas/budget"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fake is a platform of the test's own.
type fake func(ctx context.Context, r *Request) (*http.Response, error)

func (f fake) Invoke(ctx context.Context, r *Request) (*http.Response, error) { return f(ctx, r) }

// answering is a platform that always gives that status and body, whose length
// it tells if told.
func answering(status int, body string, told bool) fake {
	return func(context.Context, *Request) (*http.Response, error) {
		resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
		if told {
			resp.ContentLength = int64(len(body))
		}
		return resp, nil
	}
}

// priced is a function whose call costs one dollar, one for each second and one
// for each 1000 bytes out.
var priced = Config{
	Memory: 1 << 30, Timeout: 5 * time.Second, MaxConcurrency: 2, MaxResponse: 10_000,
	Price: PriceConfig{Platform: "none", PerMillionRequests: new(1e6), PerGBSecond: new(1.0), PerGBOut: new(1e6)},
}

// worstCase is one step beyond the timeout, and the largest answer with all of a
// header and a part that is too much.
const worstCase = 1 + 5.001 + (10_000+maxHeaderBytes+readAheadLeast)/1000.0

func newFunction(c Config, p Provider) (*Function, *budget.Budget) {
	b := budget.New("spill", budget.Config{PerHour: 1000})
	return New("thumb", c, p, b, slog.New(slog.DiscardHandler)), b
}

func spent(b *budget.Budget) float64 {
	s := b.State(time.Now())
	return s.Periods[0].Spent + s.AtRisk
}

func call1(t *testing.T, f *Function) (*http.Response, *Error) {
	t.Helper()
	resp, err := f.Invoke(t.Context(), ask("GET", "/", "", http.Header{}), "visitor")
	if err == nil {
		return resp, nil
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v", err)
	}
	return nil, e
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// A call is charged at its worst case before it is made, and at its true cost
// once its answer was received.
func TestChargeIsCorrected(t *testing.T) {
	f := func(d time.Duration, p fake, want float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var during float64
			var b *budget.Budget
			var function *Function
			function, b = newFunction(priced, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
				during = spent(b)
				time.Sleep(d)
				return p(ctx, r)
			}))
			if resp, _ := call1(t, function); resp != nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			synctest.Wait()
			if got := spent(b); !near(during, worstCase) || !near(got, want) {
				t.Errorf("charged %v during the call and %v after it, want %v and %v", during, got, worstCase, want)
			}
			if s := function.State(); s.InFlight != 0 || !near(s.CostUSD, want) || s.Calls != 1 {
				t.Errorf("state %+v", s)
			}
		})
	}
	fails := func(e *Error) fake {
		return func(context.Context, *Request) (*http.Response, error) { return nil, e }
	}
	f(2*time.Second, answering(200, strings.Repeat("x", 500), true), 1+2+0.5)
	f(2*time.Second, answering(200, strings.Repeat("x", 500), false), 1+2+0.5)
	f(1500*time.Microsecond, answering(404, "", true), 1+0.002)
	f(time.Second, answering(500, "failed", true), 1+1)
	f(time.Second, fails(&Error{Class: Unavailable}), 0)
	f(time.Second, fails(&Error{Class: FunctionError, Executed: true, Answered: true}), 1+1)
	// A function whose connection broke may run until its timeout.
	f(time.Second, func(context.Context, *Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 1+5)
	// What a caller does not wait for is run and billed all the same.
	f(7*time.Second, func(ctx context.Context, _ *Request) (*http.Response, error) {
		return nil, &Error{Class: Unavailable, Executed: true, Err: ctx.Err()}
	}, 1+7)
}

func TestRefusedCallsAreNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		function, b := newFunction(priced, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
			calls++
			return answering(200, "", true)(ctx, r)
		}))
		f := func(want outcome.Reason) {
			t.Helper()
			if why := function.Ready("visitor"); why != want {
				t.Errorf("Ready: %q, want %q", why, want)
			}
			_, e := call1(t, function)
			if e == nil || e.Class != Refused || e.Executed || e.Reason() != want {
				t.Errorf("Invoke: %v, want %q", e, want)
			}
		}
		b.Empty(time.Now())
		f(outcome.BudgetSpent)
		b.Reset(time.Now())
		b.SetConfig(budget.Config{PerHour: 1000, PerClient: 0.1})
		f(outcome.ClientShareSpent)
		b.SetConfig(budget.Config{PerHour: 1000})
		function.gate.inFlight = 2
		f(outcome.FunctionBusy)
		function.gate.inFlight = 0
		if calls != 0 || spent(b) != 0 {
			t.Errorf("%d calls, %v spent", calls, spent(b))
		}
		if why := function.Ready("visitor"); why != outcome.None {
			t.Errorf("Ready: %q", why)
		}
		if s := function.State(); s.Failures[Refused] != 3 || s.Calls != 0 {
			t.Errorf("state %+v", s)
		}
	})
}

func TestConcurrencyIsCapped(t *testing.T) {
	c := priced
	c.MaxConcurrency = 3
	release := make(chan struct{})
	function := New("thumb", c, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
		<-release
		return answering(200, "body", true)(ctx, r)
	}), nil, slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	refused := make(chan *Error, 20)
	for range 20 {
		wg.Go(func() {
			resp, err := function.Invoke(t.Context(), ask("GET", "/", "", nil), "v")
			if err != nil {
				refused <- AsError(err)
				return
			}
			resp.Body.Close()
		})
	}
	for range 17 {
		if e := <-refused; e.Reason() != outcome.FunctionBusy {
			t.Errorf("refused: %v", e)
		}
	}
	close(release)
	wg.Wait()
}

// A slow visitor keeps no slot: the answer is received at the platform's pace.
func TestSlotIsFreeBeforeTheVisitorHasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := strings.Repeat("x", 9_000)
		function, b := newFunction(priced, answering(200, body, false))
		resp, e := call1(t, function)
		if e != nil {
			t.Fatal(e)
		}
		synctest.Wait()
		if s := function.State(); s.InFlight != 0 || s.OK != 1 || !near(spent(b), 1+9) {
			t.Errorf("state %+v, spent %v", s, spent(b))
		}
		time.Sleep(time.Hour)
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		resp.Body.Close()
		if held := function.held.Load(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

// trickle is an endless answer of parts that come one a second.
type trickle struct {
	ctx  context.Context
	part string
	sent int
}

func (s *trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		s.sent += len(s.part)
		return copy(p, s.part), nil
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	}
}
func (s *trickle) Close() error { return nil }

func trickling(part string) (fake, *trickle) {
	s := &trickle{part: part}
	return func(ctx context.Context, _ *Request) (*http.Response, error) {
		s.ctx = ctx
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: s, ContentLength: -1}, nil
	}, s
}

func TestAnswerThatBreaksOff(t *testing.T) {
	f := func(part string, leave time.Duration, class, counted Class, least float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			platform, _ := trickling(part)
			function, b := newFunction(priced, platform)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(leave, cancel)
			resp, err := function.Invoke(ctx, ask("GET", "/", "", nil), "v")
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			if e := AsError(err); err == nil || e.Class != class || !e.Executed {
				t.Errorf("%s after %v: %v", part, leave, err)
			}
			resp.Body.Close()
			time.Sleep(priced.Timeout)
			synctest.Wait()
			if s := function.State(); s.InFlight != 0 || s.Failures[counted] != 1 || spent(b) < least {
				t.Errorf("state %+v, spent %v", s, spent(b))
			}
			cancel()
		})
	}
	f("part", time.Hour, Timeout, Timeout, 1+5+10)
	f("part", 2*time.Second, Canceled, Timeout, 1+5+10)
	f(strings.Repeat("x", 4_000), time.Hour, TooLarge, TooLarge, 1+3+12)
}

// A call that costs nothing is not finished for nobody.
func TestClosedAnswerEndsAFreeCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := priced
		free.Price = PriceConfig{}
		platform, _ := trickling("part")
		function, _ := newFunction(free, platform)
		resp, e := call1(t, function)
		if e != nil {
			t.Fatal(e)
		}
		if n, err := io.ReadFull(resp.Body, make([]byte, 4)); n != 4 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		resp.Body.Close()
		resp.Body.Close()
		synctest.Wait()
		if s := function.State(); s.InFlight != 0 || s.Failures[Canceled] != 1 {
			t.Errorf("state %+v", s)
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("a closed answer reads %v", err)
		}
	})
}

// A visitor that has the whole answer may close before it has seen its end.
func TestCompleteAnswerIsNotCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		function, _ := newFunction(priced, answering(200, "body", true))
		resp, _ := call1(t, function)
		synctest.Wait()
		resp.Body.Close()
		if s := function.State(); s.OK != 1 {
			t.Errorf("state %+v", s)
		}
	})
}

func TestReadAheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := priced
		c.Timeout, c.MaxResponse = time.Hour, 1<<30
		platform, source := trickling(strings.Repeat("x", readAheadLeast))
		function := New("thumb", c, platform, nil, slog.New(slog.DiscardHandler))
		resp, e := call1(t, function)
		if e != nil {
			t.Fatal(e)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if source.sent != readAhead {
			t.Errorf("%d bytes received ahead", source.sent)
		}
		function.held.Add(readAheadTotal)
		io.CopyN(io.Discard, resp.Body, readAhead)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if ahead := source.sent - readAhead; ahead != readAheadLeast {
			t.Errorf("%d bytes received ahead with memory short", ahead)
		}
		function.held.Add(-readAheadTotal)
		resp.Body.Close()
		time.Sleep(c.Timeout)
		synctest.Wait()
		if held := function.held.Load(); held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

// A visitor that stops reading a long answer holds its slot until the timeout,
// and is not billed for longer.
func TestStalledVisitorDoesNotHoldTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := priced
		c.MaxResponse = 1 << 30
		function, b := newFunction(c, fake(func(context.Context, *Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(endless{}), ContentLength: -1}, nil
		}))
		b.SetConfig(budget.Config{})
		function.breaker.open = true // the call is a probe
		resp, e := call1(t, function)
		if e != nil {
			t.Fatal(e)
		}
		time.Sleep(c.Timeout)
		synctest.Wait()
		s := function.State()
		if s.InFlight != 0 || s.Failures[Timeout] != 1 || s.BusySeconds != c.Timeout.Seconds() || function.breaker.probing {
			t.Errorf("state %+v, probing %t", s, function.breaker.probing)
		}
		if open := b.State(time.Now()); open.AtRisk != 0 {
			t.Errorf("budget %+v", open)
		}
		time.Sleep(time.Hour)
		n, err := io.Copy(io.Discard, resp.Body)
		if e := AsError(err); n != readAhead || err == nil || e.Class != Timeout {
			t.Errorf("%d bytes, %v", n, err)
		}
		resp.Body.Close()
	})
}

// No call settles for more than was charged for it, and what is beyond is told.
func TestNoCallCostsMoreThanItsWorstCase(t *testing.T) {
	f := func(platform string, late time.Duration, overrun bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := priced
			c.Price = PriceConfig{Platform: platform}
			function, b := newFunction(c, fake(func(ctx context.Context, _ *Request) (*http.Response, error) {
				<-ctx.Done()
				time.Sleep(late)
				return nil, ctx.Err()
			}))
			_, e := call1(t, function)
			if e == nil || e.Class != Timeout {
				t.Errorf("%v", e)
			}
			s := function.State()
			if got := spent(b); got > function.worst || !near(got, s.CostUSD-s.OverrunUSD) || (s.OverrunUSD > 0) != overrun {
				t.Errorf("%s, %v late: spent %v of %v, state %+v", platform, late, got, function.worst, s)
			}
		})
	}
	f("google-cloud-run", time.Millisecond, false) // one step of 100 ms more
	f("aws-lambda", time.Microsecond, false)
	f("google-cloud-run", time.Hour, true)
}

func TestRefusedAnswerIsPaidFor(t *testing.T) {
	f := func(p fake, out float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			function, b := newFunction(priced, p)
			if _, e := call1(t, function); e == nil || !e.Executed {
				t.Errorf("%v", e)
			}
			if got := spent(b); !near(got, 1+out) {
				t.Errorf("spent %v, want %v", got, 1+out)
			}
		})
	}
	inMemory := func(resp *http.Response) fake {
		return func(context.Context, *Request) (*http.Response, error) { return resp, nil }
	}
	f(inMemory(respond(200, http.Header{}, make([]byte, 12_000), "GET")), 12)
	f(inMemory(respond(500, http.Header{}, make([]byte, 2_000), "GET")), 2)
	f(inMemory(respond(200, http.Header{"A": {"b\r\nc"}}, make([]byte, 2_000), "GET")), 2.009)
	f(answering(200, strings.Repeat("x", 12_000), true), 10)
	f(func(context.Context, *Request) (*http.Response, error) {
		return nil, &Error{Class: TooLarge, Executed: true, Answered: true, Received: 11_000}
	}, 11)
}

func TestProviderIsToldTheLargestAnswer(t *testing.T) {
	asked := ask("GET", "/", "", nil)
	function, _ := newFunction(priced, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
		if r.MaxAnswer != priced.MaxResponse {
			t.Errorf("largest answer %d", r.MaxAnswer)
		}
		return answering(204, "", true)(ctx, r)
	}))
	resp, err := function.Invoke(t.Context(), asked, "v")
	if err != nil || asked.MaxAnswer != 0 {
		t.Fatalf("%v, the caller's request has %d", err, asked.MaxAnswer)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func TestAnswersThatMayNotBeShown(t *testing.T) {
	f := func(p fake, class Class) {
		t.Helper()
		function, _ := newFunction(priced, p)
		_, e := call1(t, function)
		if e == nil || e.Class != class || !e.Executed {
			t.Errorf("%v, want %s", e, class)
		}
	}
	f(answering(100, "", true), FunctionError)
	f(answering(600, "", true), FunctionError)
	f(answering(503, "its own", true), FunctionError)
	f(answering(200, strings.Repeat("x", 10_001), true), TooLarge)
	f(func(context.Context, *Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"A": {"b\r\nc"}}, Body: http.NoBody}, nil
	}, FunctionError)
}

func TestAnswerKeepsItsLength(t *testing.T) {
	f := func(resp *http.Response, want string) {
		t.Helper()
		function, _ := newFunction(priced, fake(func(context.Context, *Request) (*http.Response, error) { return resp, nil }))
		got, e := call1(t, function)
		if e != nil {
			t.Fatal(e)
		}
		defer got.Body.Close()
		if length := got.Header.Get("Content-Length"); length != want {
			t.Errorf("length %q, want %q", length, want)
		}
		io.Copy(io.Discard, got.Body)
	}
	lie := http.Header{"Content-Length": {"999"}}
	f(&http.Response{StatusCode: 200, Header: lie.Clone(), Body: io.NopCloser(strings.NewReader("body")), ContentLength: 4}, "4")
	f(&http.Response{StatusCode: 200, Header: lie.Clone(), Body: io.NopCloser(strings.NewReader("body")), ContentLength: -1}, "")
	f(&http.Response{StatusCode: 204, Header: lie.Clone(), Body: http.NoBody}, "")
	f(&http.Response{StatusCode: 304, Header: lie.Clone(), Body: http.NoBody, ContentLength: -1}, "")
	// A HEAD answer may speak of more than could be sent.
	f(&http.Response{StatusCode: 200, Header: lie.Clone(), Body: http.NoBody, ContentLength: 1 << 30}, "1073741824")
	f(respond(200, lie.Clone(), []byte("body"), "GET"), "4")
}

func TestBreakerKeepsCallsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status, calls := 503, 0
		var log bytes.Buffer
		b := budget.New("spill", budget.Config{})
		function := New("thumb", priced, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
			calls++
			return answering(status, "", true)(ctx, r)
		}), b, slog.New(slog.NewTextHandler(&log, nil)))
		for range failuresInRow + 3 {
			call1(t, function)
		}
		if calls != failuresInRow || function.Ready("v") != outcome.FunctionUnavailable || function.State().Breaker != "open" {
			t.Errorf("%d calls, %q, %+v", calls, function.Ready("v"), function.State())
		}
		time.Sleep(firstOpen * 12 / 10)
		status = 404 // a visitor's mistake, not the function's
		for range 2 {
			call1(t, function)
			synctest.Wait() // a probe is over when its answer was received
		}
		if calls != failuresInRow+2 || function.State().Breaker != "closed" {
			t.Errorf("%d calls, %+v", calls, function.State())
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d transitions are logged:\n%s", n, &log)
		}
	})
}

func TestVerdict(t *testing.T) {
	f := func(class Class, retryAfter time.Duration, want result) {
		t.Helper()
		if got := verdict(&Error{Class: class, RetryAfter: retryAfter}); got != want {
			t.Errorf("%s: %d, want %d", class, got, want)
		}
	}
	f(Throttled, 0, throttled)
	f(Unavailable, time.Second, broke)
	f(Auth, 0, broke)
	f(FunctionError, 0, broke)
	f(Timeout, 0, broke)
	f(Ambiguous, 0, broke)
	f(Ambiguous, time.Second, broke)
	f(TooLarge, 0, saidNothing)
	f(Canceled, 0, saidNothing)
}

func BenchmarkInvoke(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 44_000)
	function := New("thumb", Config{Memory: 1 << 30, Timeout: time.Second, MaxConcurrency: 100, MaxResponse: 1 << 20}, fake(func(context.Context, *Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(payload)), ContentLength: int64(len(payload))}, nil
	}), budget.New("spill", budget.Config{PerHour: 1e9, PerClient: 0.9}), slog.New(slog.DiscardHandler))
	r := ask("GET", "/", "", nil)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := function.Invoke(b.Context(), r, "visitor")
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
