package contest

import (
	"math"
	"strings"
	"time"

	"spillway/cmd/surge/contest/ideal"
)

// A Measure is one of the numbers that a run is judged by.
type Measure struct {
	Name   string
	Text   string
	Unit   string // "", ms, s, %, us, n or $
	Better int    // 1: more is better, -1: less is, 0: neither
}

// The measures, in the order of the tables.
var measures = []Measure{
	{"goodput_3x", "useful work of the origin at 3x, against the ideal", "", 1},
	{"goodput_10x", "the same at 10x", "", 1},
	{"goodput_step", "in the first 4 s after the step to 3x", "", 1},
	{"goodput_event", "in the first 4 s after an event, the worst", "", 1},
	{"goodput_all", "in all phases above 1x", "", 1},
	{"p50_peak", "median of what the origin answered, at the highest load", "ms", -1},
	{"p99_peak", "99th percentile of it", "ms", -1},
	{"p99_inside", "99th percentile of the stay in the origin", "ms", -1},
	{"p99_ratio", "p99_peak against the unloaded origin's", "", -1},
	{"p99_ideal", "p99_peak against the ideal's", "", -1},
	{"p999_all", "99.9th percentile of all answers", "ms", -1},
	{"errors", "share of all requests without a good answer", "%", -1},
	{"spill_0.5x", "share that left the origin at 0.5x", "%", -1},
	{"spill_0.9x", "share that left the origin at 0.9x", "%", -1},
	{"spill_0.9x_over", "points of that above the best fixed limit's", "%", -1},
	{"spill_under", "share that left the origin below 1x", "%", -1},
	{"avoidable", "share of the spilled that came while a slot was idle", "%", -1},
	{"convergence", "from the step to 3x until goodput and latency are steady", "s", -1},
	{"recovery", "from the end of overload until they are again", "s", -1},
	{"cold", "instances of the function that had to be started", "n", -1},
	{"usd", "what the functions cost", "$", -1},
	{"usd_per_million", "for a million that they answered", "$", -1},
	{"ledger", "what the node booked, against the bill", "", 0},
	{"cpu", "CPU time of the contender for a request", "us", -1},
	{"cpu_bench", "that of the crowd, the origin and the functions", "us", 0},
	{"lag", "99th percentile of what the driver was late", "ms", 0},
	{"busy", "share of the machine's CPU time in use at the highest load", "%", 0},
}

// never is the time of what did not happen.
const never = 99

// stepLength is how long a step is looked at.
const stepLength = 4 * time.Second

// A Phase is what happened in one phase of the schedule.
type Phase struct {
	Name    string  `json:"name"`
	Start   float64 `json:"start_s"`
	Seconds float64 `json:"seconds"`
	Offered int     `json:"offered"`
	Goodput float64 `json:"goodput"` // against the ideal
	P50     float64 `json:"p50_ms"`  // of what the origin answered
	P99     float64 `json:"p99_ms"`
	Spilled float64 `json:"spilled"` // share
	Ideal   float64 `json:"spilled_ideal"`
	Errors  float64 `json:"errors"` // share
}

// measure computes all measures of a run. One that the scenario has no meaning for
// is left out.
func (e *evidence) measure() (map[string]float64, []Phase) {
	p := e.plan
	m := map[string]float64{}
	set := func(name string, v float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			m[name] = v
		}
	}
	real, ideals := e.stays(), p.idealStays()
	ratio := func(w ideal.Window) float64 { return work(real, w) / work(ideals, w) }

	var phases []Phase
	peak, most := ideal.Window{}, 0.0
	var done, could float64
	for i, ph := range p.phases {
		w := p.window(i)
		phase := e.phase(ph.Name, w, ratio(w))
		phases = append(phases, phase)
		if strings.Contains(ph.Name, "..") {
			continue
		}
		if ph.To > most {
			peak, most = w, ph.To
		}
		if ph.From >= p.scenario.capacity() {
			done, could = done+work(real, w), could+work(ideals, w)
			set("goodput_"+ph.Name, phase.Goodput)
		}
	}
	set("goodput_all", done/could)
	if at, ok := p.step(); ok {
		set("goodput_step", ratio(p.cut(ideal.Window{From: at, To: at + stepLength})))
		set("convergence", e.convergence(at, real, ideals))
	}
	worst := math.Inf(1)
	for _, c := range p.changes {
		if c.Slots > 0 { // a dead origin does no work, and the ideal none with it
			worst = min(worst, ratio(p.cut(ideal.Window{From: c.At, To: c.At + stepLength})))
		}
	}
	set("goodput_event", worst)
	if at, ok := p.release(); ok {
		set("recovery", e.recovery(at))
	}
	admitted := e.admitted(peak)
	set("p50_peak", quantile(admitted, .5))
	set("p99_peak", quantile(admitted, .99))
	set("p99_inside", quantile(e.inside(peak), .99))
	set("p99_ratio", quantile(admitted, .99)/p.unloadedIn(peak))
	set("p99_ideal", quantile(admitted, .99)/quantile(p.admitted(peak), .99))
	e.measureSpill(set)
	e.measureCost(set)
	set("p999_all", quantile(e.answers(), .999))
	set("errors", e.errors(ideal.Window{To: p.length()}))
	set("lag", quantile(e.lags(), .99))
	set("busy", e.busyIn(peak))
	return m, phases
}

// phase sums a phase up.
func (e *evidence) phase(name string, w ideal.Window, goodput float64) Phase {
	from, to := e.plan.between(w)
	admitted := e.admitted(w)
	finite := func(v float64) float64 { // JSON has no NaN
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0
		}
		return v
	}
	return Phase{
		Name: name, Start: w.From.Seconds(), Seconds: (w.To - w.From).Seconds(), Offered: to - from, Goodput: finite(goodput),
		P50: finite(quantile(admitted, .5)), P99: finite(quantile(admitted, .99)),
		Spilled: finite(e.spilled(w)), Ideal: finite(e.plan.spilled(w)), Errors: finite(e.errors(w)),
	}
}

// measureSpill tells what left the origin though it had room.
func (e *evidence) measureSpill(set func(string, float64)) {
	p := e.plan
	under, requests := 0.0, 0.0
	by := map[string][3]float64{} // spilled, spilled by the ideal, offered
	for i, ph := range p.phases {
		if max(ph.From, ph.To) >= p.scenario.capacity() {
			continue
		}
		w := p.window(i)
		from, to := p.between(w)
		n := float64(to - from)
		if n == 0 {
			continue
		}
		sum := by[ph.Name]
		by[ph.Name] = [3]float64{sum[0] + e.spilled(w)*n, sum[1] + p.spilled(w)*n, sum[2] + n}
		under, requests = under+e.spilled(w)*n, requests+n
	}
	for name, sum := range by {
		set("spill_"+name, sum[0]/sum[2])
	}
	if sum := by["0.9x"]; sum[2] > 0 {
		set("spill_0.9x_over", (sum[0]-sum[1])/sum[2])
	}
	set("spill_under", under/requests)
	if p.scenario.Foreign != "" {
		return // nobody sees its slots
	}
	inside := e.occupancy()
	spilled, idle := 0.0, 0.0
	for i, s := range e.samples {
		if s.Place != "function" {
			continue
		}
		at := p.requests[i].At + s.Lag
		spilled++
		if inside.when(at) < p.slotsAt(at) {
			idle++
		}
	}
	if spilled > 0 {
		set("avoidable", idle/spilled)
	}
}

// measureCost tells what it cost, in money and in CPU time.
func (e *evidence) measureCost(set func(string, float64)) {
	answered := 0.0
	for _, s := range e.samples {
		if s.Place == "function" && s.OK() {
			answered++
		}
	}
	set("cold", float64(e.stats.ColdStarts))
	set("usd", e.bill.USD)
	if answered > 0 {
		set("usd_per_million", e.bill.USD/answered*1e6)
		set("ledger", e.ledger/e.bill.USD)
	}
	set("cpu", float64(e.cpu.Microseconds())/float64(len(e.samples)))
	set("cpu_bench", float64(e.own.Microseconds())/float64(len(e.samples)))
}

// spilled is the share of the window's requests that a function answered.
func (e *evidence) spilled(w ideal.Window) float64 {
	from, to := e.plan.between(w)
	n := 0
	for _, s := range e.samples[from:to] {
		if s.Place == "function" {
			n++
		}
	}
	return float64(n) / float64(to-from)
}

// spilled is the same of the ideal.
func (p *plan) spilled(w ideal.Window) float64 {
	from, to := p.between(w)
	n := 0
	for _, f := range p.ideal.fates[from:to] {
		if !f.Served {
			n++
		}
	}
	return float64(n) / float64(to-from)
}

func (e *evidence) errors(w ideal.Window) float64 {
	from, to := e.plan.between(w)
	n := 0
	for _, s := range e.samples[from:to] {
		if !s.OK() {
			n++
		}
	}
	return float64(n) / float64(to-from)
}

// answers returns the latencies of all good answers over the shared connections.
func (e *evidence) answers() []float64 {
	var all []float64
	for i, s := range e.samples {
		if s.OK() && !e.plan.requests[i].Alone {
			all = append(all, milliseconds(s.Took))
		}
	}
	return all
}

func (e *evidence) lags() []float64 {
	all := make([]float64, len(e.samples))
	for i, s := range e.samples {
		all[i] = milliseconds(s.Lag)
	}
	return all
}

// busyIn is the mean over the seconds of the window.
func (e *evidence) busyIn(w ideal.Window) float64 {
	sum, n := 0.0, 0.0
	for i, b := range e.busy {
		if at := time.Duration(i) * time.Second; at >= w.From && at < w.To {
			sum, n = sum+b, n+1
		}
	}
	return sum / n
}

// window is when a phase is.
func (p *plan) window(phase int) ideal.Window {
	start := time.Duration(0)
	for _, ph := range p.phases[:phase] {
		start += ph.Length
	}
	return ideal.Window{From: start, To: start + p.phases[phase].Length}
}

// cut keeps a window within the schedule.
func (p *plan) cut(w ideal.Window) ideal.Window {
	return ideal.Window{From: w.From, To: min(w.To, p.length())}
}
