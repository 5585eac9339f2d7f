package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"spillway/cmd/surge/crowd"
)

// sample is a run in which something of everything happened.
func sample() Data {
	second := func(t int, offered, answered int64, outcomes, errs map[string]int64, p50, p99 float64) crowd.SecondResult {
		return crowd.SecondResult{
			T:       t,
			Counts:  crowd.Counts{Offered: offered, Answered: answered, Errors: offered - answered, Outcomes: outcomes, ClientErrors: errs},
			Latency: crowd.Latency{P50: p50, P99: p99},
		}
	}
	r := crowd.Result{
		Counts: crowd.Counts{
			Offered: 1_234_567, Answered: 1_234_000, Errors: 567,
			Outcomes:     map[string]int64{"origin": 234_000, "function": 1_000_000, "shed": 500},
			ClientErrors: map[string]int64{crowd.ClassTimeout: 67},
		},
		Latency:            crowd.Latency{P50: 12.34, P99: 456.7, P999: 1234},
		Protocol:           crowd.H3,
		Visitors:           617_284,
		RequestsPerVisitor: 2,
		Seconds:            3.2,
		Reasons:            map[string]int64{"function; origin-saturated": 1_000_000},
		OutcomeLatency:     map[string]crowd.Latency{"origin": {P50: 50, P99: 100, P999: 110}},
		Phases: []crowd.PhaseResult{
			{Name: "0.5x", From: 17.5, To: 17.5, Seconds: 1},
			{Name: "0.5x..10x", From: 17.5, To: 350, Start: 1, Seconds: 2},
		},
		PerSecond: []crowd.SecondResult{
			second(0, 40, 40, map[string]int64{"origin": 40}, nil, 5, 9),
			second(1, 400, 390, map[string]int64{"origin": 40, "function": 350}, map[string]int64{crowd.ClassTimeout: 10}, 20, 800),
			second(2, 10, 0, map[string]int64{"shed": 10}, nil, 0, 0),
		},
		Held:        &crowd.HeldResult{Asked: 3, Opened: 2, OpenAtEnd: 1, Errors: map[string]int64{"ended": 1}},
		Parameters:  crowd.Parameters{URLs: []string{`https://h/<script>alert("1")</script>&{visitor}`}, Capacity: 35, TimeoutS: 5, Addresses: crowd.CarrierNAT},
		Environment: crowd.Environment{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), CPU: "A & B <C>"},
	}
	return Data{
		Title:  "Demo <of> everything",
		Result: r,
		Tiles:  []Tile{{Label: "origin goodput", Value: "0.98", Note: "of 35/s"}},
		Series: []Series{
			{Chart: "Origin", Name: "limit", Unit: "requests", Points: []Point{{0, 2}, {1, 8}, {2, 7}}},
			{Chart: "CPU", Name: "edge", Unit: "cores", Points: []Point{{0, .1}, {2, .7}}},
			{Chart: "Origin", Name: "in <flight>", Unit: "requests", Points: []Point{{0, 1}, {1, 7}}},
		},
		Marks:  []Mark{{1.5, "origin & halved"}},
		Tables: []Table{{Title: "CPU", Head: []string{"part", "cores"}, Rows: [][]string{{"edge", "0.71"}}}},
		Notes:  []string{"The machine was <busy>."},
	}
}

func render(t *testing.T, d Data) string {
	t.Helper()
	var b bytes.Buffer
	if err := HTML(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHTMLIsWellFormed reads the page as XML, which is stricter than HTML: whatever
// is not closed or not escaped shows.
func TestHTMLIsWellFormed(t *testing.T) {
	for _, d := range []Data{sample(), {}, {Result: crowd.Result{PerSecond: make([]crowd.SecondResult, 5000)}}} {
		dec := xml.NewDecoder(strings.NewReader(render(t, d)))
		for {
			_, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%q: %v", d.Title, err)
			}
		}
	}
}

// TestHTMLIsSelfContained checks that the page loads nothing and runs nothing.
func TestHTMLIsSelfContained(t *testing.T) {
	dec := xml.NewDecoder(strings.NewReader(render(t, sample())))
	for {
		token, err := dec.Token()
		if err != nil {
			break
		}
		switch e := token.(type) {
		case xml.StartElement:
			switch e.Name.Local {
			case "script", "link", "img", "iframe", "object", "embed", "use", "image", "base", "form":
				t.Errorf("the page has an element %s", e.Name.Local)
			}
			for _, a := range e.Attr {
				if n := a.Name.Local; n == "src" || n == "href" || n == "srcset" || strings.HasPrefix(n, "on") {
					t.Errorf("%s has an attribute %s", e.Name.Local, n)
				}
			}
		case xml.CharData:
			if s := string(e); strings.Contains(s, "@import") || strings.Contains(s, "url(") {
				t.Errorf("the style loads something: %.80s", s)
			}
		}
	}
}

func TestHTMLShows(t *testing.T) {
	page := render(t, sample())
	for _, want := range []string{
		"Demo &lt;of&gt; everything", "1\u202f234\u202f567", "99.95 %", "12.3 ms", "457 ms", "1.23 s", // tiles
		"origin goodput", "0.98", "1x = 35/s", "origin &amp; halved", "0.5x..10x", "The machine was &lt;busy&gt;.",
		"the visitor lost patience", "function; origin-saturated", "3 asked, 2 opened, 1 open at the end, 1 ended",
		"in &lt;flight&gt;", "A &amp; B &lt;C&gt;", "2 January 2026",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if n := strings.Count(page, "<svg"); n != 4 {
		t.Errorf("%d plots, want 4: outcomes, latency, Origin, CPU", n)
	}
}

// TestStack checks the geometry of the plot that matters most: each second is as
// high as what was offered, and its layers add up to it.
func TestStack(t *testing.T) {
	d := sample()
	svg := string(outcomeChart(d).SVG)
	p := &plot{height: tall, max: 400, seconds: 3}
	path := func(class string) string {
		m := regexp.MustCompile(`<path class="` + class + `" d="([^"]*)"`).FindStringSubmatch(svg)
		if m == nil {
			t.Fatalf("no path %s in %s", class, svg)
		}
		return m[1]
	}
	at := func(x, y float64) string {
		var q plot
		q.printf("%.1f %.1f", p.x(x), p.y(y))
		return q.b.String()
	}
	f := func(class string, points ...string) {
		t.Helper()
		got := path(class)
		for _, want := range points {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no point %s in %s", class, want, got)
			}
		}
	}
	f("layer o-origin", at(0, 40), at(1, 40), at(2, 40), at(2, 0))
	f("layer o-function", at(1, 390), at(2, 390), at(1, 40))
	f("layer o-client-errors", at(1, 400), at(2, 400), at(1, 390))
	f("layer o-shed", at(2, 10), at(3, 10))
	f("line offered", at(0, 40), at(1, 400), at(2, 10))
}

func TestBins(t *testing.T) {
	var seconds []crowd.SecondResult
	for i := range 1000 {
		seconds = append(seconds, crowd.SecondResult{
			Counts: crowd.Counts{Offered: 2, Answered: 2, Outcomes: map[string]int64{"hit": 2}}, Latency: crowd.Latency{P99: float64(i)},
		})
	}
	step, bs := bins(seconds)
	if len(bs) > maxBins || float64(len(bs))*step < 1000 {
		t.Fatalf("%d bins of %g s", len(bs), step)
	}
	var offered, hits int64
	for _, b := range bs {
		offered += b.Offered
		hits += b.Outcomes["hit"]
	}
	if offered != 2000 || hits != 2000 || bs[0].p99 != step-1 {
		t.Errorf("%d offered, %d hits, worst of the first bin %g", offered, hits, bs[0].p99)
	}
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	if err := Text(&b, sample()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"99.95 %", "answered by a function", "timeout", "0.5x..10x", "part", "0.71", "The machine was <busy>."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if strings.TrimSuffix(line, "\n") != strings.TrimRight(line, " \n") {
			t.Errorf("trailing space in %q", line)
		}
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := JSON(&b, sample().Result); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); strings.Count(s, "\n") != 1 || !strings.HasPrefix(s, `{"offered":1234567,`) {
		t.Errorf("got %.100s", s)
	}
}

func TestProgress(t *testing.T) {
	got := Progress(crowd.Snapshot{
		Last: crowd.Counts{
			Offered: 700, Answered: 690, Errors: 10,
			Outcomes: map[string]int64{"hit": 350, "origin": 35, "function": 305}, ClientErrors: map[string]int64{"timeout": 10},
		},
		Latency: crowd.Latency{P50: 12, P99: 345},
		Phase:   "10x", Elapsed: 12 * time.Second, Length: time.Minute,
	})
	want := "12s/60s  10x        offered   700/s  answered   690/s  errors   10/s  p50    12 ms  p99   345 ms  " +
		"origin 35  function 305  hit 350  timeout 10"
	if strings.TrimSpace(got) != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestFormats(t *testing.T) {
	f := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(count(0), "0")
	f(count(999), "999")
	f(count(1000), "1\u202f000")
	f(count(-123456), "-123\u202f456")
	f(percent(0, 0), "–")
	f(percent(0, 10), "0 %")
	f(percent(10, 10), "100 %")
	f(percent(1, 1_000_000), "< 0.01 %")
	f(percent(999_999, 1_000_000), "> 99.99 %")
	f(percent(1, 300), "0.33 %")
	f(percent(1, 3), "33.3 %")
	f(millis(0), "–")
	f(millis(.25), "250 µs")
	f(millis(1.234), "1.23 ms")
	f(millis(999.4), "999 ms")
	f(millis(12345), "12.3 s")
	f(digits(350), "350")
	f(digits(17.5), "17.5")
	f(digits(1234567), "1234567")
	f(byteCount(1023), "1023 B")
	f(byteCount(1536), "1.5 KiB")
	f(byteCount(5<<30), "5 GiB")
	f(perSecond(35, 35), "35/s")
	f(perSecond(35, 350), "35–350/s")
}

func TestAxes(t *testing.T) {
	f := func(v, want float64) {
		t.Helper()
		if got := roundUp(v); got != want {
			t.Errorf("axis for %g ends at %g, want %g", v, got, want)
		}
	}
	f(0, 1)
	f(400, 400)
	f(783, 800)
	f(3, 3)
	f(1.01, 1.5)
	low, high := decades(4, 600)
	if low != 1 || high != 1000 {
		t.Errorf("decades from %g to %g", low, high)
	}
	if low, high = decades(10, 10); low != 10 || high != 100 {
		t.Errorf("decades from %g to %g", low, high)
	}
	for _, s := range []float64{.5, 30, 61, 600, 86400} {
		if n := s / timeStep(s); n > 12 {
			t.Errorf("%g labels for %g s", n, s)
		}
	}
}

func TestComparison(t *testing.T) {
	c := Comparison{
		Title: "Who <won>", Lead: "All met the same.", When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Tiles: []Tile{{Label: "targets met", Value: "3 of 4", Bad: true}}, Notes: []string{"a & b"},
		Verdicts: Table{Title: "Targets", Head: []string{"scenario", "met"}, Rows: [][]string{{"plain", "yes"}}},
		Sections: []Section{{
			Title: "plain", Lead: "A crowd.",
			Phases: []crowd.PhaseResult{{Name: "0.5x", Seconds: 2}, {Name: "10x", Start: 2, Seconds: 3}},
			Series: []Series{
				{Chart: "Work", Name: "ideal", Unit: "slots", Points: []Point{{.5, 2}, {1.5, 4}}},
				{Chart: "Latency", Name: "spillway", Unit: "ms", Log: true, Points: []Point{{.5, 12}, {1.5, 0}, {2.5, 3000}}},
				{Chart: "Work", Name: "haproxy", Unit: "slots", Points: []Point{{.5, 2}, {4.5, 3}}},
			},
			Marks:  []Mark{{1, "slots < all"}},
			Tables: []Table{{Title: "Measures", Head: []string{"measure", "spillway"}, Rows: [][]string{{"goodput", "0.99"}}}},
		}},
	}
	var text, page bytes.Buffer
	if err := errors.Join(c.Text(&text), c.HTML(&page)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Who <won>", "plain", "goodput", "0.99", "Targets", "yes", "a & b"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	for _, want := range []string{"Who &lt;won&gt;", "a &amp; b", "slots &lt; all", `<svg`, "haproxy", "0.99", "10x", ">10000</text>"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page.String(), "<script") || strings.Count(page.String(), "<svg") != 2 {
		t.Error("the page runs scripts, or has more or less than two plots")
	}
}
