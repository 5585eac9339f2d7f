package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/config"
	"spillway/origin/limit"
)

// learningNode builds a node that keeps its state in a folder. It does not run.
func learningNode(t *testing.T, folder, servers string, log *slog.Logger) *node {
	t.Helper()
	dir := t.TempDir()
	file := strings.NewReplacer("DIR", dir, "STATE", folder, "SERVERS", servers).Replace(`
listen: 127.0.0.1:0
http: off
admin: unix:DIR/a.sock
state: STATE
log: {access: off}
tls: {self_signed: true}
origins: {app: {servers: [SERVERS]}}
sites: [{hosts: [default], routes: [{match: {path: /a/*}, origin: app}, {origin: app}]}]
`)
	c, err := config.Parse(filepath.Join(dir, "spillway.yaml"), []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := build(c, "spillway.yaml", new(inheritance), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.admin.Close() })
	return n
}

const oneServer = `"http://127.0.0.1:1"`

// know makes the limiter of the node know something.
func (n *node) know(useful float64, all ...limit.Baseline) {
	n.parts.origins["app"].Limiter().Restore(limit.Learned{Useful: useful, Baselines: all})
}

func (n *node) knows() limit.Learned { return n.parts.origins["app"].Limiter().Learned() }

// TestLearnedOutlivesRestart: the next process knows what the one before has
// found out, about the routes by what they match.
func TestLearnedOutlivesRestart(t *testing.T) {
	folder := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	before := learningNode(t, folder, oneServer, log)
	class := before.server.Classes("app")[" /a/*"]
	before.know(20, limit.Baseline{Class: class, Latency: 30 * time.Millisecond}, limit.Baseline{Class: class + 1, Latency: time.Second})
	if err := before.writeLearned(folder); err != nil {
		t.Fatal(err)
	}

	after := learningNode(t, folder, oneServer, log)
	after.restoreLearned("app")
	got := after.knows()
	if got.Useful < 19.9 || got.Useful > 20.1 || len(got.Baselines) != 2 {
		t.Fatalf("restored %+v", got)
	}
	for _, b := range got.Baselines {
		want := 30 * time.Millisecond
		if b.Class == class+1 {
			want = time.Second
		}
		if d := b.Latency - want; d < -time.Microsecond || d > time.Microsecond {
			t.Errorf("restored %+v, want %v", b, want)
		}
	}
	// What nobody has asked for since is kept for the time after.
	idle := learningNode(t, folder, oneServer, log)
	if l := idle.learnedNow().Origins["app"]; l.Useful == 0 {
		t.Errorf("an idle node forgets: %+v", l)
	}
	others := learningNode(t, folder, oneServer+`, "http://127.0.0.1:2"`, log)
	others.restoreLearned("app")
	if got := others.knows(); got.Useful != 0 || len(got.Baselines) != 0 {
		t.Errorf("other servers, restored %+v", got)
	}
}

// TestLearnedAge: what is old is not used, nor what a clock that has been set
// back makes look new.
func TestLearnedAge(t *testing.T) {
	now := time.Now()
	f := func(age time.Duration, want bool) {
		t.Helper()
		l := learnedOrigin{At: now.Add(-age), Servers: []string{"b", "a"}}
		if got := l.fits([]string{"a", "b"}, now); got != want {
			t.Errorf("%v ago: %v, want %v", age, got, want)
		}
	}
	f(0, true)
	f(learnedAge, true)
	f(learnedAge+time.Second, false)
	f(-learnedSkew, true)
	f(-learnedSkew-time.Second, false)
	f(100*365*24*time.Hour, false)
}

// TestLearnedDamaged: whatever is in the file, the node starts, and says that it
// does so without it.
func TestLearnedDamaged(t *testing.T) {
	valid, err := json.Marshal(learnedFile{Version: learnedVersion, Origins: map[string]learnedOrigin{
		"app": {At: time.Now(), Servers: []string{"http://127.0.0.1:1"}, Useful: -1e300, Safe: map[string]time.Duration{" /a/*": -1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	f := func(name, text string, warned bool) {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := os.WriteFile(learnedPath(folder), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			n := learningNode(t, folder, oneServer, slog.New(slog.NewTextHandler(&log, nil)))
			n.restoreLearned("app")
			if got := n.knows(); got.Useful != 0 || len(got.Baselines) != 0 {
				t.Errorf("restored %+v", got)
			}
			if got := strings.Contains(log.String(), learnedPath(folder)); got != warned {
				t.Errorf("log %q", log.String())
			}
		})
	}
	f("empty", "", true)
	f("cut off", string(valid[:len(valid)/2]), true)
	f("another form", "[]", true)
	f("another version", `{"version": 2, "origins": {}}`, true)
	f("too long", strings.Repeat(" ", learnedMost+1), true)
	f("absurd values", string(valid), false)
	f("unknown origin", `{"version": 1, "origins": {"other": {}}}`, false)
}
