package cache

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"spillway/edge/synctest"
)

const standsIn = "Cache-Control: max-age=10, stale-if-error=600"

// patient is the configuration of a cache whose visitors wait for a tenth of what the
// slow origin takes.
func patient() Config {
	c := config()
	c.StaleWait = 100 * time.Millisecond
	return c
}

// TestLateAnswer: who may have the expired entry waits for a moment only, and the
// fetch goes on and is stored.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(patient()), &slow{}
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", standsIn))
		time.Sleep(11 * time.Second)
		ask := func(want time.Duration) {
			t.Helper()
			start := time.Now()
			if _, _, err := serve(c, get("/"), origin.fetch("new", 200, standsIn)); err != ErrLate || time.Since(start) != want {
				t.Errorf("%v after %v, want %v", err, time.Since(start), want)
			}
		}
		seen := func(joins, late bool, lines ...string) {
			t.Helper()
			g := c.Peek(get("/", lines...), time.Now(), nil)
			defer g.Release()
			if g.Joins != joins || g.Late != late {
				t.Errorf("%q: joins %t, late %t", lines, g.Joins, g.Late)
			}
		}
		time.AfterFunc(50*time.Millisecond, func() { seen(true, false) })
		ask(100 * time.Millisecond)
		seen(false, true)
		seen(true, false, "Cache-Control: no-cache") // it insists, and waits
		ask(0)                                       // it is known to be late
		if s := c.State(); s.Background != 1 || origin.calls.Load() != 1 {
			t.Errorf("%d fetches, %+v", origin.calls.Load(), s)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, body := read(t, c, get("/"), noFetch(t)); body != "new" {
			t.Errorf("stored %q", body)
		}
		if s := c.State(); s.Background != 0 || s.Flights != 0 || s.FillBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAnswerInTime: an answer whose header comes in time is waited for, whatever its
// body takes.
func TestAnswerInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := New(patient()), &drip{}
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", standsIn))
		time.Sleep(11 * time.Second)
		if _, body := read(t, c, get("/"), func(ctx context.Context, r *http.Request) (*http.Response, error) {
			time.Sleep(99 * time.Millisecond)
			resp, err := d.fetch(3, standsIn)(ctx, r)
			go func() {
				time.Sleep(time.Second)
				d.w.Write([]byte("new"))
				d.w.Close()
			}()
			return resp, err
		}); body != "new" {
			t.Errorf("got %q", body)
		}
	})
}

// TestWhoWaitsForLateAnswers: those for whom the entry may not stand in, or who insist
// on validation.
func TestWhoWaitsForLateAnswers(t *testing.T) {
	f := func(name, response, request string, config Config) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, origin := New(config), &slow{}
				revalidates(t, c)
				read(t, c, get("/"), answers(200, "old", "Cache-Control: "+response, `Etag: "a"`))
				time.Sleep(11 * time.Second)
				if _, body := read(t, c, get("/", "Cache-Control: "+request), origin.fetch("new", 200, standsIn)); body != "new" {
					t.Errorf("got %q", body)
				}
			})
		})
	}
	f("not allowed", "max-age=10", "", patient())
	f("too old", "max-age=10, stale-if-error=1", "", patient())
	f("forbidden", "max-age=10, stale-if-error=600, must-revalidate", "", patient())
	f("insists", "max-age=10, stale-if-error=600", "no-cache", patient())
	f("fresh, but to be validated", "max-age=60, stale-if-error=600", "max-age=0", patient())
	f("not to be stored", "max-age=10, stale-if-error=600", "no-store", patient())
	f("switched off", "max-age=10, stale-if-error=600", "", config())
}

// TestLateForWhomTheRequestAllows: the directive counts in a request as well (RFC 5861
// section 4).
func TestLateForWhomTheRequestAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(patient()), &slow{}
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", "Cache-Control: max-age=10"))
		time.Sleep(11 * time.Second)
		if _, _, err := serve(c, get("/", "Cache-Control: stale-if-error=5"), origin.fetch("new", 200, fresh)); err != ErrLate {
			t.Error(err)
		}
		time.Sleep(time.Second)
	})
}

// TestLateAnswerThatIsNotShared: what each has to fetch for itself goes on as well.
func TestLateAnswerThatIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = "Cache-Control: max-age=0, stale-if-error=600"
		c, origin := New(patient()), &slow{}
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", each))
		for range 3 {
			if _, _, err := serve(c, get("/"), origin.fetch("new", 200, each)); err != ErrLate {
				t.Error(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		found := lookup(t, c, get("/"), time.Now())
		if s := c.State(); string(found.Entry.Body()) != "new" || s.Background != 0 || origin.calls.Load() != 3 {
			t.Errorf("%q after %d fetches, %+v", found.Entry.Body(), origin.calls.Load(), s)
		}
	})
}

// TestLateAndLeft: a joiner without such a permission gets the answer, though all
// others have left, and the fetch ends with the last of them where there is no
// background.
func TestLateAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(patient()), &slow{}
		read(t, c, get("/"), answers(200, "old", standsIn))
		time.Sleep(11 * time.Second)
		late := make(chan error, 1)
		go func() {
			_, _, err := serve(c, get("/"), origin.fetch("new", 200, standsIn))
			late <- err
		}()
		synctest.Wait()
		if resp, body := read(t, c, get("/", "Cache-Control: no-cache"), noFetch(t)); !resp.Joined || body != "new" {
			t.Errorf("the joiner got %q", body)
		}
		if err := <-late; err != ErrLate {
			t.Error(err)
		}
		time.Sleep(11 * time.Second)
		if _, _, err := serve(c, get("/"), origin.fetch("newer", 200, standsIn)); err != ErrLate {
			t.Error(err)
		}
		synctest.Wait()
		if s := c.State(); s.Flights != 0 || origin.inFlight.Load() != 0 {
			t.Errorf("the fetch goes on: %+v", s)
		}
	})
}

// TestLateAndFailed: a fetch that fails behind those who have left changes nothing.
func TestLateAndFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(patient())
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", standsIn))
		time.Sleep(11 * time.Second)
		if _, _, err := serve(c, get("/"), func(context.Context, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return nil, errors.New("refused")
		}); err != ErrLate {
			t.Error(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if found := lookup(t, c, get("/"), time.Now()); found.State != Stale || string(found.Entry.Body()) != "old" || c.State().Background != 0 {
			t.Errorf("%s, %+v", found.State, c.State())
		}
	})
}
