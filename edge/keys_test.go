package edge

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
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

// Two processes of an upgrade, and whoever starts beside them, rotate at the same
// moment: what one gives out all others accept, and so does the next start.
func TestKeysOfTwoProcesses(t *testing.T) {
	folder := t.TempDir()
	mustKeys(t, folder, day0)
	processes := []*keys{mustKeys(t, folder, day0), mustKeys(t, folder, day0)}
	for day := range 5 {
		now := day0.Add(time.Duration(day+1) * ticketAge)
		before := mustTickets(t, processes[0], "x")[0]
		var all sync.WaitGroup
		for _, k := range processes {
			all.Go(func() {
				if rotated, err := k.rotate(now); !rotated || err != nil {
					t.Errorf("day %d: rotated %v, %v", day, rotated, err)
				}
			})
		}
		started := make(chan *keys, 1)
		all.Go(func() { started <- mustKeys(t, folder, now) })
		all.Wait()
		for _, k := range append(processes, <-started, mustKeys(t, folder, now)) {
			got := mustTickets(t, k, "x")
			if want := mustTickets(t, processes[0], "x"); !slices.Equal(got, want) || len(got) != 2 || got[1] != before {
				t.Fatalf("day %d: a process has other ticket keys", day)
			}
			if string(k.file.ConnectionID) != string(processes[0].file.ConnectionID) {
				t.Fatalf("day %d: a process has other keys for connection IDs", day)
			}
		}
	}
}

// One that could not write its new key for a while takes the other's, and gives its own
// to the file, so that no ticket of either is lost.
func TestKeysThatWereInMemoryJoinOthers(t *testing.T) {
	folder := t.TempDir()
	other, k := mustKeys(t, folder, day0), mustKeys(t, folder, day0)
	aside := folder + ".aside"
	if err := os.Rename(folder, aside); err != nil {
		t.Fatal(err)
	}
	now := day0.Add(ticketAge)
	if _, err := k.rotate(now); err == nil {
		t.Fatal("a key was written to no folder")
	}
	own := mustTickets(t, k, "x")[0]
	if err := os.Rename(aside, folder); err != nil {
		t.Fatal(err)
	}
	if _, err := other.rotate(now); err != nil {
		t.Fatal(err)
	}
	if rotated, err := k.rotate(now.Add(tlsPoll)); !rotated || err != nil || k.held() {
		t.Errorf("rotated %v, %v", rotated, err)
	}
	want := append(mustTickets(t, other, "x"), own)
	if got := mustTickets(t, mustKeys(t, folder, now), "x"); !slices.Equal(got, want) {
		t.Errorf("%d keys in the file, want the other's two and the one that was in memory", len(got))
	}
}

// A file of connection IDs' first version gets one key for them, whoever reads it first.
func TestKeysOfProcessesThatStartAtOnce(t *testing.T) {
	folder := t.TempDir()
	k := mustKeys(t, folder, day0)
	k.file.ConnectionID = nil
	if err := k.write(); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	read := make(chan string, 8)
	for range cap(read) {
		all.Go(func() {
			k, err := openKeys(folder, day0)
			if err != nil {
				t.Error(err)
			}
			read <- string(k.file.ConnectionID)
		})
	}
	all.Wait()
	for first := <-read; len(read) > 0; {
		if <-read != first {
			t.Fatal("two processes tag connection IDs by different keys")
		}
	}
}

// Whatever the clock does, the key that encrypts is never older than a day by it,
// nor from a time that is a day away; and the one before it opens tickets for no
// more than another day.
func TestKeysUnderAClockThatJumps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := day0
		own, err := openKeys("", now)
		if err != nil {
			t.Fatal(err)
		}
		shared, err := sharedKeys(bytes.Repeat([]byte("s"), leastSecret), now)
		if err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"a step": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "step")))
			},
			"a jump": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "hours")) * time.Hour)
			},
			"": func(t *rapid.T) {
				for _, k := range []*keys{own, shared} {
					if _, err := k.rotate(now); err != nil {
						t.Fatal(err)
					}
				}
				tickets := own.file.Tickets
				if age := now.Sub(tickets[0].Made).Abs(); age >= ticketAge {
					t.Fatalf("the key that encrypts is %v away", age)
				}
				if len(tickets) > 2 || len(tickets) == 2 && now.Sub(tickets[1].Made) >= 3*ticketAge {
					t.Fatalf("%d keys, the last of %v at %v", len(tickets), tickets[len(tickets)-1].Made, now)
				}
				if made := shared.file.Tickets[0].Made; !made.Equal(now.Truncate(ticketAge)) || len(shared.file.Tickets) != 3 {
					t.Fatalf("the shared key is of %v at %v", made, now)
				}
			},
		})
	})
}

// A state folder that cannot be written costs a restart the new key, and the log
// one line; the key is written as soon as it can be.
func TestKeysOutliveTheirFolder(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "state")
	k := mustKeys(t, folder, day0)
	first := mustTickets(t, k, "x")[0]
	var log bytes.Buffer
	certs := &certs{log: slog.New(slog.DiscardHandler)}
	if err := certs.load(TLSConfig{SelfSigned: true}, nil, day0); err != nil {
		t.Fatal(err)
	}
	s := &tlsState{log: slog.New(slog.NewTextHandler(&log, nil)), keys: k, certs: certs}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	now := day0.Add(ticketAge)
	for range 3 {
		s.refresh(now)
		now = now.Add(tlsPoll)
	}
	if got := mustTickets(t, k, "x"); got[0] == first || got[1] != first || !k.held() {
		t.Error("the ticket key in memory is not a new one")
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "in memory only") {
		t.Errorf("the log says:\n%s", got)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	s.refresh(now)
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "on disk again") || k.held() {
		t.Errorf("afterwards the log says:\n%s", got)
	}
	if again := mustKeys(t, folder, now); mustTickets(t, again, "x")[0] != mustTickets(t, k, "x")[0] {
		t.Error("the key on disk is not the one in memory")
	}
}

func TestStateThatCannotBeKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openKeys(file, day0); err == nil || !strings.Contains(err.Error(), stateRemedy) {
		t.Errorf("with a file in its place: %v", err)
	}
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
