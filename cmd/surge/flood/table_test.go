package flood

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestNewRow(t *testing.T) {
	round := func(ok bool, took time.Duration) result {
		loads := []load{{Class: returning, Took: took, OK: ok, Proto: "h2"}, {Class: first, Took: 10 * time.Millisecond, OK: true, Proto: "h3"}}
		if !ok {
			loads[0] = load{Class: returning, Took: patience, Error: "late"}
		}
		return result{loads: loads, sent: sent{Packets: 1000, Took: 500 * time.Millisecond}, memory: 1 << 20}
	}
	got := newRow(trial{Profile: random, Payload: hello, Setting: settings[1]}, []result{
		round(true, 20*time.Millisecond), round(false, 0), round(true, 30*time.Millisecond),
	})
	if got.Loads[returning] != 1 || got.Loads[first] != 1 || got.H2 != .5 || got.P99 != 30 || got.Sent != 2000 || got.Memory != 1 {
		t.Errorf("%+v", got)
	}
	if len(got.P99s) != 3 || got.P99s[2] != 5000 || got.Errors["late"] != 1 {
		t.Errorf("p99 of the rounds %v, errors %v", got.P99s, got.Errors)
	}
	if _, there := got.Loads[inBlock]; there {
		t.Error("a class without loads has a share")
	}
}

func TestQuantile(t *testing.T) {
	if got := quantile(nil, .5); !math.IsInf(got, 1) {
		t.Errorf("of nothing: %g", got)
	}
	var loads []load
	for i := range 100 {
		loads = append(loads, load{Took: time.Duration(100-i) * time.Millisecond})
	}
	if p50, p99 := quantile(loads, .5), quantile(loads, .99); p50 != 51 || p99 != 100 {
		t.Errorf("p50 %g, p99 %g", p50, p99)
	}
}

// goodRows are of a node that meets all bars.
func goodRows() []row {
	good := map[class]float64{returning: .99, first: .95, inBlock: .9}
	return []row{
		{Profile: random, Payload: hello, Rate: 5000, Setting: reference, P99: 20, Memory: 100},
		{Profile: random, Payload: hello, Rate: 5000, Setting: "full", P99: 40, Memory: 100 + barMemory, Loads: good},
		{Profile: random, Payload: hello, Rate: 5000, Setting: "none", P99: 5000},
		{Profile: random, Payload: hello, Rate: 100_000, Setting: "full", P99: 5000},
		{Profile: random, Payload: hello, Setting: "full", P99: 5000},
	}
}

func TestBars(t *testing.T) {
	if all := missed(goodRows()); len(all) > 0 {
		t.Errorf("missed: %q", all)
	}
	f := func(want string, spoil func([]row) []row) {
		t.Helper()
		all := missed(spoil(goodRows()))
		if len(all) != 1 || !strings.Contains(all[0], want) {
			t.Errorf("missed %q, want %q", all, want)
		}
	}
	for c, bar := range bars {
		f(string(c)+" loads came", func(rows []row) []row {
			rows[1].Loads[c] = bar - .001
			return rows
		})
	}
	f("p99 is 41 ms", func(rows []row) []row { rows[1].P99 = 41; return rows })
	f("the node held", func(rows []row) []row { rows[1].Memory++; return rows })
	f("was not measured", func(rows []row) []row { return rows[1:] })
	f("nothing was measured", func(rows []row) []row { return rows[2:] })
	f("first loads came", func(rows []row) []row {
		rows[0].Profile, rows[1].Profile = shared, shared
		rows[1].Loads = map[class]float64{returning: .9, first: .89}
		return rows
	})
	if err := (options{}).judge(nil, new(bytes.Buffer)); err != nil {
		t.Errorf("a benchmark that is not strict fails: %v", err)
	}
	if (options{strict: true}).judge(nil, new(bytes.Buffer)) == nil {
		t.Error("a missed bar passes under --strict")
	}
}

func TestWrite(t *testing.T) {
	rows := goodRows()
	rows[1].Counts, rows[1].Levels = map[string]float64{"handshakes_started_total": 7}, []string{"1.5 s shedding: why"}
	var out bytes.Buffer
	if err := write(&out, rows, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Profile random, Initials are hello", "99.0%   95.0%   90.0%", "handshakes_started_total 7; after 1.5 s shedding: why;", "     max  full"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := write(&out, rows, true); err != nil {
		t.Fatal(err)
	}
	var back []row
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back) != len(rows) || back[1].Loads[first] != .95 {
		t.Errorf("%v\n%s", err, out.String())
	}
}
