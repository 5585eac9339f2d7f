package edge

import (
	"net/http"
	"testing"
)

// TestWarmed reads what the node says of its answers.
func TestWarmed(t *testing.T) {
	f := func(member, result, why string) {
		t.Helper()
		h := http.Header{"Cache-Status": {"origin; hit", member}}
		if gotResult, gotWhy := warmed(h); gotResult != result || gotWhy != why {
			t.Errorf("%s: %s (%s), want %s (%s)", member, gotResult, gotWhy, result, why)
		}
	}
	f("spillway; fwd=uri-miss; fwd-status=200; stored", WarmStored, "")
	f("spillway; fwd=stale; fwd-status=304; stored", WarmStored, "")
	f("spillway; hit; ttl=59", WarmFresh, "")
	// The list has it twice, and another request has stored it meanwhile.
	f("spillway; fwd=uri-miss; fwd-status=200; collapsed", WarmFresh, "")
	f("spillway; fwd=uri-miss; fwd-status=200; detail=private", WarmNotStorable, "private")
	f("spillway; fwd=bypass; fwd-status=200; detail=route", WarmNotStorable, "route")
	// What has expired stood in.
	f("spillway; hit; ttl=-7; detail=stale-on-overload", WarmFailed, "stale-on-overload")
	f("spillway; fwd=stale; ttl=-7; detail=stale-wait", WarmFailed, "stale-wait")
}
