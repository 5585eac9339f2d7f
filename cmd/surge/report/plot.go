package report

import (
	"fmt"
	"html"
	"math"
	"strings"

	"spillway/cmd/surge/crowd"
)

// The drawing area, in units of the SVG's view box. The browser scales it.
const (
	plotWidth  = 1000.0
	plotLeft   = 58.0
	plotRight  = 14.0
	plotTop    = 26.0
	plotBottom = 26.0

	letterWidth = 8.0 // of a label, roughly
)

// A plot is an SVG that is being drawn: time to the right, a value upwards.
type plot struct {
	b        strings.Builder
	height   float64
	seconds  float64 // the length of the time axis
	min, max float64 // of the value axis
	log      bool
}

func (p *plot) x(t float64) float64 {
	return plotLeft + (plotWidth-plotLeft-plotRight)*clamp(t/p.seconds)
}

func (p *plot) y(v float64) float64 {
	share := (v - p.min) / (p.max - p.min)
	if p.log {
		share = math.Log(max(v, p.min)/p.min) / math.Log(p.max/p.min)
	}
	return p.height - plotBottom - (p.height-plotTop-plotBottom)*clamp(share)
}

func clamp(v float64) float64 { return min(max(v, 0), 1) }

func (p *plot) printf(format string, a ...any) { fmt.Fprintf(&p.b, format, a...) }

// text writes a label; anchor is start, middle or end.
func (p *plot) text(x, y float64, class, anchor, s string) {
	p.printf(`<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(s))
}

// open starts the SVG, with a name for those who cannot see it.
func (p *plot) open(name string) {
	p.printf(`<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, plotWidth, p.height, html.EscapeString(name))
}

// phases draws the phases as bands with their names above.
func (p *plot) phases(phases []crowd.PhaseResult) {
	for i, ph := range phases {
		x0, x1 := p.x(ph.Start), p.x(ph.Start+ph.Seconds)
		if i%2 == 1 {
			p.printf(`<rect class="band" x="%.1f" y="%g" width="%.1f" height="%g"/>`, x0, plotTop, x1-x0, p.height-plotTop-plotBottom)
		}
		if float64(len(ph.Name))*letterWidth < x1-x0 {
			p.text((x0+x1)/2, plotTop-9, "phase", "middle", ph.Name)
		}
	}
}

// axes draws the grid and its labels.
func (p *plot) axes(label func(float64) string) {
	for _, v := range p.valueTicks() {
		p.printf(`<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, plotLeft, plotWidth-plotRight, p.y(v), p.y(v))
		p.text(plotLeft-8, p.y(v)+4, "tick", "end", label(v))
	}
	step := timeStep(p.seconds)
	for t := 0.0; t <= p.seconds+1e-9; t += step {
		p.printf(`<line class="notch" x1="%.1f" x2="%.1f" y1="%g" y2="%g"/>`, p.x(t), p.x(t), p.height-plotBottom, p.height-plotBottom+4)
		p.text(p.x(t), p.height-8, "tick", "middle", clock(t, p.seconds))
	}
}

// valueTicks returns some round values of the value axis.
func (p *plot) valueTicks() []float64 {
	var ticks []float64
	if p.log {
		for v := p.min; v <= p.max*1.001; v *= 10 {
			ticks = append(ticks, v)
		}
		return ticks
	}
	step := roundStep((p.max - p.min) / 4)
	for v := p.min; v <= p.max*1.001; v += step {
		ticks = append(ticks, v)
	}
	return ticks
}

// marks draws events as vertical lines.
func (p *plot) marks(marks []Mark) {
	for _, m := range marks {
		x := p.x(m.Seconds)
		p.printf(`<g class="mark"><line x1="%.1f" x2="%.1f" y1="%g" y2="%g"/>`, x, x, plotTop, p.height-plotBottom)
		anchor, dx := "start", 5.0
		if x > plotWidth*.75 {
			anchor, dx = "end", -5.0
		}
		p.text(x+dx, plotTop+12, "marktext", anchor, m.Text)
		p.printf(`</g>`)
	}
}

// tips lays an invisible strip over each stretch of time, which shows its numbers
// under the pointer.
func (p *plot) tips(step float64, n int, tip func(i int) string) {
	for i := range n {
		x0, x1 := p.x(float64(i)*step), p.x(float64(i+1)*step)
		if x1 <= x0 {
			continue
		}
		p.printf(`<rect class="tip" x="%.1f" y="%g" width="%.1f" height="%g"><title>%s</title></rect>`,
			x0, plotTop, x1-x0, p.height-plotTop-plotBottom, html.EscapeString(tip(i)))
	}
}

func (p *plot) close() string {
	p.printf(`</svg>`)
	return p.b.String()
}

// line draws a path through points; a NaN interrupts it.
func (p *plot) line(class string, points []Point) {
	p.printf(`<path class="line %s" d="`, class)
	pen := "M"
	for _, pt := range points {
		if math.IsNaN(pt.Value) {
			pen = "M"
			continue
		}
		p.printf("%s%.1f %.1f", pen, p.x(pt.Seconds), p.y(pt.Value))
		pen = "L"
	}
	p.printf(`"/>`)
}

// roundStep returns the smallest of 1, 2, 5 times a power of ten that is at least v.
func roundStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// roundUp returns the end of a value axis for values up to v.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	step := roundStep(v / 4)
	return math.Ceil(v/step*(1-1e-9)) * step
}

// timeStep returns a step of the time axis that makes at most 12 labels.
func timeStep(seconds float64) float64 {
	for _, s := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800} {
		if seconds/s <= 12 {
			return s
		}
	}
	return 3600 * math.Ceil(seconds/3600/12)
}

// clock writes a time of the axis.
func clock(t, length float64) string {
	switch {
	case length <= 120:
		return fmt.Sprintf("%.0f s", t)
	case length <= 7200:
		return fmt.Sprintf("%d:%02d", int(t)/60, int(t)%60)
	}
	return fmt.Sprintf("%d:%02d h", int(t)/3600, int(t)/60%60)
}
