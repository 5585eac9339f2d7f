package limit

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// gridSample are the cases that every run of the tests simulates. SPILLWAY_GRID=.
// asks for all, which takes a minute of processor time, and compares the groups
// too; any other regular expression asks for the cases that it matches.
const gridSample = `^(4x100 (fifo|pooled) cv1|2x100 fifo cv1|10x50 loop cv1) base$|^4x100 sharing cv1 slots$`

// No case is worse than these against the best fixed limit, but for knownMisses.
const (
	leastGoodput = 0.9
	mostP99      = 1.5
	mostSpill    = 8 // points
)

func (s *score) misses() bool {
	return s.three() < leastGoodput || s.ten() < leastGoodput || s.p99() > mostP99 || s.nine() > mostSpill
}

// knownMisses are the cases in which the rules do not reach the bars. Where
// requests share the origin each one more in flight costs all of them latency, and
// the limit is larger than the number of slots; most of these spill less than the
// best fixed limit instead. Where work is heavy-tailed (cv 2) on two to four slots,
// the best fixed limit is often a long queue at the origin, which keeps it busy at
// the price of a p99 of 1.2 to 2.4 times ours. And what can be learned of 20
// requests a second in a few seconds is uncertain.
var knownMisses = []string{
	"2x100 sharing cv1 base",
	"2x100 sharing cv1 mix",
	"2x100 sharing cv1 cold",
	"4x100 sharing cv1 mix",
	"4x100 sharing cv1 cold",
	"4x20 sharing cv1 base",
	"4x20 sharing cv1 speed",
	"16x20 sharing cv1 speed",
	"16x20 sharing cv1 cold",
	"2x100 sharing cv2 base",
	"2x100 sharing cv2 mix",
	"2x100 sharing cv2 speed",
	"4x100 sharing cv2 mix",
	"4x100 sharing cv2 speed",
	"4x100 sharing cv2 cold",
	"4x20 sharing cv2 base",
	"4x20 sharing cv2 speed",
	"4x20 sharing cv2 cold",
	"16x20 sharing cv2 base",
	"16x20 sharing cv2 mix",
	"16x20 sharing cv2 cold",
	"2x100 fifo cv2 mix",
	"2x100 fifo cv2 cold",
	"4x100 fifo cv2 slots",
	"4x100 fifo cv2 speed",
	"2x100 pooled cv2 base",
	"2x100 pooled cv2 mix",
	"2x100 pooled cv2 slots",
	"2x100 pooled cv2 speed",
	"2x100 pooled cv2 cold",
	"4x100 pooled cv2 slots",
	"4x100 pooled cv2 cold",
	"10x50 loop cv2 cold",
	"160x20 sharing cv1 cold",
}

// A bar is the median and the worst of what a group of cases reaches.
type bar struct{ median, worst float64 }

// reached are the bars of the groups: goodput at three and ten times the capacity,
// ratio of the p99, points of spill at nine tenths. They leave a margin for the
// arithmetic of other processors and versions of the compiler, no more.
var reached = map[string]struct{ three, ten, p99, nine bar }{
	"small cv1": {bar{0.997, 0.917}, bar{0.991, 0.924}, bar{1.08, 1.76}, bar{-2.8, 6.3}},
	"16 cv1":    {bar{0.996, 0.985}, bar{0.995, 0.965}, bar{1.10, 1.79}, bar{-2.9, 0.0}},
	"loop cv1":  {bar{0.986, 0.964}, bar{0.982, 0.951}, bar{0.92, 0.99}, bar{0.9, 2.3}},
	"small cv2": {bar{0.968, 0.821}, bar{0.971, 0.792}, bar{1.05, 1.88}, bar{1.7, 16.8}},
	"16 cv2":    {bar{0.990, 0.952}, bar{0.989, 0.946}, bar{1.07, 1.62}, bar{-0.8, 0.7}},
	"loop cv2":  {bar{0.967, 0.936}, bar{0.963, 0.929}, bar{0.94, 1.78}, bar{2.1, 5.6}},
	"160 cv1":   {bar{0.995, 0.992}, bar{0.994, 0.989}, bar{1.07, 1.68}, bar{1.0, 1.7}},
}

// table prints scores in groups: median and worst.
func table(scores []score) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s %5s  %-15s %-15s %-13s %-15s %-15s %-13s\n", "group", "cases",
		"goodput 3x", "goodput 10x", "p99 ratio", "spill .9x", "first 4 s", "spill .5x")
	for _, g := range groups(scores) {
		pair := func(of func(*score) float64, worst float64, format string) string {
			b := g.bar(of, worst)
			return fmt.Sprintf(format, b.median, b.worst)
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
	pattern := os.Getenv("SPILLWAY_GRID")
	all := pattern == "."
	if pattern == "" {
		pattern = gridSample
	}
	only, err := regexp.Compile(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var scores []score
	for _, c := range gridCases() {
		if only.MatchString(c.name) {
			scores = append(scores, score{gridCase: c, best: oracle[c.name]})
		}
	}
	each(scores, 2, func(s *score) { s.own = s.run(s.seeds) })
	t.Log("\n" + table(scores))
	for i := range scores {
		scores[i].check(t)
	}
	if all {
		for _, g := range groups(scores) {
			g.check(t)
		}
	}
}

func (s *score) check(t *testing.T) {
	t.Helper()
	known := slices.Contains(knownMisses, s.name)
	line := fmt.Sprintf("%-28s best limit %-3d goodput %.3f %.3f, p99 %.2f, spill at .9x %+.1f, first 4 s %.3f, spill at .5x %+.1f",
		s.name, s.best.Limit, s.three(), s.ten(), s.p99(), s.nine(), s.step(), s.half())
	switch {
	case s.misses() && !known:
		t.Errorf("%s: misses the bars", line)
	case !s.misses() && known:
		t.Errorf("%s: reaches the bars, so it is no known miss any more", line)
	default:
		t.Log(line)
	}
}

func (g *group) check(t *testing.T) {
	t.Helper()
	const margin = 0.003
	want := reached[g.name]
	least := func(what string, of func(*score) float64, b bar) {
		if got := g.bar(of, 0); got.median < b.median-margin || got.worst < b.worst-margin {
			t.Errorf("%s, %s: %.3f, want at least %.3f", g.name, what, got, b)
		}
	}
	most := func(what string, of func(*score) float64, b bar, margin float64) {
		if got := g.bar(of, 1); got.median > b.median+margin || got.worst > b.worst+margin {
			t.Errorf("%s, %s: %.2f, want at most %.2f", g.name, what, got, b)
		}
	}
	least("goodput at 3x", (*score).three, want.three)
	least("goodput at 10x", (*score).ten, want.ten)
	most("p99", (*score).p99, want.p99, 0.03)
	most("spill at .9x", (*score).nine, want.nine, 0.3)
}

func (g *group) bar(of func(*score) float64, worst float64) bar {
	var values []float64
	for i := range g.scores {
		values = append(values, of(&g.scores[i]))
	}
	return bar{median(values), quantile(values, worst)}
}
