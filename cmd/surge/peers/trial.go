package peers

import (
	"fmt"
	"strings"
	"time"
)

// A protocol is one of those that visitors speak, by its name in TLS (ALPN).
type protocol string

const (
	h1 protocol = "http/1.1"
	h2 protocol = "h2"
	h3 protocol = "h3"
)

// A shape is how work is cut into connections and requests.
type shape string

const (
	steady    shape = "steady"    // connections that stay, each with so many requests in flight
	visitors  shape = "visitors"  // a connection and a request each, at a rate or all at once
	returning shape = "returning" // the same, one after the other, of some who have a ticket
	idle      shape = "idle"      // connections that have asked once, and stay
	probing   shape = "probing"   // connections that stay, and requests at a rate
)

// A work is what a client does to a server.
type work struct {
	Shape       shape         `json:"shape"`
	Protocol    protocol      `json:"protocol"`
	Bytes       int           `json:"bytes"`
	Connections int           `json:"connections"`
	Streams     int           `json:"streams,omitempty"`
	Rate        float64       `json:"rate,omitempty"`  // a second; zero is all at once
	For         time.Duration `json:"for,omitempty"`   // zero is as long as was asked for
	Early       bool          `json:"early,omitempty"` // the request is 0-RTT data (RFC 8446 section 2.3)
}

// visitors is how many come in the time of the work.
func (w work) visitors() int {
	if w.Rate > 0 {
		return int(w.Rate * w.For.Seconds())
	}
	return w.Connections
}

const (
	warmUp   = 500 * time.Millisecond // of steady work
	idleHold = 10 * time.Second       // how long the idle are
)

// A trial is work that all contenders get, and what is read from it.
type trial struct {
	name  string
	about string
	work  work
	// beside is done by another process at the same time, and counts for nothing.
	beside work
	surge  bool // h2load cannot do it
	fresh  bool // every round needs a server that has just been started
	// oursOnly leaves out what others make.
	oursOnly bool
	rounds   int // at most; zero is as many as asked for
	figures  []figure
}

// A figure is one number of a trial, for each contender.
type figure struct {
	name  string // as in goals, and for programs
	title string
	unit  string
	cpu   bool // CPU time
	of    func(measurement) float64
}

// A measurement is what one round of a trial came to.
type measurement struct {
	tally
	CPU    time.Duration `json:"cpu"`
	Window time.Duration `json:"window"` // in which the CPU time was used
	Memory int64         `json:"memory"` // bytes that the server took in the window
}

func (m measurement) micros() float64 { return float64(m.CPU.Nanoseconds()) / 1e3 / float64(m.Answers) }

// busy is the share of its core that the server used.
func (m measurement) busy() float64 { return m.CPU.Seconds() / m.Window.Seconds() }

func perRequest(name, title string) figure {
	return figure{name: name, title: title, unit: "µs", cpu: true, of: measurement.micros}
}

func millis(d time.Duration) float64 { return d.Seconds() * 1e3 }

const (
	kib = 1 << 10
	gib = 1 << 30
)

var trials = []trial{
	{
		name: "m10", about: "50 connections, 10 requests in flight on each.",
		work:    work{Shape: steady, Protocol: h3, Bytes: kib, Connections: 50, Streams: 10},
		figures: []figure{perRequest("m10", "HTTP/3, 1 KiB, 50 connections x 10 streams")},
	},
	{
		name: "m1", about: "50 connections, one request in flight on each.",
		work:    work{Shape: steady, Protocol: h3, Bytes: kib, Connections: 50, Streams: 1},
		figures: []figure{perRequest("m1", "HTTP/3, 1 KiB, 50 connections x 1 stream")},
	},
	{
		name: "visitor-500", about: "A connection and one request each, 500 a second whatever the server does.",
		work:    work{Shape: visitors, Protocol: h3, Bytes: kib, Rate: 500},
		figures: []figure{perRequest("visitor-500", "New HTTP/3 visitor, 500/s")},
	},
	{
		name: "visitor-1500", about: "A connection and one request each, 1,500 a second whatever the server does.",
		work:    work{Shape: visitors, Protocol: h3, Bytes: kib, Rate: 1500},
		figures: []figure{perRequest("visitor-1500", "New HTTP/3 visitor, 1,500/s")},
	},
	{
		name: "resumed", about: "16 visitors, one connection after the other and a request on each, with a ticket of an earlier one.", surge: true,
		work:    work{Shape: returning, Protocol: h3, Bytes: kib, Connections: 16},
		figures: []figure{perRequest("resumed", "Resumed HTTP/3 visitor")},
	},
	{
		name: "early", about: "The same, and the request comes with the first packet (0-RTT).", surge: true,
		work:    work{Shape: returning, Protocol: h3, Bytes: kib, Connections: 16, Early: true},
		figures: []figure{perRequest("early", "0-RTT visitor")},
	},
	{
		name: "burst", about: "200 visitors at once, a connection and one request each.",
		work: work{Shape: visitors, Protocol: h3, Bytes: kib, Connections: 200},
		figures: []figure{
			{name: "burst-time", title: "200 HTTP/3 visitors at once, until all are answered", unit: "ms", of: func(m measurement) float64 { return millis(m.Took) }},
			perRequest("burst", "200 HTTP/3 visitors at once, each"),
		},
	},
	{
		name: "big", about: "Hits of 100 KiB, 50 connections, one request in flight on each.",
		work: work{Shape: steady, Protocol: h3, Bytes: 100 * kib, Connections: 50, Streams: 1},
		figures: []figure{{
			name: "big", title: "HTTP/3, 100 KiB", unit: "s/GiB", cpu: true,
			of: func(m measurement) float64 { return m.CPU.Seconds() / (float64(m.Answers) * 100 * kib / gib) },
		}},
	},
	{
		name: "h2", about: "50 connections, 10 requests in flight on each.",
		work:    work{Shape: steady, Protocol: h2, Bytes: kib, Connections: 50, Streams: 10},
		figures: []figure{perRequest("h2", "HTTP/2, 1 KiB, 50 connections x 10 streams")},
	},
	{
		name: "h1", about: "50 connections that are kept, one request in flight on each.",
		work:    work{Shape: steady, Protocol: h1, Bytes: kib, Connections: 50, Streams: 1},
		figures: []figure{perRequest("h1", "HTTP/1.1, 1 KiB, 50 connections")},
	},
	{
		name: "idle", about: fmt.Sprintf("1,000 connections that have asked once and are idle for %s; what the server's memory grew by.", idleHold),
		surge: true, fresh: true, rounds: 2,
		work: work{Shape: idle, Protocol: h3, Bytes: kib, Connections: 1000, For: idleHold},
		figures: []figure{{
			name: "idle", title: "Memory of an idle HTTP/3 connection", unit: "KiB",
			of: func(m measurement) float64 { return float64(m.Memory) / kib / float64(m.Answers) },
		}},
	},
	{
		name: "calm", about: "300 requests a second over 20 connections, and nothing else.", surge: true, oursOnly: true,
		work: work{Shape: probing, Protocol: h3, Bytes: kib, Connections: 20, Rate: 300},
		figures: []figure{
			{name: "calm-p99", title: "p99 of hits, no new visitors", unit: "ms", of: func(m measurement) float64 { return millis(m.P99) }},
		},
	},
	{
		name: "mixed", about: "300 requests a second over 20 connections that are there, while 1,000 new visitors a second shake hands.",
		surge: true, oursOnly: true,
		work:   work{Shape: probing, Protocol: h3, Bytes: kib, Connections: 20, Rate: 300},
		beside: work{Shape: visitors, Protocol: h3, Bytes: kib, Rate: 1000},
		figures: []figure{
			{name: "mixed-p50", title: "Median of hits beside 1,000 new visitors/s", unit: "ms", of: func(m measurement) float64 { return millis(m.P50) }},
			{name: "mixed-p99", title: "p99 of hits beside 1,000 new visitors/s", unit: "ms", of: func(m measurement) float64 { return millis(m.P99) }},
		},
	},
}

func trialNames() []string {
	names := make([]string, len(trials))
	for i, t := range trials {
		names[i] = t.name
	}
	return names
}

// leavesOut says why a contender has no part in a trial.
func (t trial) leavesOut(c *contender) string {
	switch {
	case t.oursOnly && !c.ours:
		return "asked of the node alone"
	case c.Name == noLog && (t.oursOnly || t.fresh):
		return "the log has no part in it"
	}
	return ""
}

func (t trial) roundsOf(asked int) int {
	if t.rounds > 0 {
		return min(t.rounds, asked)
	}
	return asked
}

// line says what one round came to.
func (t trial) line(m measurement) string {
	all := make([]string, len(t.figures))
	for i, f := range t.figures {
		all[i] = digits(f.of(m)) + " " + f.unit
	}
	return strings.Join(all, ", ") + fmt.Sprintf(" (%d answers, %.0f %% of its core)", m.Answers, 100*m.busy())
}
