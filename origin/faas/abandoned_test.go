package faas

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/faas/budget"
)

// A visitor that leaves is not waited for, but the call goes on to its end, so that
// it is known what it did cost: less than its worst case.
func TestAbandonedCallIsPaidAsItEnds(t *testing.T) {
	f := func(body string, told bool, leave time.Duration, want float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			started := time.Now()
			function, b := newFunction(priced, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
				time.Sleep(2 * time.Second)
				if err := ctx.Err(); err != nil {
					t.Errorf("the call was ended: %v", err)
				}
				resp, err := answering(200, body, told)(ctx, r)
				resp.Body = io.NopCloser(&late{Reader: strings.NewReader(body)})
				return resp, err
			}))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(leave, cancel)
			resp, err := function.Invoke(ctx, ask("GET", "/", "", nil), "v")
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if e := AsError(err); e.Class != Canceled || !e.Executed || time.Since(started) != leave {
				t.Errorf("%v after %v", err, time.Since(started))
			}
			time.Sleep(priced.Timeout)
			synctest.Wait()
			if s := function.State(); s.InFlight != 0 || s.OK != 1 || !near(spent(b), want) {
				t.Errorf("state %+v, spent %v, want %v", s, spent(b), want)
			}
		})
	}
	f("answer", true, time.Second, 1+3+0.006)
	f("answer", false, time.Second, 1+3+0.006)
	f("answer", true, 2500*time.Millisecond, 1+3+0.006)
	f("answer", false, 2500*time.Millisecond, 1+3+0.006)
}

// late is a body whose first part takes a second.
type late struct {
	io.Reader
	began bool
}

func (l *late) Read(p []byte) (int, error) {
	if !l.began {
		time.Sleep(time.Second)
	}
	l.began = true
	return l.Reader.Read(p)
}

// To finish a long answer for nobody would cost more than it tells.
func TestLongAnswerIsNotFinishedForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := priced
		c.MaxResponse = 1 << 30
		function, b := newFunction(c, fake(func(context.Context, *Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(endless{}), ContentLength: -1}, nil
		}))
		b.SetConfig(budget.Config{})
		resp, e := call1(t, function)
		if e != nil {
			t.Fatal(e)
		}
		resp.Body.Close()
		synctest.Wait()
		// What was under way is counted at its worst.
		if s := function.State(); s.InFlight != 0 || s.Failures[Canceled] != 1 || s.BytesOut < 1<<30 || s.BusySeconds != 5 {
			t.Errorf("state %+v", s)
		}
	})
}

// Nobody pays for a call that nobody waits for any more when it would begin.
func TestCallIsNotBegunForNobody(t *testing.T) {
	f, b := newFunction(priced, fake(func(context.Context, *Request) (*http.Response, error) {
		t.Error("called")
		return nil, io.ErrUnexpectedEOF
	}))
	ctx, leave := context.WithCancel(t.Context())
	leave()
	_, err := f.Invoke(ctx, ask("GET", "/", "", nil), "v")
	if e := AsError(err); e.Reason() != outcome.ClientGone || e.Executed {
		t.Error(err)
	}
	if s := f.State(); s.InFlight != 0 || s.Calls != 0 || spent(b) != 0 {
		t.Errorf("state %+v, spent %v", s, spent(b))
	}
}
