package cache

import (
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// However clocks are set, an entry is never younger than it is, and where nobody
// knows its age it is validated.
func TestAgeOnTheDisk(t *testing.T) {
	const never = -1 // fresh
	wrote := clock{boot: "this", start: epoch0, least: time.Hour, most: time.Hour}
	f := func(what string, boot string, up, day, want time.Duration) {
		t.Helper()
		e := entryFor(get("/"), 200, "Cache-Control: max-age=3600")
		e.received, e.initialAge = epoch0, 0
		target := target{path: "/"}
		reads := clock{boot: boot, start: epoch0.Add(day), least: time.Hour + up, most: time.Hour + up}
		now := epoch0.Add(day)
		got, ok := reads.fromDisk(wrote.diskHead(&target, e), &target, false, now)
		switch {
		case !ok:
			t.Errorf("%s: not read", what)
		case want == never && got.TTL(now) > 0:
			t.Errorf("%s: fresh at the age of %v", what, got.Age(now))
		case want != never && got.Age(now) != want:
			t.Errorf("%s: age %v, want %v", what, got.Age(now), want)
		}
	}
	f("a restart", "this", time.Minute, time.Minute, time.Minute)
	f("the clock is set forward", "this", time.Minute, 5*time.Hour, time.Minute)
	f("the clock is set back", "this", time.Minute, -5*time.Hour, time.Minute)
	f("the machine has restarted", "other", -time.Hour, time.Minute, time.Minute)
	f("and its clock was set back", "other", -time.Hour, -time.Minute, never)
	f("nobody knows the machine", "", time.Minute, 2*time.Minute, 2*time.Minute)
}

// What is read is what was written, and of the key that was asked for.
func TestDiskRecordKeepsTheWholeEntry(t *testing.T) {
	c := newClock()
	c.most = c.least // so that times are as they were
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var e Entry
		fillIn(t, reflect.ValueOf(&e).Elem(), rng)
		for _, d := range e.control.deltas() {
			if !d.set {
				d.Duration = 0 // means nothing
			}
		}
		var key target
		fillIn(t, reflect.ValueOf(&key).Elem(), rng)
		now := e.received.Add(time.Minute)
		head := c.diskHead(&key, &e)
		got, ok := c.fromDisk(head, &key, false, now)
		if !ok || !got.received.Equal(e.received) {
			t.Fatalf("seed %d: %t, received %v", seed, ok, e.received)
		}
		got.received = e.received
		if !reflect.DeepEqual(got, &e) {
			t.Fatalf("seed %d: another entry is kept", seed)
		}
		other := key
		other.path += "x"
		if _, ok := c.fromDisk(head, &other, false, now); ok {
			t.Fatalf("seed %d: another key's", seed)
		}
	}
}

// The form is known: who changes it changes diskFormat, so that nothing that an older
// version has written is taken for something else.
func TestDiskFormat(t *testing.T) {
	const want = "0104616263648080cfa2d2f40480808cc79882f5e331" + // format and moment
		"0000000000b864d9450000000000000000000000000100000000000000" + // links, lifetime, soft purge, times
		"00000568747470730168022f7000" + // key
		"c801100000000000000101410162010000" + // status, directives, Vary, no part
		"00000000000000000000000000" // coding, numbers, salt; no fields
	e := &Entry{status: 200, received: epoch0, initialAge: 1, lifetime: 300 * time.Second, control: directives{public: true}}
	e.vary = []nominated{{name: "A", value: "b", present: true}}
	c := clock{boot: "abcd", start: epoch0, least: 3 * time.Hour}
	if got := hex.EncodeToString(c.diskHead(&target{scheme: "https", host: "h", path: "/p"}, e)); got != want {
		t.Errorf("the form has changed: raise diskFormat, and write here\n%s\n%s", got, want)
	}
}

// A soft purge of what lies on the disk leaves no stale answer that would be over.
func TestSoftOnDisk(t *testing.T) {
	c := newClock()
	e := entryFor(get("/"), 200, "Cache-Control: max-age=3600, stale-if-error=60")
	target := target{path: "/"}
	now := e.received.Add(10 * time.Minute)
	got, ok := c.fromDisk(c.diskHead(&target, e), &target, true, now)
	if !ok || !got.purged || got.TTL(now) > 0 || got.StaleFor(now, get("/"), 0) {
		t.Errorf("%+v", got)
	}
}

// Whatever a file holds, reading it is no danger.
func FuzzDiskHead(f *testing.F) {
	c := newClock()
	key := target{scheme: "https", host: "h", path: "/p"}
	f.Add(c.diskHead(&key, entryFor(get("/p"), 200, fresh, "Vary: A")))
	f.Add([]byte{diskFormat})
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, head []byte) {
		if len(head) < 1<<10 {
			c.fromDisk(head, &key, false, time.Now())
		}
	})
}
