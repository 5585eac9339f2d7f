package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/admit"
)

// Rules of commands outlive an upgrade, those that have left the configuration do not.
func TestUpgradeKeepsRules(t *testing.T) {
	s, _ := judged(t)
	text, err := os.ReadFile(s.file("spillway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	denies := func(list string) { s.put(t, "spillway.yaml", string(text)+"\nadmission: {deny: ["+list+"]}\n") }
	denies("198.51.100.0/24, 203.0.113.0/24")
	s.upgrade(t)
	if _, err := s.client.Post(t.Context(), "/admission/allow?prefix=198.18.0.0/15"); err != nil {
		t.Fatal(err)
	}
	denies("203.0.113.0/24")
	s.upgrade(t)
	body, err := s.client.Post(t.Context(), "/admission/show")
	if err != nil {
		t.Fatal(err)
	}
	f := func(prefix string, want bool) {
		t.Helper()
		if got := bytes.Contains(body, []byte(prefix)); got != want {
			t.Errorf("%s is ruled: %v, want %v; %s", prefix, got, want, body)
		}
	}
	f("198.18.0.0/15", true)
	f("203.0.113.0/24", true)
	f("198.51.100.0/24", false)
	s.endsWell(t)
}

// Without a state folder the keys that the kernel knows connections by are handed over,
// and a node whose keys would be others is refused.
func TestUpgradeKeepsConnectionIDs(t *testing.T) {
	s, v := judged(t)
	text, err := os.ReadFile(s.file("spillway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	state := "state: " + s.file("state")
	s.endsWell(t)
	s.put(t, "spillway.yaml", strings.Replace(string(text), state, `state: ""`, 1))
	s = s.succeed(t)
	v.listen = s.listen
	s.await(t, "a kernel that judges", func() bool { return s.state().Admission.Mode == admit.Generic })
	leave := v.come()
	s.await(t, "a download", func() bool { return s.state().InFlight > 0 })
	s.upgrade(t)
	time.Sleep(time.Second)
	leave()

	refused := func(text, want string) {
		t.Helper()
		s.put(t, "spillway.yaml", text)
		var out, errs bytes.Buffer
		err := askUpgrade(t.Context(), s.client, &out, &errs)
		if err == nil || !strings.Contains(errs.String(), want) || !strings.Contains(errs.String(), "restart the node instead") {
			t.Errorf("upgrade: %v\n%s%s", err, &out, &errs)
		}
	}
	refused(string(text), "state or tls.secret has changed")
	refused(strings.Replace(string(text), state, `state: ""`, 1)+"\nadmission: {quic_lb: {server_id: 0102030405060708}}\n",
		"connection IDs have 20 bytes now")
	s.endsWell(t)
}

// The successor begins with the limit that was learned.
func TestUpgradeKeepsLearned(t *testing.T) {
	p := prepare(t)
	c, err := load(p.file("spillway.yaml"))
	if err == nil {
		err = os.MkdirAll(c.Edge.State, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	learned := learnedFile{Version: learnedVersion, Origins: map[string]learnedOrigin{}}
	for name, o := range c.Origins {
		learned.Origins[name] = learnedOrigin{At: time.Now(), Servers: o.Servers, Useful: 321}
	}
	file, err := json.Marshal(learned)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(learnedPath(c.Edge.State), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := p.succeed(t)
	// It is younger than any second start would take it from.
	if err := os.Remove(learnedPath(c.Edge.State)); err != nil {
		t.Fatal(err)
	}
	s.upgrade(t)
	if n := strings.Count(s.log.String(), "limit restored"); n != 2*len(c.Origins) {
		t.Errorf("%d of %d limits were restored:\n%s", n, 2*len(c.Origins), s.log)
	}
	s.endsWell(t)
}

// TestUpgradedNodeKnowsWhatItSpent upgrades a node while it pays for each visitor: the
// ledger has all that the platform bills for both processes, and what was reserved is
// given back.
func TestUpgradedNodeKnowsWhatItSpent(t *testing.T) {
	if testing.Short() {
		t.Skip("an upgrade waits 10 s for the late connections of the one before")
	}
	emulator, url := billing(t)
	hour := time.Now().Truncate(time.Hour)
	p := prepare(t)
	// What is reserved ahead is a thousandth of the hour at least: far more than is spent.
	p.put(t, "spillway.yaml", strings.Replace(fmt.Sprintf(killed, p.dir, url), "per_hour: $0.02", "per_hour: $10", 1))
	s := p.succeed(t)
	ctx, cancel := context.WithCancel(t.Context())
	var visitors sync.WaitGroup
	visitors.Go(func() { press(ctx, s.listen, 32) })
	p.await(t, "calls", func() bool { return emulator.Stats().Arrived >= 40 })
	s.upgrade(t)
	before := emulator.Stats().Arrived
	p.await(t, "calls of the successor", func() bool { return emulator.Stats().Arrived >= before+40 })
	cancel()
	visitors.Wait()
	var state nodeState
	p.await(t, "the end of the process before, and of the calls", func() bool {
		state = nodeState{}
		return s.client.Status(t.Context(), &state) == nil && state.Upgrade.Draining.PID == 0 &&
			state.Budgets["spill"].AtRisk == 0 && emulator.Stats().Running == 0
	})
	bill := emulator.Bill()
	spent := state.Budgets["spill"].Periods[2].Spent // of the month: an hour or a day may have ended
	t.Logf("%d calls billed, $%.6f; the ledger has $%.6f, factor %.4f", bill.Requests, bill.USD, spent, spent/bill.USD)
	// Waiting on a busy machine is paid as calls are, to the timeout at most: a second of
	// 128 MiB, a request, and an answer of 4 KiB with its fields.
	const longest = 0.000003
	// What was reserved in an hour that is over is not given back.
	gaveBack := spent <= float64(bill.Requests)*longest || !time.Now().Truncate(time.Hour).Equal(hour)
	if spent < bill.USD || !gaveBack {
		t.Errorf("the ledger has $%v, the bill is $%v", spent, bill.USD)
	}
	s.endsWell(t)
}
