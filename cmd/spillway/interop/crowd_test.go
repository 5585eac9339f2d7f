package interop

import (
	"encoding/json"
	"maps"
	"os/exec"
	"testing"
)

// TestCrowdCountsAgree sends some hundred visitors over each protocol, and asks
// that their count, the node's and the access log's are the same.
func TestCrowdCountsAgree(t *testing.T) {
	for _, proto := range []string{"h1", "h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			o := newOrigin(t)
			// All of the crowd could be with the origin at once, for as long as it likes: on a
			// busy machine the node would find the limit of that, and shed.
			n := startNode(t, settings{
				server: o.URL, origin: ", limit: {min: 1000, max: 1000}, timeout: 3m", more: "admission: {enforce: false}",
			})
			out, err := exec.Command(surge, "crowd", "--json", "--ca", n.ca, "--protocol", proto,
				"--phases", "60/s:5s", "--timeout", "1m", n.url+"/bytes/1024", n.url+"/visitor/{visitor}").Output()
			if err != nil {
				t.Fatal(err)
			}
			var crowd struct {
				Offered, Answered, Errors int
				Outcomes                  map[string]int
				ClientErrors              map[string]int `json:"client_errors"`
			}
			if err := json.Unmarshal(out, &crowd); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			lines := n.logged(t)
			counted := int(n.metric(t, "spillway_requests_total"))
			// Whose handshake over QUIC takes seconds, on a busy machine, the node gives up
			// without a word (RFC 9000 section 10.1): those it has never seen, all others it
			// has answered. Who took the handshake for complete has a stateless reset for what
			// follows it (section 10.3).
			outside := 0
			if proto == "h3" {
				outside = crowd.ClientErrors["timeout"] + crowd.ClientErrors["reset"]
			}
			if crowd.Answered < 200 || crowd.Answered+outside != crowd.Offered || counted != crowd.Answered || len(lines) != crowd.Answered {
				t.Errorf("offered %d, answered %d, counted %d, logged %d; outcomes %v, errors of the client %v",
					crowd.Offered, crowd.Answered, counted, len(lines), crowd.Outcomes, crowd.ClientErrors)
			}
			logged := map[string]int{}
			for _, line := range lines {
				logged[line.Outcome]++
			}
			if !maps.Equal(logged, crowd.Outcomes) {
				t.Errorf("the crowd saw %v, the log says %v", crowd.Outcomes, logged)
			}
		})
	}
}
