package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A lackError says why a contender cannot do what a row asks for.
type lackError struct{ why string }

func (e *lackError) Error() string { return e.why }

// play measures a trial: all contenders in turn, each round beginning with another.
// What a contender cannot do is noted; only the end of ctx is an error.
func (b *bed) play(t trial, progress io.Writer) ([]row, error) {
	cells := make([]*cell, len(b.all))
	servers := make([]*server, len(b.all))
	defer func() {
		for _, s := range servers {
			if s != nil {
				s.stop()
			}
		}
	}()
	for i, c := range b.all {
		cells[i] = &cell{Contender: c.Name}
		if why := t.leavesOut(c); why != "" {
			cells[i].Skipped, cells[i].Lacks = why, true
		} else if c.Missing != "" {
			cells[i].Skipped = c.Missing
		}
	}
	for round := range t.roundsOf(b.rounds) {
		for k := range b.all {
			i := (k + round) % len(b.all)
			if cells[i].Skipped != "" {
				continue
			}
			m, err := b.measure(t, b.all[i], &servers[i])
			if b.ctx.Err() != nil {
				return nil, context.Cause(b.ctx)
			}
			if err != nil {
				// What it could not do once is not shown beside what it could.
				var lack *lackError
				cells[i].Skipped, cells[i].Lacks, cells[i].of = inShort(err.Error()), errors.As(err, &lack), nil
				fmt.Fprintf(progress, "%s  %-12s round %d  %s: %v\n", time.Now().Format(time.TimeOnly), t.name, round+1, b.all[i].Name, cells[i].Skipped)
				continue
			}
			cells[i].of = append(cells[i].of, m)
			fmt.Fprintf(progress, "%s  %-12s round %d  %-22s %s\n", time.Now().Format(time.TimeOnly), t.name, round+1, b.all[i].Name, t.line(m))
		}
	}
	return t.rows(cells, b), nil
}

// inShort is the first and the last line of what a program complained of.
func inShort(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) == 1 {
		return lines[0]
	}
	return lines[0] + " … " + lines[len(lines)-1]
}

// measure plays one trial at one contender, which is started unless it runs.
func (b *bed) measure(t trial, c *contender, at **server) (m measurement, err error) {
	if *at == nil {
		// Twice: its port may have been taken since it was found free.
		if *at, err = b.start(c); err != nil {
			*at, err = b.start(c)
		}
		if err != nil {
			return m, err
		}
	}
	s := *at
	if t.fresh {
		*at = nil
		defer s.stop()
	}
	asked := b.source.Count(path(t.work.Bytes))
	if m, err = b.load(t, s); err != nil {
		return m, err
	}
	if again := b.source.Count(path(t.work.Bytes)); again != asked {
		return m, fmt.Errorf("the origin was asked for what was stored, %d times", again-asked)
	}
	return m, nil
}
