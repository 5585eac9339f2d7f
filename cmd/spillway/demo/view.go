package demo

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"spillway/edge/outcome"
)

// A view is the live picture of the demo on a terminal.
type view struct {
	press func(key string) error
	abort context.CancelFunc
	frame frame
	note  string
	width int
}

type ended struct{}

var keys = []struct{ key, does, undoes string }{
	{"h", "halve the origin", "restore the origin"},
	{"s", "slow it to half", "speed it up"},
	{"k", "kill the origin", "revive the origin"},
	{"t", "throttle the functions", "release the functions"},
	{"b", "empty the budget", "refill the budget"},
}

func (v *view) Init() tea.Cmd { return nil }

func (v *view) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case frame:
		v.frame = msg
	case tea.WindowSizeMsg:
		v.width = msg.Width
	case ended:
		return v, tea.Quit
	case tea.KeyPressMsg:
		switch key := msg.String(); key {
		case "q", "ctrl+c":
			v.abort()
			return v, tea.Quit
		default:
			if err := v.press(key); err != nil {
				v.note = err.Error()
			}
		}
	}
	return v, nil
}

var (
	bold  = lipgloss.NewStyle().Bold(true)
	faint = lipgloss.NewStyle().Faint(true)
	warm  = lipgloss.NewStyle().Foreground(lipgloss.Color("208"))
)

func (v *view) View() tea.View {
	f := v.frame
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s of %s   %s\n\n", bold.Render("Spillway: a flash crowd"),
		f.crowd.Elapsed.Round(time.Second), f.crowd.Length.Round(time.Second), faint.Render(f.crowd.Phase))
	fmt.Fprintf(&b, "visitors  %6.0f/s arriving   %5d present   p50 %5.0f ms   p99 %5.0f ms\n",
		f.crowd.Rate, f.crowd.InFlight, f.crowd.P50, f.crowd.P99)
	fmt.Fprintf(&b, "answers   %6d/s             %5d errors in all\n\n", f.crowd.Last.Answered, f.crowd.Errors)
	v.bars(&b)
	app, local := f.edge.Origins["app"], f.edge.Functions["local"]
	fmt.Fprintf(&b, "\norigin    %2d in flight of a learned limit of %d   capacity %.0f/s\n",
		f.origin.InFlight, app.Limit.Limit, f.origin.CapacityPerSecond)
	fmt.Fprintf(&b, "functions %2d in flight   %d calls   $%.4f as AWS Lambda would charge\n",
		local.InFlight, local.Calls, local.CostUSD)
	fmt.Fprintf(&b, "machine   %3.0f %% busy\n\n", f.busy*100)
	for i, k := range keys {
		text := k.does
		if f.toggles.on(i) {
			text = warm.Render(k.undoes)
		}
		fmt.Fprintf(&b, "%s %s   ", bold.Render(k.key), text)
	}
	fmt.Fprintf(&b, "%s quit\n%s\n", bold.Render("q"), warm.Render(v.note))
	return tea.NewView(b.String())
}

func (t toggles) on(i int) bool {
	return []bool{t.Halved, t.Slowed, t.Killed, t.Throttled, t.Emptied}[i]
}

// bars draws what the last second's requests came to.
func (v *view) bars(b *strings.Builder) {
	counts := v.frame.crowd.Last.Outcomes
	most := int64(1)
	for _, n := range counts {
		most = max(most, n)
	}
	room := int64(min(max(v.width-30, 20), 60))
	for _, o := range outcome.All {
		n := counts[string(o)]
		if n == 0 && !slices.Contains([]outcome.Outcome{outcome.Hit, outcome.Origin, outcome.Function, outcome.Shed}, o) {
			continue
		}
		fmt.Fprintf(b, "%-10s%5d/s %s\n", o, n, strings.Repeat("█", int(n*room/most)))
	}
}

// printFrame writes a frame as one line, where there is no terminal.
func printFrame(w io.Writer, f frame) {
	var parts []string
	for _, o := range outcome.All {
		if n := f.crowd.Last.Outcomes[string(o)]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", o, n))
		}
	}
	fmt.Fprintf(w, "%3.0fs %-6s %4.0f visitors/s  %-46s errors %d  p99 %4.0f ms  limit %d  busy %3.0f %%\n",
		f.crowd.Elapsed.Seconds(), f.crowd.Phase, f.crowd.Rate, strings.Join(parts, ", "), f.crowd.Errors,
		f.crowd.P99, f.edge.Origins["app"].Limit.Limit, f.busy*100)
}
