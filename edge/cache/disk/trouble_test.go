package disk

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// running runs a tier in virtual time until stop is called.
func running(t *testing.T, c Config) (x *Tier, told *bytes.Buffer, stop func()) {
	t.Helper()
	told = &bytes.Buffer{}
	x = New(c, slog.New(slog.NewTextHandler(told, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := x.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return x, told, func() {
		cancel()
		wg.Wait()
	}
}

// phaseIs asks for a phase, and for a word in the error that belongs to it.
func phaseIs(t *testing.T, x *Tier, phase, why string) {
	t.Helper()
	synctest.Wait()
	if s := x.State(); s.Phase != phase || !strings.Contains(s.Error, why) || (why == "") != (s.Error == "") {
		t.Fatalf("the tier is %s: %s", s.Phase, s.Error)
	}
}

// writes puts and reads an object.
func writes(t *testing.T, x *Tier, n int, seed uint64) {
	t.Helper()
	if !put(x, n, seed, 1000) {
		t.Fatalf("object %d is refused: %+v", n, x.State())
	}
	synctest.Wait()
	if got := read(t, x, n); got != seed {
		t.Fatalf("object %d is of %d, not %d: %+v", n, got, seed, x.State())
	}
}

func times(t *testing.T, log *bytes.Buffer, text string, want int) {
	t.Helper()
	if n := strings.Count(log.String(), text); n != want {
		t.Errorf("%q was said %d times, not %d:\n%s", text, n, want, log)
	}
}

// mounted mounts a disk of so many bytes, which ends with the test.
func mounted(t *testing.T, size string) string {
	t.Helper()
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small disk needs root: mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// TestFullDisk has a disk that is smaller than the tier. The tier becomes as small
// as it must, keeps the newest objects, says so once, and grows when there is room.
func TestFullDisk(t *testing.T) {
	disk := mounted(t, "5m")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		x, told, stop := running(t, Config{Path: disk, Size: 4608 << 10})
		defer stop()
		for n := range 200 {
			put(x, n, uint64(n+1), 60<<10)
			synctest.Wait()
		}
		phaseIs(t, x, "on", "")
		times(t, told, "smaller than configured", 1)
		s := x.State()
		if s.Limit >= 4608<<10 || s.Bytes > s.Limit {
			t.Errorf("%d of %d bytes", s.Bytes, s.Limit)
		}
		if read(t, x, 199) != 200 || read(t, x, 0) != 0 {
			t.Error("the newest object is not there, or the oldest is")
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(growAfter + time.Minute)
		for n := range 200 {
			put(x, n, uint64(n+1), 60<<10)
			synctest.Wait()
		}
		times(t, told, "has room again", 1)
		if s := x.State(); s.Limit != 4608<<10 || s.Bytes < 4<<20 {
			t.Errorf("%d of %d bytes", s.Bytes, s.Limit)
		}
	})
}

// TestNoRoomAtAll begins on a disk that others have filled, and works when it is
// not full any more.
func TestNoRoomAtAll(t *testing.T) {
	disk := mounted(t, "2m")
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		x, told, stop := running(t, Config{Path: disk, Size: smallestTier})
		defer stop()
		phaseIs(t, x, "off", "no space")
		if put(x, 1, 1, 1000) || x.Willing(1) || x.Get(key(1)) != nil {
			t.Error("it takes objects")
		}
		if err := x.Sync(t.Context()); err == nil {
			t.Error("a purge is said to be written")
		}
		time.Sleep(3 * retryAfter)
		phaseIs(t, x, "off", "no space")
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * retryAfter)
		phaseIs(t, x, "on", "")
		writes(t, x, 2, 2)
		times(t, told, "does not work", 1)
		times(t, told, "works again", 1)
	})
}

// TestReadOnlyDisk turns a disk read-only and back. What was there before does not
// come back, because what was deleted meanwhile could not be written down.
func TestReadOnlyDisk(t *testing.T) {
	disk := mounted(t, "4m")
	remount := func(flags uintptr) {
		if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|flags, "size=4m"); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		x, _, stop := running(t, Config{Path: disk, Size: smallestTier})
		writes(t, x, 1, 1)
		stop()
		remount(syscall.MS_RDONLY)
		x, told, stop := running(t, Config{Path: disk, Size: smallestTier})
		defer stop()
		phaseIs(t, x, "off", "read-only")
		x.Delete(key(1))
		time.Sleep(3 * retryAfter)
		remount(0)
		time.Sleep(2 * retryAfter)
		phaseIs(t, x, "on", "")
		if read(t, x, 1) != 0 {
			t.Error("what was deleted while the disk was read-only came back")
		}
		writes(t, x, 2, 2)
		times(t, told, "does not work", 1)
		times(t, told, "works again", 1)
	})
}

// TestFailingWrites closes the file under the writer's hands. Nothing of before is
// served again.
func TestFailingWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := scratch(t)
		x, told, stop := running(t, Config{Path: folder, Size: smallestTier})
		defer stop()
		writes(t, x, 1, 1)
		x.current.file.Close()
		waiting := make(chan error, 1)
		released := 0
		x.Put(Item{Key: key(2), Body: make([]byte, 100<<10), Release: func() { released++ }})
		go func() { waiting <- x.Sync(t.Context()) }()
		phaseIs(t, x, "off", "closed")
		if err := <-waiting; err == nil {
			t.Error("what was not written is said to be on the disk")
		}
		if released != 1 {
			t.Errorf("an item was released %d times", released)
		}
		if read(t, x, 1) != 0 || len(segmentFiles(t, folder)) != 0 {
			t.Error("something is left")
		}
		time.Sleep(retryAfter + time.Second)
		phaseIs(t, x, "on", "")
		if read(t, x, 1) != 0 {
			t.Error("an object came back")
		}
		writes(t, x, 3, 3)
		times(t, told, "does not work", 1)
		times(t, told, "works again", 1)
	})
}

// TestFolderThatGoes removes the folder while it is in use.
func TestFolderThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := filepath.Join(scratch(t), "cache")
		x, _, stop := running(t, Config{Path: folder, Size: smallestTier})
		defer stop()
		writes(t, x, 1, 1)
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		for n := range 8 { // until another segment is needed
			put(x, n, 9, 100<<10)
		}
		phaseIs(t, x, "off", "no such file")
		time.Sleep(retryAfter + time.Second)
		phaseIs(t, x, "on", "")
		writes(t, x, 2, 2)
	})
}

// TestFolderThatCannotBe has a file where the folder should be.
func TestFolderThatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(scratch(t), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		x, told, stop := running(t, Config{Path: filepath.Join(file, "cache"), Size: smallestTier})
		defer stop()
		phaseIs(t, x, "off", "not a directory")
		began := time.Now()
		x.Purge(1)
		if err := x.Sync(t.Context()); err == nil || time.Since(began) > 0 {
			t.Errorf("who purges hears %v after %v", err, time.Since(began))
		}
		time.Sleep(5 * retryAfter)
		phaseIs(t, x, "off", "not a directory")
		times(t, told, "does not work", 1)
	})
}

// TestLinkInFolder puts a link where a segment was: what it leads to is left alone.
func TestLinkInFolder(t *testing.T) {
	folder := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(elsewhere, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(folder, segmentName(1))); err != nil {
		t.Fatal(err)
	}
	x := New(Config{Path: folder, Size: smallestTier}, slog.New(slog.DiscardHandler))
	if err := x.open(t.Context()); err == nil {
		t.Error("it was opened")
	}
	x.letGo()
	if b, err := os.ReadFile(elsewhere); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestTwoProcesses lets a second tier have the folder only when the first is done
// with it. What was deleted while it waited is deleted.
func TestTwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := scratch(t)
		first, _, stop := running(t, Config{Path: folder, Size: smallestTier})
		writes(t, first, 1, 1)
		writes(t, first, 2, 2)
		put(first, 3, 3, 100, 33)
		second, told, stopSecond := running(t, Config{Path: folder, Size: smallestTier})
		defer stopSecond()
		phaseIs(t, second, "off", "another process uses it")
		second.Delete(key(1))
		second.Purge(33)
		if put(second, 2, 9, 100) || second.Get(key(2)) != nil {
			t.Error("it works without its folder")
		}
		stop()
		time.Sleep(2 * takenAfter)
		phaseIs(t, second, "on", "")
		for n := 1; n <= 3; n++ {
			if read(t, second, n) != 0 {
				t.Errorf("object %d is there", n)
			}
		}
		writes(t, second, 4, 4)
		times(t, told, "does not work", 1)
	})
}

// TestOff asks nothing of the disk when no size is configured.
func TestOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := filepath.Join(scratch(t), "cache")
		x, told, stop := running(t, Config{Path: folder})
		phaseIs(t, x, "off", "switched off")
		if put(x, 1, 1, 1) || x.Willing(1) || x.Get(key(1)) != nil {
			t.Error("it works")
		}
		x.Delete(key(1))
		x.PurgeAll()
		stop()
		if _, err := os.Stat(folder); !os.IsNotExist(err) || told.Len() > 0 {
			t.Errorf("%v, %s", err, told)
		}
	})
}
