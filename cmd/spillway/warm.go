package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"spillway/edge"
	"spillway/edge/admin"
)

const (
	// warmPatience is how long one URL may take: less than the admin listener gives
	// an answer.
	warmPatience = 2 * time.Minute
	// warmAtOnce is how many URLs are asked for at the same time. It is small: the
	// visitors are there as well.
	warmAtOnce = 4
	mostAtOnce = 256
	// failuresTold bounds the failures that a report names.
	failuresTold = 100
)

func newCacheWarmCommand(f *cacheFlags) *cobra.Command {
	var header []string
	concurrency := warmAtOnce
	cmd := &cobra.Command{
		Use:   "warm FILE|- [--concurrency 4] [-H 'K: V']...",
		Short: "Fill the cache from a list of URLs",
		Long: `Have the node on this machine ask for each URL of a list, one a line, as a visitor
would, and store what may be stored. Empty lines and those that begin with # are
skipped; - is the standard input. Nothing is paid for it: a URL that only a function
could answer fails. -H names fields by which variants differ, such as
'Accept-Encoding: gzip'. The exit code is 1 if any URL failed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if concurrency < 1 || concurrency > mostAtOnce {
				return usageError{fmt.Errorf("--concurrency: %d is not a number from 1 to %d", concurrency, mostAtOnce)}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			urls, err := readURLs(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			w := &warming{client: client.Patient(warmPatience), header: header, out: cmd.OutOrStdout(), total: len(urls)}
			w.report.NotStorable = map[string]int{}
			switch {
			case f.asJSON:
				w.out = io.Discard
			case term.IsTerminal(int(os.Stderr.Fd())):
				w.bar = cmd.ErrOrStderr()
			}
			if err := w.run(cmd.Context(), urls, concurrency); err != nil {
				return notRunning(err)
			}
			if f.asJSON {
				err = printIndented(cmd.OutOrStdout(), &w.report)
			} else {
				err = w.report.write(w.out)
			}
			if err == nil && w.report.Failed > 0 {
				return errReported
			}
			return err
		},
	}
	cmd.Flags().IntVar(&concurrency, "concurrency", concurrency, "ask for so many `URLs` at the same time")
	cmd.Flags().StringArrayVarP(&header, "header", "H", nil, "a `field` of the requests, as 'Name: value'; may be repeated")
	return cmd
}

// readURLs reads a list of URLs, one a line.
func readURLs(file string, in io.Reader) (urls []string, err error) {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer opened.Close()
		in = opened
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			urls = append(urls, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read URLs: %w", err)
	}
	return urls, nil
}

// A warmReport counts what became of the URLs.
type warmReport struct {
	URLs        int            `json:"urls"`
	Stored      int            `json:"stored"`
	Fresh       int            `json:"fresh"`        // stored already
	NotStorable map[string]int `json:"not_storable"` // by the rule
	Failed      int            `json:"failed"`
	Failures    []edge.Warming `json:"failures,omitempty"` // the first of them
}

func (r *warmReport) add(result edge.Warming) {
	r.URLs++
	switch result.Result {
	case edge.WarmStored:
		r.Stored++
	case edge.WarmFresh:
		r.Fresh++
	case edge.WarmNotStorable:
		r.NotStorable[result.Why]++
	default:
		if r.Failed++; r.Failed <= failuresTold {
			r.Failures = append(r.Failures, result)
		}
	}
}

func (r *warmReport) notStorable() (n int) {
	for _, count := range r.NotStorable {
		n += count
	}
	return n
}

func (r *warmReport) write(out io.Writer) error {
	var why []string
	for _, rule := range slices.Sorted(maps.Keys(r.NotStorable)) {
		why = append(why, fmt.Sprintf("%d %s", r.NotStorable[rule], rule))
	}
	because := ""
	if len(why) > 0 {
		because = " (" + strings.Join(why, ", ") + ")"
	}
	_, err := fmt.Fprintf(out, "%s: %d stored, %d fresh already, %d not storable%s, %d failed\n",
		counted(r.URLs, "URL"), r.Stored, r.Fresh, r.notStorable(), because, r.Failed)
	return err
}

// A warming goes through a list of URLs.
type warming struct {
	client *admin.Client
	header []string
	out    io.Writer // gets a line for each URL, or for each that did not go well beside a bar
	bar    io.Writer // a terminal; nil: none
	total  int

	mu     sync.Mutex
	report warmReport
}

// run asks for all URLs, so many at once. It ends early when the node is gone.
func (w *warming) run(ctx context.Context, urls []string, concurrency int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan string)
	var workers sync.WaitGroup
	for range min(concurrency, max(len(urls), 1)) {
		workers.Go(func() {
			for target := range next {
				result, err := w.ask(ctx, target)
				if err != nil {
					cancel(err)
					return
				}
				w.tell(result)
			}
		})
	}
feed:
	for _, target := range urls {
		select {
		case next <- target:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	workers.Wait()
	if w.bar != nil {
		fmt.Fprint(w.bar, clearLine)
	}
	return context.Cause(ctx)
}

// ask has the node ask for a URL. Its error says that the node cannot be asked.
func (w *warming) ask(ctx context.Context, target string) (result edge.Warming, err error) {
	query := url.Values{"url": {target}, "header": w.header}
	body, err := w.client.Post(ctx, "/cache/warm?"+query.Encode())
	switch {
	case errors.Is(err, admin.ErrNotRunning), errors.Is(err, admin.ErrForbidden), ctx.Err() != nil:
		return result, err
	case err == nil:
		err = json.Unmarshal(body, &result)
	}
	if err != nil {
		result = edge.Warming{URL: target, Result: edge.WarmFailed, Why: err.Error()}
	}
	return result, nil
}

const clearLine = "\r\x1b[K"

// tell counts what became of a URL, and shows it.
func (w *warming) tell(result edge.Warming) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report.add(result)
	if w.bar != nil {
		fmt.Fprint(w.bar, clearLine)
	}
	if well := result.Result == edge.WarmStored || result.Result == edge.WarmFresh; w.bar == nil || !well {
		words := strings.ReplaceAll(result.Result, "_", " ")
		if result.Why != "" {
			words += " (" + oneLine(result.Why) + ")"
		}
		fmt.Fprintf(w.out, "%s %s\n", words, oneLine(result.URL))
	}
	if w.bar != nil {
		fmt.Fprint(w.bar, barText(w.report.URLs, w.total))
	}
}

// barText draws how much is done, in 40 columns.
func barText(done, total int) string {
	const columns = 40
	full := columns * done / max(total, 1)
	return fmt.Sprintf("[%s%s] %d of %d", strings.Repeat("#", full), strings.Repeat(".", columns-full), done, total)
}

// serveWarm asks for a URL as a visitor would: POST /cache/warm?url=URL, and header
// beside it.
func (n *node) serveWarm(w http.ResponseWriter, r *http.Request) {
	inquiry, err := readInquiry(r.URL.Query())
	var result edge.Warming
	if err == nil {
		result, err = n.server.Warm(r.Context(), inquiry)
	}
	if err != nil {
		result = edge.Warming{URL: inquiry.URL, Result: edge.WarmFailed, Why: err.Error()}
	}
	writeIndented(w, result)
}
