package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"spillway/edge/synctest"
)

func TestStatusString(t *testing.T) {
	f := func(s Status, want string) {
		t.Helper()
		if got := s.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	f(Status{Hit: true, TTL: 30 * time.Second}, "spillway; hit; ttl=30")
	f(Status{Hit: true, TTL: 0}, "spillway; hit; ttl=0")
	f(Status{Hit: true, TTL: -412*time.Second - 1}, "spillway; hit; ttl=-412")
	f(Status{Fwd: FwdURIMiss, FwdStatus: 200, Stored: true, Collapsed: true}, "spillway; fwd=uri-miss; fwd-status=200; stored; collapsed")
	f(Status{Fwd: FwdStale, FwdStatus: 304, TTL: -5 * time.Second}, "spillway; fwd=stale; fwd-status=304; ttl=-5")
	f(Status{Fwd: FwdMethod}, "spillway; fwd=method")
	f(Status{Fwd: FwdRequest, Detail: "no-store"}, "spillway; fwd=request; detail=no-store")
	f(Status{Fwd: FwdBypass, Detail: "a \"b\" \\\n\u00e9"}, `spillway; fwd=bypass; detail="a \"b\" \\???"`)
	f(Status{Fwd: FwdBypass, Detail: "5xx"}, `spillway; fwd=bypass; detail="5xx"`)
}

func TestStatusAppend(t *testing.T) {
	upstream := make([]string, 1, 5)
	upstream[0] = `"Origin cache"; hit, OtherCache; fwd=stale; fwd-status=200`
	lines := Status{Fwd: FwdVaryMiss, FwdStatus: 200, Stored: true}.Append(upstream)
	if upstream[:2][1] != "" {
		t.Error("Append wrote into the slice that it got")
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil || len(list) != 3 {
		t.Fatalf("%q: %v", lines, err)
	}
	item := list[2].(httpsfv.Item) // nearest to the visitor is last
	if item.Value != httpsfv.Token("spillway") {
		t.Errorf("last member %v", item.Value)
	}
	for name, want := range map[string]any{"fwd": httpsfv.Token("vary-miss"), "fwd-status": int64(200), "stored": true} {
		if got, _ := item.Params.Get(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := (Status{Hit: true}).Append(nil); len(got) != 1 {
		t.Errorf("%q", got)
	}
}

func FuzzStatus(f *testing.F) {
	f.Add("detail", 200, int64(30), true)
	f.Add("\x00 \"\\", -1, int64(-1), false)
	f.Add("*/:", 999, int64(1<<40), false)
	f.Fuzz(func(t *testing.T, detail string, status int, ttl int64, hit bool) {
		s := Status{Hit: hit, TTL: time.Duration(ttl), Fwd: FwdStale, FwdStatus: status % 1000, Stored: hit, Collapsed: !hit, Detail: detail}
		list, err := httpsfv.UnmarshalList([]string{s.String()})
		if err != nil || len(list) != 1 || strings.ContainsAny(s.String(), "\r\n\x00") {
			t.Fatalf("%q: %v", s.String(), err)
		}
	})
}

func TestLookupStatus(t *testing.T) { synctest.Test(t, testLookupStatus) }

func testLookupStatus(t *testing.T) {
	c := New(config())
	resp, _ := read(t, c, get("/"), answers(200, "a", "Cache-Control: max-age=60"))
	found := Result{Why: FwdURIMiss}
	if got := resp.CacheStatus(&found).String(); got != "spillway; fwd=uri-miss; fwd-status=200; stored" {
		t.Error(got)
	}
	hit := lookup(t, c, get("/"), time.Now())
	if got := hit.Status(hit.Entry.received.Add(10 * time.Second)); !got.Hit || got.TTL != 50*time.Second {
		t.Errorf("%+v", got)
	}
	resp, _ = read(t, c, get("/private"), answers(200, "a", "Cache-Control: private"))
	if got := resp.CacheStatus(&found).String(); got != "spillway; fwd=uri-miss; fwd-status=200; detail=private" {
		t.Error(got)
	}
}
