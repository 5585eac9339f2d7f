package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Without a cache between them, the origin sees the whole crowd.
func TestPlayCountsRequests(t *testing.T) {
	f := &field{source: NewSource()}
	defer f.source.Close()
	open := &peer{Name: "open", Plain: true, address: f.source.Address()}
	const late = 50 * time.Millisecond
	c, err := f.play(t.Context(), open, scene{crowd: 5, late: late}, "/bytes/7")
	if err != nil || c.requests != 5 || len(c.first) != 4 || c.whole() < late {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := f.play(t.Context(), open, scene{crowd: 2}, "/nothing"); err == nil {
		t.Error("a crowd that gets errors is measured")
	}
}

func TestLateFirstIsTheMedian(t *testing.T) {
	c := collapsed{first: []time.Duration{9, 1, 5}}
	if got := c.lateFirst(); got != 5 {
		t.Errorf("got %d, want 5", got)
	}
	if c.first[0] != 9 {
		t.Error("the answers were put in another order")
	}
}

func TestWriteCollapse(t *testing.T) {
	var out bytes.Buffer
	report{Collapse: []collapse{{Peer: "nginx", Scene: "may be shared", Aim: "1 request", Requests: []int{1, 3, 2}, Seconds: 1.5, Rounds: []float64{1, 1.5, 2}}}}.writeCollapse(&out)
	if !strings.Contains(out.String(), "nginx              3     1.500   [1.000 1.500 2.000]") {
		t.Errorf("got\n%s", out.String())
	}
}
