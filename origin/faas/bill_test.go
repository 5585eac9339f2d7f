package faas

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"spillway/cmd/surge/functions"
	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/faas/budget"
)

// platform is an emulated one, asked by its Invoke API or by plain HTTP.
type platform struct {
	client *http.Client
	invoke bool
}

func (p *platform) Invoke(ctx context.Context, r *Request) (*http.Response, error) {
	target, body := "http://platform"+r.Path, []byte(nil)
	if p.invoke {
		var err error
		if body, err = EncodeEvent(r, time.Now()); err != nil {
			return nil, err
		}
		target = "http://platform/2015-03-31/functions/thumb/invocations"
	}
	ctx, sent := SendOnce(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, &Error{Class: Unavailable, Executed: sent(), Err: err}
	}
	if p.invoke {
		return DecodeInvocation(resp, r, DecodeAnswer)
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		resp.Body.Close()
		return nil, &Error{Class: Throttled}
	}
	return resp, nil
}

// TestLedgerIsNeverBelowTheBill calls an emulated platform from 64 sides, some of
// which leave before the answer or within it, while instances start cold or by warm-ups,
// functions crash, and the platform throttles. What the budget has is at least what the
// platform bills, and little more.
func TestLedgerIsNeverBelowTheBill(t *testing.T) {
	for name, price := range map[functions.Platform]string{
		functions.Lambda: "aws-lambda", functions.CloudRun: "google-cloud-run", functions.Azure: "azure-functions",
	} {
		for _, body := range []int64{200, 8 << 10, 64 << 10} {
			for _, invoke := range []bool{false, true} {
				if !invoke || name == functions.Lambda {
					t.Run(fmt.Sprintf("%s/%d/invoke=%t", name, body, invoke), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { compareBills(t, name, price, body, invoke) })
					})
				}
			}
		}
	}
}

func compareBills(t *testing.T, name functions.Platform, price string, body int64, invoke bool) {
	emulator, err := functions.New(functions.Config{
		Platform: name, Service: 60 * time.Millisecond, CV: 0.5, ColdStart: 400 * time.Millisecond, ColdCV: 0.4,
		Burst: 20, Ramp: 10, Body: body, Seed: 1,
		Work: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/jpeg")
			w.Header().Set("Cache-Control", "max-age=60")
			answer := make([]byte, body)
			answer[0] = 0xff // no UTF-8, so that an event has it in base64
			_, _ = w.Write(answer)
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	network := bufconn.Listen(64 << 10) // so that the time of the test is virtual
	server := http.Server{Handler: emulator}
	go server.Serve(network)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return network.DialContext(ctx) }
	transport := &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 64}
	ledger := budget.OpenLedger(t.TempDir(), slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { ledger.Run(ctx) })
	spill := ledger.Budget("spill", budget.Config{PerHour: 100})
	function := New("thumb", Config{
		Memory: 512 << 20, Timeout: 5 * time.Second, MaxConcurrency: 64, MaxResponse: 1 << 20,
		Price: PriceConfig{Platform: price}, WarmUp: "/warm-up",
	}, &platform{client: &http.Client{Transport: transport}, invoke: invoke}, spill, slog.New(slog.DiscardHandler))

	var wg sync.WaitGroup
	exercises := 0
	exercise := func() { // nobody waits for it
		time.Sleep(500 * time.Millisecond)
		if resp, err := function.Exercise(context.Background(), ask("GET", "/", "", nil)); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			exercises++
		}
	}
	wg.Go(func() {
		for range 100 { // also when the throttle is long over
			exercise()
		}
	})
	for caller := range 64 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(caller)))
			for made := 0; made < 12; {
				time.Sleep(time.Duration(rng.ExpFloat64() * float64(100*time.Millisecond)))
				ctx, leave := context.WithCancel(context.Background())
				if rng.IntN(4) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(200))*time.Millisecond, leave)
				}
				resp, err := function.Invoke(ctx, ask("GET", "/", "", nil), "v")
				if err == nil || AsError(err).Class != Refused {
					made++
				}
				if err == nil {
					part := resp.Body.(io.Reader)
					if rng.IntN(4) == 0 {
						part = io.LimitReader(part, 100)
					}
					io.Copy(io.Discard, part)
					resp.Body.Close()
				}
				leave()
			}
		})
	}
	calling, enough := context.WithCancel(ctx)
	background.Go(func() {
		for tick := time.NewTicker(100 * time.Millisecond); calling.Err() == nil; <-tick.C {
			function.Prewarm(time.Now(), 30)
		}
	})
	time.AfterFunc(time.Second, func() { _ = emulator.Control(functions.Change{Fail: new(0.1)}) })
	time.AfterFunc(1500*time.Millisecond, func() { _ = emulator.Control(functions.Change{Throttle: new(true)}) })
	time.AfterFunc(2*time.Second, func() { _ = emulator.Control(functions.Change{Throttle: new(false)}) })
	wg.Wait()
	enough()
	for range 100 { // visitors and warm-ups may have left no instance for one
		if exercises == 0 {
			exercise()
		}
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()

	bill, s := emulator.Bill(), function.State()
	spent := spill.State(time.Now()).Periods[0].Spent
	t.Logf("%d calls billed, %d of them warm-ups, %v; $%.6f of $%.6f, factor %.4f", bill.Requests, s.WarmUps, s.Failures, spent, bill.USD, spent/bill.USD)
	if spent < bill.USD-1e-12 || spent > bill.USD*1.05 || !near(spent, s.CostUSD) {
		t.Errorf("the ledger has $%v, the function $%v, the bill is $%v", spent, s.CostUSD, bill.USD)
	}
	if s.Failures[FunctionError] == 0 || s.Failures[Throttled] == 0 || s.OK == 0 || bill.InitSeconds == 0 ||
		s.WarmUps == 0 || exercises == 0 {
		t.Errorf("a case is missing: %+v, %d exercises", s, exercises)
	}
	transport.CloseIdleConnections()
	server.Close()
	stop()
	background.Wait()
	if err := ledger.Close(); err != nil {
		t.Error(err)
	}
	if why := spill.Check(time.Now(), "v", 1); why != outcome.LedgerFailed {
		t.Errorf("a closed ledger says %q", why)
	}
}
