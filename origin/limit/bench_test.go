package limit

import "testing"

func BenchmarkAcquireRelease(b *testing.B) {
	l := New(Config{})
	b.ReportAllocs()
	for b.Loop() {
		p, _ := l.Acquire(1, 1)
		p.Release(OK)
	}
}

func BenchmarkAcquireReleaseParallel(b *testing.B) {
	l := New(Config{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, _ := l.Acquire(1, 1)
			p.Release(OK)
		}
	})
}

// BenchmarkSteering is the dearest path: the request steers.
func BenchmarkSteering(b *testing.B) {
	l := New(Config{Max: 1})
	l.control.class[1] = baseline0(1e6)
	l.control.enterSteady(0)
	l.publish(l.control.plan())
	b.ReportAllocs()
	for b.Loop() {
		p, _ := l.Acquire(1, 1)
		p.Release(OK)
	}
}

func BenchmarkRefuse(b *testing.B) {
	l := New(Config{Max: 1})
	p, _ := l.Acquire(1, 1)
	defer p.Release(OK)
	b.ReportAllocs()
	for b.Loop() {
		l.Acquire(1, 1)
	}
}

func BenchmarkTick(b *testing.B) {
	l := New(Config{})
	b.ReportAllocs()
	for b.Loop() {
		p, _ := l.Acquire(1, 1)
		p.Release(OK)
		l.tick()
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool drop tickets at random")
	}
	l := New(Config{Max: 1})
	f := func() {
		p, _ := l.Acquire(1, 1)
		l.Acquire(2, 0.5)
		p.Release(OK)
	}
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%v allocations per acquire, refusal and release", n)
	}
}
