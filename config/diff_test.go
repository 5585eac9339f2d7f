package config

import (
	"slices"
	"testing"
)

func TestHashAndDiff(t *testing.T) {
	base, err := Parse("f", []byte(whole("")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(base.Hash()) != 12 {
		t.Errorf("hash %q", base.Hash())
	}
	f := func(part string, want ...string) {
		t.Helper()
		c, err := Parse("g", []byte(whole(part)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := Diff(base, c); !slices.Equal(got, want) {
			t.Errorf("%q differs in %v, want %v", part, got, want)
		}
		if same := c.Hash() == base.Hash(); same != (len(want) == 0) {
			t.Errorf("%q has the same hash: %t", part, same)
		}
	}
	f("# a comment")
	f("listen: ':443' # the default")
	f("cache: {memory: 0.5GiB} # the default, written otherwise")
	f("cache: {memory: 1GiB}\nexpose: full", "cache.memory", "expose")
	f("trusted_proxies: [10.0.0.1]", "trusted_proxies[0]")
	f("origins: {app: {servers: ['http://10.0.0.5:8080'], queue: {wait: 1s}}}", "origins.app.queue.wait")
	f("budgets: {b: {per_day: $1}}", "budgets.b.on_exhausted", "budgets.b.on_ledger_error", "budgets.b.per_day")
}
