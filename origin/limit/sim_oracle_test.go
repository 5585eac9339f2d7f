package limit

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

var updateOracle = flag.Bool("update-oracle", false, "simulate the fixed limits of the grid again, and write testdata/oracle.json")

const oraclePath = "testdata/oracle.json"

// readOracle returns the result of the best fixed limit of every case.
func readOracle(t *testing.T) map[string]result {
	t.Helper()
	b, err := os.ReadFile(oraclePath)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]result
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatalf("%s: %v", oraclePath, err)
	}
	return all
}

// writeOracle finds the best fixed limits, which takes ten minutes of processor time.
func writeOracle(t *testing.T) {
	t.Helper()
	cases := gridCases()
	found := make([]result, len(cases))
	index := make([]int, len(cases))
	for i := range index {
		index[i] = i
	}
	each(index, 2, func(i *int) { found[*i] = cases[*i].best() })
	var b strings.Builder
	for i, c := range cases {
		line, err := json.Marshal(found[i])
		if err != nil {
			t.Fatal(err)
		}
		separator := ","
		if i == len(cases)-1 {
			separator = ""
		}
		fmt.Fprintf(&b, "  %q: %s%s\n", c.name, line, separator)
	}
	if err := os.WriteFile(oraclePath, []byte("{\n"+b.String()+"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What is in the file is what the simulator finds now.
func TestOracleIsUpToDate(t *testing.T) {
	if *updateOracle {
		writeOracle(t)
	}
	all := readOracle(t)
	cases := gridCases()
	if len(all) != len(cases) {
		t.Errorf("%d cases in %s, %d in the grid", len(all), oraclePath, len(cases))
	}
	cheap := slices.DeleteFunc(cases, func(c gridCase) bool { return float64(c.slots)/c.mean > 100 })
	rand.Shuffle(len(cheap), func(i, j int) { cheap[i], cheap[j] = cheap[j], cheap[i] })
	for _, c := range cheap[:2] {
		want := all[c.name]
		f := c.fixed(want.Limit)
		got := f.run(c.seeds)
		if math.Abs(got.Three-want.Three) > 1e-6*want.Three || math.Abs(got.Ten-want.Ten) > 1e-6*want.Ten ||
			math.Abs(got.P99-want.P99) > 1e-6 || math.Abs(got.Nine-want.Nine) > 1e-6 {
			t.Errorf("%s: simulated %+v, in the file %+v: run the test with -update-oracle", c.name, got, want)
		}
	}
}
