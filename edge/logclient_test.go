package edge

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"spillway/edge/synctest"
)

var clientModes = []string{"full", "prefix", "hash", "none"}

func TestLogClientForms(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	f := func(mode, addr, want string) {
		t.Helper()
		c := &logClient{mode: mode}
		a, _ := netip.ParseAddr(addr)
		if got := string(c.appendTo(nil, a, noon)); !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("%s of %s: got %s, want %s", mode, addr, got, want)
		}
	}
	f("full", "203.0.113.77", `"client":"203.0.113.77",`)
	f("full", "2001:db8:1:2::3", `"client":"2001:db8:1:2::3",`)
	f("prefix", "203.0.113.77", `"client":"203.0.113.0/24",`)
	f("prefix", "2001:db8:1:2::3", `"client":"2001:db8:1::/48",`)
	f("prefix", "fe80::1%eth0", `"client":"fe80::/48",`)
	// What holds a whole IPv4 address is cut as one.
	f("prefix", "2002:cb00:714d:1::1", `"client":"203.0.113.0/24",`)
	f("prefix", "64:ff9b::203.0.113.77", `"client":"203.0.113.0/24",`)
	f("prefix", "2001:0:4136:e378:8000:63bf:34ff:8eb2", `"client":"203.0.113.0/24",`)
	f("prefix", "2001:1:4136:e378:8000:63bf:34ff:8eb2", `"client":"2001:1:4136::/48",`)
	f("prefix", "::ffff:203.0.113.77", `"client":"203.0.113.0/24",`)
	f("prefix", "64:ff9b:1::203.0.113.77", `"client":"64:ff9b:1::/48",`)
	f("prefix", "2003:cb00:714d:1::1", `"client":"2003:cb00:714d::/48",`)
	f("", "203.0.113.77", `"client":"203.0.113.0/24",`)
	f("hash", "203.0.113.77", `"client":"[0-9a-f]{16}",`)
	f("hash", "2001:db8:1:2::3", `"client":"[0-9a-f]{16}",`)
	f("none", "203.0.113.77", ``)
	f("full", "no address", ``)
	f("prefix", "no address", ``)
	f("hash", "no address", ``)
}

// TestLogClientForgetsTheDay asks that the secret of a day ends with it, although
// nobody comes on the next.
func TestLogClientForgetsTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight
		l := newAccessLog(io.Discard, LogConfig{Client: "hash"}, slog.New(slog.DiscardHandler))
		ctx, end := context.WithCancel(t.Context())
		defer end()
		go l.run(ctx)
		x := loggedExchange()
		x.start = time.Now()
		l.add(x, 0)
		time.Sleep(24*time.Hour - time.Minute)
		if l.client.key.Load() == nil {
			t.Error("the secret does not last for its day")
		}
		time.Sleep(time.Minute + 2*logEvery)
		if l.client.key.Load() != nil {
			t.Error("the secret is kept after its day")
		}
	})
}

// TestLogClientHash asks that a hash tells visitors apart within a day, and
// joins nothing over days or over processes.
func TestLogClientHash(t *testing.T) {
	c := &logClient{mode: "hash"}
	hash := func(c *logClient, addr string, at time.Time) string {
		return string(c.appendTo(nil, netip.MustParseAddr(addr), at))
	}
	evening := time.Date(2026, 1, 2, 23, 59, 59, 0, time.UTC)
	first := hash(c, "203.0.113.77", evening.Add(-20*time.Hour))
	if first != hash(c, "203.0.113.77", evening) {
		t.Error("a visitor has two hashes on one day")
	}
	if first == hash(c, "203.0.113.78", evening) {
		t.Error("two visitors have one hash")
	}
	if first == hash(&logClient{mode: "hash"}, "203.0.113.77", evening) {
		t.Error("two processes make the same hash")
	}
	morning := hash(c, "203.0.113.77", evening.Add(time.Second))
	if first == morning {
		t.Error("a visitor has the same hash on two days")
	}
	// A clock that was far ahead leaves no secret that lasts until then.
	future := hash(c, "203.0.113.77", evening.AddDate(1, 0, 0))
	if back := hash(c, "203.0.113.77", evening.AddDate(0, 1, 0)); back == future {
		t.Error("a secret lasts for a year")
	}
	c = &logClient{mode: "hash"}
	morning = hash(c, "203.0.113.77", evening.Add(time.Second))
	if late := hash(c, "203.0.113.77", evening); late != morning {
		t.Error("a request that ends after midnight brings the old secret back")
	}
}
