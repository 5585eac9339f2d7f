package edge

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var day0 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func mustKeys(t *testing.T, folder string, now time.Time) *keys {
	t.Helper()
	k, err := openKeys(folder, now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustTickets(t *testing.T, k *keys, purpose string) [][32]byte {
	t.Helper()
	ts, err := k.tickets(purpose)
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestKeysSurviveARestart(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	a := mustKeys(t, folder, day0)
	b := mustKeys(t, folder, day0.Add(time.Hour))
	if string(a.file.Token) != string(b.file.Token) || string(a.file.StatelessReset) != string(b.file.StatelessReset) {
		t.Error("QUIC keys differ")
	}
	if mustTickets(t, a, "x")[0] != mustTickets(t, b, "x")[0] {
		t.Error("ticket keys differ")
	}
	info, err := os.Stat(filepath.Join(folder, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	if others, _ := filepath.Glob(filepath.Join(folder, "keys.json.*")); len(others) != 0 {
		t.Errorf("left behind: %v", others)
	}
}

func TestKeysInMemoryOnly(t *testing.T) {
	a, b := mustKeys(t, "", day0), mustKeys(t, "", day0)
	if string(a.file.Token) == string(b.file.Token) {
		t.Error("two nodes without state share a key")
	}
	if rotated, err := a.rotate(day0.Add(2 * ticketAge)); !rotated || err != nil {
		t.Errorf("rotate: %v, %v", rotated, err)
	}
}

func TestKeysRotateByAge(t *testing.T) {
	folder := t.TempDir()
	k := mustKeys(t, folder, day0)
	first := mustTickets(t, k, "x")[0]
	f := func(at time.Time, want bool, keys int) {
		t.Helper()
		got, err := k.rotate(at)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(mustTickets(t, k, "x")); got != want || n != keys {
			t.Errorf("rotated %v with %d keys, want %v with %d", got, n, want, keys)
		}
	}
	f(day0.Add(ticketAge-time.Second), false, 1)
	f(day0.Add(ticketAge), true, 2)
	if got := mustTickets(t, k, "x"); got[1] != first || got[0] == first {
		t.Error("the previous key is not the second one")
	}
	f(day0.Add(2*ticketAge), true, 2)
	f(day0.Add(9*ticketAge), true, 1) // the node slept: nothing of before is left
	if again := mustKeys(t, folder, day0.Add(9*ticketAge)); mustTickets(t, again, "x")[0] != mustTickets(t, k, "x")[0] {
		t.Error("the rotated key was not kept")
	}
	if other := mustTickets(t, k, "y"); other[0] == mustTickets(t, k, "x")[0] {
		t.Error("one key for two purposes")
	}
}

func TestKeysRefuseBadFiles(t *testing.T) {
	f := func(want string, mode os.FileMode, change func(*keyFile) []byte) {
		t.Helper()
		folder := t.TempDir()
		k := mustKeys(t, folder, day0)
		text := change(&k.file)
		if text == nil {
			text, _ = json.Marshal(&k.file)
		}
		if err := os.WriteFile(k.path, text, mode); err != nil {
			t.Fatal(err)
		}
		os.Chmod(k.path, mode)
		_, err := openKeys(folder, day0)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), k.path) {
			t.Errorf("error %v, want one about %q and the file", err, want)
		}
		if now, _ := os.ReadFile(k.path); string(now) != string(text) {
			t.Error("the file was changed")
		}
	}
	same := func(*keyFile) []byte { return nil }
	f("mode 0644", 0o644, same)
	f("mode 0640", 0o640, same)
	f("version 2 is unknown", 0o600, func(k *keyFile) []byte { k.Version = 2; return nil })
	f("32 bytes", 0o600, func(k *keyFile) []byte { k.Token = k.Token[:31]; return nil })
	f("32 bytes", 0o600, func(k *keyFile) []byte { k.Tickets[0].Key = nil; return nil })
	f("no ticket key", 0o600, func(k *keyFile) []byte { k.Tickets = nil; return nil })
	f("unexpected EOF", 0o600, func(*keyFile) []byte { return []byte(`{"version":1`) })
	f("EOF", 0o600, func(*keyFile) []byte { return []byte{} })
}

func FuzzKeyFile(f *testing.F) {
	k, err := openKeys("", day0)
	if err != nil {
		f.Fatal(err)
	}
	good, _ := json.Marshal(&k.file)
	f.Add(good)
	f.Add([]byte(`{"version":1,"tls_ticket_keys":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var file keyFile
		if json.Unmarshal(b, &file) != nil || file.valid() != nil {
			return
		}
		if len(file.Token) != 32 || len(file.StatelessReset) != 32 || len(file.Tickets) == 0 {
			t.Errorf("accepted %q", b)
		}
		if _, err := (&keys{file: file}).tickets("x"); err != nil {
			t.Error(err)
		}
	})
}
