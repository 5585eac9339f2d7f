package admit

import (
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A lane that takes what the node has is cut back at once and recovers slowly; the
// other keeps what it has.
func TestBudgetsFollowTheLoad(t *testing.T) {
	var b budgets
	calm := pace{cost: time.Millisecond, cores: 2}
	busy := calm
	busy.quic, busy.passed, busy.cpu = 1800, [2]float64{1800, 100}, .9
	b.follow(Normal, busy)
	most := b
	b.follow(Shedding, busy)
	if b.quic.rate != 1800*backOff || b.tcp.rate != most.tcp.rate {
		t.Errorf("after one beat: %+v", b)
	}
	for range 100 {
		b.follow(Shedding, busy)
	}
	if b.quic.rate != 200 || b.tcp.rate != most.tcp.rate { // a tenth of 2,000
		t.Errorf("after 20 s: %+v", b)
	}
	b.follow(Shedding, calm)
	if step := b.quic.rate - 200; step <= 0 || step > most.quic.rate/49 {
		t.Errorf("raised by %v", step)
	}
	for range 50 {
		b.follow(Closed, calm)
	}
	if b != most {
		t.Errorf("after 10 s: %+v, want %+v", b, most)
	}
	late := calm
	late.tcp, late.passed, late.delay = 500, [2]float64{0, 500}, 2*aimDelay
	b.follow(Shedding, late)
	if b.tcp.rate != 500*backOff || b.quic.rate != most.quic.rate {
		t.Errorf("late: %+v", b)
	}
	b.follow(Guarded, busy)
	if b != most {
		t.Errorf("below shedding: %+v", b)
	}
}

// Whatever the load, budgets stay between the floor and the ceiling, and a connection
// has two proven Initials.
func TestBudgetsStayWithinBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b budgets
		p := pace{cores: float64(rapid.IntRange(1, 128).Draw(t, "cores"))}
		p.cost = time.Duration(rapid.Int64Range(int64(leastCost), int64(mostCost)).Draw(t, "cost"))
		capacity := p.capacity()
		rate := rapid.Float64Range(0, 1e6)
		for range rapid.IntRange(1, 50).Draw(t, "beats") {
			level := Level(rapid.Uint32Range(0, uint32(Closed)).Draw(t, "level"))
			p.quic, p.tcp, p.retries = rate.Draw(t, "quic"), rate.Draw(t, "tcp"), rate.Draw(t, "retries")
			p.passed = [2]float64{rate.Draw(t, "passed quic"), rate.Draw(t, "passed tcp")}
			p.cpu = rapid.Float64Range(0, 1).Draw(t, "cpu")
			b.follow(level, p)
			policy := b.policy(level, true, p)
			for _, r := range []Rate{policy.QUIC, policy.TCP} {
				if r.PerSecond < floorShare*capacity || r.PerSecond > max(9.01*capacity, synsPerCore*p.cores) {
					t.Fatalf("%v a second at %+v", r.PerSecond, p)
				}
			}
			if policy.Proven.PerSecond < 2*capacity || min(policy.QUICTrickle.PerSecond, policy.TCPTrickle.PerSecond) <= 0 {
				t.Fatalf("policy %+v", policy)
			}
		}
	})
}

// Those over a limit get what budgets have left, and hardly anything where others take
// these, where an overload has lowered them, and when the node is closed.
func TestTrickleIsWhatBudgetsLeave(t *testing.T) {
	const tcpPassed = 20_000
	f := func(name string, level Level, passed, cpu float64, beats int, want, wantTCP float64) {
		t.Helper()
		var b budgets
		p := pace{cost: time.Millisecond, cores: 2, cpu: cpu, quic: passed, passed: [2]float64{passed, tcpPassed}}
		b.follow(Normal, p)
		for range beats {
			b.follow(level, p)
		}
		policy := b.policy(level, true, p)
		if got, tcp := policy.QUICTrickle.PerSecond, policy.TCPTrickle.PerSecond; got != want || tcp != wantTCP {
			t.Errorf("%s: %v and %v a second, want %v and %v", name, got, tcp, want, wantTCP)
		}
	}
	const most, least = 18_000, 2 * tricklePerCore // nine Retries for a handshake
	const tcp = 2*synsPerCore - tcpPassed
	f("guarded", Guarded, 0, .1, 1, most, tcp)
	f("others take a part", Shedding, 5000, .1, 1, most-5000, tcp)
	f("others take all", Shedding, most+1, .1, 1, least, tcp)
	f("overload", Shedding, 5000, .9, 1, least, tcp)
	f("closed", Closed, 0, .1, 1, least, least)
}

// What a handshake costs is learned from beats that are full of them, within bounds.
func TestCostIsLearned(t *testing.T) {
	s := senses{gauges: idle()}
	s.look(reading{}, 2)
	r := reading{}
	beats := func(n int, handshakes uint64, cpu time.Duration) {
		for range n {
			r.at += beat
			r.started += handshakes
			r.asked += handshakes
			r.cpu += cpu
			s.look(r, 2)
		}
	}
	beats(10, 10, 200*time.Millisecond) // mostly other work
	if s.pace.cost != firstCost {
		t.Errorf("learned %v from few", s.pace.cost)
	}
	beats(1, 400, 200*time.Millisecond)
	if s.pace.cost != 500*time.Microsecond {
		t.Errorf("learned %v, want 500 µs", s.pace.cost)
	}
	beats(10, 100, 400*time.Millisecond) // and as much other work again
	if s.pace.cost < 500*time.Microsecond || s.pace.cost > 510*time.Microsecond {
		t.Errorf("forgot: %v", s.pace.cost)
	}
	beats(1, 4000, time.Millisecond)
	if s.pace.cost != leastCost {
		t.Errorf("learned %v of handshakes that cost nothing", s.pace.cost)
	}
	beats(50, 400, 200*time.Millisecond) // half of two processors
	if s.pace.cpu > .5 || s.pace.quic < 1900 || s.pace.quic > 2100 || s.asked < 1900 || s.asked > 2100 {
		t.Errorf("pace %+v, asked %v", s.pace, s.asked)
	}
}

func TestMachineCanBeRead(t *testing.T) {
	if cpu := processCPU(); cpu <= 0 {
		t.Errorf("process CPU %v", cpu)
	}
	if share := heapShare(Given(), 0)(); share <= 0 || share > 1 {
		t.Errorf("memory %v", share)
	}
	delay := schedulerDelay()
	delay()
	if d := delay(); d < 0 || d > time.Minute {
		t.Errorf("delay %v", d)
	}
}

// What a cache was told to take, and what waits to be collected, is no shortage.
func TestCacheAndGarbageAreNoShortage(t *testing.T) {
	const of = 64 << 20
	part := heapShare(of, 0)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // only when it is told to
	runtime.GC()
	before := part()
	for range 256 {
		garbage = make([]byte, 64<<10) // 16 MiB, by which a resident set grows
	}
	garbage = nil
	if after := part(); after-before > .1 {
		t.Errorf("garbage: %v of it, before %v", after, before)
	}
	held := make([]byte, 16<<20)
	runtime.GC()
	if after := part(); after-before < .2 {
		t.Errorf("live: %v of it, before %v", after, before)
	}
	runtime.KeepAlive(held)
	before = part()
	cached, err := syscall.Mmap(-1, 0, of, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(cached)
	if after := part(); after-before > .1 {
		t.Errorf("cached: %v of it, before %v", after, before)
	}
	beside := heapShare(of, of)
	if got, want := beside(), part()/leastForHeap; got < .9*want || got > 1.1*want {
		t.Errorf("%v beside a cache of everything, want %v", got, want)
	}
}

var garbage []byte
