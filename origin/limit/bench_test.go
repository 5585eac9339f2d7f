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

// BenchmarkWaiting is a request that waits and is served, beside a hundred others.
func BenchmarkWaiting(b *testing.B) {
	l := New(Config{Max: 1})
	held, _ := l.Acquire(1, 1)
	for i := range 100 {
		l.enqueue(Request{Share: 1, Length: 200, Level: Level(512 + i), Patient: true, Wait: 1e9})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w := l.enqueue(Request{Share: 1, Length: 200, Level: Level(i % 512), Patient: true, Wait: 1e9})
		held.Release(Cancel)
		held = <-w.answer
		i++
	}
}
