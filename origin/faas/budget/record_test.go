package budget

import (
	"log/slog"
	"testing"
	"time"
)

// FuzzLedger reads files of any content. What is read is written the same again,
// and a budget that begins with it works.
func FuzzLedger(f *testing.F) {
	disk := newRecorder(nil)
	l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
	b := l.Budget("spill", Config{PerHour: 2})
	b.Spend(noon, 0.25)
	if err := b.Add(noon, 1); err != nil {
		f.Fatal(err)
	}
	sound, _ := disk.read(ledgerName)
	f.Add(sound)
	f.Add(sound[:len(sound)-3])
	f.Add([]byte(header))
	f.Add([]byte(header + "00000000 {}\n" + string(sound[len(header):])))
	f.Add(record{Accounts: []account{{Name: "a", Settled: -1}}}.line())
	f.Add(append([]byte(header), record{Accounts: []account{{Name: "a", Settled: 1, Booked: 2}}}.line()...))
	f.Fuzz(func(t *testing.T, data []byte) {
		accounts, err := parseLedger(data)
		r := record{}
		for _, a := range accounts {
			b := newBudget(a.Name, Config{PerHour: 1}, nil)
			b.restore(noon, a)
			if s := b.State(noon.Add(time.Hour)); !(s.Left <= 1+a.Booked) {
				t.Fatalf("state %+v of account %+v", s, a)
			}
			r.Accounts = append(r.Accounts, a)
		}
		if err != nil {
			return
		}
		again, err := parseLedger(append([]byte(header), r.line()...))
		if err != nil || len(again) != len(accounts) {
			t.Fatalf("written again: %v, %d of %d accounts", err, len(again), len(accounts))
		}
	})
}
