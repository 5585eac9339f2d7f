package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"spillway/cmd/surge/crowd"
)

// maxBins is how many stretches of time a plot shows apart; more would be narrower
// than a pixel or two.
const maxBins = 240

// A chart is a plot with its title and legend.
type chart struct {
	Title  string
	Sub    string
	Legend []legend
	SVG    template.HTML // made here, with all text escaped
}

type legend struct{ Class, Name string }

func charts(d Data) []chart {
	out := []chart{outcomeChart(d), latencyChart(d)}
	for _, group := range groups(d.Series) {
		out = append(out, seriesChart(d, group))
	}
	return out
}

// span is the length of the time axis: that of the run, in whole seconds.
func span(d Data) float64 {
	s := 1.0
	for _, p := range d.Result.Phases {
		s = max(s, p.Start+p.Seconds)
	}
	return math.Ceil(max(s, float64(len(d.Result.PerSecond))))
}

// The heights of plots. The first is what a reader came for.
const (
	tall = 330
	flat = 240
)

// frame draws what all plots have in common under them.
func (p *plot) frame(d Data, name string, label func(float64) string) {
	p.seconds = span(d)
	p.open(name)
	p.phases(d.Result.Phases)
	p.axes(label)
}

// A bin is some neighbouring seconds.
type bin struct {
	crowd.Counts
	p50, p99 float64 // the worst of its seconds
	seconds  float64
}

func bins(seconds []crowd.SecondResult) (step float64, out []bin) {
	size := max((len(seconds)+maxBins-1)/maxBins, 1)
	for part := range slices.Chunk(seconds, size) {
		b := bin{seconds: float64(len(part)), Counts: crowd.Counts{Outcomes: map[string]int64{}, ClientErrors: map[string]int64{}}}
		for _, s := range part {
			b.Offered += s.Offered
			b.Answered += s.Answered
			b.Errors += s.Errors
			addTo(b.Outcomes, s.Outcomes)
			addTo(b.ClientErrors, s.ClientErrors)
			b.p50, b.p99 = max(b.p50, s.P50), max(b.p99, s.P99)
		}
		out = append(out, b)
	}
	return float64(size), out
}

func addTo(sum, more map[string]int64) {
	for k, n := range more {
		sum[k] += n
	}
}

// outcomeChart stacks what became of the requests offered in each second. The
// whole stack is what was offered.
func outcomeChart(d Data) chart {
	step, bs := bins(d.Result.PerSecond)
	high := 0.0
	for _, b := range bs {
		high = max(high, float64(b.Offered)/b.seconds)
	}
	p := &plot{height: tall, max: roundUp(high)}
	p.frame(d, "Requests per second by outcome", digits)
	c := chart{Title: "What became of the requests", Sub: "per second, by the second in which they were offered"}
	base := make([]float64, len(bs))
	for _, layer := range present(d.Result.Counts) {
		p.layer(layer, step, bs, base)
		c.Legend = append(c.Legend, legend{className(layer), layer})
	}
	slices.Reverse(c.Legend) // read from top to bottom, as the stack is
	p.outline(step, base)
	if cap := d.Result.Parameters.Capacity; cap > 0 && cap < p.max {
		p.printf(`<line class="capacity" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, plotLeft, plotWidth-plotRight, p.y(cap), p.y(cap))
		p.text(plotWidth-plotRight-4, p.y(cap)-5, "capacitytext", "end", "1x = "+digits(cap)+"/s")
	}
	p.marks(d.Marks)
	p.tips(step, len(bs), func(i int) string { return binTip(bs[i], float64(i)*step) })
	c.SVG = template.HTML(p.close())
	return c
}

// layer draws one outcome on top of base, and raises base by it.
func (p *plot) layer(name string, step float64, bs []bin, base []float64) {
	if len(bs) == 0 {
		return
	}
	var up, down strings.Builder
	for i, b := range bs {
		top := base[i] + float64(layerCount(b.Counts, name))/b.seconds
		x0, x1 := p.x(float64(i)*step), p.x(float64(i+1)*step)
		fmt.Fprintf(&up, "L%.1f %.1fL%.1f %.1f", x0, p.y(top), x1, p.y(top))
		base[i] = top
	}
	for i := len(bs) - 1; i >= 0; i-- {
		bottom := base[i] - float64(layerCount(bs[i].Counts, name))/bs[i].seconds
		x0, x1 := p.x(float64(i)*step), p.x(float64(i+1)*step)
		fmt.Fprintf(&down, "L%.1f %.1fL%.1f %.1f", x1, p.y(bottom), x0, p.y(bottom))
	}
	p.printf(`<path class="layer %s" d="M%s%sZ"/>`, className(name), up.String()[1:], down.String())
}

// outline draws the top of the stack: what was offered.
func (p *plot) outline(step float64, tops []float64) {
	var points []Point
	for i, v := range tops {
		points = append(points, Point{float64(i) * step, v}, Point{float64(i+1) * step, v})
	}
	p.line("offered", points)
}

func binTip(b bin, at float64) string {
	var s strings.Builder
	fmt.Fprintf(&s, "at %s\noffered %s/s, answered %s/s, errors %s/s\n", clock(at, at),
		digits(float64(b.Offered)/b.seconds), digits(float64(b.Answered)/b.seconds), digits(float64(b.Errors)/b.seconds))
	for _, w := range byLayer(b.Counts) {
		fmt.Fprintf(&s, "%s %s/s\n", w, digits(float64(b.Outcomes[w])/b.seconds))
	}
	for _, class := range byCount(b.ClientErrors) {
		fmt.Fprintf(&s, "%s %s/s\n", class, digits(float64(b.ClientErrors[class])/b.seconds))
	}
	fmt.Fprintf(&s, "p50 %s, p99 %s", millis(b.p50), millis(b.p99))
	return s.String()
}

// latencyChart shows the percentiles of each second on a log scale, on which a
// doubling looks the same everywhere.
func latencyChart(d Data) chart {
	step, bs := bins(d.Result.PerSecond)
	low, high := math.Inf(1), 0.0
	lines := map[string][]Point{}
	for i, b := range bs {
		for name, v := range map[string]float64{"p50": b.p50, "p99": b.p99} {
			if v == 0 {
				v = math.NaN() // nothing was answered
			} else {
				low, high = min(low, v), max(high, v)
			}
			lines[name] = append(lines[name], Point{(float64(i) + .5) * step, v})
		}
	}
	low, high = decades(low, high)
	p := &plot{height: flat, min: low, max: high, log: true}
	p.frame(d, "Latency per second", millisShort)
	p.line("p99", lines["p99"])
	p.line("p50", lines["p50"])
	p.marks(d.Marks)
	p.tips(step, len(bs), func(i int) string { return binTip(bs[i], float64(i)*step) })
	return chart{
		Title:  "Latency of the answers",
		Sub:    "from the intended time of the visitor's arrival; log scale",
		Legend: []legend{{"p99", "99 %"}, {"p50", "median"}},
		SVG:    template.HTML(p.close()),
	}
}

// decades widens a range to whole powers of ten, at least one apart.
func decades(low, high float64) (float64, float64) {
	if high == 0 {
		return 1, 10
	}
	a, b := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	if a == b {
		b++
	}
	return math.Pow(10, a), math.Pow(10, b)
}

// groups puts series with the same Chart together, in the order of their first.
func groups(series []Series) [][]Series {
	var out [][]Series
	for _, s := range series {
		i := slices.IndexFunc(out, func(g []Series) bool { return g[0].Chart == s.Chart })
		if i < 0 {
			i, out = len(out), append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	return out
}

// seriesColors is how many colours there are for lines that are not outcomes.
const seriesColors = 9

func seriesChart(d Data, group []Series) chart {
	low, high := math.Inf(1), 0.0
	for _, s := range group {
		for _, pt := range s.Points {
			high = max(high, pt.Value)
			if pt.Value > 0 {
				low = min(low, pt.Value)
			}
		}
	}
	p := &plot{height: flat, max: roundUp(high * 1.05)} // a line along the edge is hard to see
	if group[0].Log {
		p.log = true
		p.min, p.max = decades(low, high)
	}
	p.frame(d, group[0].Chart, digits)
	c := chart{Title: group[0].Chart, Sub: group[0].Unit}
	for i, s := range group {
		class := fmt.Sprintf("s%d", i%seriesColors)
		p.line(class, s.Points)
		c.Legend = append(c.Legend, legend{class, s.Name})
	}
	p.marks(d.Marks)
	n := int(p.seconds)
	step := max(math.Ceil(p.seconds/maxBins), 1)
	p.tips(step, int(float64(n)/step), func(i int) string { return seriesTip(group, float64(i)*step, step) })
	c.SVG = template.HTML(p.close())
	return c
}

// seriesTip tells the last value of each series in a stretch of time.
func seriesTip(group []Series, at, step float64) string {
	var s strings.Builder
	fmt.Fprintf(&s, "at %s", clock(at, at))
	for _, one := range group {
		for _, pt := range slices.Backward(one.Points) {
			if pt.Seconds >= at && pt.Seconds < at+step {
				fmt.Fprintf(&s, "\n%s %s", one.Name, digits(pt.Value))
				break
			}
		}
	}
	return s.String()
}

// millisShort labels a power of ten of milliseconds.
func millisShort(ms float64) string { return strings.ReplaceAll(millis(ms), " ", "\u202f") }

// className makes a CSS class of an outcome.
func className(layer string) string { return "o-" + strings.ReplaceAll(layer, " ", "-") }
