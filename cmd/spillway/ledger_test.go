package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"
	"time"

	"spillway/cmd/surge/functions"
	"spillway/edge/admin"
)

// killed is the configuration of a node whose origin is gone, so that a function
// has to be paid for each visitor. A call costs little, and a block little more.
const killed = `
listen: 127.0.0.1:0
http: off
admin: unix:%[1]s/a.sock
state: %[1]s/state
log: {access: off}
tls: {self_signed: true}
budgets: {spill: {per_hour: $0.02, per_day: $10, per_month: $100, per_client: 100%%, on_ledger_error: stop}}
origins: {app: {servers: ["http://127.0.0.1:1"]}}
functions:
  thumb:
    {provider: web, url: %[2]q, budget: spill, memory: 128MiB, timeout: 1s, max_response: 4KiB, max_concurrency: 16,
     price: {platform: aws-lambda}}
sites: [{hosts: [default], routes: [{origin: app, cache: false, overflow: {to: [thumb]}}]}]
`

// billing is the platform that the node of killed pays, and its URL. Its instances have
// the memory that the node knows of: with more, it would bill more than the node can
// know.
func billing(t *testing.T) (*functions.Emulator, string) {
	t.Helper()
	emulator, err := functions.New(functions.Config{
		Service: 20 * time.Millisecond, CV: 0.5, ColdStart: 50 * time.Millisecond, Memory: 128 << 20, Body: 2 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	platform := httptest.NewServer(emulator)
	t.Cleanup(platform.Close)
	return emulator, platform.URL
}

// TestKilledNodeKnowsWhatItSpent kills the program again and again while visitors
// make it call a function, and compares its ledger with the platform's bill: never
// below it, and above by no more than a block for each time.
func TestKilledNodeKnowsWhatItSpent(t *testing.T) {
	emulator, url := billing(t)
	p := prepare(t)
	p.put(t, "spillway.yaml", fmt.Sprintf(killed, p.dir, url))

	const kills, callsBeforeKill = 6, 40
	for range kills {
		program, state := p.launch(t)
		before := emulator.Stats().Arrived
		ctx, cancel := context.WithCancel(t.Context())
		var visitors sync.WaitGroup
		visitors.Go(func() { press(ctx, state.Listeners[0], 64) })
		p.await(t, "calls", func() bool { return emulator.Stats().Arrived >= before+callsBeforeKill })
		if err := program.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		program.Wait()
		cancel()
		visitors.Wait()
	}
	p.await(t, "the end of the calls", func() bool { return emulator.Stats().Running == 0 })
	program, state := p.launch(t)
	defer func() {
		program.Process.Kill()
		program.Wait()
	}()
	bill := emulator.Bill()
	spent := state.Budgets["spill"].Periods[2].Spent // of the month: an hour or a day may have ended
	// A block has at most the twentieth of the hour's amount, and the worst cases of
	// those in flight and of those who wait for it, with the fields of an answer.
	const block = 0.02/20 + (16+64)*0.000015
	t.Logf("%d calls billed, $%.6f; the ledger has $%.6f, $%.6f more for each kill", bill.Requests, bill.USD, spent, (spent-bill.USD)/kills)
	if spent < bill.USD || spent > 1.5*bill.USD+kills*block {
		t.Errorf("the ledger has $%v, the bill is $%v", spent, bill.USD)
	}
}

// launch starts the program and waits for it. It does not outlive the test.
func (p *place) launch(t *testing.T) (*exec.Cmd, nodeState) {
	t.Helper()
	program := exec.Command("spillway", "run", "--config", p.file("spillway.yaml"))
	program.Stderr = p.log
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Process.Kill() }) // it may have ended
	client := admin.NewClient("unix:" + p.file("a.sock"))
	var state nodeState
	p.await(t, "the node", func() bool { return client.Status(t.Context(), &state) == nil })
	return program, state
}

// press asks from so many sides until the context ends, some of which leave before
// they have an answer.
func press(ctx context.Context, address string, callers int) {
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer transport.CloseIdleConnections()
			client := http.Client{Transport: transport, Timeout: time.Duration(10+caller%4*200) * time.Millisecond}
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/", nil)
				if err != nil {
					return
				}
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	wg.Wait()
}
