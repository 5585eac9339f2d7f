package contest

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"spillway/cmd/surge/contest/foreign"
	"spillway/cmd/surge/crowd"
	"spillway/cmd/surge/origin"
)

// A Scenario is a crowd and what it meets.
type Scenario struct {
	Name   string
	About  string // a sentence for the report
	Phases string // as crowd.ParsePhases reads them; 1x is what the origin can do
	Origin origin.Config
	Seeds  int

	Classes []Class
	Shift   [2]time.Duration // from when to when the classes have their other shares

	Uploads  float64 // share of the requests that upload
	Upload   int64   // bytes of one
	Retries  int     // of a visitor who got no good answer; see load.Config
	Network  *Network
	Events   []Event
	Patience time.Duration // after which an answer is of no use
	Foreign  string        // the name of an origin that is not ours; see package foreign
	// Right is the limit that an operator who knows everything would set, without a
	// queue: the oracle's for the first seed.
	Right int

	// Stretched is by how much the origin is slower than it is called, so that the
	// machine can play the crowd; 1 is not at all. Every time that counts in service
	// times is stretched too, so numbers in flight and shares mean what they say.
	Stretched float64

	Contenders []string

	// fit changes a scenario that may be too much for the machine; nil leaves it.
	fit func(*Scenario, Machine)
}

// A Class is requests of one path that are alike.
type Class struct {
	Path         string
	Times        float64 // the mean service time
	Share, Other float64 // of the requests; Other while shifted
}

// A Network is what lies between the visitors and the edge.
type Network struct {
	RTT       time.Duration
	Loss      float64
	SlowShare float64 // of the visitors, who have a connection for themselves
	SlowRate  int64   // bytes a second of such a connection
	Uploads   bool    // those who upload are the slow ones
}

// An Event changes something during the run.
type Event struct {
	At       time.Duration
	Text     string
	Slots    int     // of the origin; 0 leaves them
	Speed    float64 // of the origin; 0 leaves it
	Dead     *bool   // of the origin
	Throttle *bool   // of the function platform
}

// The schedules.
const (
	plain = "0.5x:7s,0.5x..3x:1s,3x:9s,3x..10x:1s,10x:9s,10x..0.5x:1s,0.5x:7s,0.9x:10s"
	long  = "0.5x:6s,0.5x..3x:1s,3x:4s,3x..10x:1s,10x:17s,10x..0.5x:1s,0.5x:5s,0.9x:10s"
	half  = "0.5x:8s,0.5x..3x:1s,3x:18s,3x..0.5x:1s,0.5x:7s,0.9x:10s"
	cold  = "3x:16s,3x..0.5x:1s,0.5x:10s,0.9x:18s"
	huge  = "0.5x:10s,0.5x..3x:1s,3x:39s,3x..0.5x:1s,0.5x:9s,0.9x:30s" // since it may be stretched
	brief = "0.5x:5s,3x:12s,0.9x:8s"                                   // for a sweep of limits
)

// reference is the origin: 4 slots of 20 ms that share the processor, lose speed
// beyond 1.5 times as many requests, and know nothing of those who left.
func reference() origin.Config {
	return origin.Config{
		Model: origin.Sharing, Slots: 4, Service: 20 * time.Millisecond, CV: 1, Knee: 1.5, Thrash: .05, Backlog: 1024,
	}
}

// pair is who plays the scenarios of one seed.
var pair = []string{"spillway", "haproxy-right"}

// Scenarios returns those with the reference origin, and then those with the
// foreign ones.
func Scenarios() []Scenario {
	list := append(crowds(), sweeps()...)
	for i := range list {
		list[i].fill()
	}
	return list
}

func crowds() []Scenario {
	return []Scenario{
		{
			Name: "plain", About: "A crowd of three and ten times what the origin can do.", Phases: plain, Seeds: 3,
			Contenders: []string{"spillway", "haproxy-right", "haproxy-high", "haproxy-low", "none", "failsafe", "spandana", "spillway-h3"},
		},
		{
			Name: "mix", About: "Requests of 10 ms with a fifth of 40 ms become nearly all of 40 ms while the crowd is there.", Phases: plain,
			Classes: []Class{{"/light", .5, .8, .05}, {"/heavy", 2, .2, .95}}, Shift: [2]time.Duration{7 * time.Second, 28 * time.Second},
		},
		{
			Name: "slots", About: "Half of the origin's slots are gone for six seconds at ten times its capacity.", Phases: long,
			Events: []Event{{At: 17 * time.Second, Text: "slots halved", Slots: 2}, {At: 23 * time.Second, Text: "slots back", Slots: 4}},
		},
		{
			Name: "speed", About: "The origin works at half its speed for six seconds at ten times its capacity.", Phases: long,
			Events: []Event{{At: 17 * time.Second, Text: "speed halved", Speed: .5}, {At: 23 * time.Second, Text: "speed back", Speed: 1}},
		},
		{Name: "variance", About: "Service times with four times the variance.", Phases: plain},
		{Name: "small", About: "An origin of 2 slots of 100 ms: 20 requests a second.", Phases: plain},
		{Name: "large", About: "An origin of 160 slots.", Phases: huge, fit: stretchToFit},
		{
			Name: "wan", About: "Visitors 80 ms away, with 1 % loss over HTTP/3, one in ten at 256 kbit/s; answers of 4 KiB.", Phases: plain, fit: lowerToFit,
			Network:    &Network{RTT: 80 * time.Millisecond, Loss: .01, SlowShare: .1, SlowRate: 32_000},
			Contenders: []string{"spillway", "haproxy-right", "spillway-h3"},
		},
		{Name: "cold", About: "The edge starts with an empty state into three times the origin's capacity.", Phases: cold},
		{
			Name: "upload", About: "One visitor in twenty uploads 1 MiB at 2 MiB/s.", Phases: half,
			Uploads: .05, Upload: 1 << 20, Network: &Network{SlowRate: 2 << 20, Uploads: true},
		},
		{Name: "retries", About: "Visitors ask again up to three times, at once, after an error or a second without an answer.", Phases: plain, Retries: 3},
		{
			Name: "dead", About: "The origin is dead for five seconds at three times its capacity.", Phases: half,
			Events: []Event{{At: 14 * time.Second, Text: "origin dies", Dead: new(true)}, {At: 19 * time.Second, Text: "origin is back", Dead: new(false)}},
		},
		{
			Name: "throttle", About: "The function platform refuses all calls for five seconds at three times the origin's capacity.", Phases: half,
			Events: []Event{{At: 14 * time.Second, Text: "functions throttled", Throttle: new(true)}, {At: 19 * time.Second, Text: "throttle ends", Throttle: new(false)}},
		},
	}
}

// sweeps meet each foreign origin with limits that do not move, of which the best
// is what Spillway is to equal.
func sweeps() []Scenario {
	var list []Scenario
	for _, k := range foreign.Kinds {
		s := Scenario{
			Name: k.Name, About: k.About + ".", Phases: brief, Foreign: k.Name, Contenders: []string{"spillway"},
			Origin: origin.Config{Model: origin.FIFO, Slots: k.Slots, Service: k.Service, CV: .5},
		}
		for _, share := range []float64{.5, 1, 1.5, 2, 3, 5} {
			if n := fmt.Sprintf("fixed-%d", max(1, int(share*float64(k.Inside)))); !slices.Contains(s.Contenders, n) {
				s.Contenders = append(s.Contenders, n)
			}
		}
		list = append(list, s)
	}
	return list
}

// fill completes a scenario by the reference.
func (s *Scenario) fill() {
	if s.Foreign == "" {
		s.Origin = reference()
	}
	switch s.Name {
	case "variance":
		s.Origin.CV = 2
	case "small":
		s.Origin.Slots, s.Origin.Service = 2, 100*time.Millisecond
	case "large":
		s.Origin.Slots = 160
	case "wan":
		s.Origin.Body = 4 << 10
	}
	if s.Classes == nil {
		s.Classes = []Class{{"/page", 1, 1, 1}}
	}
	if s.Seeds == 0 {
		s.Seeds = 1
	}
	if s.Contenders == nil {
		s.Contenders = pair
	}
	s.Stretched = 1
	s.patience()
}

// patience is fifty service times, as the time-outs of an edge should be, and at
// least a second.
func (s *Scenario) patience() {
	s.Patience = max(time.Second, 50*s.Origin.Service)
	s.Origin.Patience = s.Patience
}

// capacity is how many mean requests the origin can do in a second: 1x.
func (s *Scenario) capacity() float64 { return float64(s.Origin.Slots) / s.Origin.Service.Seconds() }

// phases returns the schedule. It is a constant of this package and so parses.
func (s *Scenario) phases() []crowd.Phase {
	phases, err := crowd.ParsePhases(s.Phases, s.capacity())
	if err != nil {
		panic("BUG: phases of scenario " + s.Name + ": " + err.Error())
	}
	return phases
}

// peak is the highest rate of the schedule, in requests a second.
func (s *Scenario) peak() float64 {
	most := 0.0
	for _, p := range s.phases() {
		most = max(most, p.From, p.To)
	}
	return most
}

// stretch slows the origin down until the machine can play the crowd.
func (s *Scenario) stretch(perSecond float64) {
	if s.Stretched = max(1, s.peak()/perSecond); s.Stretched == 1 {
		return
	}
	s.Stretched = math.Ceil(s.Stretched*10) / 10
	s.Origin.Service = time.Duration(float64(s.Origin.Service) * s.Stretched)
	s.patience()
}

// lower bounds the rates of the schedule, and reports whether any was above.
func (s *Scenario) lower(multiple float64) bool {
	lowered := false
	var parts []string
	for part := range strings.SplitSeq(s.Phases, ",") {
		rates, length, _ := strings.Cut(part, ":")
		var bounded []string
		for rate := range strings.SplitSeq(rates, "..") {
			if v, err := strconv.ParseFloat(strings.TrimSuffix(rate, "x"), 64); err == nil && v > multiple {
				rate, lowered = fmt.Sprintf("%gx", multiple), true
			}
			bounded = append(bounded, rate)
		}
		parts = append(parts, strings.Join(bounded, "..")+":"+length)
	}
	s.Phases = strings.Join(parts, ",")
	return lowered
}

// shorten makes every time of the schedule shorter by the factor. What a short run
// measures is not to be quoted; it shows that everything works.
func (s *Scenario) shorten(factor float64) {
	scale := func(d time.Duration) time.Duration { return time.Duration(float64(d) * factor) }
	var parts []string
	for part := range strings.SplitSeq(s.Phases, ",") {
		rate, text, _ := strings.Cut(part, ":")
		length, err := time.ParseDuration(text)
		if err != nil {
			panic("BUG: phases of scenario " + s.Name + ": " + err.Error())
		}
		parts = append(parts, fmt.Sprintf("%s:%s", rate, scale(length)))
	}
	s.Phases = strings.Join(parts, ",")
	s.Shift = [2]time.Duration{scale(s.Shift[0]), scale(s.Shift[1])}
	s.Events = slices.Clone(s.Events)
	for i := range s.Events {
		s.Events[i].At = scale(s.Events[i].At)
	}
	s.Seeds = 1
}
