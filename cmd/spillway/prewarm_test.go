package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/cmd/surge/functions"
	"spillway/config"
)

// TestPlannedInstancesAreReady: a node makes the instances ready that its
// configuration plans, on Lambda, by events that the function can tell, and pays.
func TestPlannedInstancesAreReady(t *testing.T) {
	useCredentials(t)
	var told atomic.Int64
	together := make(chan struct{}) // so that none is ready for the next call before all have begun
	release := sync.OnceFunc(func() { close(together) })
	emulator, err := functions.New(functions.Config{
		Function: "thumb", AccessKey: "AKIDEXAMPLE", SecretKey: "secret", ColdStart: 300 * time.Millisecond, Service: 20 * time.Millisecond,
		Work: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Spillway-Warm-Up") == "1" && r.URL.Path == "/.well-known/spillway/warm-up" {
				if told.Add(1) == 5 {
					release()
				}
				<-together
			}
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	platform, origin := httptest.NewServer(emulator), httptest.NewServer(http.NotFoundHandler())
	defer platform.Close()
	defer origin.Close()
	defer release()
	dir := t.TempDir()
	c, err := config.Parse(filepath.Join(dir, "spillway.yaml"), fmt.Appendf(nil, `
listen: 127.0.0.1:0
http: off
admin: unix:%s/a.sock
state: ""
log: {access: off}
tls: {self_signed: true}
budgets: {spill: {per_hour: $1}}
origins: {app: {servers: [%q]}}
functions:
  thumb:
    {provider: lambda, function: thumb, region: eu-central-1, endpoint: %q, budget: spill, prewarm: [{instances: 5}]}
sites: [{hosts: [localhost], routes: [{origin: app, overflow: {to: [thumb]}}]}]
`, dir, origin.URL, platform.URL), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, stop := runNode(t, c)
	f := n.parts.functions["thumb"]
	until(t, "five instances are ready", func() bool { return f.State().Ready >= 5 })
	stop()
	s, e := f.State(), emulator.Stats()
	if e.Instances != 5 || e.Arrived != 5 || told.Load() != 5 {
		t.Errorf("%d of 5 calls told the function what they are: %+v", told.Load(), e)
	}
	if bill := emulator.Bill().USD; s.WarmUps != 5 || s.CostUSD < bill {
		t.Errorf("%v paid of %v: %+v", s.CostUSD, bill, s)
	}
}
