// Package peers measures what a request and a visitor cost the node beside other
// servers that speak HTTP/3: the libraries alone, Caddy, nginx and HAProxy.
//
// Every server is a process of its own with the first core and no other; the load has
// the second. The contenders of a row get the same work from the same client, in turn,
// round by round, each round beginning with another of them. What counts is the time
// that the server was on its core, as the scheduler accounts for it, for each answer;
// medians are shown with their spread, and only ratios of one run mean something.
//
// A contender that cannot run, or cannot do what a row asks for, is named with the
// reason: there is never a figure for it. It needs two cores, Linux and taskset, and
// keeps to loopback.
package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spillway/cmd/surge/report"
)

type options struct {
	parts      []string
	contenders []string
	rounds     int
	each       time.Duration
	tools      string   // folder of what scripts/setup peers brings
	settings   []string // of all lanes of the node: KEY=VALUE
	lanes      []string // further ones: NAME:KEY=VALUE,KEY=VALUE, the first may be program=FILE
	page       string   // file of the HTML report
	strict     bool
	json       bool
}

// Command is `surge peers`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Measure the CPU of a hit and of a new visitor beside quic-go alone, Caddy, nginx and HAProxy",
		Long: `Peers measures the CPU time of the server, which has one core, for each request
and each visitor over HTTP/3, HTTP/2 and HTTP/1.1, of the node and of servers that
others make, in turn, with the same client on another core.

scripts/setup peers brings Caddy, and a Debian 13 with nginx, HAProxy and h2load.`,
		Example: `  surge peers
  surge peers --part m10 --part visitor-500 --rounds 5
  surge peers --lane "fast path off:http3.fast_path=off" --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			cmd.SilenceUsage = true
			r, err := run(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return r.publish(o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.parts, "part", trialNames(), "what to measure")
	f.StringSliceVar(&o.contenders, "contender", nil, "only this one; repeatable")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of each measurement; medians are reported")
	f.DurationVar(&o.each, "each", 3*time.Second, "length of one measurement")
	f.StringVar(&o.tools, "tools", filepath.Join(".cache", "peers"), "folder of what scripts/setup peers brings")
	f.StringArrayVar(&o.settings, "spillway-set", nil, "KEY=VALUE of the node's configuration, in all its lanes; repeatable")
	f.StringArrayVar(&o.lanes, "lane", nil, "NAME:KEY=VALUE[,KEY=VALUE]: the node once more, with other settings, or, with program=FILE first, another one; repeatable")
	f.StringVar(&o.page, "report", filepath.Join("bin", "peers.html"), "file of the HTML report; empty for none")
	f.BoolVar(&o.strict, "strict", false, "exit 1 when a goal is missed, or could not be judged")
	f.BoolVar(&o.json, "json", false, "write JSON on standard output")
	cmd.AddCommand(visitCommand())
	return cmd
}

func (o options) check() error {
	for _, p := range o.parts {
		if !slices.Contains(trialNames(), p) {
			return fmt.Errorf("part %q: must be one of %s", p, strings.Join(trialNames(), ", "))
		}
	}
	if o.rounds < 1 {
		return errors.New("rounds: must be at least 1")
	}
	if o.each < 100*time.Millisecond || o.each > time.Minute {
		return errors.New("each: must be 100ms to 1m")
	}
	all, err := o.contestants()
	if err != nil {
		return err
	}
	for _, name := range o.contenders {
		if !slices.ContainsFunc(all, func(c *contender) bool { return c.Name == name }) {
			return fmt.Errorf("contender %q: there is none of that name", name)
		}
	}
	return nil
}

// run measures all that was asked for.
func run(ctx context.Context, o options, progress io.Writer) (*result, error) {
	if runtime.NumCPU() < 2 {
		return nil, errors.New("the server and the load need a core each")
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		return nil, errors.New("taskset is missing, which gives each its core; install util-linux")
	}
	b, err := newBed(ctx, o)
	if err != nil {
		return nil, err
	}
	defer b.close()
	r := newResult(b)
	for _, t := range trials {
		if !slices.Contains(o.parts, t.name) {
			continue
		}
		rows, err := b.play(t, progress)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		r.Rows = append(r.Rows, rows...)
	}
	r.Loads = append(r.Loads, loadAverage())
	r.Verdicts = judge(r.Rows)
	return r, nil
}

// publish writes the result where it is wanted, and fails for missed goals if that is
// wanted, too.
func (r *result) publish(o options, out, diagnostics io.Writer) error {
	c := r.comparison()
	if o.page != "" {
		if err := writePage(o.page, c); err != nil {
			return err
		}
		fmt.Fprintln(diagnostics, "report:", o.page)
	}
	var err error
	if o.json {
		err = report.JSON(out, r)
	} else {
		err = c.Text(out)
	}
	if err != nil || !o.strict {
		return err
	}
	if missed := r.missed(); len(missed) > 0 {
		return fmt.Errorf("%d goals are missed: %s", len(missed), strings.Join(missed, "; "))
	}
	return nil
}

func writePage(path string, c report.Comparison) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(c.HTML(f), f.Close())
}
