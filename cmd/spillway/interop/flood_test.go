package interop

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFlood plays a short flood, and asks that all of it was there: visitors whose
// pages came, a flood that arrived, and a kernel that judged it. What that is worth,
// make bench-flood says.
func TestFlood(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	need(t, "ip", "iproute2")
	out, err := exec.Command(surge, "flood", "--json", "--rounds", "1", "--for", "2s",
		"--profile", "spoofed", "--rate", "1000", "--setting", "closed port,full").Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		t.Fatalf("%v\n%s", err, failed.Stderr)
	}
	var rows []struct {
		Setting string             `json:"setting"`
		Sent    float64            `json:"sent_per_second"`
		Loads   map[string]float64 `json:"loads"`
		Counts  map[string]float64 `json:"counts"`
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows of two settings", len(rows))
	}
	for _, r := range rows {
		for name := range r.Counts {
			if strings.HasPrefix(name, `admission_mode{mode="user_space"`) {
				t.Skip("packets are not judged in the kernel: " + name)
			}
		}
		judged := r.Counts[`admission_packets_total{reason="new_quic",verdict="pass"}`]
		if r.Sent == 0 || len(r.Loads) != 3 || judged == 0 || r.Counts["handshakes_completed_total"] == 0 {
			t.Errorf("%+v", r)
		}
	}
	flood := func(i int) float64 {
		return rows[i].Counts[`admission_packets_total{reason="new_tcp",verdict="pass"}`]
	}
	// SYNs to a closed port are none of the node's.
	if flood(0) >= flood(1) {
		t.Errorf("%.0f SYNs came to the node with the flood elsewhere, %.0f with the flood", flood(0), flood(1))
	}
}
