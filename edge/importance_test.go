package edge

import (
	"hash/maphash"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/origin"
	"spillway/origin/limit"
)

func TestUrgency(t *testing.T) {
	order := func(headers ...http.Header) {
		t.Helper()
		for i := 1; i < len(headers); i++ {
			if a, b := urgency(headers[i-1]), urgency(headers[i]); a >= b {
				t.Errorf("%v has %d, %v has %d", headers[i-1], a, headers[i], b)
			}
		}
	}
	says := func(priority ...string) http.Header { return http.Header{"Priority": priority} }
	order(says("u=0"), says("u=0, i"), says("u=1"), says("i, u=2;x=1"), says(), says("i"), says("u=4"), says("u=7"))
	order(says("u=5", "u=1"), says("u=2"))
	order(says(), http.Header{"Sec-Fetch-Dest": {"image"}}, says("i"))
	same := func(priority string) {
		t.Helper()
		if urgency(says(priority)) != urgency(nil) {
			t.Errorf("%q is not as if nothing was said", priority)
		}
	}
	for _, nothing := range []string{"", "u", "u=8", "u=-1", "u=10", "u=\"0\"", "i=?0", "i=1", "U=0", "=", ",,", "u=0.0"} {
		same(nothing)
	}
}

func FuzzUrgency(f *testing.F) {
	for _, s := range []string{"u=0, i", "i=?1;a, u=7", "u=", "u=9,,", "i=?0", "\x00=\"", "u=3;u=1"} {
		f.Add(s, "image")
	}
	f.Fuzz(func(t *testing.T, priority, dest string) {
		if got := urgency(http.Header{"Priority": {priority}, "Sec-Fetch-Dest": {dest}}); got > leastUrgency<<2|3 {
			t.Errorf("%q, %q: %d", priority, dest, got)
		}
	})
}

// One visitor's requests are in one group for a round, whatever its clock says, and
// no two visitors need to change at once.
func TestGroupHoldsForARound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.Uint64().Draw(t, "hash")
		at := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "at"))
		changes, before := 0, groupAt(hash, at)
		for range 60 {
			at += round / 60
			now := groupAt(hash, at)
			if now < 0 || now >= limit.Users {
				t.Fatalf("group %d", now)
			}
			if now != before {
				changes++
			}
			before = now
		}
		if changes != 1 {
			t.Fatalf("the group changed %d times in a round", changes)
		}
	})
	changed := 0
	seed := maphash.MakeSeed()
	for visitor := range uint64(10_000) {
		hash := maphash.Comparable(seed, visitor)
		if groupAt(hash, 7*round) != groupAt(hash, 7*round+round/10) {
			changed++
		}
	}
	if changed < 800 || changed > 1200 {
		t.Errorf("%d of 10,000 changed in a tenth of a round", changed)
	}
}

// Nobody is left out for long: of a share of the visitors that is served, everybody
// is one within few rounds.
func TestNobodyStarves(t *testing.T) {
	f := func(served, want int) {
		t.Helper()
		longest := 0
		for hash := range uint64(limit.Users) {
			out := 0
			for i := range 4 * limit.Users {
				if out++; groupAt(hash, time.Duration(i)*round) < served {
					out = 0
				}
				longest = max(longest, out)
			}
		}
		if longest != want {
			t.Errorf("of %d groups %d are served, and one waits for %d rounds, want %d", limit.Users, served, longest, want)
		}
	}
	f(limit.Users, 0)
	f(limit.Users/2, 2)
	f(limit.Users/4, 4)
	f(limit.Users/10, 12)
	f(1, 127)
}

func TestVisitorsAreSpreadOverGroups(t *testing.T) {
	l := newLottery()
	var counts [limit.Users]int
	const visitors = 100 * limit.Users
	for visitor := range uint64(visitors) {
		counts[l.group(visitor)]++
	}
	for group, n := range counts {
		if n < 40 || n > 180 { // 100 and more than six standard deviations
			t.Errorf("%d visitors in group %d", n, group)
		}
	}
}

// Who has no other place goes before who has, of the same priority; who was called
// before all.
func TestBid(t *testing.T) {
	lots := newLottery()
	l := &ladder{
		route:    &route{queue: origin.QueueConfig{Length: 0.5, UnsafeWait: time.Second}},
		priority: 4, lottery: &lots, visitor: visitor{addr: netip.MustParseAddr("203.0.113.7")},
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("User-Agent", "a")
	stays, leaves := l.bid(r, true), l.bid(r, false)
	if stays.Level < limit.LevelOf(4, 0) || stays.Level > leaves.Level || leaves.Level != limit.LevelOf(4, limit.Users-1) {
		t.Errorf("levels %d and %d", stays.Level, leaves.Level)
	}
	if !stays.Patient || leaves.Patient || stays.Wait != time.Second || leaves.Wait != 0 || stays.Visitor != leaves.Visitor {
		t.Errorf("%+v, %+v", stays, leaves)
	}
	if again := l.bid(r, true); again.Level != stays.Level {
		t.Error("a visitor has two levels")
	}
	for i := range 100 * limit.Users {
		r.Header.Set("User-Agent", strconv.Itoa(i))
		if stays := l.bid(r, true); stays.Level >= leaves.Level {
			t.Fatalf("a visitor that nothing else takes has level %d, and who may spill %d", stays.Level, leaves.Level)
		}
	}
	r.Header.Set("User-Agent", "b")
	if other := l.bid(r, true); other.Visitor == stays.Visitor {
		t.Error("two visitors are one")
	}
	l.facts.Called = true
	if called := l.bid(r, false); called.Level != 0 {
		t.Errorf("who was called has level %d", called.Level)
	}
}
