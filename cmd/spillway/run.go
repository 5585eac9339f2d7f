package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

const defaultConfig = "/etc/spillway/spillway.yaml"

// errAborted ends a drain that somebody lost patience with.
var errAborted = errors.New("aborted by a second signal; requests in flight were cut off")

func newRunCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run [--config FILE]",
		Short: "Serve until SIGTERM",
		Long: `Serve until SIGTERM or SIGINT, then drain: the node stops being ready, takes no
new connections, finishes the requests in flight until timeouts.drain, and exits
with 0. A second signal aborts the drain. SIGHUP reads the configuration again;
one that does not pass changes nothing (see also spillway reload).

The log goes to the standard error, the access log where log.access says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer signal.Stop(signals)
			// Whoever reads the logs through a pipe may end; the visitors stay.
			signal.Ignore(syscall.SIGPIPE)
			return run(cmd.Context(), path, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), cmd.ErrOrStderr(), signals)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file`")
	return cmd
}

// run builds a node and serves until a signal ends it. It tells summary what the
// node does.
func run(ctx context.Context, path string, log *slog.Logger, summary io.Writer, signals <-chan os.Signal) error {
	from, err := inherit()
	if err != nil {
		return err
	}
	n, err := assemble(path, from, log, summary)
	if err != nil {
		return from.refuse(err)
	}
	log.Info("started", "version", version(), "config", path, "hash", n.config.Hash(),
		"listen", n.addresses(), "admin", n.admin.Addr())
	return serve(ctx, n, log, signals)
}

// assemble builds a node and takes over from the process before, if there is one.
func assemble(path string, from *inheritance, log *slog.Logger, summary io.Writer) (*node, error) {
	c, err := load(path)
	if err != nil {
		return nil, err
	}
	for _, p := range c.Warnings() {
		log.Warn("configuration", "problem", firstLine(p.String()))
	}
	summarize(summary, c, path)
	given := tuneMemory()
	n, err := build(c, path, from, log)
	if err != nil {
		return nil, err
	}
	leaveToCache(c.Cache.Memory)
	n.memory = given
	log.Info("memory", "use", memoryNow(given))
	return n, n.receive(c.Hash())
}

// serve runs the node and does what signals ask for.
func serve(ctx context.Context, n *node, log *slog.Logger, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop := func(signal string) {
		log.Info("stopping", "signal", signal)
		cancel()
		if !n.wasReplaced() { // else the manager follows the process that serves
			_ = notify("STOPPING=1") // without a manager nobody needs to know
		}
	}
	passed := false // the word to stop has come before its signal
	for {
		select {
		case err := <-ended:
			log.Info("stopped")
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP && ctx.Err() == nil && !n.draining.Load():
				n.reload() // it logs
			case s == syscall.SIGHUP:
			case passed: // both processes were sent it
				passed = false
			case ctx.Err() != nil:
				return errAborted
			default:
				stop(s.String())
			}
		case <-n.before.stopped:
			if ctx.Err() == nil { // else it had the signal as well
				passed = true
				stop("sent to the process before")
			}
		}
	}
}
