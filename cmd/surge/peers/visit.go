package peers

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spf13/cobra"
)

// How surge's own client says that what is timed begins, and that it is over.
const (
	visitBegins = "begins"
	visitEnds   = "ends"
)

// visitCommand is surge's own client, a process beside the server. It speaks HTTP/3,
// and does what h2load cannot: come back with a ticket, stay idle, ask at a rate.
func visitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "visit ADDRESS WORK", Short: "Be the visitors (for surge peers itself)", Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			var w work
			if err := json.Unmarshal([]byte(args[1]), &w); err != nil {
				return fmt.Errorf("read the work: %w", err)
			}
			t, err := visit(cmd.Context(), args[0], w, cmd.OutOrStdout())
			if lack := (*lackError)(nil); errors.As(err, &lack) {
				t, err = tally{Lacks: lack.why}, nil
			}
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(t)
		},
	}
}

// visit does some work at a server.
func visit(ctx context.Context, address string, w work, out io.Writer) (tally, error) {
	target, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return tally{}, err
	}
	v := &visitor{work: w, target: target, out: out}
	switch w.Shape {
	case steady:
		return v.steady(ctx)
	case visitors:
		return v.come(ctx)
	case returning:
		return v.comeBack(ctx)
	case idle:
		return v.stay(ctx)
	case probing:
		return v.probe(ctx)
	}
	return tally{}, fmt.Errorf("there is no shape %q", w.Shape)
}

// A visitor is all the visitors of some work.
type visitor struct {
	work
	target   *net.UDPAddr
	out      io.Writer
	sessions tls.ClientSessionCache // nil: they are new
}

// timed does what counts, and returns how long it took.
func (v *visitor) timed(act func()) time.Duration {
	fmt.Fprintln(v.out, visitBegins)
	began := time.Now()
	act()
	took := time.Since(began)
	fmt.Fprintln(v.out, visitEnds)
	return took
}

// keep lets each of some do a thing again and again for the time of the work, and
// returns how often it was done.
func (v *visitor) keep(ctx context.Context, some int, do func(context.Context, int) error) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, v.For)
	defer cancel()
	var done atomic.Int64
	var first atomic.Pointer[error]
	var doing sync.WaitGroup
	for i := range some {
		doing.Go(func() {
			for ctx.Err() == nil {
				err := do(ctx, i)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					first.CompareAndSwap(nil, &err)
					cancel()
					return
				}
				done.Add(1)
			}
		})
	}
	doing.Wait()
	if e := first.Load(); e != nil {
		return 0, *e
	}
	return done.Load(), nil
}

// steady keeps connections busy.
func (v *visitor) steady(ctx context.Context) (t tally, err error) {
	all, leave, err := v.gather(ctx)
	defer leave()
	if err != nil {
		return t, err
	}
	t.Took = v.timed(func() {
		t.Answers, err = v.keep(ctx, v.Connections*v.Streams, func(ctx context.Context, i int) error {
			return ask(ctx, all[i%len(all)].client, http.MethodGet, v.Bytes)
		})
	})
	return t, err
}

// come lets new visitors come, when they are due whatever becomes of the others.
func (v *visitor) come(ctx context.Context) (t tally, err error) {
	n := v.visitors()
	errs := make([]error, n)
	t.Took = v.timed(func() {
		v.paced(n, func(i int, _ time.Time) { _, errs[i] = v.page(ctx, false) })
		time.Sleep(settle)
	})
	t.Took -= settle
	return t.count(errs), nil
}

// count counts what came of things that were done at their time. Of the errors the
// first is shown, on standard error.
func (t tally) count(errs []error) tally {
	for _, err := range errs {
		if err == nil {
			t.Answers++
			continue
		}
		if t.Failed == 0 {
			fmt.Fprintln(os.Stderr, err)
		}
		t.Failed++
	}
	return t
}

// paced does n things, each when it is due, and waits for all.
func (v *visitor) paced(n int, do func(i int, due time.Time)) {
	var doing sync.WaitGroup
	began := time.Now()
	for i := range n {
		due := began
		if v.Rate > 0 {
			due = began.Add(time.Duration(float64(i) / v.Rate * float64(time.Second)))
			time.Sleep(time.Until(due))
		}
		doing.Go(func() { do(i, due) })
	}
	doing.Wait()
}

// comeBack lets visitors come who have been there: each connection is resumed, or it
// is an error.
func (v *visitor) comeBack(ctx context.Context) (t tally, err error) {
	v.sessions = unshared{tls.NewLRUClientSessionCache(1)}
	if err := v.remember(ctx); err != nil {
		return t, err
	}
	again := func(ctx context.Context, _ int) error {
		state, err := v.page(ctx, v.Early)
		switch {
		case errors.Is(err, quic.Err0RTTRejected):
			return &lackError{"it takes no early data"}
		case err != nil:
			return err
		case v.Early && !state.Used0RTT:
			return &lackError{"it takes no early data"}
		case !state.TLS.DidResume:
			return &lackError{"it does not resume"}
		}
		return nil
	}
	if err := again(ctx, 0); err != nil { // before anything is timed
		return t, err
	}
	t.Took = v.timed(func() { t.Answers, err = v.keep(ctx, v.Connections, again) })
	return t, err
}

// remember visits until there is a ticket.
func (v *visitor) remember(ctx context.Context) error {
	l, err := v.dial(ctx, false)
	if err != nil {
		return err
	}
	defer l.close()
	if err := ask(ctx, l.client, http.MethodGet, v.Bytes); err != nil {
		return err
	}
	for range 100 {
		if _, ok := v.sessions.Get(serverName); ok {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return &lackError{"it gives no ticket"}
}

// stay keeps connections that do nothing. All must still be there at the end.
func (v *visitor) stay(ctx context.Context) (t tally, err error) {
	var all []*link
	leave := func() {}
	t.Took = v.timed(func() {
		if all, leave, err = v.gather(ctx); err == nil {
			time.Sleep(v.For)
		}
	})
	defer leave()
	for _, l := range all {
		if l != nil && l.conn.Context().Err() == nil {
			t.Answers++
		}
	}
	if err == nil && t.Answers < int64(v.Connections) {
		err = &lackError{fmt.Sprintf("%d of %d connections were closed within %s", int64(v.Connections)-t.Answers, v.Connections, v.For)}
	}
	return t, err
}

// probe asks at a rate over connections that are there.
func (v *visitor) probe(ctx context.Context) (t tally, err error) {
	all, leave, err := v.gather(ctx)
	defer leave()
	if err != nil {
		return t, err
	}
	n := int(v.Rate * v.For.Seconds())
	took, errs := make([]time.Duration, n), make([]error, n)
	t.Took = v.timed(func() {
		v.paced(n, func(i int, due time.Time) {
			errs[i] = ask(ctx, all[i%len(all)].client, http.MethodGet, v.Bytes)
			took[i] = time.Since(due)
		})
	})
	slices.Sort(took)
	t.P50, t.P99 = took[n/2], took[n*99/100]
	return t.count(errs), nil
}
