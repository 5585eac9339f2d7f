package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"spillway/cmd/spillway/demo"
	"spillway/cmd/surge/crowd"
)

// newDemoCommand is `spillway demo`.
func newDemoCommand() *cobra.Command {
	var o demo.Options
	var presses []string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a flash crowd on this machine",
		Long: `Show a flash crowd on this machine: starts a reference origin of 30 requests a
second that draws pictures, a function host and an edge on its defaults, and
sends a crowd that grows to ten times what the origin can do. It needs no root,
no cloud account, and ends by itself in about a minute.

In the live view, press h to halve the origin, s to slow it, k to kill it, t to
throttle the functions, b to empty the budget; press again to undo.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Presses, err = parsePresses(presses); err != nil {
				return err
			}
			if o.For < 5*time.Second || o.For > time.Hour {
				return errors.New("--for must be between 5s and 1h")
			}
			if !slices.Contains([]string{crowd.H1, crowd.H2, crowd.H3}, o.Protocol) {
				return fmt.Errorf("--protocol %q: must be h1, h2 or h3", o.Protocol)
			}
			cmd.SilenceUsage = true
			o.Live = !o.JSON && term.IsTerminal(int(os.Stdout.Fd())) && term.IsTerminal(int(os.Stdin.Fd()))
			out := cmd.OutOrStdout()
			if o.JSON {
				out = cmd.ErrOrStderr()
			}
			summary, err := demo.Run(cmd.Context(), o, out)
			if err != nil || !o.JSON {
				return err
			}
			return summary.JSON(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.For, "for", 55*time.Second, "how long the crowd comes")
	f.StringVar(&o.Protocol, "protocol", "h3", "what the crowd speaks: h1, h2 or h3")
	f.BoolVar(&o.JSON, "json", false, "write one JSON object as the last line of standard output")
	f.StringVar(&o.Report, "report", "", "path of the HTML report (default: in a temporary folder)")
	f.StringSliceVar(&presses, "press", nil, "press a key at a time, such as 30s:h (repeatable)")
	return cmd
}

// parsePresses reads TIME:KEY pairs.
func parsePresses(args []string) ([]demo.Press, error) {
	var presses []demo.Press
	for _, arg := range args {
		at, key, _ := strings.Cut(arg, ":")
		d, err := time.ParseDuration(at)
		if err != nil || d < 0 || len(key) != 1 || !strings.Contains("hsktb", key) {
			return nil, fmt.Errorf("--press %q: write a time, a colon and one of h, s, k, t, b, such as 30s:h", arg)
		}
		presses = append(presses, demo.Press{At: d, Key: key})
	}
	return presses, nil
}
