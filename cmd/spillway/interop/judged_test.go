package interop

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"spillway/edge/admit"
)

// TestJudged lets clients of three makes load pages from the node while the kernel
// judges their packets, in generic mode and natively, over IPv4 and IPv6. At level
// guarded all of them are told to prove their address.
func TestJudged(t *testing.T) {
	for i, family := range []string{"IPv4", "IPv6"} {
		for _, mode := range []admit.Mode{admit.Generic, admit.Native} {
			for _, level := range []string{"normal", "guarded"} {
				t.Run(strings.Join([]string{family, string(mode), level}, "/"), func(t *testing.T) {
					testJudged(t, nodeAddrs[i], mode, level)
				})
			}
		}
	}
}

func testJudged(t *testing.T, addr netip.Addr, mode admit.Mode, level string) {
	gtlsclient, chrome := need(t, "gtlsclient", "ngtcp2-client"), need(t, "chromium", "chromium")
	o := newOrigin(t)
	var n *node
	at := netip.AddrPortFrom(addr, 443)
	layCable(t).atNode(t, func() error {
		// The page asks for more at once than an origin that nobody knows is asked for.
		proxied := newOriginHere(t, o)
		n = startNode(t, settings{server: proxied, listen: at.String(), origin: ", limit: {min: 1000}"})
		return nil
	})
	state := n.admission(t)
	if state.Mode == admit.UserSpace {
		t.Skipf("packets are not judged in the kernel: %s", state.Refused)
	}
	if mode == admit.Native {
		n.command(t, "admission", "enable", "--native", "--yes")
	}
	n.command(t, "admission", "level", level)

	s := &native{node: n, origin: o, at: at}
	s.url = "https://localhost"
	for range 5 {
		s.fetch(t, 100_000)
	}
	s.gtlsclient(t, gtlsclient, 1<<20)
	host := addr.String()
	if addr.Is6() {
		host = "[" + host + "]"
	}
	seen := visit(t, o, chromium(t, chrome, n, "/page",
		"--origin-to-force-quic-on=localhost:PORT", "--host-resolver-rules=MAP localhost "+host))
	checkPage(t, o, seen, "h3")

	await(t, "no handshake is half open", func() bool { return n.admission(t).HalfOpen == 0 })
	state = n.admission(t)
	if state.Mode != mode || state.Level.String() != level {
		t.Errorf("mode %s, level %s", state.Mode, state.Level)
	}
	counted := map[string]uint64{}
	for _, c := range state.Packets {
		if c.Packets > 0 {
			counted[c.Reason] += c.Packets
			t.Logf("%s: %d (dropped: %v)", c.Reason, c.Packets, c.Drop)
		}
		if c.Drop && c.Packets > 0 {
			t.Errorf("%d packets were dropped as %s", c.Packets, c.Reason)
		}
	}
	if counted["new_quic"] < 7 || counted["established_quic"] < 7*3 {
		t.Errorf("counted %v of seven connections", counted)
	}
	if retries := state.Retries; (level == "guarded") != (retries >= 7) || level == "guarded" && counted["proven"] < 7 {
		t.Errorf("%d clients proved their address, %d Initials came of them", retries, counted["proven"])
	}
	if state.Completed < 7 {
		t.Errorf("%d handshakes of seven were completed", state.Completed)
	}
}

// newOriginHere serves an origin in the network that the thread is in.
func newOriginHere(t *testing.T, o *origin) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: o}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String()
}

// admission returns what the node says of its admission.
func (n *node) admission(t *testing.T) (s admit.State) {
	t.Helper()
	var all struct {
		Admission json.RawMessage `json:"admission"`
	}
	if err := n.admin.Status(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(all.Admission, &s); err != nil {
		t.Fatalf("%v: %s", err, all.Admission)
	}
	return s
}

// command runs a command of the program against the node.
func (n *node) command(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(spillway, append(args, "--admin", "unix:"+filepath.Join(n.dir, "a.sock"))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}
