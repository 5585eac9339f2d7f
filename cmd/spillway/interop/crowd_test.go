package interop

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// TestCrowdCountsAgree sends some hundred visitors over each protocol, and asks
// that their count, the node's and the access log's are the same.
func TestCrowdCountsAgree(t *testing.T) {
	for _, proto := range []string{"h1", "h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			o := newOrigin(t)
			n := startNode(t, settings{server: o.URL})
			out, err := exec.Command(surge, "crowd", "--json", "--ca", n.ca, "--protocol", proto,
				"--phases", "60/s:5s", "--timeout", "30s", n.url+"/bytes/1024", n.url+"/visitor/{visitor}").Output()
			if err != nil {
				t.Fatal(err)
			}
			var crowd struct {
				Offered, Answered, Errors int
				Outcomes                  map[string]int
			}
			if err := json.Unmarshal(out, &crowd); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			lines := n.logged(t)
			counted := int(n.metric(t, "spillway_requests_total"))
			if crowd.Offered < 200 || crowd.Answered != crowd.Offered || counted != crowd.Offered || len(lines) != crowd.Offered {
				t.Errorf("offered %d, answered %d, counted %d, logged %d", crowd.Offered, crowd.Answered, counted, len(lines))
			}
			logged := map[string]int{}
			for _, line := range lines {
				logged[line.Outcome]++
			}
			for word, count := range crowd.Outcomes {
				if logged[word] != count {
					t.Errorf("the crowd saw %d times %s, the log says %d", count, word, logged[word])
				}
			}
		})
	}
}
