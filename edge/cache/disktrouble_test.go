package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// smallDisk mounts a disk of so many bytes, which ends with the test, and returns a
// folder on it.
func smallDisk(t *testing.T, size string) (root, folder string) {
	t.Helper()
	root = t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small disk needs root: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return root, filepath.Join(root, "cache")
}

// asksAll asks for many objects twice, and compares each answer.
func (s *shelved) asksAll(when string) {
	s.t.Helper()
	for i := range 80 {
		path := fmt.Sprint("/", i)
		body := strings.Repeat(path, 20_000)
		for range 2 {
			if _, got := read(s.t, s.Cache, get(path), answers(200, body, "Cache-Control: max-age=86400", `Etag: "1"`)); got != body {
				s.t.Fatalf("%s: %s is another", when, path)
			}
		}
		synctest.Wait() // the disk is done
	}
}

func (s *shelved) phaseIs(when, phase string) {
	s.t.Helper()
	if st := s.State().Disk; st.Phase != phase || (phase == "off") != (st.Error != "") {
		s.t.Errorf("%s: the disk is %s: %q", when, st.Phase, st.Error)
	}
}

// Whatever becomes of the disk, visitors get right answers, and the state says what is
// wrong.
func TestTroubleWithTheDisk(t *testing.T) {
	root, folder := smallDisk(t, "3m")
	remount := func(flags uintptr) {
		if err := syscall.Mount("tmpfs", root, "tmpfs", syscall.MS_REMOUNT|flags, "size=3m"); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := config()
		c.Memory, c.MaxObject = 1<<20, 128<<10
		s := onShelf(t, folder, c) // of 8 MiB
		s.asksAll("full")
		s.phaseIs("full", "on")
		if st := s.State().Disk; st.Limit >= st.Size || st.Objects == 0 {
			t.Errorf("a full disk is %d of %d bytes, %d objects", st.Limit, st.Size, st.Objects)
		}
		// Files that are there can be written to, so it shows with the next.
		s.stop()
		remount(syscall.MS_RDONLY)
		s = shelve(t, folder, c)
		s.asksAll("read-only")
		s.phaseIs("read-only", "off")
		remount(0)
		time.Sleep(time.Minute)
		s.asksAll("writable again")
		s.phaseIs("writable again", "on")
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		s.asksAll("vanished")
		time.Sleep(time.Minute)
		s.asksAll("made anew")
		s.phaseIs("made anew", "on")
		s.stop()
	})
}
