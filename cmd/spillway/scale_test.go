package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/config"
	"spillway/origin/limit"
	"spillway/origin/remote"
	"spillway/origin/scale"
)

// TestScaleOut: a webhook that a reload has added hears of a need, from the origin
// that was there before, and status and metrics say the same.
func TestScaleOut(t *testing.T) {
	messages := make(chan scale.Message, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m scale.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Header.Get(remote.SignatureField) == "" {
			t.Errorf("%v, signature %q", err, r.Header.Get(remote.SignatureField))
		}
		messages <- m
	}))
	defer hook.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	file := strings.NewReplacer("DIR", t.TempDir()).Replace(quiet + `
origins: {app: {servers: ["http://127.0.0.1:1", "http://127.0.0.1:2"], SCALE}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`)
	n := buildQuiet(t, strings.ReplaceAll(file, "SCALE", "scale_out: {}"))
	app := n.parts.origins["app"]
	app.Limiter().Restore(limit.Learned{Useful: 4, Baselines: []limit.Baseline{{Latency: 20 * time.Millisecond}}})
	for range 4 {
		permit, free := app.Limiter().Acquire(0, 1)
		if !free {
			t.Fatal("no permit")
		}
		defer permit.Release(limit.Cancel)
	}
	at := time.Now()
	crowd := func(length time.Duration) {
		const bin = 100 * time.Millisecond
		for range length / bin {
			at = at.Add(bin)
			app.Follow(at, scale.Asked{Work: 10.88 * bin.Seconds(), Taken: 4 * bin.Seconds()})
		}
	}
	crowd(30 * time.Second)
	if s := n.status().Origins["app"].Scale; !s.Known || s.Needed || s.Wanted != 7 {
		t.Errorf("%+v", s)
	}
	c, err := config.Parse("spillway.yaml", []byte(strings.ReplaceAll(file, "SCALE",
		"scale_out: {webhook: '"+hook.URL+"', secret: 'file:"+secret+"', at_least: 40s}")), os.Environ())
	if err == nil {
		err = n.Reload(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	crowd(time.Minute)
	if m := <-messages; !m.Needed || m.Origin != "app" || m.Servers != 2 || m.WantedServers != 7 {
		t.Errorf("%+v", m)
	}
	until(t, "the message is delivered", func() bool { return n.status().Origins["app"].Scale.Delivered > 0 })

	s := n.status()
	var status, metrics bytes.Buffer
	if err := s.write(&status); err != nil {
		t.Fatal(err)
	}
	if line := "app wants 3.4 times its capacity: 7 servers instead of 2\n"; !strings.Contains(status.String(), line) {
		t.Errorf("%q is not in\n%s", line, &status)
	}
	writeStateMetrics(&metrics, s)
	for _, line := range []string{
		`spillway_origin_wanted_servers{origin="app"} 7`, `spillway_origin_scale_out_needed{origin="app"} 1`,
		`spillway_origin_scale_out_messages_total{origin="app",result="delivered"} 1`,
		`spillway_origin_wanted_capacity_ratio{origin="app"} 3.`,
	} {
		if !strings.Contains(metrics.String(), "\n"+line) {
			t.Errorf("%s is not in the metrics", line)
		}
	}
}
