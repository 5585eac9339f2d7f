// Package rival is a small edge for the contest: our listeners and our client of
// origins with another rule between them, so that two rules are compared and not
// two programs. What the rule turns away goes to the functions at once.
//
// It has no cache, no queue, no budget and no gate before the functions. It is
// part of the test bench and serves nobody else.
package rival

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"spillway/bpf"
	"spillway/config"
	"spillway/edge"
	"spillway/edge/admit"
	"spillway/origin"
)

// An Options says what the edge stands between.
type Options struct {
	Rule              string
	Deadline          time.Duration
	Origin, Functions string // URLs
	Cert, Key         string // PEM files
}

// Command is `surge contest edge`.
func Command() *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:    "edge",
		Short:  "Run a small edge with another rule, for the contest",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return Run(ctx, o, func(address string) { fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", address) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Rule, "rule", None, "none, failsafe or spandana")
	f.DurationVar(&o.Deadline, "deadline", 0, "latency of the 99th percentile that spandana keeps")
	f.StringVar(&o.Origin, "origin", "", "URL of the origin")
	f.StringVar(&o.Functions, "functions", "", "URL of the functions")
	f.StringVar(&o.Cert, "cert", "", "PEM file of the certificate")
	f.StringVar(&o.Key, "key", "", "PEM file of its key")
	return cmd
}

// configuration has no limit of ours: bounds that nothing reaches, and no queue.
func (o Options) configuration() string {
	backend := func(url string) string {
		return fmt.Sprintf("{ servers: [%q], limit: {min: 10000, max: 10000}, queue: {length: 0} }", url)
	}
	return fmt.Sprintf(`listen: "127.0.0.1:0"
http: "off"
log: {access: off}
tls: { cert: %q, key: %q }
origins:
  app: %s
  functions: %s
sites:
  - hosts: [localhost]
    routes: [{ origin: app }]
`, o.Cert, o.Key, backend(o.Origin), backend(o.Functions))
}

// Run serves until ctx is done. Once it listens it calls ready with the address.
func Run(ctx context.Context, o Options, ready func(address string)) error {
	rule, err := NewRule(o.Rule, o.Deadline)
	if err != nil {
		return err
	}
	c, err := config.Parse("edge", []byte(o.configuration()), nil)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	h := &handler{rule: rule}
	if h.origin, err = origin.New("app", c.Origins["app"], log); err != nil {
		return err
	}
	if h.functions, err = origin.New("functions", c.Origins["functions"], log); err != nil {
		return err
	}
	ids, err := bpf.NewConnectionIDs(nil, bpf.Keys{})
	if err != nil {
		return err
	}
	l, err := edge.NewListeners(c.Edge, edge.Steering{IDs: ids}, []string{"localhost"}, admit.New(c.Admission, runtime.GOMAXPROCS(0)), h, log)
	if err != nil {
		return err
	}
	ready(l.Addr().String())
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { h.origin.Run(work) })
	running.Go(func() { h.functions.Run(work) })
	failed := make(chan error, 1)
	running.Go(func() { failed <- l.Run(work) })
	select {
	case err = <-failed:
	case <-ctx.Done():
		now, cut := context.WithCancel(work)
		cut() // nobody waits for an answer when a run is over
		_ = l.Shutdown(now)
	}
	stop()
	running.Wait()
	return err
}

// A handler asks the rule and then the one or the other.
type handler struct {
	rule              Rule
	origin, functions *origin.Origin
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	end, admitted := h.rule.Enter()
	if !admitted {
		h.answer(w, r, h.functions)
		return
	}
	ok := false
	defer func() { end(ok) }() // also when the answer breaks off
	ok = h.answer(w, r, h.origin)
}

// answer passes the request on, and reports whether there was an answer.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, to *origin.Origin) bool {
	permit, _ := to.Limiter().Acquire(0, 1)
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	out := origin.Outgoing(r.Context(), r, origin.Client{Addr: peer.Addr(), Proto: "https", Host: r.Host}, r.Body)
	resp, err := to.Do(out, permit)
	if err != nil {
		http.Error(w, "no answer", http.StatusBadGateway)
		return false
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(w, resp.Body); err != nil {
		panic(http.ErrAbortHandler) // what broke off must not look whole
	}
	return resp.StatusCode < 500
}
