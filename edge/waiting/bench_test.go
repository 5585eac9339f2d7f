package waiting

import (
	"testing"
	"time"
)

// BenchmarkVisit is what one visit of a waiting visitor costs, page included, among
// 100,000.
func BenchmarkVisit(b *testing.B) {
	r, now := stillRoom()
	var tickets []string
	for range 100_000 {
		*now += 100
		tickets = append(tickets, wait(r).Ticket)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 1) % len(tickets)
		g := r.with(tickets[i])
		n := r.Wait(&g)
		OwnPage.Render(&n, "de-AT,de;q=0.9,en;q=0.8", "0123456789abcdef01234567")
	}
}

// BenchmarkEmpty is what a room costs in which nobody waits.
func BenchmarkEmpty(b *testing.B) {
	r, _ := stillRoom()
	r.clock = func() int64 { return time.Now().UnixMicro() }
	b.ReportAllocs()
	for b.Loop() {
		r.Enter(Ask{Waits: true})
	}
}
