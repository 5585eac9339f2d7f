package contest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"spillway/cmd/surge/contest/rival"
	"spillway/cmd/surge/report"
)

// Command is `surge contest`.
func Command() *cobra.Command {
	var (
		o              Options
		asJSON, strict bool
		page           string
	)
	cmd := &cobra.Command{
		Use:   "contest",
		Short: "Play flash crowds against Spillway and others, and compare",
		Long: `Contest plays flash crowds against Spillway, against HAProxy with a right and two
wrong numbers, and against other rules, all with the same arrivals and service
times, and compares them with an oracle that replays these in virtual time.

Each finished run is kept in --dir and not played again: a contest that was
interrupted goes on where it was. A run in which the driver itself was late is
marked, does not count, and is played again the next time.

The whole takes about an hour, on a machine with nothing else to do.`,
		Example: `  surge contest
  surge contest --scenario plain --contender spillway --contender haproxy-right
  surge contest --scenario foreign --json
  surge contest --short
  surge contest --show --strict`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			c, err := run(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if page == "" {
				page = filepath.Join(c.store.dir, "report.html")
			}
			return c.show(cmd.OutOrStdout(), cmd.ErrOrStderr(), page, asJSON, strict)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Scenarios, "scenario", nil, "only this one, or the group crowd or foreign; repeatable")
	f.StringSliceVar(&o.Contenders, "contender", nil, "only this one; fixed-N is Spillway with a limit of N; repeatable")
	f.StringVar(&o.Dir, "dir", filepath.Join("bin", "contest"), "folder of the results")
	f.BoolVar(&o.Short, "short", false, "a third of the time and one seed: shows that all works, measures nothing")
	f.BoolVar(&o.Again, "again", false, "play also what has been played")
	f.BoolVar(&o.Show, "show", false, "play nothing, and show what has been played")
	f.BoolVar(&asJSON, "json", false, "write one JSON object for each scenario and contender on standard output, the tables on standard error")
	f.BoolVar(&strict, "strict", false, "exit 1 when a target was missed, or not measured")
	f.StringVar(&page, "report", "", "file of the HTML report; by default report.html among the results")
	cmd.AddCommand(rival.Command())
	return cmd
}

// show writes the results in all forms.
func (c *contest) show(stdout, stderr io.Writer, page string, asJSON, strict bool) error {
	t := newTable(c)
	text := stdout
	if asJSON {
		text = stderr
		for _, row := range t.rows {
			if err := report.JSON(stdout, row); err != nil {
				return err
			}
		}
	}
	comparison := t.comparison()
	if err := comparison.Text(text); err != nil {
		return err
	}
	if err := writePage(page, comparison); err != nil {
		return err
	}
	fmt.Fprintf(text, "\nreport: %s\n", page)
	if missed := t.missed(); strict && missed > 0 {
		return fmt.Errorf("%d targets were missed or not measured", missed)
	}
	return nil
}

func writePage(file string, r report.Comparison) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return errors.Join(r.HTML(f), f.Close())
}
