package budget

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The files of a ledger. A new one is written beside the old and takes its place
// when it is whole.
const (
	ledgerName = "budgets.ledger"
	draftName  = "budgets.ledger.new"
)

// maxLedger is the size at which a ledger is written anew without its history.
// Not a knob.
const maxLedger = 256 << 10

// A Ledger keeps budgets over restarts and crashes, in a file of lines that only
// grows until it is written anew. Money is written down before it is spent, in
// blocks, so that there are few writes. It is safe for concurrent use, and for one
// process: another that opens the same folder waits, and spends nothing, until the
// first is gone.
//
// After a write that failed nobody knows what is on the disk, so that the whole
// file is written anew with the next.
type Ledger struct {
	disk disk // nil: in memory
	path string
	log  *slog.Logger

	wake    chan struct{}
	trouble atomic.Pointer[trouble] // nil: none
	writes  atomic.Uint64

	mu      sync.Mutex
	budgets map[string]*Budget // kept when the configuration drops them: they may come back
	known   map[string]account // that no budget was made of yet

	writing sync.Mutex // held while the file is read or written; taken before mu
	unlock  func()     // nil: not locked
	read    bool
	file    file // nil: the next write makes a new one
	size    int
	last    map[string]account
}

// trouble is why the ledger cannot be used.
type trouble struct {
	err   error
	taken bool // by another process
	// handed tells that another process has it by agreement, to which this one gave it
	// away, or from which it is to come. Until Open this one spends what it has reserved.
	handed bool
}

// OpenLedger opens the ledger in the folder, or makes one that forgets if the
// folder is empty. What goes wrong is told by State, and tried again by Run.
func OpenLedger(path string, log *slog.Logger) *Ledger {
	l := AwaitLedger(path, log)
	l.Open()
	return l
}

// AwaitLedger is OpenLedger for a process that another one hands its ledger over to:
// nothing is read, and nothing may be spent, before Open.
func AwaitLedger(path string, log *slog.Logger) *Ledger {
	if path == "" {
		return awaitLedger(nil, path, log)
	}
	return awaitLedger(folder(path), path, log)
}

func newLedger(d disk, path string, log *slog.Logger) *Ledger {
	l := awaitLedger(d, path, log)
	l.Open()
	return l
}

func awaitLedger(d disk, path string, log *slog.Logger) *Ledger {
	l := &Ledger{
		disk: d, path: path, log: log, wake: make(chan struct{}, 1),
		budgets: map[string]*Budget{}, known: map[string]account{}, last: map[string]account{},
	}
	if d != nil {
		l.trouble.Store(&trouble{err: fmt.Errorf("it is not open yet: %w", errTaken), taken: true, handed: true})
	}
	return l
}

// Open opens a ledger that waits for it, or that was handed over and came back.
func (l *Ledger) Open() {
	if l.disk == nil {
		return
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	// That it was not open is no trouble that is over.
	l.trouble.Store(nil)
	l.report(l.open(time.Now()))
}

// Budget returns the budget of that name. One that is known already, because it
// was there before, keeps what it has spent and its settings.
func (l *Ledger) Budget(name string, c Config) *Budget {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.budgets[name]
	if b != nil {
		return b
	}
	if b = New(name, c); l.disk != nil {
		b = newBudget(name, c, l)
	}
	if a, ok := l.known[name]; ok {
		b.restore(time.Now(), a)
		delete(l.known, name)
	}
	l.budgets[name] = b
	return b
}

func (l *Ledger) all() []*Budget {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.budgets))
}

// Run writes blocks when they are wanted, tries again what failed, gives back what
// is not used, and warns of budgets that come to their end, until ctx ends.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
			l.flush(time.Now(), nil)
		case <-tick.C:
			for _, b := range l.all() {
				l.warn(b)
			}
			l.flush(time.Now(), (*Budget).rest)
		}
	}
}

// rouse lets Run write.
func (l *Ledger) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// late tells that a caller waited for a block in vain.
func (l *Ledger) late() {
	t := &trouble{err: fmt.Errorf("the disk took longer than %v", patience)}
	if l.trouble.CompareAndSwap(nil, t) {
		l.log.Warn("budget ledger is slow", "file", l.path, "error", t.err)
	}
}

// keep writes the change of a budget by the operator.
func (l *Ledger) keep(b *Budget) error {
	b.mu.Lock()
	b.block.changed = true
	b.mu.Unlock()
	if err := l.flush(time.Now(), nil); err != nil {
		return fmt.Errorf("write budget ledger: %w", err)
	}
	return nil
}

// flush writes what the budgets want to be written, in one piece. Budgets of which
// settle is true, if it is given, give back what they have reserved.
func (l *Ledger) flush(now time.Time, settle func(*Budget) bool) error {
	if l.disk == nil {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if t := l.trouble.Load(); t != nil && t.handed {
		return t.err
	}
	if !l.read {
		if err := l.open(now); err != nil {
			l.report(err)
			return err
		}
	}
	r := record{At: now.UTC()}
	var wrote []*Budget
	for _, b := range l.all() {
		if a, ok := b.propose(now, settle != nil && settle(b)); ok {
			r.Accounts = append(r.Accounts, a)
			wrote = append(wrote, b)
		}
	}
	var err error
	if len(wrote) > 0 || l.trouble.Load() != nil {
		err = l.write(r)
	}
	l.report(err)
	for i, b := range wrote {
		b.written(now, r.Accounts[i].Booked, err)
	}
	return err
}

// open locks and reads the ledger. Of one that is damaged the budgets begin with
// what could be read, in memory; it stays as it is until somebody moves it away.
func (l *Ledger) open(now time.Time) error {
	if l.unlock == nil {
		unlock, err := l.disk.lock()
		if err != nil {
			return err
		}
		l.unlock = unlock
	}
	data, err := l.disk.read(ledgerName)
	accounts := map[string]account{}
	if err == nil {
		if accounts, err = parseLedger(data); err != nil {
			err = fmt.Errorf("%s: %w; move it away to begin a new one", ledgerName, err)
		}
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	l.adopt(now, accounts)
	l.read = err == nil
	return err
}

// adopt gives the budgets what the ledger says of them, once.
func (l *Ledger) adopt(now time.Time, accounts map[string]account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, a := range accounts {
		was, twice := l.last[name]
		b := l.budgets[name]
		switch {
		case twice && b != nil && a.Booked > was.Booked:
			b.count(a.Booked - was.Booked) // by a process that the ledger came back from
		case twice:
			continue
		case b != nil:
			b.restore(now, a)
		default:
			l.known[name] = a
		}
		l.last[name] = a
	}
}

// write appends the record, or writes the ledger anew, and returns when it is on
// the disk.
func (l *Ledger) write(r record) error {
	for _, a := range r.Accounts {
		l.last[a.Name] = a
	}
	l.writes.Add(1)
	if l.file != nil && l.size < maxLedger {
		return l.put(r.line())
	}
	r.Accounts = slices.SortedFunc(maps.Values(l.last), func(a, b account) int {
		return strings.Compare(a.Name, b.Name)
	})
	return l.replace(append([]byte(header), r.line()...))
}

// put appends to the file.
func (l *Ledger) put(line []byte) error {
	_, err := l.file.Write(line)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.close()
		return err
	}
	l.size += len(line)
	return nil
}

// replace puts a new file in the old one's place.
func (l *Ledger) replace(data []byte) error {
	l.close()
	f, err := l.disk.create(draftName)
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	if err := l.put(data); err != nil {
		return err
	}
	err = l.disk.rename(draftName, ledgerName)
	if err == nil {
		err = l.disk.sync()
	}
	if err != nil {
		l.close()
	}
	return err
}

func (l *Ledger) close() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// report notes whether the ledger works, and logs it when that changed.
func (l *Ledger) report(err error) {
	var now *trouble
	if err != nil {
		now = &trouble{err: err, taken: errors.Is(err, errTaken)}
	}
	was := l.trouble.Swap(now)
	switch {
	case now != nil && (was == nil || was.err.Error() != err.Error()):
		l.log.Warn("budget ledger does not work", "file", l.path, "error", err)
	case now == nil && was != nil:
		l.log.Info("budget ledger works again", "file", l.path)
	}
}

// Close writes down what was spent, gives back the rest of the blocks, and lets
// another process have the ledger. Charges that are open count at their worst case.
func (l *Ledger) Close() error {
	err := l.flush(time.Now(), func(*Budget) bool { return true })
	l.leave(&trouble{err: errors.New("it is closed"), taken: true})
	if errors.Is(err, errTaken) {
		return nil
	}
	return err
}

// leave lets another process have the ledger.
func (l *Ledger) leave(why *trouble) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.close()
	if l.unlock != nil {
		l.unlock()
		l.unlock = nil
	}
	// Whoever still spends must not believe that it is written down.
	l.read = false
	if l.disk != nil {
		l.trouble.Store(why)
	}
}

// A LedgerState is a snapshot for metrics and the status view.
type LedgerState struct {
	Path   string `json:"path,omitempty"` // empty: in memory
	Error  string `json:"error,omitempty"`
	Writes uint64 `json:"writes"`
}

// State returns a snapshot.
func (l *Ledger) State() LedgerState {
	s := LedgerState{Path: l.path, Writes: l.writes.Load()}
	if t := l.trouble.Load(); t != nil {
		s.Error = t.err.Error()
	}
	return s
}
