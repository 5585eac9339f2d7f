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

func TestUpdateOracle(t *testing.T) {
	if !*updateOracle {
		t.Skip("only with -update-oracle: it takes ten minutes of processor time")
	}
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
		t.Skip("it is being made")
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

// table prints scores in groups: median and worst.
func table(scores []score) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s %5s  %-15s %-15s %-13s %-15s %-15s %-13s\n", "group", "cases",
		"goodput 3x", "goodput 10x", "p99 ratio", "spill .9x", "first 4 s", "spill .5x")
	for _, g := range groups(scores) {
		pair := func(of func(*score) float64, worst float64, format string) string {
			var values []float64
			for i := range g.scores {
				values = append(values, of(&g.scores[i]))
			}
			return fmt.Sprintf(format, median(values), quantile(values, worst))
		}
		fmt.Fprintf(&b, "%-12s %5d  %-15s %-15s %-13s %-15s %-15s %-13s\n", g.name, len(g.scores),
			pair((*score).three, 0, "%.3f / %.3f"), pair((*score).ten, 0, "%.3f / %.3f"), pair((*score).p99, 1, "%.2f / %.2f"),
			pair((*score).nine, 1, "%+.1f / %+.1f"), pair((*score).step, 0, "%.3f / %.3f"), pair((*score).half, 1, "%+.1f / %+.1f"))
	}
	return b.String()
}

type group struct {
	name   string
	scores []score
}

func groups(scores []score) (all []group) {
	for _, s := range scores {
		i := slices.IndexFunc(all, func(g group) bool { return g.name == s.group })
		if i < 0 {
			all = append(all, group{name: s.group})
			i = len(all) - 1
		}
		all[i].scores = append(all[i].scores, s)
	}
	return all
}

func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func TestGrid(t *testing.T) {
	oracle := readOracle(t)
	scores := []score{}
	for _, c := range gridCases() {
		scores = append(scores, score{gridCase: c, best: oracle[c.name]})
	}
	each(scores, 2, func(s *score) { s.own = s.run(s.seeds) })
	t.Log("\n" + table(scores))
	for i := range scores {
		s := &scores[i]
		mark := ""
		if s.three() < 0.9 || s.ten() < 0.9 || s.p99() > 1.5 || s.nine() > 8 {
			mark = "MISS"
		}
		t.Logf("%-28s L*=%-3d 3x %.3f 10x %.3f p99 %.2f .9x %+.1f step %.3f .5x %+.1f %s", s.name, s.best.Limit,
			s.three(), s.ten(), s.p99(), s.nine(), s.step(), s.half(), mark)
	}
}
