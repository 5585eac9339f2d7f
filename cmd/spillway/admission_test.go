package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"spillway/config"
	"spillway/edge"
	"spillway/edge/admit"
)

func TestRulesOfConfiguration(t *testing.T) {
	c := &config.Config{
		Edge:      edge.Config{ProxyProtocol: []string{"10.0.1.4"}, TrustedProxies: []string{"10.0.1.4", "203.0.113.0/24", "0.0.0.0/0"}},
		Admission: admit.Config{Allow: []string{"198.51.100.7"}, Deny: []string{"203.0.113.0/24"}},
	}
	var got []string
	for _, r := range rulesOf(c) {
		got = append(got, listOf(r.Rule)+" "+r.Prefix.String()+" by "+r.key)
	}
	// What is listed goes before what follows from proxies, and nobody is believed to
	// have everybody for a proxy.
	want := "allow 198.51.100.7/32 by admission.allow\n" +
		"deny 203.0.113.0/24 by admission.deny\n" +
		"allow 10.0.1.4/32 by proxy_protocol"
	if strings.Join(got, "\n") != want {
		t.Errorf("the rules are\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

func TestSlipsOfDenials(t *testing.T) {
	c := &config.Config{Edge: edge.Config{TrustedProxies: []string{"198.51.100.0/24"}, ProxyProtocol: []string{"2001:db8:1::4"}}}
	own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.3.1")}
	operators := []string{"203.0.113.7", "2001:db8:2::1", "nonsense"}
	f := func(prefix, want string) {
		t.Helper()
		err := slip(netip.MustParsePrefix(prefix), operators, own, c)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("to deny %s: %v, want %q", prefix, err, want)
		}
	}
	f("192.0.2.0/24", "")
	f("2001:db8:3::/56", "")
	f("0.0.0.0/0", "is everybody")
	f("::/0", "is everybody")
	f("203.0.113.0/24", "holds 203.0.113.7, from where you are logged in")
	f("2001:db8:2::/56", "holds 2001:db8:2::1, from where you are logged in")
	f("192.0.2.0/23", "holds 192.0.3.1, an address of this machine")
	f("127.0.0.1/32", "holds 127.0.0.1, an address of this machine")
	f("198.51.100.128/25", "overlaps 198.51.100.0/24 of trusted_proxies")
	f("198.51.0.0/16", "overlaps 198.51.100.0/24 of trusted_proxies")
	f("2001:db8:1::/56", "overlaps 2001:db8:1::4 of proxy_protocol")
}

// TestAdmissionRefusesBadInput asks as no command of ours would. Each answer says what
// to write.
func TestAdmissionRefusesBadInput(t *testing.T) {
	n := &node{admit: admit.New(admit.Config{}, 1), config: &config.Config{}, log: slog.New(slog.DiscardHandler)}
	handlers := n.adminOptions().Handlers
	f := func(target string, want int, said string) {
		t.Helper()
		path, _, _ := strings.Cut(target, "?")
		w := httptest.NewRecorder()
		handlers[path].ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, nil))
		if w.Code != want || !strings.Contains(w.Body.String(), said) {
			t.Errorf("%s answers %d %q, want %d %q", target, w.Code, w.Body, want, said)
		}
	}
	f("/admission/allow", http.StatusBadRequest, "neither an address nor a prefix; write 203.0.113.7")
	f("/admission/allow?prefix=203.0.113.7/24", http.StatusBadRequest, "write 203.0.113.0/24")
	f("/admission/allow?prefix=203.0.113.7&for=soon", http.StatusBadRequest, "for: ")
	f("/admission/allow?prefix=203.0.113.7&for=-1h", http.StatusBadRequest, "for: ")
	f("/admission/deny?prefix=203.0.113.7&for=0s", http.StatusBadRequest, "for: ")
	f("/admission/deny?prefix=%00", http.StatusBadRequest, "neither an address nor a prefix")
	f("/admission/deny?prefix=::/0", http.StatusBadRequest, "say --force")
	f("/admission/deny?prefix=::ffff:0.0.0.0/96", http.StatusBadRequest, "0.0.0.0/0 is everybody")
	f("/admission/clear?prefix=", http.StatusBadRequest, "neither an address nor a prefix")
	f("/admission/clear?prefix=203.0.113.7", http.StatusBadRequest, "there is no rule for 203.0.113.7/32")
	f("/admission/level", http.StatusBadRequest, "is no level; they are normal, guarded, shedding, closed, and auto")
	f("/admission/level?level=guarded", http.StatusBadRequest, "say how long, such as 10m")
	f("/admission/level?level=guarded&for=0s", http.StatusBadRequest, "say how long, such as 10m")
	f("/admission/level?level=guarded&for=9999h", http.StatusBadRequest, "at most 24h")
	f("/admission/native", http.StatusBadRequest, "say ?do=enable, confirm or disable")
	f("/admission/native?do=enable", http.StatusConflict, "packets are not judged in the kernel")
	f("/admission/native?do=confirm", http.StatusConflict, "native mode is not on trial")
	f("/admission/native?do=disable", http.StatusConflict, "native mode is not on")
	if rules := n.admit.Rules(); len(rules) > 0 {
		t.Errorf("there are rules: %v", rules)
	}
	f("/admission/deny?prefix=::ffff:203.0.113.0/120&for=1h", http.StatusOK, `"prefix": "203.0.113.0/24"`)
	f("/admission/show", http.StatusOK, `"prefix": "203.0.113.0/24"`)
}

// What is commanded when a successor has the rules already is not said to be done.
func TestCommandAfterRelease(t *testing.T) {
	n := &node{admit: admit.New(admit.Config{}, 1), config: &config.Config{}, log: slog.New(slog.DiscardHandler)}
	n.released.Store(true)
	handlers := n.adminOptions().Handlers
	for _, target := range []string{
		"/admission/allow?prefix=203.0.113.7", "/admission/deny?prefix=203.0.113.7", "/admission/clear", "/admission/level?level=auto",
		"/admission/native?do=disable",
	} {
		path, _, _ := strings.Cut(target, "?")
		w := httptest.NewRecorder()
		handlers[path].ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, nil))
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "say it again when the new process serves") {
			t.Errorf("%s answers %d %q", target, w.Code, w.Body)
		}
	}
}

// TestReportOfAdmission shows a node that is flooded, with all there is to show.
func TestReportOfAdmission(t *testing.T) {
	until := time.Date(2026, 12, 1, 18, 0, 0, 0, time.Local)
	r := admissionReport{
		State: admit.State{
			Enforce: true, Connections: 70, ConnectionsLimit: 1000, HalfOpen: 30, HalfOpenLimit: 40,
			Started: 100, Completed: 60, Failed: 10, Retries: 5, RefusedSource: 1, RefusedDenied: 2, RefusedBudget: 3, RefusedClosed: 4,
			RefusedFull: 5, RefusedHalfOpen: 6,
			Level: admit.Shedding, Why: "half-open handshakes are 200 % of their limit", HandshakeCost: 750 * time.Microsecond,
			BudgetQUIC: 800, BudgetTCP: 5000, Mode: admit.Native, Heartbeat: .12, Trial: 7.4, Bans: 2, SamplesLost: 9,
			Packets: []admit.Count{
				{Reason: "established_quic", Packets: 12345},
				{Reason: "source", Drop: true, Packets: 99, Unenforced: 7},
				{Reason: "retry", Drop: true},
			},
			Top: []admit.TopSource{
				{Addr: netip.MustParseAddr("203.0.113.7"), Samples: 50},
				{Addr: netip.MustParseAddr("2001:db8::"), Samples: 20, Over: 5},
			},
		},
		RuleList: []listedRule{
			{admit.Rule{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Allow: true}, true},
			{admit.Rule{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Until: until}, false},
			{admit.Rule{Prefix: netip.MustParsePrefix("2001:db8::/56")}, false},
		},
	}
	var out strings.Builder
	if err := r.write(&out); err != nil {
		t.Fatal(err)
	}
	want := `mode         native, on trial for 7 s more
level        shedding: half-open handshakes are 200 % of their limit
heartbeat    0.1 s ago
connections  70 of 1000, 30 half-open of 40
handshakes   100 begun, 60 complete, 10 failed, 5 asked to prove their address
refused      1 by their sources, 2 by rules, 3 by budgets, 4 while closed, 11 without room
a handshake  takes 0.75 ms of a processor
budget       800 new connections a second over QUIC, 5000 over TCP
bans         2 rules that the node made by itself

PACKETS           PASSED  DROPPED  WOULD BE DROPPED
established_quic  12345   0        0
source            0       99       7

PREFIX           NEW CONNECTIONS  UNTIL
198.51.100.0/24  allowed          the configuration changes
203.0.113.0/24   dropped          2026-12-01 18:00:00
2001:db8::/56    dropped          the next restart

TOP SOURCES   SAMPLES
203.0.113.7   50
2001:db8::    15 to 20
samples lost  9
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}

	f := func(s admit.State, want string) {
		t.Helper()
		if got := admissionLine(&s); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f(admit.State{Mode: admit.Generic, Enforce: true}, "generic, level normal")
	f(admit.State{Mode: admit.UserSpace, Refused: "no\nprivilege"},
		"user_space, level normal; counts only (admission.enforce is false); nothing better: no privilege")
	f(admit.State{Enforce: true, Mode: admit.TCX, Level: admit.Closed, Why: "set by the operator", PinnedUntil: until},
		"tcx, level closed: set by the operator, until 2026-12-01 18:00:00")
}

func TestAnswerToTrial(t *testing.T) {
	f := func(answer string, want bool) {
		t.Helper()
		if got := saidYes(strings.NewReader(answer), time.Hour); got != want {
			t.Errorf("%q is taken for %v", answer, got)
		}
	}
	f("yes\n", true)
	f(" y \n", true)
	f("yes", true)
	f("no\n", false)
	f("\n", false)
	f("", false)
	f("maybe yes\n", false)
}
