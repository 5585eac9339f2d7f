package flood

import (
	"maps"
	"slices"
	"testing"
	"time"

	"spillway/config"
)

func TestParseCounts(t *testing.T) {
	got := parseCounts([]byte(`# HELP
spillway_handshakes_started_total 12
spillway_handshakes_failed_total 0
spillway_admission_packets_total{reason="source",verdict="drop"} 34
spillway_admission_short 1
spillway_requests_total{outcome="hit"} 5
spillway_handshake_retries_total
go_goroutines 3
`))
	want := map[string]float64{"handshakes_started_total": 12, `admission_packets_total{reason="source",verdict="drop"}`: 34}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLevels(t *testing.T) {
	log := `time=2026-01-02T03:04:05.000Z level=INFO msg=started
time=2026-01-02T03:04:06.500Z level=INFO msg="admission level" level=shedding before=normal why="handshakes ask for 82 % of the processors"
time=2026-01-02T03:04:16.500Z level=INFO msg="admission level" level=guarded before=shedding why=""
`
	got := levels(log, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	want := []string{"1.5 s shedding: handshakes ask for 82 % of the processors", "11.5 s guarded: "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseUsage(t *testing.T) {
	stat := []byte("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 10 20 30 40 5 6 7 8 0 0\nintr 4\n")
	u, err := parseUsage(stat, 1)
	if err != nil || u != (usage{all: 126, softirq: 13, idle: 45}) {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := parseUsage(stat, 7); err == nil {
		t.Error("a core that is not there has a usage")
	}
	softirq, idle := u.since(usage{all: 26, softirq: 3, idle: 25})
	if softirq != .1 || idle != .2 {
		t.Errorf("shares %g, %g", softirq, idle)
	}
}

func TestConfigurationsLoad(t *testing.T) {
	for _, s := range settings {
		if _, err := config.Parse("spillway.yaml", []byte(configuration(t.TempDir(), "127.0.0.1:9000", s.admission)), nil); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}
