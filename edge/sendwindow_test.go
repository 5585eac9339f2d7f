package edge

import (
	"testing"

	"pgregory.net/rapid"
)

// TestSendWindow asks, whatever comes in whatever order, that no more is sent than was
// granted, that a window which is not ample is the library's alone, and that the library
// has to wait for the visitor only when he has granted nothing more.
func TestSendWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w sendWindow
		w.init()
		granted, sent, told := int64(firstWindow), int64(0), int64(firstWindow) // told: what the library may in all
		library := int64(0)                                                     // what it has sent of that
		give := func() {
			n := w.give(false)
			if n < 0 {
				t.Fatalf("%d taken from the library", -n)
			}
			told += n
			if total := granted - sent; total <= ample && w.left() > 0 {
				t.Fatalf("%d of %d are withheld", w.left(), total)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"grant": func(t *rapid.T) {
				n := rapid.Uint32Range(1, 1<<20).Draw(t, "n")
				if granted-sent+int64(n) > largestWindow {
					t.Skip("more than may be granted")
				}
				w.grant(n)
				granted += int64(n)
				give()
			},
			"hit": func(t *rapid.T) {
				n := rapid.Int64Range(0, mostFrame).Draw(t, "n")
				if n > w.left() {
					t.Skip("left to the library")
				}
				w.take(int(n))
				sent += n
			},
			"library": func(t *rapid.T) {
				n := min(rapid.Int64Range(1, 1<<20).Draw(t, "n"), told-library)
				w.sent(int(n))
				library += n
				sent += n
				for w.short() {
					before := told
					if give(); told == before {
						t.Fatalf("the reader is woken for nothing, with %d here and %d at the library", w.left(), told-library)
					}
				}
				if told == library && sent < granted {
					t.Fatalf("the library waits, and %d are withheld", w.left())
				}
			},
			"withdrawn": func(t *rapid.T) {
				n := rapid.IntRange(0, mostFrame).Draw(t, "n")
				if int64(n) > w.left() {
					t.Skip("left to the library")
				}
				w.take(n)
				w.take(-n)
			},
			"": func(t *rapid.T) {
				if sent > granted {
					t.Fatalf("sent %d, granted %d", sent, granted)
				}
				if w.left()+told-library != granted-sent {
					t.Fatalf("%d and %d are to be sent, and %d were granted", w.left(), told-library, granted-sent)
				}
			},
		})
	})
}

// The library's share is looked at as often as it writes. Between three eighths of a window
// and 64 KiB, where a window is hardly ample, there is nothing to give it.
func TestSendWindowIsShort(t *testing.T) {
	f := func(granted, library int64, want bool) {
		t.Helper()
		var w sendWindow
		w.library.Store(library)
		w.own.Store(granted - library)
		if got := w.short(); got != want || got && w.give(false) == 0 {
			t.Errorf("%d of %d at the library: short is %t, and %d more are due", library, granted, got, w.due(false))
		}
	}
	f(ample, ample/2-1, true) // all of it is the library's
	f(ample, ample, false)
	f(ample+1024, shortWindow-1, false)
	f(150<<10, 60<<10, false)
	f(150<<10, 56<<10, true)
	f(172<<10, shortWindow-1, true)
	f(10<<20, shortWindow-1, true)
	f(10<<20, shortWindow, false)
}

// Who grants more than may be is found by the library (RFC 9113 section 6.9.1), which
// must learn of all of it. So must it when nothing is answered here any more.
func TestSendWindowGivesAll(t *testing.T) {
	f := func(grants []uint32, all bool, want int64) {
		t.Helper()
		var w sendWindow
		w.init()
		var given int64
		for _, n := range grants {
			w.grant(n)
			given += w.give(all)
		}
		if given != want {
			t.Errorf("%d, all %t: given %d, want %d", grants, all, given, want)
		}
	}
	f([]uint32{10 << 20}, false, (10<<20-firstWindow)/2)
	f([]uint32{10 << 20}, true, 10<<20)
	f([]uint32{1000, 1000}, false, 2000)
	f([]uint32{largestWindow - firstWindow}, false, largestWindow/2-firstWindow)
	f([]uint32{largestWindow - firstWindow, 1}, false, largestWindow-firstWindow+1)
}
