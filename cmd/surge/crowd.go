package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spillway/cmd/surge/crowd"
	"spillway/cmd/surge/report"
)

// crowdOptions are the flags of surge crowd that are not simply a field of
// crowd.Config.
type crowdOptions struct {
	config   crowd.Config
	profile  string
	phases   string
	length   time.Duration
	ca, slow string
	json     bool
	report   string
	pprof    string
}

func crowdCommand() *cobra.Command {
	var o crowdOptions
	cmd := &cobra.Command{
		Use:   "crowd [flags] URL...",
		Short: "Play a flash crowd against a node and report how it fared",
		Long: `Crowd sends visitors to a node as a flash crowd does: they arrive at random times
that do not depend on the answers, most as new connections, many behind few
addresses. Each visitor asks for every URL once and gives up after --timeout.

A phase is RATE:DURATION. A rate is a multiple of --capacity (10x) or visitors per
second (100/s); two rates with ".." between them are a ramp (0.5x..10x:5s).

Latency is measured from the intended time of a visitor's arrival to the last byte
of the answer. Every request offered is in the result exactly once.`,
		Example: `  surge crowd --phases 0.5x:20s,10x:20s --capacity 35 --addresses carrier-nat \
      --ca ca.pem --report crowd.html 'https://img.example.com/qr/{visitor}.png'`,
		RunE: func(cmd *cobra.Command, urls []string) error {
			o.config.URLs = append(o.config.URLs, urls...)
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c, f := &o.config, cmd.Flags()
	f.StringArrayVar(&c.URLs, "url", nil, "what every visitor asks for; {visitor} and {seed} are replaced; repeatable")
	f.StringVar(&c.Connect, "connect", "", "host:port to connect to instead of the one in the URLs")
	f.StringVar(&c.Protocol, "protocol", crowd.H3, "h1, h2 or h3")
	f.StringVar(&o.phases, "phases", "1x:10s", "when how many come")
	f.Float64Var(&c.Capacity, "capacity", 35, "visitors per second that 1x stands for")
	f.DurationVar(&o.length, "for", 0, "stretch or shrink the phases so that together they last this long")
	f.StringVar(&o.profile, "addresses", string(crowd.Single), "where visitors come from: carrier-nat (80 % behind 8 addresses) or single")
	f.StringVar(&c.Connections, "connections", crowd.PerVisitor, "per-visitor or pooled")
	f.DurationVar(&c.Timeout, "timeout", 5*time.Second, "patience of a visitor, from its intended arrival")
	f.BoolVar(&c.OwnSockets, "own-sockets", false, "over h3, give every visitor a UDP socket of its own, so that surge wan can tell them apart")
	f.IntVar(&c.MaxInFlight, "max-in-flight", 4096, "visitors present at once; more are not sent and count as errors")
	f.Uint64Var(&c.Seed, "seed", 1, "the same seed makes the same crowd")
	f.BoolVar(&c.Insecure, "insecure", false, "do not verify the certificate")
	f.StringVar(&o.ca, "ca", "", "PEM file of the authorities to trust instead of the system's")
	f.BoolVar(&c.Resume, "resume", false, "resume TLS sessions; by default every visitor is new")
	f.StringVar(&o.slow, "slow", "", "share of the visitors that read slowly, and bytes per second: 5%:16KiB")
	f.IntVar(&c.Hold, "hold", 0, "event streams to hold open during the run")
	f.StringVar(&c.HoldURL, "hold-url", "", "URL of the event streams")
	f.BoolVar(&o.json, "json", false, "print the result as one line of JSON on standard output, the rest on standard error")
	f.StringVar(&o.report, "report", "", "write an HTML report to this file")
	f.StringVar(&o.pprof, "cpu-profile", "", "write a CPU profile of the generator to this file")
	cmd.MarkFlagsMutuallyExclusive("insecure", "ca")
	return cmd
}

func (o *crowdOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.complete(); err != nil {
		return err
	}
	c, err := crowd.New(o.config)
	if err != nil {
		return err
	}
	stop, err := profile(o.pprof)
	if err != nil {
		return err
	}
	// Every visitor leaves a connection's worth of garbage behind, and little stays:
	// collecting a quarter as often saves 8 % of the generator's CPU.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	text := stdout
	if o.json {
		text = stderr
	}
	res, err := play(ctx, c, text)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	return o.show(report.Data{Result: res}, stdout, text)
}

// complete turns the flags into the rest of the Config.
func (o *crowdOptions) complete() error {
	var err error
	c := &o.config
	c.Addresses = crowd.Profile(o.profile)
	if c.Phases, err = crowd.ParsePhases(o.phases, c.Capacity); err != nil {
		return fmt.Errorf("--phases: %w", err)
	}
	switch {
	case o.length < 0:
		return fmt.Errorf("--for %s: must be positive", o.length)
	case o.length > 0:
		c.Phases = crowd.Stretch(c.Phases, o.length)
	}
	if o.slow != "" {
		if c.SlowShare, c.SlowRate, err = crowd.ParseSlow(o.slow); err != nil {
			return fmt.Errorf("--slow: %w", err)
		}
	}
	if o.ca != "" {
		c.RootCAs, err = authorities(o.ca)
	}
	return err
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca %s: no certificate in it", file)
	}
	return pool, nil
}

// play runs the crowd with a line of progress each second. A run that was
// interrupted has a result like any other: the requests cut off are in it.
func play(ctx context.Context, c *crowd.Crowd, progress io.Writer) (crowd.Result, error) {
	done := make(chan struct{})
	var (
		res crowd.Result
		err error
	)
	go func() {
		defer close(done)
		res, err = c.Run(ctx)
	}()
	for {
		select {
		case <-time.After(toNextSecond(c.Snapshot().Elapsed)):
			fmt.Fprintln(progress, report.Progress(c.Snapshot()))
		case <-done:
			if errors.Is(err, context.Canceled) && res.Offered > 0 {
				err = nil
			}
			return res, err
		}
	}
}

// toNextSecond returns how long it is until just after the next full second of the
// run, when there is a new second to tell about.
func toNextSecond(elapsed time.Duration) time.Duration {
	return time.Second - elapsed%time.Second + 10*time.Millisecond
}

func (o *crowdOptions) show(d report.Data, stdout, text io.Writer) error {
	fmt.Fprintln(text)
	if err := report.Text(text, d); err != nil {
		return err
	}
	if o.report != "" {
		if err := writeReport(o.report, d); err != nil {
			return err
		}
		fmt.Fprintf(text, "\nreport: %s\n", o.report)
	}
	if o.json {
		return report.JSON(stdout, d.Result)
	}
	return nil
}

func writeReport(file string, d report.Data) error {
	var b strings.Builder
	if err := report.HTML(&b, d); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// profile starts a CPU profile, unless file is empty.
func profile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("--cpu-profile: %w", err)
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
