package peers

import (
	"strings"
	"testing"
)

func measured(name string, rounds ...float64) *cell {
	return &cell{Contender: name, Rounds: rounds, Value: median(rounds)}
}

func TestJudge(t *testing.T) {
	f := func(g goal, want bool, cells ...*cell) {
		t.Helper()
		if v := g.judge(row{Name: g.figure, Unit: "µs", Cells: cells}); v.Met != want || v.Open != "" {
			t.Errorf("%s: %+v", g.text("µs"), v)
		}
	}
	ten := goal{figure: "m10", most: 10}
	f(ten, true, measured(spillway, 9, 10, 30))
	f(ten, false, measured(spillway, 9, 10.1, 30))
	level := goal{figure: "m1", than: haproxy, most: 1}
	f(level, true, measured(spillway, 20, 22), measured(haproxy, 20, 22))
	f(level, false, measured(spillway, 21, 23), measured(haproxy, 20, 22))
	level.below = true
	f(level, false, measured(spillway, 20, 22), measured(haproxy, 20, 22))
	f(level, true, measured(spillway, 19, 21), measured(haproxy, 20, 22))
	// A round that was slow for both says nothing of either.
	f(goal{figure: "m10", than: nginx, most: 1.3}, true, measured(spillway, 9, 90, 9), measured(nginx, 7, 80, 8))
	f(goal{figure: "m10", than: caddy, most: 1 / cheaper}, true, measured(spillway, 10), measured(caddy, 17))
	f(goal{figure: "m10", than: caddy, most: 1 / cheaper}, false, measured(spillway, 10), measured(caddy, 16.9))
}

func TestJudgeOnlyWhatIsThere(t *testing.T) {
	than := goal{figure: "early", than: nginx, most: 1}
	f := func(moot bool, why string, cells ...*cell) {
		t.Helper()
		v := than.judge(row{Name: "early", Cells: cells})
		if v.Met || v.Moot != moot || !strings.Contains(v.Open, why) {
			t.Errorf("%+v, want not judged because of %q", v, why)
		}
	}
	f(false, "spillway was not asked for", measured(nginx, 1))
	f(false, "nginx was not asked for", measured(spillway, 1))
	f(false, "is not installed", measured(spillway, 1), &cell{Contender: nginx, Skipped: "is not installed"})
	f(true, "no early data", measured(spillway, 1), &cell{Contender: nginx, Skipped: "it takes no early data", Lacks: true})
	f(false, "was broken", &cell{Contender: spillway, Skipped: "was broken"}, measured(nginx, 1))
}

// What cannot be had here is missed under --strict; what nobody has is not.
func TestMissed(t *testing.T) {
	r := &result{Verdicts: []verdict{
		{Figure: "m10", Goal: "at most 10 µs", Measured: 8, Met: true},
		{Figure: "m10", Goal: "at most 1.3x of nginx", Measured: 1.4},
		{Figure: "m1", Goal: "no more than HAProxy", Open: "HAProxy: is not installed"},
		{Figure: "early", Goal: "1.7x cheaper than Caddy", Open: "Caddy: it takes no early data", Moot: true},
	}}
	missed := strings.Join(r.missed(), "\n")
	if strings.Count(missed, "\n") != 1 || !strings.Contains(missed, "m10 at most 1.3x of nginx: 1.40x") || !strings.Contains(missed, "m1 no more than HAProxy: not judged") {
		t.Errorf("missed:\n%s", missed)
	}
}

// Every goal is of a figure that a trial yields, and all CPU time is compared with Caddy's.
func TestGoalsAreOfFigures(t *testing.T) {
	figures := map[string]bool{}
	for _, trial := range trials {
		for _, f := range trial.figures {
			if figures[f.name] {
				t.Errorf("two figures are called %s", f.name)
			}
			figures[f.name] = true
			of := goalsOf(row{Name: f.name, CPU: f.cpu})
			if f.cpu && (len(of) == 0 || of[len(of)-1].than != caddy) {
				t.Errorf("%s is not compared with Caddy", f.name)
			}
		}
	}
	for _, g := range goals {
		if !figures[g.figure] {
			t.Errorf("a goal is of %s, which is not measured", g.figure)
		}
	}
}
