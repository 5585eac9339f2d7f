package budget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
)

// A step is one act on a recorded disk.
type step struct {
	act  string // create, write, sync, rename, names
	name string // as it was when the file was created
	to   string
	data []byte
}

// recorder is a disk in memory that notes what is done to it. It is safe for
// concurrent use.
type recorder struct {
	mu    sync.Mutex
	steps []step
	now   map[string]*[]byte // what a process reads
	fail  error              // of all writes
	slow  chan struct{}      // if set, a sync waits for it
}

func newRecorder(content map[string][]byte) *recorder {
	r := &recorder{now: map[string]*[]byte{}}
	for name, data := range content {
		r.now[name] = new(slices.Clone(data))
	}
	return r
}

func (r *recorder) note(s step) error {
	if r.fail == nil {
		r.steps = append(r.steps, s)
	}
	return r.fail
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.steps)
}

func (r *recorder) break_(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *recorder) lock() (func(), error) { return func() {}, nil }

func (r *recorder) read(name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data := r.now[name]
	if data == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(*data), nil
}

func (r *recorder) create(name string) (file, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data := new([]byte)
	r.now[name] = data
	return &recorded{r, name, data}, r.note(step{act: "create", name: name})
}

func (r *recorder) rename(from, to string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.now[to] = r.now[from]
		delete(r.now, from)
	}
	return r.note(step{act: "rename", name: from, to: to})
}

func (r *recorder) sync() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.note(step{act: "names"})
}

type recorded struct {
	r    *recorder
	name string
	data *[]byte
}

func (f *recorded) Write(p []byte) (int, error) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	if f.r.fail == nil {
		*f.data = append(*f.data, p...)
	}
	return len(p), f.r.note(step{act: "write", name: f.name, data: slices.Clone(p)})
}

func (f *recorded) Sync() error {
	f.r.mu.Lock()
	slow := f.r.slow
	f.r.mu.Unlock()
	if slow != nil {
		<-slow
	}
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	return f.r.note(step{act: "sync", name: f.name})
}

func (f *recorded) Close() error { return nil }

// crash is what a machine finds that stops after the steps: what was synced, and of
// what was not, nothing or torn parts of it. Names may have been kept though the
// folder was not synced, since a disk may do more than it was asked for.
func crash(before map[string][]byte, steps []step, torn, eager bool) map[string][]byte {
	type content struct{ durable, pending []byte }
	files := map[string]*content{} // by the name that programs see
	durable := map[string]*content{}
	for name, data := range before {
		files[name] = &content{durable: data}
		durable[name] = files[name]
	}
	open := map[string]*content{} // by the name at creation
	for _, s := range steps {
		switch s.act {
		case "create":
			c := &content{}
			files[s.name], open[s.name] = c, c
		case "write":
			open[s.name].pending = append(open[s.name].pending, s.data...)
		case "sync":
			c := open[s.name]
			c.durable, c.pending = append(slices.Clone(c.durable), c.pending...), nil
		case "rename":
			files[s.to] = files[s.name]
			delete(files, s.name)
		case "names":
			durable = maps.Clone(files)
		}
	}
	if eager {
		durable = files
	}
	found := map[string][]byte{}
	for name, c := range durable {
		data := slices.Clone(c.durable)
		if torn && len(c.pending) > 0 {
			data = append(data, c.pending[:len(c.pending)*2/3]...)
			data = append(data, make([]byte, len(c.pending)-len(c.pending)*2/3)...) // a page that was never written
		}
		found[name] = data
	}
	return found
}

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

// TestEveryCrashCountsEnough spends from 64 callers, records all that is written,
// and opens the ledger again on what each prefix of it leaves. What was handed out
// until then must be there, and no more than one block beyond.
func TestEveryCrashCountsEnough(t *testing.T) {
	limits := Config{PerHour: 2, PerDay: 20, PerMonth: 200, PerClient: 1}
	disk := newRecorder(nil)
	l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
	b := l.Budget("spill", limits)
	stop := running(l)

	// What was spent or at risk when so many steps had been recorded, at most, and
	// what was surely spent.
	var mu sync.Mutex
	most, least := map[int]float64{}, map[int]float64{}
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		n := disk.count() // the money of a block is handed out after its steps
		most[n] = max(most[n], b.settled+b.atRisk)
		if _, ok := least[n]; !ok {
			least[n] = b.settled
		}
	}
	var wg sync.WaitGroup
	for caller := range 64 {
		wg.Go(func() {
			for i := range 40 {
				charge, why := b.Reserve(time.Now(), fmt.Sprint(caller), 0.0006)
				look()
				if why == outcome.None {
					charge.Settle(time.Now(), 0.0006*float64(i%5)/4)
					look()
				}
			}
		})
	}
	wg.Wait()
	stop()
	if len(disk.steps) < 10 || b.settled == 0 {
		t.Fatalf("%d steps, $%v spent", len(disk.steps), b.settled)
	}
	block := 0.0 // the largest
	for n, s := range disk.steps {
		if s.act != "write" {
			continue
		}
		accounts, err := parseLedger(append([]byte(header), bytes.TrimPrefix(s.data, []byte(header))...))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range accounts {
			block = max(block, a.Booked-a.Settled)
			least[n] = max(least[n], a.Settled)
		}
	}
	handed, sure := 0.0, 0.0
	for n := range len(disk.steps) + 1 {
		handed, sure = max(handed, most[n]), max(sure, least[n])
		for _, torn := range []bool{false, true} {
			for _, eager := range []bool{false, true} {
				got, _ := settledAfter(t, crash(nil, disk.steps[:n], torn, eager), "spill", limits)
				if got < handed-1e-9 {
					t.Fatalf("after %d of %d steps (torn %t, eager %t) the ledger has $%v, and $%v was handed out", n, len(disk.steps), torn, eager, got, handed)
				}
				if got > sure+block+1e-9 {
					t.Fatalf("after %d of %d steps the ledger has $%v, $%v was spent, and blocks have $%v", n, len(disk.steps), got, sure, block)
				}
			}
		}
	}
	t.Logf("%d steps, $%.4f spent, blocks of $%.4f at most", len(disk.steps), b.settled, block)
}

// TestSpendingSurvivesAnything: whatever is reserved, settled, crashed and
// restarted in whatever order, and however the clock jumps, the ledger knows of all
// that was spent, and no period's limit is passed.
func TestSpendingSurvivesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{PerHour: rapid.Float64Range(0.1, 5).Draw(t, "hour"), PerMonth: rapid.Float64Range(0.1, 20).Draw(t, "month"), OnLedgerError: "stop"}
		var kept map[string][]byte
		disk := newRecorder(nil)
		l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
		b := l.Budget("spill", c)
		now, away := noon, false
		// What was spent in all, and in each hour since time went on by itself.
		spent, inHour := 0.0, map[time.Time]float64{}
		var open []*Charge
		reopen := func(torn bool) {
			kept = crash(kept, disk.steps, torn, false)
			for _, charge := range open { // nobody knows how they ended
				spent += charge.Amount()
				inHour[hour.start(now)] += charge.Amount()
			}
			open = nil
			disk = newRecorder(kept)
			l = newLedger(disk, "test", slog.New(slog.DiscardHandler))
			b = l.Budget("spill", c)
			l.flush(now, nil)
			if b.settled < spent-1e-9 {
				t.Fatalf("after a crash the ledger has %v of %v", b.settled, spent)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				amount := rapid.Float64Range(0, 1).Draw(t, "amount")
				if b.Check(now, "a", amount) != outcome.None {
					return
				}
				b.mu.Lock()
				b.block.asked, b.block.wanted = amount, true // as a caller that waits
				b.mu.Unlock()
				l.flush(now, nil)
				if charge, why := b.Reserve(now, "a", amount); why == outcome.None {
					open = append(open, charge)
					withinLimits(t, b.State(now))
				}
			},
			"settle": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				actual := open[0].Amount() * rapid.Float64Range(0, 1).Draw(t, "part")
				open[0].Settle(now, actual)
				spent += actual
				inHour[hour.start(now)] += actual
				open = open[1:]
			},
			"tick":  func(*rapid.T) { l.flush(now, (*Budget).rest) },
			"crash": func(t *rapid.T) { reopen(rapid.Bool().Draw(t, "torn")) },
			"stop": func(*rapid.T) {
				l.Close()
				reopen(false)
			},
			"clock": func(t *rapid.T) {
				switch {
				case rapid.Bool().Draw(t, "time passes"):
					now = now.Add(time.Hour)
					clear(inHour) // an hour that was left may come again
				case away:
					now = now.Add(-5 * time.Hour)
					away = false
				default:
					now = now.Add(5 * time.Hour)
					away = true
				}
				b.Left(now)
				l.flush(now, nil) // as Run does
			},
			"": func(t *rapid.T) {
				s := b.State(now)
				if known := inHour[hour.start(now)]; s.Periods[hour].Spent < known-1e-9 {
					t.Fatalf("forgot of the hour that %v was spent: %+v", known, s)
				}
			},
		})
	})
}

// withinLimits is true when money was just handed out. When the clock jumps, charges
// of one period may come on top of what another had spent.
func withinLimits(t *rapid.T, s State) {
	for _, p := range s.Periods {
		if p.Limit > 0 && p.Spent+s.AtRisk > p.Limit+1e-9 {
			t.Fatalf("limit passed: %+v", s)
		}
	}
}

// A clock that jumps and is set right finds what was spent before it jumped.
func TestClockThatComesBack(t *testing.T) {
	f := func(jumps ...time.Duration) {
		t.Helper()
		b := New("spill", Config{PerHour: 2})
		charge := reserve(t, b, noon, "v", 1.5, outcome.None)
		charge.Settle(noon, 1.5)
		for _, d := range jumps {
			charge, why := b.Reserve(noon.Add(d), "v", 0.25)
			if why == outcome.None {
				charge.Settle(noon.Add(d), 0.25)
			}
		}
		if s := b.State(noon).Periods[hour]; s.Spent < 1.5 {
			t.Errorf("%v: %+v", jumps, s)
		}
	}
	f(2 * time.Hour)
	f(-2 * time.Hour)
	f(-30*365*24*time.Hour, 0)
	f(30 * 365 * 24 * time.Hour)
	f(2*time.Hour, -2*time.Hour, 2*time.Hour)
	f(time.Hour)
}

// What is to come is not charged with what was spent before it, because a clock was
// there once by error.
func TestClockThatWasWrongBlocksNothing(t *testing.T) {
	b := New("spill", Config{PerHour: 2})
	b.Left(noon)
	b.Left(noon.Add(3 * time.Hour)) // an error
	for h := range 4 {
		now := noon.Add(time.Duration(h) * time.Hour)
		charge := reserve(t, b, now, "v", 2, outcome.None)
		charge.Settle(now, 2)
	}
}

func TestMonthsEnd(t *testing.T) {
	f := func(spent, later time.Time, left float64) {
		t.Helper()
		b := New("spill", Config{PerMonth: 10})
		charge := reserve(t, b, spent, "v", 4, outcome.None)
		charge.Settle(spent, 4)
		if got := b.Left(later); math.Abs(got-left) > 1e-9 {
			t.Errorf("%v after %v: %v left, want %v", later, spent, got, left)
		}
	}
	at := func(month time.Month, day, hour int) time.Time {
		return time.Date(2028, month, day, hour, 59, 59, 0, time.UTC)
	}
	f(at(1, 31, 23), at(1, 31, 23), 6)
	f(at(1, 31, 23), at(2, 1, 0), 10)
	f(at(2, 1, 0), at(2, 29, 23), 6)
	f(at(2, 29, 23), at(3, 1, 0), 10)
	f(at(12, 31, 23), time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC), 10)
	// Summer time changes nothing: 2028-03-26 01:00 UTC in Berlin.
	berlin := time.FixedZone("CEST", 2*3600)
	f(at(3, 31, 22), time.Date(2028, 4, 1, 0, 30, 0, 0, berlin), 6)
}

// A suspended machine wakes in another hour: that has its own amount, and the day
// what is left of it.
func TestResume(t *testing.T) {
	b := New("spill", Config{PerHour: 2, PerDay: 3})
	for _, now := range []time.Time{noon, noon.Add(5 * time.Hour)} {
		charge := reserve(t, b, now, "v", 1.5, outcome.None)
		charge.Settle(now, 1.5)
	}
	reserve(t, b, noon.Add(8*time.Hour), "v", 0.1, outcome.BudgetSpent)
}

var errDisk = errors.New("no space left on device")

// Without a ledger, money is spent in memory or not at all; when it works again,
// what was spent meanwhile is written down.
func TestLedgerThatCannotBeWritten(t *testing.T) {
	f := func(policy string, want outcome.Reason, kept float64) {
		t.Helper()
		c := Config{PerHour: 2, OnLedgerError: policy}
		disk := newRecorder(nil)
		disk.break_(errDisk)
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
		disk.break_(nil)
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

func TestWarningsAreGivenOncePerPeriod(t *testing.T) {
	b := New("spill", Config{PerHour: 1, PerDay: 2})
	spend := func(now time.Time, amount float64, want ...int) {
		t.Helper()
		b.Spend(now, amount)
		var got []int
		for _, p := range b.passed(now) {
			got = append(got, p.Warned)
		}
		if !slices.Equal(got, want) {
			t.Errorf("warned of %v, want %v", got, want)
		}
		if again := b.passed(now); len(again) > 0 {
			t.Errorf("warned again of %v", again)
		}
	}
	spend(noon, 0.74)
	spend(noon, 0.02, 75)
	spend(noon, 0.1)
	spend(noon, 0.1, 90)
	next := noon.Add(time.Hour)
	spend(next, 0.92, 90, 90) // the hour's, and the day's 1.88 of 2
}

func TestForecast(t *testing.T) {
	b := New("spill", Config{PerHour: 100, PerDay: 200})
	now := noon
	for range 600 {
		b.Spend(now, 0.1)
		now = now.Add(time.Second)
	}
	s := b.State(now)
	if s.Rate < 0.9*360 || s.Rate > 1.1*360 {
		t.Errorf("rate %v, want about 360", s.Rate)
	}
	if in := s.EmptyAt.Sub(now); in < 350*time.Second || in > 450*time.Second {
		t.Errorf("empty in %v, want about 400 s", in)
	}
	if s := b.State(now.Add(10 * time.Minute)); !s.EmptyAt.IsZero() {
		t.Errorf("empty at %v though nothing is spent any more", s.EmptyAt)
	}
}
