package origin

import (
	"math/rand/v2"
	"time"
)

// coldShare is the part of its share that a server begins with. Not a knob: it
// is enough to fill caches, and little enough to bear without them.
const coldShare = 0.1

// cool makes a server begin slowly. It is called with mu held.
func (p *pool) cool(s *server) {
	if p.slowStart.Load() > 0 {
		s.cold.Store(int64(p.now()))
	}
}

// passOver draws whether a cold server is passed over. A server that comes back
// has nothing in flight, so without this it would win every comparison and get
// more than the others. It goes by chance and not by a weight of what is in
// flight, since where little is in flight a weight would be all or nothing.
func (p *pool) passOver(s *server) bool {
	since, d := s.cold.Load(), p.slowStart.Load()
	age := int64(p.now()) - since
	if age >= d {
		s.cold.CompareAndSwap(since, 0) // unless it became cold again
		return false
	}
	return rand.Float64() >= warmth(time.Duration(age), time.Duration(d))
}

// warmth is the part of its share that a server gets after a time.
func warmth(age, slowStart time.Duration) float64 {
	return coldShare + (1-coldShare)*float64(age)/float64(slowStart)
}
