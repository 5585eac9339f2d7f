package faas

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/faas/budget"
)

// exercise makes one call for a proof, and returns why there was none.
func exerciseOnce(t *testing.T, f *Function) outcome.Reason {
	t.Helper()
	resp, err := f.Exercise(t.Context(), ask("GET", "/", "", http.Header{}))
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Reason()
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return outcome.None
}

// TestExerciseKeepsToItsShare: however often proofs are asked for, they use up a
// hundredth of the budget, and nothing of what visitors may spend.
func TestExerciseKeepsToItsShare(t *testing.T) {
	f := func(perHour float64, want int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			b := budget.New("spill", budget.Config{PerHour: perHour, PerClient: 0.5})
			// A call costs 1 + 0.001 + 1 dollars and what its header takes.
			f := New("thumb", priced, answering(200, string(make([]byte, 1000)), true), b, slog.New(slog.DiscardHandler))
			n := 0
			for range 1000 {
				if f.Spare() != outcome.None {
					break
				}
				if why := exerciseOnce(t, f); why != outcome.None {
					t.Fatalf("spare, and then %s", why)
				}
				synctest.Wait()
				n++
			}
			if spent := f.State().CostUSD; n != want || spent > max(exerciseShare*perHour, 2*worstCase) {
				t.Errorf("of %v dollars: %d calls for %v, want %d", perHour, n, spent, want)
			}
			if why := f.Spare(); why != outcome.ClientShareSpent || exerciseOnce(t, f) != why {
				t.Errorf("then %q", why)
			}
			if why := f.Ready("visitor"); why != outcome.None {
				t.Errorf("a visitor gets %s", why)
			}
			time.Sleep(time.Hour)
			if why := f.Spare(); why != outcome.None {
				t.Errorf("an hour later %s", why)
			}
		})
	}
	f(100_000, 443) // until the worst case of one more does not fit into 1000
	f(1000, 58)     // two calls at their worst are more than a hundredth
}

func TestExerciseTakesWhatIsSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := priced
		c.MaxConcurrency = 4
		inside, leave := make(chan struct{}), make(chan struct{})
		f, _ := newFunction(c, fake(func(context.Context, *Request) (*http.Response, error) {
			inside <- struct{}{}
			<-leave
			return answering(200, "", true)(nil, nil)
		}))
		call := func() {
			go f.Invoke(t.Context(), ask("GET", "/", "", http.Header{}), "visitor")
			<-inside
		}
		call()
		if why := f.Spare(); why != outcome.None {
			t.Errorf("with one of four slots taken: %s", why)
		}
		call()
		if why := f.Spare(); why != outcome.FunctionBusy || exerciseOnce(t, f) != why {
			t.Errorf("with half of the slots taken: %q", why)
		}
		if why := f.Ready("visitor"); why != outcome.None {
			t.Errorf("a visitor gets %s", why)
		}
		close(leave)
		synctest.Wait()
		if s := f.State(); s.InFlight != 0 || s.Calls != 2 || s.Failures[Refused] != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestTry: whatever a function answers but an error of the server, it is there; one that
// cannot be reached is told from one that is not asked.
func TestTry(t *testing.T) {
	f := func(warmUp string, p Provider, want Class) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := priced
			c.WarmUp = warmUp
			function, b := newFunction(c, p)
			err := function.Try(t.Context())
			got := Class("")
			if err != nil {
				got = AsError(err).Class
			}
			if got != want {
				t.Errorf("%v, want %q", err, want)
			}
			synctest.Wait()
			if function.State().InFlight != 0 || b.State(time.Now()).AtRisk != 0 {
				t.Errorf("%v: something is left", err)
			}
		})
	}
	f("/warm", answering(404, "", true), "")
	f("/warm", answering(500, "", true), FunctionError)
	f("/warm", fake(func(context.Context, *Request) (*http.Response, error) { return nil, &Error{Class: Auth} }), Auth)
	function, _ := newFunction(priced, answering(200, "", true))
	if err := function.Try(t.Context()); !errors.Is(err, ErrNoWarmUp) {
		t.Errorf("without a path: %v", err)
	}
	c := priced
	c.WarmUp = "/warm"
	function, b := newFunction(c, answering(200, "", true))
	b.Empty(time.Now())
	if err := function.Try(t.Context()); AsError(err).Refusal != outcome.BudgetSpent {
		t.Errorf("without money: %v", err)
	}
}
