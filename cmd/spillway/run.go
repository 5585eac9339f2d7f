package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"spillway/config"
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
one that does not pass changes nothing.

The log goes to the standard error, the access log where access_log says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer signal.Stop(signals)
			return run(cmd.Context(), path, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), signals)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file`")
	return cmd
}

// run builds a node and serves until a signal ends it.
func run(ctx context.Context, path string, log *slog.Logger, signals <-chan os.Signal) error {
	c, err := config.Load(path, os.Environ())
	if err != nil {
		return err
	}
	tuneMemory()
	n, err := build(c, path, log)
	if err != nil {
		return err
	}
	log.Info("started", "version", version(), "config", path, "hash", c.Hash(),
		"listen", n.addresses(), "admin", n.admin.Addr())
	return serve(ctx, n, log, signals)
}

// serve runs the node and does what signals ask for.
func serve(ctx context.Context, n *node, log *slog.Logger, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			log.Info("stopped")
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP && ctx.Err() == nil:
				reload(n, log)
			case s == syscall.SIGHUP:
			case ctx.Err() != nil:
				return errAborted
			default:
				log.Info("stopping", "signal", s.String())
				cancel()
			}
		}
	}
}

// reload puts the configuration file in force as it is now, or says why not.
func reload(n *node, log *slog.Logger) {
	was := n.config
	c, err := config.Load(n.path, os.Environ())
	if err == nil {
		err = n.Reload(c)
	} else {
		n.refuse(err)
	}
	if err != nil {
		log.Error("reload refused, the configuration in force goes on", "hash", was.Hash(), "error", err)
		return
	}
	log.Info("reloaded", "hash", c.Hash(), "changed", config.Diff(was, c))
}

// refuse notes why a configuration was not even tried, for the status.
func (n *node) refuse(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lastFail = err.Error()
}
