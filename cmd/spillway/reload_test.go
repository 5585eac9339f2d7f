package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"spillway/config"
)

// TestReloadsDoNotMix checks that reloads asked for at the same time end with
// the file in force, and that all that needs a restart is named at once.
func TestReloadsDoNotMix(t *testing.T) {
	s := startSlowNode(t)
	defer func() {
		s.signals <- os.Interrupt
		<-s.ended
	}()
	s.path = filepath.Join(t.TempDir(), "spillway.yaml")
	file := `
listen: 127.0.0.1:0
http: off
admin: ` + s.config.Admin + `
state: ""
log: {access: off}
tls: {self_signed: true}
origins: {app: {servers: ["http://127.0.0.1:1"]}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`
	write := func(text string) {
		if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if r := s.reload(); !r.OK {
				t.Errorf("refused: %v", r.Problems)
			}
		})
	}
	all.Wait()
	want, err := config.Load(s.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if state := s.status(); state.Config.Hash != want.Hash() {
		t.Errorf("the hash in force is %s, want %s", state.Config.Hash, want.Hash())
	}

	write("expose: full\nlimits: {streams: 7}\nadmission: {half_open: 7}\ncache: {memory: 9MiB}" + file)
	r := s.reload()
	var keys []string
	for _, p := range r.Problems {
		keys = append(keys, p.Key)
		if p.Line == 0 {
			t.Errorf("%s has no place", p.Key)
		}
	}
	if len(keys) != 3 || keys[0] != "limits.streams" || keys[1] != "admission.half_open" || keys[2] != "cache.memory" {
		t.Errorf("refused for %v", keys)
	}
	if state := s.status(); state.Config.Refused.At.IsZero() || len(state.Config.Refused.Problems) != 3 {
		t.Errorf("the status says %+v", state.Config.Refused)
	}
}

// TestReloadAllOrNothing: when any part of a configuration cannot be put in force,
// none of the others has changed.
func TestReloadAllOrNothing(t *testing.T) {
	s := startSlowNode(t)
	defer func() {
		s.signals <- os.Interrupt
		<-s.ended
	}()
	describe := func(perHour, server string) *config.Config {
		c, err := config.Parse("spillway.yaml", []byte(`
listen: 127.0.0.1:0
http: off
admin: `+s.config.Admin+`
state: ""
log: {access: off}
tls: {self_signed: true}
budgets: {spill: {per_hour: `+perHour+`}}
origins: {app: {servers: ["`+server+`"]}}
functions: {thumb: {provider: web, url: "http://127.0.0.1:1/", timeout: `+perHour[1:]+`s, max_concurrency: 1, budget: spill}}
sites: [{hosts: [default], routes: [{origin: app, overflow: {to: [thumb]}}]}]
`), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := s.Reload(describe("$1", "http://127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	was := s.parts
	app, thumb, spill := was.origins["app"], was.functions["thumb"], was.budgets["spill"]
	f := func(what string, spoil func(c *config.Config)) {
		t.Helper()
		c := describe("$2", "http://127.0.0.1:2")
		spoil(c)
		if s.Reload(c) == nil {
			t.Errorf("%s: taken", what)
		}
		same := s.parts == was && was.origins["app"] == app && was.functions["thumb"] == thumb && was.budgets["spill"] == spill
		if !same || spill.Config().PerHour != 1 || app.State().Servers[0].URL != "http://127.0.0.1:1" {
			t.Errorf("%s: %+v, %s", what, spill.Config(), app.State().Servers[0].URL)
		}
	}
	f("listeners", func(c *config.Config) { c.Edge.TLS.Cert, c.Edge.TLS.Key = "/missing.pem", "/missing.key" })
	f("server", func(c *config.Config) { c.Edge.TrustedProxies = []string{"nobody"} })
	f("origin", func(c *config.Config) {
		o := c.Origins["app"]
		o.TLS.CA = "/missing.pem"
		c.Origins["app"] = o
	})
	f("webhook", func(c *config.Config) {
		o := c.Origins["app"]
		o.ScaleOut.Webhook = "http://192.0.2.1/"
		c.Origins["app"] = o
	})
	f("function", func(c *config.Config) {
		thumb := c.Functions["thumb"]
		thumb.Provider = "none"
		c.Functions["thumb"] = thumb
	})
	if err := s.Reload(describe("$2", "http://127.0.0.1:2")); err != nil {
		t.Fatal(err)
	}
	if spill.Config().PerHour != 2 || app.State().Servers[0].URL != "http://127.0.0.1:2" || s.parts.functions["thumb"] == thumb {
		t.Errorf("%+v, %s", spill.Config(), app.State().Servers[0].URL)
	}
}

// TestReloadBeforeTheStart: a signal that came while the node was built is obeyed when
// nothing runs yet, and the configuration may be without an origin that it had then.
func TestReloadBeforeTheStart(t *testing.T) {
	file := strings.NewReplacer("DIR", t.TempDir()).Replace(quiet + `
origins: {app: {servers: ["http://127.0.0.1:1"]}ANOTHER}
sites: [{hosts: [default], routes: [{origin: app}]}]
`)
	n := buildQuiet(t, strings.Replace(file, "ANOTHER", `, old: {servers: ["http://127.0.0.1:2"]}`, 1))
	c, err := config.Parse("spillway.yaml", []byte(strings.Replace(file, "ANOTHER", "", 1)), nil)
	if err == nil {
		err = n.Reload(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, there := n.status().Origins["old"]; there {
		t.Error("the origin is still there")
	}
}
