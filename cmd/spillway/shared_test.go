package main

import (
	"fmt"
	"log/slog"
	"testing"

	"spillway/config"
	"spillway/origin/faas/lambda"
)

// TestSharedFollowsTheConfiguration: an origin's limit stays within what it shares,
// functions get the rest, and a reload changes both where they stand.
func TestSharedFollowsTheConfiguration(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	parse := func(most int) *config.Config {
		t.Helper()
		c, err := config.Parse("spillway.yaml", fmt.Appendf(nil, `
tls: {self_signed: true}
shared: {db: {max: %d}}
origins: {app: {servers: ["http://127.0.0.1:1"], protects: db}, other: {servers: ["http://127.0.0.1:2"]}}
functions: {thumb: {provider: process, function: thumb, protects: db}}
sites: [{hosts: [localhost], routes: [{match: {path: /other}, origin: other}, {origin: app, overflow: {to: [thumb]}}]}]
`, most), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := parse(5)
	p, err := newParts(first, &config.Config{}, &parts{aws: lambda.NewAccount(log)}, log)
	if err != nil {
		t.Fatal(err)
	}
	p.share(first)
	if l, s := p.origins["app"].Limiter().State(), p.shared["db"].State(); l.Limit > 5 || s.Max != 5 || s.Left != 5-max(l.Limit, l.Steady) {
		t.Errorf("limit %d of 5, %+v", l.Limit, s)
	}
	if l := p.origins["other"].Limiter().State(); l.Limit <= 5 {
		t.Errorf("an origin that shares nothing may run %d requests", l.Limit)
	}
	second := parse(1000)
	next, err := newParts(second, first, p, log)
	if err != nil {
		t.Fatal(err)
	}
	next.share(second)
	if s := next.shared["db"].State(); s.Max != 1000 || s.Left < 1000-next.origins["app"].Limiter().State().Limit {
		t.Errorf("after a reload %+v", s)
	}
	if next.shared["db"] != p.shared["db"] || next.functions["thumb"] != p.functions["thumb"] || len(next.changes) != 1 {
		t.Error("a reload of the bound made new parts")
	}
}
