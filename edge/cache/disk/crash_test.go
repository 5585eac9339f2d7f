package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The victim is this test's program, started again with its folder in the
// environment.
const (
	victimVariable = "SPILLWAY_DISK_VICTIM"
	roundVariable  = "SPILLWAY_DISK_ROUND"
	victimKeys     = 300
	victimSize     = 8 << 20
)

// TestKilledAtAnyMoment kills a process that writes, again and again, at moments
// of chance. What the next one finds is byte for byte what one of them had put in,
// and not what was deleted or purged, or older, for those who were told that it was
// written. SPILLWAY_KILLS sets how often.
func TestKilledAtAnyMoment(t *testing.T) {
	kills := 40
	if n, err := strconv.Atoi(os.Getenv("SPILLWAY_KILLS")); err == nil {
		kills = n
	}
	folder := t.TempDir()
	oldest := map[int]uint64{} // by key: what is served must not be older
	torn, served, acts := 0, 0, 0
	for round := range kills {
		told := killOne(t, folder, round)
		acts += len(told)
		for n, seed := range told {
			oldest[n] = max(oldest[n], seed)
		}
		if tail(t, folder) {
			torn++
		}
		x := opened(t, folder, victimSize)
		for n := range victimKeys {
			if seed := read(t, x, n); seed != 0 {
				served++
				if seed < oldest[n] {
					t.Fatalf("kill %d: object %d is of %d, and %d was told", round, n, seed, oldest[n])
				}
			}
		}
		if x.counts.damaged.Load() > 0 {
			t.Fatalf("kill %d: %d damaged", round, x.counts.damaged.Load())
		}
		x.crash()
	}
	if served == 0 || acts == 0 {
		t.Fatalf("%d objects served, %d acts told", served, acts)
	}
	t.Logf("%d kills, %d in the middle of a record; %d objects served, %d acts were told as written", kills, torn, served, acts)
}

// killOne starts a victim, kills it after a moment, and returns what it has told:
// of each key the lowest seed that may still be served.
func killOne(t *testing.T, folder string, round int) map[int]uint64 {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), victimVariable+"="+folder, roundVariable+"="+strconv.Itoa(round+1))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "begun\n" {
		_ = child.Process.Kill()
		_ = child.Wait()
		t.Fatalf("the victim says %q, %v", line, err)
	}
	time.AfterFunc(time.Duration(rand.IntN(30_000))*time.Microsecond, func() { _ = child.Process.Kill() })
	told := map[int]uint64{}
	for {
		var n int
		var seed uint64
		line, err := lines.ReadString('\n')
		if err != nil { // a last line that is not whole was not told
			break
		}
		if _, err := fmt.Sscan(line, &n, &seed); err != nil {
			t.Fatalf("the victim says %q", line)
		}
		told[n] = max(told[n], seed)
	}
	_ = child.Wait()
	return told
}

// tail reports whether the newest segment ends in the middle of a record.
func tail(t *testing.T, folder string) bool {
	t.Helper()
	names := segmentFiles(t, folder)
	if len(names) == 0 {
		return false
	}
	f, err := os.Open(names[len(names)-1])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	err = walk(f, info.Size(), func(int64, *header, *window) error { return nil })
	var torn tornError
	if err != nil && !errors.As(err, &torn) {
		t.Fatalf("%s: %v", filepath.Base(names[len(names)-1]), err)
	}
	return err != nil
}

// victim writes until it is killed. Seeds grow from round to round. What it prints
// is a key and the lowest seed that may be served from then on.
func victim(folder string) {
	round, _ := strconv.ParseUint(os.Getenv(roundVariable), 10, 64)
	x := New(Config{Path: folder, Size: victimSize}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	go func() {
		fmt.Fprintln(os.Stderr, "victim:", x.Run(context.Background()))
	}()
	for !x.ready.Load() {
		time.Sleep(50 * time.Microsecond)
	}
	fmt.Println("begun")
	var told sync.Mutex
	// Each writer has keys of its own, so that it knows what its newest is.
	for writer := range 3 {
		go func() {
			for seed := round << 32; ; seed++ {
				n := rand.IntN(victimKeys/3)*3 + writer
				switch rand.IntN(20) {
				case 0:
					x.Delete(key(n))
				case 1:
					x.Purge(uint64(n))
				default:
					size := rand.IntN(4 << 10)
					if rand.IntN(8) == 0 {
						size = rand.IntN(400 << 10)
					}
					put(x, n, seed, size, uint64(n))
					if rand.IntN(50) != 0 {
						continue
					}
				}
				if x.reach(context.Background()) == nil {
					told.Lock()
					fmt.Println(n, seed)
					told.Unlock()
				}
			}
		}()
	}
	select {}
}
