package edge

import (
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"spillway/edge/overflow"
	"spillway/edge/synctest"
	"spillway/edge/waiting"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/web"
	"spillway/origin/limit"
)

// TestDemandCountsWhatIsAsked: all that came, in units of the origin's work, by the
// latencies of their classes; what nobody knows yet counts as what is typical.
func TestDemandCountsWhatIsAsked(t *testing.T) { synctest.Test(t, demandCounts) }

func demandCounts(t *testing.T) {
	o, err := origin.New("app", origin.Config{
		Servers: []string{"http://127.0.0.1:1"}, Limit: limit.Config{Min: 1, Max: 100},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const class, other = 4, 8
	o.Limiter().Restore(limit.Learned{Useful: 4, Baselines: []limit.Baseline{
		{Class: class, Latency: 20 * time.Millisecond}, {Class: class + 1, Latency: 100 * time.Millisecond},
	}})
	w := &room{Room: waiting.NewRoom("app", func() [][32]byte { return make([][32]byte, 1) })}
	known := &route{origin: o, class: class, room: w, waits: &waitingRoute{}, purse: &purse{}}
	strange := &route{origin: o, class: other, room: w}
	d := &demand{origin: o, routes: []*route{known, strange}}
	f := func(what string, work, taken, waits float64) {
		t.Helper()
		got := d.observe(overflow.Bin)
		if math.Abs(got.Work-work) > 1e-6 || math.Abs(got.Taken-taken) > 1e-6 || math.Abs(got.Waiting-waits) > 1e-6 || got.CostUSD != 0 {
			t.Errorf("%s: %+v, want %v, %v, %v", what, got, work, taken, waits)
		}
	}
	come := func(r *route, method string, n, taken int, standing waiting.Standing) {
		for range n {
			r.arrivals.note(method, &waiting.Guest{Standing: standing})
		}
		for range taken {
			r.arrivals.noteTaken(method)
		}
	}
	f("nothing", 0, 0, 0)
	come(known, http.MethodGet, 10, 4, waiting.Outside)
	come(known, http.MethodPost, 5, 5, waiting.Outside)
	f("by class", 10*0.02+5*0.1, 4*0.02+5*0.1, 0)
	if level := d.trend.Level(); level <= 0 {
		t.Errorf("the trend is %v", level)
	}
	come(strange, http.MethodGet, 10, 0, waiting.Outside)
	f("of a class that is not known", 10*0.06, 0, 0)
	f("once", 0, 0, 0)

	// A visit that is sent to wait counts when it comes, as long as it waits, and not
	// again when its turn has come.
	const ahead = 99
	guest := w.Enter(waiting.Ask{Waits: true})
	first := w.Wait(&guest)
	for range ahead - 1 {
		w.Wait(&waiting.Guest{Standing: waiting.Behind, Waits: true})
	}
	time.Sleep(200 * time.Millisecond) // who comes in the same tenth of a second is equal
	behind := w.Enter(waiting.Ask{Waits: true})
	known.arrivals.noteSentBack(&behind)
	ticket := w.Wait(&behind).Ticket
	f("sent to wait before the ladder", 0.02, 0, (ahead+1)*0.02)
	again := w.Enter(waiting.Ask{Waits: true, Ticket: ticket})
	if again.Standing != waiting.Behind {
		t.Fatalf("the last in line stands %v", again.Standing)
	}
	known.arrivals.noteSentBack(&again)
	f("asking again", 0, 0, (ahead+1)*0.02)
	called := w.Enter(waiting.Ask{Waits: true, Ticket: first.Ticket})
	if called.Standing != waiting.Called {
		t.Fatalf("the first in line stands %v", called.Standing)
	}
	known.arrivals.note(http.MethodGet, &called)
	known.arrivals.noteTaken(http.MethodGet)
	w.Serve(&called, time.Minute)
	f("and is served", 0, 0.02, ahead*0.02)

	// Who prewarms tells the origin.
	now, all := time.Now(), &sites{demands: []*demand{d}}
	all.prewarm(now, overflow.Bin)
	come(known, http.MethodGet, 4, 1, waiting.Outside)
	all.prewarm(now.Add(100*time.Millisecond), overflow.Bin)
	if s := o.State().Scale; s.Spilled <= 0.5 || s.Known {
		t.Errorf("the origin says %+v", s)
	}
}

// TestLadderCountsWhatTheOriginGets: what comes to the ladder is asked of the origin,
// whoever answers it, and what has a permit is taken by it.
func TestLadderCountsWhatTheOriginGets(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	o, err := origin.New("app", origin.Config{
		Servers: []string{server.URL}, Limit: limit.Config{Min: 1, Max: 1}, Timeout: time.Minute, ConnectTimeout: time.Second,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &route{origin: o, originName: "app"}
	permit, _ := o.Limiter().Acquire(0, 1)
	climb := func() {
		l := &ladder{route: r}
		if resp, err := l.climb(t.Context(), httptest.NewRequest(http.MethodGet, "/", nil)); err == nil {
			resp.Body.Close()
		}
	}
	climb() // finds no place
	if asked, taken := r.arrivals.ladder[0].Load(), r.arrivals.taken[0].Load(); asked != 1 || taken != 0 {
		t.Errorf("%d asked, %d taken", asked, taken)
	}
	permit.Release(limit.Cancel)
	climb()
	if asked, taken := r.arrivals.ladder[0].Load(), r.arrivals.taken[0].Load(); asked != 2 || taken != 1 {
		t.Errorf("%d asked, %d taken", asked, taken)
	}
}

// TestDemandCountsWhatIsPaid: what the routes cost since it was looked at last, and
// nothing of what they had cost before a reload.
func TestDemandCountsWhatIsPaid(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	provider, err := web.New(web.Config{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	f := faas.New("thumb", faas.Config{
		Memory: 128 << 20, Timeout: time.Minute, MaxConcurrency: 2, MaxResponse: 1 << 20, Price: faas.PriceConfig{Platform: "aws-lambda"},
	}, provider, nil, slog.New(slog.DiscardHandler))
	bill := &purse{}
	call := func() {
		t.Helper()
		calls := bill.tally.Calls()
		r := &faas.Request{Method: http.MethodGet, Host: "edge.test", Path: "/", Header: http.Header{}, Tally: &bill.tally}
		resp, err := f.Invoke(t.Context(), r, "visitor")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		for deadline := time.Now().Add(10 * time.Second); bill.tally.Calls() == calls && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond) // who has the answer has it before it is billed
		}
	}
	call()
	before := bill.tally.Cost()
	d := &demand{routes: []*route{{purse: bill}, {}}}
	if spent := d.spent(); before <= 0 || spent != 0 {
		t.Errorf("%v of %v is new", spent, before)
	}
	call()
	if spent := d.spent(); math.Abs(spent-(bill.tally.Cost()-before)) > 1e-15 || spent <= 0 {
		t.Errorf("%v is new", spent)
	}
	if spent := d.spent(); spent != 0 {
		t.Errorf("%v is new, after no call", spent)
	}
}
