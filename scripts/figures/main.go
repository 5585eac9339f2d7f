// Command figures runs the benchmarks that an aim was set for, and prints
// one table: what was measured, the aim, and whether it was met.
//
// Each benchmark runs in a process of its own, so that its memory and its collections
// are nobody else's, and several times; medians are printed, with the least and the
// most. Where a package is not there, or a benchmark says nothing, the table says so:
// what was not measured is never shown as met. It fails only when a benchmark does.
//
//	go run ./scripts/figures [-rounds 3] [-strict] [-folder bpf]
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

// options say how the benchmarks are run.
type options struct {
	rounds int
	strict bool
	folder string // empty: all
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each benchmark runs; medians are printed")
	flag.BoolVar(&o.strict, "strict", false, "exit 1 when an aim is missed")
	flag.StringVar(&o.folder, "folder", "", "measure the benchmarks of this folder only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

// run measures all figures and writes the table.
func run(ctx context.Context, o options, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "figures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := results{}
	for _, g := range groups() {
		if o.folder != "" && o.folder != g.folder {
			continue
		}
		if _, err := os.Stat(g.folder); err != nil {
			continue // the table says that nothing was measured
		}
		binary := filepath.Join(dir, filepath.Base(g.folder)+".test")
		if text, err := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./"+g.folder).CombinedOutput(); err != nil {
			return fmt.Errorf("build the benchmarks of %s: %w\n%s", g.folder, err, text)
		}
		for _, name := range g.benchmarks {
			for round := range max(1, o.rounds) {
				fmt.Fprintf(progress, "%s %s, round %d\n", g.folder, name, round+1)
				cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.bench=^Benchmark"+name+"$", "-test.benchtime=100ms")
				cmd.Dir = g.folder
				text, err := cmd.CombinedOutput()
				if err != nil {
					return fmt.Errorf("run %s of %s: %w\n%s", name, g.folder, err, text)
				}
				r.read(g.folder, string(text))
			}
		}
	}
	if missed := r.write(out, o.folder); missed > 0 && o.strict {
		return fmt.Errorf("%d aims are missed", missed)
	}
	return nil
}
