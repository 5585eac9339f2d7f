package budget

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"spillway/edge/outcome"
)

// settledAfter is what a ledger that is opened on what a crash left says was spent.
func settledAfter(t testing.TB, found map[string][]byte, name string, c Config) (float64, *Ledger) {
	t.Helper()
	l := newLedger(newRecorder(found), "test", slog.New(slog.DiscardHandler))
	if s := l.State(); s.Error != "" {
		t.Fatalf("ledger after the crash: %s", s.Error)
	}
	return l.Budget(name, c).settled, l
}

// running runs a ledger until the returned function is called.
func running(l *Ledger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { l.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

var errDisk = errors.New("no space left on device")

// Without a ledger, money is spent in memory or not at all; when it works again,
// what was spent meanwhile is written down.
func TestLedgerThatCannotBeWritten(t *testing.T) {
	f := func(policy string, want outcome.Reason, kept float64) {
		t.Helper()
		c := Config{PerHour: 2, OnLedgerError: policy}
		disk := newRecorder(nil)
		disk.breaks(errDisk)
		l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
		b := l.Budget("spill", c)
		if err := b.Reset(time.Now()); !errors.Is(err, errDisk) {
			t.Errorf("reset: %v", err)
		}
		charge := reserve(t, b, time.Now(), "v", 0.5, want)
		charge.Settle(time.Now(), 0.5)
		if s := l.State(); s.Error != errDisk.Error() || b.State(time.Now()).Stopped != (policy == "stop") {
			t.Errorf("state %+v", s)
		}
		disk.breaks(nil)
		if err := l.flush(time.Now(), nil); err != nil || l.State().Error != "" {
			t.Errorf("after the repair: %v, %+v", err, l.State())
		}
		got, _ := settledAfter(t, crash(nil, disk.steps, false, false), "spill", c)
		if got < kept || got > kept+2.0/20 {
			t.Errorf("%s: the ledger has %v, want %v", policy, got, kept)
		}
	}
	f("memory", outcome.None, 0.5)
	f("stop", outcome.LedgerFailed, 0)
}

// A disk that hangs holds nobody up for long.
func TestLedgerThatHangs(t *testing.T) {
	f := func(policy string, want outcome.Reason) {
		t.Helper()
		disk := newRecorder(nil)
		disk.slow = make(chan struct{})
		l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
		b := l.Budget("spill", Config{PerHour: 2, OnLedgerError: policy})
		stop := running(l)
		reserve(t, b, time.Now(), "v", 0.5, want)
		if s := l.State(); s.Error == "" {
			t.Errorf("state %+v", s)
		}
		close(disk.slow)
		stop()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	f("memory", outcome.None)
	f("stop", outcome.LedgerFailed)
}

func TestDamagedLedger(t *testing.T) {
	c := Config{PerHour: 2, OnLedgerError: "stop"}
	disk := newRecorder(nil)
	l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
	b := l.Budget("spill", c)
	for range 3 {
		if err := b.Add(time.Now(), 1); err != nil {
			t.Fatal(err)
		}
	}
	sound, _ := disk.read(ledgerName)
	f := func(what string, data []byte, damaged bool) {
		t.Helper()
		disk := newRecorder(map[string][]byte{ledgerName: data})
		l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
		b := l.Budget("spill", c)
		if got := l.State().Error != ""; got != damaged {
			t.Errorf("%s: %+v", what, l.State())
		}
		err := b.Reset(time.Now())
		if after, _ := disk.read(ledgerName); damaged && (err == nil || string(after) != string(data)) {
			t.Errorf("%s: %v, and the evidence is gone", what, err)
		}
		// Somebody moves it away.
		disk.mu.Lock()
		delete(disk.now, ledgerName)
		disk.mu.Unlock()
		if err := l.flush(time.Now(), nil); err != nil || l.State().Error != "" {
			t.Errorf("%s: %v, %+v", what, err, l.State())
		}
	}
	flip := func(i int) []byte {
		data := slices.Clone(sound)
		data[i] ^= 1
		return data
	}
	f("sound", sound, false)
	f("torn at the end", sound[:len(sound)-7], false)
	f("the last line flipped", flip(len(sound)-7), false)
	f("flipped within", flip(len(header)+40), true)
	f("another version", flip(len(header)-2), true)
	f("empty", nil, true)
	f("zeros", make([]byte, len(sound)), true)
}

// What vanishes from the configuration and comes back has spent what it had, over
// restarts too; what is renamed begins anew.
func TestBudgetThatComesBack(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	c := Config{PerHour: 2}
	spend := func(names ...string) (left []float64) {
		l := OpenLedger(dir, log)
		stop := running(l)
		for _, name := range names {
			b := l.Budget(name, c)
			charge := reserve(t, b, time.Now(), "v", 0.5, outcome.None)
			charge.Settle(time.Now(), 0.5)
			left = append(left, math.Round(b.Left(time.Now())*1e6)/1e6)
		}
		stop()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return left
	}
	for _, x := range []struct {
		names []string
		left  []float64
	}{
		{[]string{"a"}, []float64{1.5}},
		{[]string{"b"}, []float64{1.5}},
		{[]string{"a", "b"}, []float64{1, 1}},
	} {
		if got := spend(x.names...); !slices.Equal(got, x.left) {
			t.Errorf("%v: left %v, want %v", x.names, got, x.left)
		}
	}
}

// Two processes on one folder: the second spends nothing until the first is gone,
// and then counts on from it.
func TestLedgerIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	c := Config{PerHour: 2, OnLedgerError: "memory"}
	first := OpenLedger(dir, log)
	stop := running(first)
	reserve(t, first.Budget("a", c), time.Now(), "v", 0.5, outcome.None).Settle(time.Now(), 0.5)
	second := OpenLedger(dir, log)
	b := second.Budget("a", c)
	reserve(t, b, time.Now(), "v", 0.5, outcome.LedgerFailed)
	stop()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	reserve(t, first.Budget("a", c), time.Now(), "v", 0.5, outcome.LedgerFailed)
	stop = running(second)
	defer func() {
		stop()
		if err := second.Close(); err != nil {
			t.Error(err)
		}
	}()
	second.flush(time.Now(), nil)
	charge := reserve(t, b, time.Now(), "v", 0.5, outcome.None)
	charge.Settle(time.Now(), 0.5)
	if got := b.Left(time.Now()); math.Abs(got-1) > 1e-9 {
		t.Errorf("left %v", got)
	}
}

// What the operator changed outlives a crash.
func TestOperatorsChangesAreKept(t *testing.T) {
	c := Config{PerHour: 2, PerDay: 10}
	disk := newRecorder(nil)
	l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
	b := l.Budget("spill", c)
	now := time.Now()
	if err := errors.Join(b.Add(now, 5), b.Empty(now)); err != nil {
		t.Fatal(err)
	}
	_, l = settledAfter(t, crash(nil, disk.steps, false, false), "spill", c)
	again := l.Budget("spill", c)
	if s := again.State(now); s.Periods[hour].Added != 5 || s.Periods[day].Left != 15 || !s.Drained {
		t.Errorf("%+v", s)
	}
	if err := again.Reset(now); err != nil {
		t.Fatal(err)
	}
	if s := again.State(now); s.Periods[hour].Added != 0 || s.Left != 2 || s.Drained {
		t.Errorf("%+v", s)
	}
	// And ends with the period.
	if err := again.Add(now, 5); err != nil {
		t.Fatal(err)
	}
	if got := again.Left(now.Add(24 * time.Hour)); got != 2 {
		t.Errorf("left %v on the next day", got)
	}
}
