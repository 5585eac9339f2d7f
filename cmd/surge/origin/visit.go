package origin

import "time"

// A Fate says how a request that came in ended.
type Fate string

// The fates.
const (
	Useful    Fate = "useful"    // done while its client had patience
	Late      Fate = "late"      // done after that
	Abandoned Fate = "abandoned" // done when its client had left
	Canceled  Fate = "canceled"  // dropped when its client left
	Killed    Fate = "killed"    // the origin died under it
	Rejected  Fate = "rejected"  // the backlog was full
)

// A Visit is one request at the origin, on the schedule's clock: what the machine
// was late with is not in it.
type Visit struct {
	Number  int64 // of ?draw=; negative without
	Arrived time.Time
	Ended   time.Time
	Demand  time.Duration // of one slot at speed 1
	Inside  int           // requests inside when it came, itself included; 0 when rejected
	Fate    Fate
}

// visited tells of a request that has ended.
func (o *Origin) visited(j *job, f Fate) {
	if o.c.Visited == nil {
		return
	}
	o.c.Visited(Visit{
		Number: j.number, Arrived: o.at(j.arrived), Ended: o.at(j.ended),
		Demand: time.Duration(j.demand * float64(time.Second)), Inside: j.inside, Fate: f,
	})
}

// at is a time of the schedule on the wall clock.
func (o *Origin) at(seconds float64) time.Time {
	return o.epoch.Add(time.Duration(seconds * float64(time.Second)))
}
