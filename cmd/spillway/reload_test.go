package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/config"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
	"spillway/origin/faas/web"
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

// TestReloadWarnsByTheNewAmounts: whether a call can be paid for is judged by the
// budget as it is about to be.
func TestReloadWarnsByTheNewAmounts(t *testing.T) {
	describe := func(perHour float64, timeout time.Duration) *config.Config {
		f := config.Function{Config: faas.Config{
			Provider: "web", Memory: 128 << 20, Timeout: timeout, MaxConcurrency: 1, MaxResponse: 1 << 20, Budget: "spill",
			Price: faas.PriceConfig{Platform: "aws-lambda"},
		}, Web: web.Config{URL: "http://127.0.0.1:1/"}}
		return &config.Config{
			Budgets:   map[string]budget.Config{"spill": {PerHour: perHour}},
			Functions: map[string]config.Function{"thumb": f},
		}
	}
	f := func(was, c *config.Config, warned bool) {
		t.Helper()
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		old, err := newParts(was, &config.Config{}, &parts{}, log)
		if err != nil {
			t.Fatal(err)
		}
		text.Reset()
		if _, err := newParts(c, was, old, log); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "can never be called") != warned {
			t.Errorf("warned %v: %s", !warned, &text)
		}
	}
	const little = 1e-9
	f(describe(little, time.Second), describe(1, 2*time.Second), false)
	f(describe(1, time.Second), describe(little, 2*time.Second), true)
	f(describe(1, time.Second), describe(little, time.Second), true)
	f(describe(little, time.Second), describe(little, time.Second), false) // was said before
}
