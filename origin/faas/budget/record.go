package budget

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"time"
)

// header is the first line of a ledger, with the version of its form.
const header = "spillway ledger 1\n"

// castagnoli is the checksum that processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An account is what the ledger says of one budget. It is complete: the last one of
// a budget counts, and all before it are history.
type account struct {
	Name string `json:"name"`
	// Settled is what was spent in all when this was written. Booked is what may
	// have been spent until the next is written: the block ends there.
	Settled float64            `json:"settled"`
	Booked  float64            `json:"booked"`
	Periods [len(spans)]period `json:"periods"` // hour, day, month
}

// A record is one line of the ledger: what is written in one piece is there as a
// whole or not at all, whatever order the disk chooses.
type record struct {
	At       time.Time `json:"at"`
	Accounts []account `json:"accounts"`
}

// line is the record as it stands in the file: its checksum, and JSON.
func (r record) line() []byte {
	text, err := json.Marshal(r)
	if err != nil {
		panic("BUG: encode ledger: " + err.Error())
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text)
}

var errRecord = errors.New("no sound record")

func parseRecord(line []byte) (r record, err error) {
	sum, text, ok := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !ok || len(sum) != 8 || err != nil || uint32(want) != crc32.Checksum(text, castagnoli) {
		return r, errRecord
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%w: %w", errRecord, err)
	}
	for i := range r.Accounts {
		if !r.Accounts[i].valid() {
			return r, fmt.Errorf("%w: account %q", errRecord, r.Accounts[i].Name)
		}
	}
	return r, nil
}

func (a *account) valid() bool {
	if !(a.Settled >= 0 && a.Booked >= a.Settled) || math.IsInf(a.Booked, 1) {
		return false
	}
	for s, p := range a.Periods {
		if len(p) == 0 || len(p) > maxVisits {
			return false
		}
		for _, v := range p {
			if !v.Start.Equal(span(s).start(v.Start)) || v.Before > a.Settled {
				return false
			}
		}
	}
	return true
}

// parseLedger returns the accounts by name. A last line that is not whole was
// being written when the machine stopped: nothing of it had been spent. Any other
// that is not sound is an error, with the accounts that could be read.
func parseLedger(data []byte) (map[string]account, error) {
	accounts := map[string]account{}
	rest, ok := bytes.CutPrefix(data, []byte(header))
	if !ok {
		first, _, _ := bytes.Cut(data[:min(len(data), 64)], []byte("\n"))
		return accounts, fmt.Errorf("it begins with %q, this program knows %q", first, header[:len(header)-1])
	}
	torn := 0 // the number of a line that is not sound
	for n := 2; len(rest) > 0; n++ {
		var line []byte
		var whole bool
		line, rest, whole = bytes.Cut(rest, []byte("\n"))
		r, err := parseRecord(line)
		if err != nil || !whole {
			torn = max(torn, n)
			continue
		}
		for _, a := range r.Accounts {
			accounts[a.Name] = a
		}
		if torn > 0 {
			return accounts, fmt.Errorf("line %d is damaged", torn)
		}
	}
	return accounts, nil
}
