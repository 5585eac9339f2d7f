// Command conformance runs the public tests of HTTP caches, http-cache-tests of
// npm, against the node, and says which it passes: a line for each suite, and at
// last the sums. The node is the real program with a configuration like any other.
//
// It fails when a test fails that is not among the known failures, and when a known
// failure has become a pass: the list is the truth or the run is red. A test that
// depends on one that did not pass counts as not passed. What has surprised is run
// a second time, since tests tell time in seconds and a busy machine may lose one.
//
//	go run ./scripts/conformance [-http2 | -http3] [-fast-path off] [-program bin/spillway]
//	go run ./scripts/conformance -test ID       shows both sides of one test
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options say what is run against what.
type options struct {
	program  string // the node's
	folder   string // of this command, with its testdata and node_modules
	http2    bool
	http3    bool
	fastPath string // of all protocols: on or off
	test     string // one test alone, by its id
}

// limit is the longest that a run of the suite takes on a machine that is busy with
// other things; on an idle one it is a minute.
const limit = 10 * time.Minute

func main() {
	var o options
	flag.StringVar(&o.program, "program", "bin/spillway", "the node's program")
	flag.StringVar(&o.folder, "folder", "scripts/conformance", "where the suite is installed")
	flag.BoolVar(&o.http2, "http2", false, "put the tests to the node over HTTP/2")
	flag.BoolVar(&o.http3, "http3", false, "put the tests to the node over HTTP/3")
	flag.StringVar(&o.fastPath, "fast-path", "on", "on, or off: every hit goes through the libraries")
	flag.StringVar(&o.test, "test", "", "run the one test with this `id`, and show both sides of it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := run(ctx, o, os.Stdout)
	switch {
	case errors.Is(err, errNotInstalled) && os.Getenv("SPILLWAY_REQUIRE") == "":
		fmt.Println("conformance: skipped:", err)
	case err != nil:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// errSurprise says that the failures are not the known ones.
var errSurprise = errors.New("the failures are not those of testdata/failures.txt")

// run puts the suite to the node and writes what came of it.
func run(ctx context.Context, o options, out io.Writer) error {
	s, err := findSuite(filepath.Join(o.folder, "node_modules", "http-cache-tests"))
	if err != nil {
		return err
	}
	known, err := readFailures(filepath.Join(o.folder, "testdata", "failures.txt"))
	if err != nil {
		return err
	}
	base, stop, err := start(ctx, o, s)
	if err != nil {
		return err
	}
	defer stop()
	if o.test != "" {
		return s.show(ctx, base, o.test, out)
	}
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return err
	}
	results, err := s.results(ctx, base)
	if err != nil {
		return err
	}
	surprises := compare(catalogue.score(results), known)
	if len(surprises) > 0 {
		fmt.Fprintf(out, "%s\nrunning again\n", strings.Join(surprises, "\n"))
		again, err := s.results(ctx, base)
		if err != nil {
			return err
		}
		results.passAlso(again)
		surprises = compare(catalogue.score(results), known)
	}
	catalogue.write(out, results)
	if len(surprises) == 0 {
		return nil
	}
	for _, line := range surprises {
		fmt.Fprintln(out, line)
	}
	return errSurprise
}

// start starts the origin, the node and, over HTTP/3, what stands before it. It
// returns where the tests are to be put.
func start(ctx context.Context, o options, s suite) (base string, stop func(), err error) {
	var parts []*part
	stop = func() {
		for i := len(parts) - 1; i >= 0; i-- {
			parts[i].stop()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return "", nil, err
	}
	parts = append(parts, &part{func() { os.RemoveAll(dir) }})
	origin, socket, err := s.startOrigin(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	parts = append(parts, origin)
	node, addr, err := startNode(ctx, o, dir, socket)
	if err != nil {
		return "", nil, err
	}
	parts = append(parts, node)
	if !o.http2 && !o.http3 {
		return "https://" + addr, stop, nil
	}
	front, base, err := startFront(addr, o.http3)
	if err != nil {
		return "", nil, err
	}
	parts = append(parts, front)
	return base, stop, nil
}
