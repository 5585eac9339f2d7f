package limit

import "testing"

// A pageLoad is visitors who each ask for a page with all its parts.
type pageLoad struct {
	parts  int
	spread float64 // seconds within which all parts of a page are asked for
	// level of a part; nil gives all the same.
	level func(p *page, part int) Level
	seen  []*page
}

// A page is one visit.
type page struct {
	at      float64
	visitor uint64
	had     int // parts that the visitor was served
}

// visit asks for a page, all of whose parts are wanted whatever becomes of the
// others.
func (s *simulation) visit(shifted bool) {
	p := &page{at: s.now, visitor: s.rng.Uint64()}
	s.pages.seen = append(s.pages.seen, p)
	for i := range s.pages.parts {
		j, delay := s.job(shifted), 0.0
		j.page, j.part = p, i
		if i > 0 {
			delay = s.pages.spread * s.rng.Float64()
		}
		s.at(s.now+delay, event{kind: ask, job: j})
	}
}

// rank says how important a part of a page is.
func (s *simulation) rank(j *job, r *Request) {
	if s.pages == nil {
		return
	}
	r.Visitor = j.page.visitor
	if s.pages.level != nil {
		r.Level = s.pages.level(j.page, j.part)
	}
}

// sumUp is what became of the pages that were asked for in a span: the part of
// their parts that was served, and the part of them that was served whole.
func (l *pageLoad) sumUp(from, to float64) (parts, whole float64) {
	pages := 0.0
	for _, p := range l.seen {
		if p.at < from || p.at >= to {
			continue
		}
		pages++
		parts += float64(p.had) / float64(l.parts)
		if p.had == l.parts {
			whole++
		}
	}
	return parts / pages, whole / pages
}

// Levels that all parts of a page have in common make pages whole: at twice the
// capacity three in a hundred are if each part is turned away by chance.
func TestPagesShareOneFate(t *testing.T) {
	byVisitor := func(p *page, _ int) Level { return LevelOf(4, int(p.visitor%Users)) }
	byPart := func(p *page, part int) Level { return LevelOf(4, int(p.visitor>>(7*part)%Users)) }
	f := func(s scenario, seconds, independent, coherent float64) {
		t.Helper()
		s.phases, s.patience = []phase{{load: 0.5, seconds: seconds}, {load: 2, seconds: 3 * seconds}}, 1
		run := func(level func(*page, int) Level) (goodput, parts, whole float64) {
			const seeds = 3
			for seed := range seeds {
				in := &span{from: 2 * seconds, to: 4*seconds - 1}
				s.pages = &pageLoad{parts: 5, spread: 10 * s.mean, level: level}
				sim := simulate(s, uint64(seed+1), in)
				p, w := s.pages.sumUp(in.from, in.to)
				goodput += in.work / sim.capacity(in.from, in.to) / seeds
				parts, whole = parts+p/seeds, whole+w/seeds
			}
			return goodput, parts, whole
		}
		plain, _, least := run(nil)
		_, _, chance := run(byPart)
		goodput, parts, whole := run(byVisitor)
		t.Logf("%dx%.0f ms, %v: of the parts %.3f, of the pages whole %.3f; with a level for each part %.3f, with one for all %.3f; goodput %.3f and %.3f",
			s.slots, s.mean*1000, s.kind, parts, whole, chance, least, goodput, plain)
		if whole < coherent || max(chance, least) > independent {
			t.Errorf("whole pages %.3f, want %.3f; without visitors %.3f and %.3f, want at most %.3f", whole, coherent, chance, least, independent)
		}
		if goodput < plain-0.02 {
			t.Errorf("goodput %.3f, and %.3f without levels", goodput, plain)
		}
	}
	f(small(4, 0.02, 1, sharing), 10, 0.07, 0.22)
	f(small(16, 0.02, 1, sharing), 5, 0.05, 0.36)
	f(small(160, 0.02, 1, fifo), 2, 0.05, 0.43)
}

// What nothing else takes waits for a short time when the queue stands: it costs no
// goodput, and those who are served waited less.
func TestStandingQueue(t *testing.T) {
	f := func(s scenario, seconds, load float64) {
		t.Helper()
		s.phases, s.patience = []phase{{load: 0.5, seconds: seconds}, {load: load, seconds: 3 * seconds}}, 1
		run := func(stubborn bool) (goodput, wait, latency float64) {
			s.stubborn = stubborn
			const seeds = 2
			for seed := range seeds {
				in := &span{from: 2 * seconds, to: 4 * seconds}
				sim := simulate(s, uint64(seed+1), in)
				goodput += in.work / sim.capacity(in.from, in.to) / seeds
				wait += quantile(in.waits, 0.99) / seeds
				latency += in.quantile(0.99) / seeds
			}
			return goodput, wait, latency
		}
		before, longest, slowest := run(true)
		goodput, wait, latency := run(false)
		t.Logf("%vx of %dx%.0f ms, %v: goodput %.3f (waiting a second each: %.3f), p99 of the wait %.3f s (%.3f), of the latency %.3f s (%.3f)",
			load, s.slots, s.mean*1000, s.kind, goodput, before, wait, longest, latency, slowest)
		if goodput < before-0.02 || wait > longest/2 || latency > 1.2*slowest {
			t.Error("want no less goodput, half of the wait, no more latency")
		}
	}
	for _, load := range []float64{3, 10} {
		f(small(16, 0.02, 1, sharing), 4, load)
		f(small(16, 0.2, 1, sharing), 10, load)
		f(small(160, 0.02, 1, fifo), 2, load)
	}
}
