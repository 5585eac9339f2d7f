package bpf

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"spillway/bpf/bpftest"
)

// bpfFolder returns a folder in a BPF file system of the test's own.
func bpfFolder(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, ""); err != nil {
		t.Skipf("a BPF file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(root, "spillway")
}

// entries returns the names in a folder.
func entries(t *testing.T, folder string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range all {
		names = append(names, entry.Name())
	}
	return names
}

// TestPinned loads a second time from the same folder: what sources owe and who is known
// is still so. Rules were for the first.
func TestPinned(t *testing.T) {
	folder := bpfFolder(t)
	first := needKernel(t, Options{Pin: folder})
	if err := first.Configure(configured(Guarded)); err != nil {
		t.Fatal(err)
	}
	first.Charge(client4, false, time.Hour, time.Hour)
	first.Know(client4)
	if err := first.SetRule(Rule{Prefix: netip.MustParsePrefix("192.0.2.0/24")}); err != nil {
		t.Fatal(err)
	}
	if names := entries(t, folder); len(names) != len(pinned) {
		t.Errorf("pinned are %v", names)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := needKernel(t, Options{Pin: folder})
	if owed := second.Owes(client4, false); owed < time.Hour-time.Minute {
		t.Errorf("%v is owed", owed)
	}
	if rules, err := second.Rules(); err != nil || len(rules) != 0 {
		t.Errorf("rules %v, %v", rules, err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if owed := needKernel(t, Options{}).Owes(client4, false); owed != 0 {
		t.Errorf("%v is owed where nothing was pinned", owed)
	}

	// One that is without a map, or has another kind of it, begins anew with all.
	kept := (&pins{folder: folder}).file(admissionMapSources)
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	other, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(kept); err != nil {
		t.Fatal(err)
	}
	third := needKernel(t, Options{Pin: folder})
	if owed := third.Owes(client4, false); owed != 0 {
		t.Errorf("%v is owed to another key", owed)
	}
}

// TestPinnedByKilled kills a process that pins: the interface is free at once, and what
// was owed is still.
func TestPinnedByKilled(t *testing.T) {
	folder := bpfFolder(t)
	needKernel(t, Options{})
	ownNamespace(t)
	killed := startGeneration(t)
	killed.must("load", folder)
	killed.must("configure", Guarded)
	if said := killed.does("attach", Generic); said != string(Generic) {
		t.Fatal(said)
	}
	killed.must("charge")
	if _, err := Load(Options{Pin: folder, ConnectionIDs: testIDs(t, nil)}); !errors.Is(err, ErrPin) {
		t.Errorf("a second node with the same folder: %v", err)
	}
	killed.kill()
	if shown := bpftest.IP(t, "link show v0"); strings.Contains(shown, "xdp") {
		t.Errorf("a program was left:\n%s", shown)
	}
	next := startGeneration(t)
	next.must("load", folder)
	if said := next.does("owes"); said != "true" {
		t.Error("what was owed is forgotten")
	}
}

// TestPinnedBySuccessors hands over and over: the folder stays with them, and only what
// serves sweeps what other programs left.
func TestPinnedBySuccessors(t *testing.T) {
	folder := bpfFolder(t)
	needKernel(t, Options{})
	ownNamespace(t)
	old := startGeneration(t)
	old.must("load", folder)
	old.must("configure", Guarded)
	if said := old.does("attach", Generic); said != string(Generic) {
		t.Fatal(said)
	}
	// As if the old process had other programs.
	foreign, stranger := filepath.Join(folder, admissionMapSources+"-01234567"), filepath.Join(folder, "theirs")
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, path := range []string{foreign, stranger} {
		clone, err := m.Clone()
		if err != nil {
			t.Fatal(err)
		}
		defer clone.Close()
		if err := clone.Pin(path); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	files := old.files()
	next := startGeneration(t, files...)
	closeFiles(files)
	next.must("load", folder)
	if !exists(foreign) {
		t.Error("what is loaded, and may come to nothing, took the maps of another")
	}
	if said := next.does("attach", Auto); said != string(Generic) {
		t.Fatal(said)
	}
	if exists(foreign) || !exists(stranger) {
		t.Errorf("there are %v", entries(t, folder))
	}
	old.must("close")
	old.kill()
	if _, err := Load(Options{Pin: folder, ConnectionIDs: testIDs(t, nil)}); !errors.Is(err, ErrPin) {
		t.Errorf("a stranger beside the successor: %v", err)
	}
	next.must("charge")
	next.kill()
	last := startGeneration(t)
	last.must("load", folder)
	if said := last.does("owes"); said != "true" {
		t.Error("what was owed is forgotten")
	}
}

// TestRetakePinsAgain has a successor of other programs serve and die: the maps are those
// of the process that goes on.
func TestRetakePinsAgain(t *testing.T) {
	folder := bpfFolder(t)
	a := needKernel(t, Options{Pin: folder})
	a.Charge(client4, false, time.Hour, time.Hour)
	for _, name := range entries(t, folder) {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Retake(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if owed := needKernel(t, Options{Pin: folder}).Owes(client4, false); owed < time.Hour-time.Minute {
		t.Errorf("%v is owed", owed)
	}
}

func TestPinsNeedABPFFileSystem(t *testing.T) {
	root := t.TempDir()
	for _, folder := range []string{root, filepath.Join(root, "a", "b"), "/proc"} {
		_, err := openPins(folder, nil)
		if !errors.Is(err, ErrPin) || !strings.Contains(err.Error(), "mount -t bpf bpf /sys/fs/bpf") {
			t.Errorf("%s: %v", folder, err)
		}
	}
	if made, err := os.ReadDir(root); err != nil || len(made) > 0 {
		t.Errorf("%v was made, %v", made, err)
	}
}
