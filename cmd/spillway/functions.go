package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"spillway/config"
	"spillway/origin/faas/process"
)

func newFunctionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "functions",
		Short: "Run functions on this machine",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFunctionsServeCommand())
	return cmd
}

func newFunctionsServeCommand() *cobra.Command {
	var socket string
	var specs []string
	cmd := &cobra.Command{
		Use:   "serve [--socket PATH] --function NAME=PATH[,max=4][,timeout=5s][,memory=128MiB]...",
		Short: "Run Lambda bootstraps as child processes, for functions of the provider process",
		Long: `Run functions as child processes and answer on a unix socket. A function is an
unchanged bootstrap of AWS Lambda's custom runtime. This is a process of its own,
so that a customer's code never runs inside the node.

A function is given as NAME=PATH and settings, parted by commas:
  max=N         instances at most; each runs one call at a time (one per CPU)
  timeout=TIME  longest call (5s)
  wait=TIME     longest wait for a free instance (100ms)
  idle=TIME     instances that nobody calls end after it (5m)
  memory=SIZE   told to the function, and bounds the heap of Go programs (512MiB)
  user=same     run as the user of this command; root's functions run as nobody otherwise`,
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			functions, err := parseFunctions(specs)
			if err == nil && socket == "" {
				err = errors.New("--socket is empty; name a path, or leave it out")
			}
			if err != nil {
				return usageError{err}
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			// Before the socket is there: who sees it may end the host.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			host, err := process.NewHost(process.HostConfig{Socket: socket, Functions: functions, Log: log})
			if err != nil {
				return err
			}
			if err := host.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "socket", process.DefaultSocket, "unix socket `PATH` to answer on")
	cmd.Flags().StringArrayVar(&specs, "function", nil, "function to run, as `NAME=PATH,...`; may be repeated")
	return cmd
}

func parseFunctions(specs []string) (map[string]process.FunctionConfig, error) {
	if len(specs) == 0 {
		return nil, errors.New("--function NAME=PATH is missing")
	}
	functions := map[string]process.FunctionConfig{}
	for _, spec := range specs {
		name, f, err := parseFunction(spec)
		if err != nil {
			return nil, fmt.Errorf("--function %s: %w", spec, err)
		}
		if _, twice := functions[name]; twice {
			return nil, fmt.Errorf("--function %s: %s is given twice", spec, name)
		}
		functions[name] = f
	}
	return functions, nil
}

// parseFunction reads NAME=PATH,max=4,timeout=5s.
func parseFunction(spec string) (name string, f process.FunctionConfig, err error) {
	parts := strings.Split(spec, ",")
	name, path, ok := strings.Cut(parts[0], "=")
	if !ok || name == "" || path == "" {
		return "", f, errors.New("write NAME=PATH first")
	}
	f.Command = []string{path}
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "max":
			if f.MaxInstances, err = strconv.Atoi(value); err != nil || f.MaxInstances < 1 {
				err = fmt.Errorf("%q is not a number of instances", value)
			}
		case "timeout":
			f.Timeout, err = positiveDuration(value)
		case "wait":
			f.MaxWait, err = positiveDuration(value)
		case "idle":
			f.IdleTimeout, err = positiveDuration(value)
		case "memory":
			f.Memory, err = config.ParseBytes(value)
		case "user":
			if f.KeepUser = value == "same"; !f.KeepUser {
				err = fmt.Errorf("%q is not the word same", value)
			}
		default:
			return "", f, fmt.Errorf("no setting is called %q; settings are max, timeout, wait, idle, memory and user", key)
		}
		if err != nil {
			return "", f, fmt.Errorf("%s: %w", key, err)
		}
	}
	return name, f, nil
}

func positiveDuration(text string) (time.Duration, error) {
	d, err := config.ParseDuration(text)
	if err == nil && d == 0 {
		err = errors.New("zero is no time")
	}
	return d, err
}
