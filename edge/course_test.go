package edge

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/recorder"
)

// recorded is an exchange that went down the ladder.
func recorded(mode string) *exchange {
	r := httptest.NewRequest(http.MethodGet, "https://img.example.com/thumb/a.jpg?token=secret", nil)
	s := &Server{clients: &logClient{mode: mode}, recorder: recorder.New(recorder.Config{})}
	return &exchange{
		s: s, r: r, start: time.Now(), id: "0123456789abcdef01234567", route: &route{name: "img.example.com/thumb/*"},
		visitor: visitor{addr: netip.MustParseAddr("203.0.113.7")}, course: &course{limit: 6, inFlight: 6},
		outcome: outcome.Function, reason: outcome.OriginSaturated, backend: "thumb", status: 200,
	}
}

func TestRecordAllocatesNothing(t *testing.T) {
	for _, mode := range []string{"full", "prefix", "hash", "none"} {
		x := recorded(mode)
		for range 2000 { // until the second is full
			x.record(time.Millisecond)
		}
		if n := testing.AllocsPerRun(100, func() { x.record(time.Millisecond) }); n != 0 {
			t.Errorf("%s: %v allocations", mode, n)
		}
	}
}

// TestRecordNamesVisitorsAsTheLogDoes, and hits are not recorded.
func TestRecordNamesVisitorsAsTheLogDoes(t *testing.T) {
	f := func(mode, want string) {
		t.Helper()
		x := recorded(mode)
		x.record(time.Millisecond)
		x.id, x.outcome = "hit", outcome.Hit
		x.record(time.Millisecond)
		_, all := x.s.recorder.Last(x.start.Add(time.Millisecond)) // when it ended, perhaps a second later
		if len(all) != 1 || all[0].Client.String() != want || all[0].Method != "GET" || all[0].Limit != 6 {
			t.Errorf("%s: %+v", mode, all)
		}
	}
	f("full", "203.0.113.7")
	f("prefix", "203.0.113.0/24")
	f("none", "")
	f("", "203.0.113.0/24")
}

func BenchmarkRecord(b *testing.B) {
	x := recorded("prefix")
	b.ReportAllocs()
	for b.Loop() {
		x.record(time.Millisecond)
	}
}

func TestMethodsAreShort(t *testing.T) {
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"} {
		if got := method(m); got != m {
			t.Errorf("%s became %s", m, got)
		}
	}
	if got := method("ANUNUSUALLYLONGMETHOD"); got != "ANUNUSUALLYLONGM"[:16] {
		t.Errorf("got %s", got)
	}
}
