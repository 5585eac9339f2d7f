package edge

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

func mustConnectionIDKeys(t *testing.T, c Config) *ConnectionIDKeys {
	t.Helper()
	k, err := OpenConnectionIDKeys(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustAt(t *rapid.T, k *ConnectionIDKeys, now time.Time) tagKeys {
	t.Helper()
	keys, err := k.at(now)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// A node knows its connections after a restart, and a balancer's nodes know each
// other's; nodes that share no secret do not.
func TestConnectionIDKeysAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte(strings.Repeat("s", leastSecret)), 0o600); err != nil {
			t.Fatal(err)
		}
		f := func(what string, a, b Config, want bool) {
			t.Helper()
			x, _ := mustConnectionIDKeys(t, a).Keys()
			y, _ := mustConnectionIDKeys(t, b).Keys()
			if x[0] == x[1] || (x == y) != want {
				t.Errorf("%s: %x and %x", what, x, y)
			}
		}
		shared := TLSConfig{Secret: "file:" + secret}
		f("after a restart", Config{State: folder}, Config{State: folder}, true)
		f("one secret", Config{TLS: shared}, Config{TLS: shared, State: t.TempDir()}, true)
		f("no secret", Config{}, Config{}, false)
		f("one with a secret", Config{State: folder}, Config{State: folder, TLS: shared}, false)
	})
}

// The key of stateless resets is a node's own (RFC 9000 section 21.11), and outlives a
// restart.
func TestStatelessResetKeyIsNotShared(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", leastSecret)), 0o600); err != nil {
		t.Fatal(err)
	}
	reset := func(folder string) string {
		k, err := loadKeys(Config{State: folder, TLS: TLSConfig{Secret: "file:" + secret}}, day0)
		if err != nil {
			t.Fatal(err)
		}
		return string(k.file.StatelessReset)
	}
	folder := t.TempDir()
	key, again, other := reset(folder), reset(folder), reset(t.TempDir())
	if len(key) != 32 || key != again || key == other {
		t.Errorf("keys %x, %x and %x", key, again, other)
	}
}

// A key file of a version without a key for connection IDs gets one, which is kept.
func TestKeyFileWithoutConnectionIDs(t *testing.T) {
	folder := t.TempDir()
	k := mustKeys(t, folder, day0)
	k.file.ConnectionID = nil
	text, err := json.Marshal(&k.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	added, again := mustKeys(t, folder, day0).file, mustKeys(t, folder, day0).file
	if len(added.ConnectionID) != 32 || string(added.ConnectionID) != string(again.ConnectionID) {
		t.Errorf("keys %x and %x", added.ConnectionID, again.ConnectionID)
	}
	if string(added.Token) != string(k.file.Token) {
		t.Error("another key changed")
	}
}

// A key is known for an hour before it makes connection IDs, and believed for a week
// less an hour after.
func TestConnectionIDKeysByTheWeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := mustConnectionIDKeys(t, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		known := map[[16]byte]time.Time{}  // since when
		makes := map[[16]byte]time.Time{}  // since when it makes IDs
		forgot := map[[16]byte]time.Time{} // when
		now := k.tagKeys
		note := func(keys [2][16]byte, epoch int) {
			for _, key := range now.keys {
				if key != keys[0] && key != keys[1] {
					forgot[key] = time.Now()
				}
			}
			for _, key := range keys {
				if known[key].IsZero() {
					known[key] = time.Now()
				}
			}
			if makes[keys[epoch]].IsZero() {
				makes[keys[epoch]] = time.Now()
			}
			now = tagKeys{keys, epoch}
		}
		start := time.Now()
		note(k.Keys())
		go k.Run(ctx, note)
		time.Sleep(10 * tagKeyLife)
		cancel()
		synctest.Wait()
		if len(makes) < 10 {
			t.Errorf("%d keys in ten weeks", len(makes))
		}
		for key, since := range makes {
			if lead := since.Sub(known[key]); since != start && lead < tagKeyLead-2*time.Minute {
				t.Errorf("a key made connection IDs %v after it was known", lead)
			}
			if end, gone := forgot[key]; gone && since != start && end.Sub(since) < 2*tagKeyLife-tagKeyLead-2*time.Minute {
				t.Errorf("a key was forgotten %v after it began to make connection IDs", end.Sub(since))
			}
		}
	})
}

// Whatever the clock does, no key makes connection IDs that was not known a step
// before, and the keys of the present are soon in force.
func TestConnectionIDKeysUnderAClockThatJumps(t *testing.T) {
	k := mustConnectionIDKeys(t, Config{})
	rapid.Check(t, func(t *rapid.T) {
		now := day0
		keys := mustAt(t, k, now)
		step := func(t *rapid.T) bool {
			want := mustAt(t, k, now)
			next := keys.step(want)
			if made := next.keys[next.epoch]; made != keys.keys[next.epoch] {
				t.Fatal("a key makes connection IDs that was not known")
			}
			keys = next
			return next == want
		}
		t.Repeat(map[string]func(*rapid.T){
			"a step": func(t *rapid.T) {
				settled := keys == mustAt(t, k, now)
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(tagKeyLead)).Draw(t, "step")))
				if !step(t) && settled {
					t.Fatal("a clock that goes on did not arrive in one step")
				}
			},
			"a jump": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "days")) * 24 * time.Hour)
				for i := 0; !step(t); i++ {
					if i == 4 {
						t.Fatal("not there after five steps")
					}
				}
			},
		})
	})
}

// A successor goes on with the keys of the process before, or says that it cannot.
func TestConnectionIDKeysOfTheProcessBefore(t *testing.T) {
	f := func(was, is Config, want error) {
		t.Helper()
		before, err := OpenConnectionIDKeys(was, nil)
		if err != nil {
			t.Fatal(err)
		}
		after, err := OpenConnectionIDKeys(is, before.Master())
		if !errors.Is(err, want) {
			t.Fatalf("%+v after %+v: %v, want %v", is, was, err, want)
		}
		if want == nil && after.tagKeys != before.tagKeys {
			t.Errorf("%+v after %+v: the keys are others", is, was)
		}
	}
	here, there := t.TempDir(), t.TempDir()
	f(Config{}, Config{}, nil)
	f(Config{State: here}, Config{State: here}, nil)
	f(Config{State: here}, Config{}, nil)
	f(Config{}, Config{State: here}, ErrOtherKeys)
	f(Config{State: here}, Config{State: there}, ErrOtherKeys)
}
