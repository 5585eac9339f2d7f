package edge

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var testSecret = []byte(strings.Repeat("s", leastSecret))

func mustShared(t *testing.T, secret []byte, now time.Time) *keys {
	t.Helper()
	k, err := sharedKeys(secret, now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSecretMakesTheSameKeysOnAllNodes(t *testing.T) {
	a, b := mustShared(t, testSecret, day0), mustShared(t, testSecret, day0.Add(23*time.Hour))
	other := mustShared(t, append([]byte("x"), testSecret...), day0)
	same := func(x, y *keys) []bool {
		return []bool{
			string(x.file.Token) == string(y.file.Token),
			mustTickets(t, x, "x")[0] == mustTickets(t, y, "x")[0],
		}
	}
	if got := same(a, b); slices.Contains(got, false) {
		t.Errorf("one secret: %v", got)
	}
	if got := same(a, other); slices.Contains(got, true) {
		t.Errorf("two secrets: %v", got)
	}
	all := append(mustTickets(t, a, "x"), mustTickets(t, a, "y")...)
	all = append(all, [32]byte(a.file.Token))
	for i, key := range all {
		if slices.Contains(all[:i], key) {
			t.Errorf("key %d serves two purposes", i)
		}
	}
}

// All nodes rotate at midnight of UTC, and one whose clock is off by hours
// understands the others.
func TestSecretRotatesByTheDay(t *testing.T) {
	zone := time.FixedZone("", 5*3600)
	a := mustShared(t, testSecret, day0.In(zone))
	first := mustTickets(t, a, "x")[0]
	f := func(at time.Time, want bool, place int) {
		t.Helper()
		got, err := a.rotate(at)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.Index(mustTickets(t, a, "x"), first); got != want || i != place {
			t.Errorf("%s: rotated %v with the first key at %d, want %v and %d", at, got, i, want, place)
		}
	}
	f(day0.Add(23*time.Hour+59*time.Minute).In(zone), false, 0)
	f(day0.Add(24*time.Hour), true, 1)
	f(day0.Add(47*time.Hour), false, 1)
	f(day0.Add(48*time.Hour), true, -1)
	f(day0.Add(-time.Minute), true, 2) // a clock that is behind
	late, early := mustShared(t, testSecret, day0.Add(-time.Minute)), mustShared(t, testSecret, day0)
	for _, pair := range [][2]*keys{{late, early}, {early, late}} {
		if !slices.Contains(mustTickets(t, pair[1], "x"), mustTickets(t, pair[0], "x")[0]) {
			t.Error("nodes on both sides of midnight do not accept each other's tickets")
		}
	}
}

func TestSecretReferences(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "secret")
	f := func(content, reference, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SHARED", content)
		secret, err := ReadSecret(reference)
		if want == "" {
			if err != nil || string(secret) != string(testSecret) {
				t.Errorf("%s: %q, %v", reference, secret, err)
			}
			return
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %q", reference, err, want)
		}
	}
	f(string(testSecret), "env:SHARED", "")
	f(string(testSecret)+"\r\n", "file:"+path, "")
	f("short", "env:SHARED", "has 5 bytes, fewer than 32: make one with openssl rand -hex 32")
	f("short", "file:"+path, "file:"+path)
	f("", "env:NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE")
	f("", "file:"+path+".missing", "no such file")
	mode := func(mode os.FileMode, want string) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		f(string(testSecret), "file:"+path, want)
	}
	mode(0o644, "has mode 0644, so that everybody on the machine may have read it: chmod 640 it")
	mode(0o604, "has mode 0604")
	mode(0o640, "")
	mode(0o400, "")
	f("", string(testSecret), "neither env:NAME nor file:PATH")
	if _, err := ReadSecret(string(testSecret)); strings.Contains(err.Error(), string(testSecret)) {
		t.Error("the error shows the secret")
	}
}

func TestSecretIsReadAgainOnReload(t *testing.T) {
	c := writePair(t, t.TempDir(), time.Now().Add(time.Hour), false)
	path := filepath.Join(t.TempDir(), "secret")
	replace(t, path, testSecret)
	c.Secret = "file:" + path
	s, _, err := newTestTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	before := mustTickets(t, s.keys, "x")
	if err := s.load(c, nil); err != nil || !slices.Equal(mustTickets(t, s.keys, "x"), before) {
		t.Errorf("without a change: %v, or other keys", err)
	}
	replace(t, path, []byte(strings.Repeat("t", 40)))
	if err := s.load(c, nil); err != nil || slices.Contains(before, mustTickets(t, s.keys, "x")[0]) {
		t.Errorf("after a change: %v, or the same key", err)
	}
	replace(t, path, []byte("short"))
	now := mustTickets(t, s.keys, "x")
	if err := s.load(c, nil); err == nil || !slices.Equal(mustTickets(t, s.keys, "x"), now) {
		t.Errorf("a bad secret: %v, or other keys", err)
	}
}
