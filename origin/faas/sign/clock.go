package sign

import "time"

// tolerance is how far AWS lets a signature's time be off, less a minute for the
// way there. Not a knob.
const tolerance = 4 * time.Minute

// A correction is what is known of AWS's clock since it refused a signature.
type correction struct {
	behind time.Duration // this machine's clock
	at     time.Time     // when that was learned, on the monotonic clock
	wall   time.Time     // and on the other one, which may be set
}

// stale reports whether someone has set the clock since: then it is taken for
// right again.
func (c *correction) stale(now time.Time) bool {
	jump := now.Round(0).Sub(c.wall) - now.Sub(c.at)
	return jump.Abs() >= tolerance
}

// now is the time on AWS's clock, as far as it is known.
func (s *Signer) now() time.Time {
	now, c := time.Now(), s.correct.Load()
	switch {
	case c == nil:
		return now
	case c.stale(now):
		s.correct.CompareAndSwap(c, nil)
		return now
	}
	return now.Add(c.behind)
}

// earlier is the earlier of this machine's time and of AWS's. Credentials are
// judged by it: which of the clocks is wrong is only known when AWS refuses them,
// and to refuse good ones here would keep that from ever being learned.
func (s *Signer) earlier() time.Time {
	now, theirs := time.Now(), s.now()
	if theirs.Before(now) {
		return theirs
	}
	return now
}

// Correct takes the time at which AWS refused a signature, and returns by how much
// this machine's clock is behind it. Later signatures go by AWS's clock until this
// machine's is set. It is zero when the clock is right, also when it has become so
// and the signature was wrong for that, and when the time cannot have been the
// reason.
func (s *Signer) Correct(date time.Time) time.Duration {
	if off := date.Sub(s.now()); off.Abs() < tolerance {
		return 0
	}
	now := time.Now()
	behind := date.Sub(now)
	if behind.Abs() < tolerance {
		s.correct.Store(nil)
		return 0
	}
	s.correct.Store(&correction{behind: behind, at: now, wall: now.Round(0)})
	return behind
}
