package cache

import (
	"net/http"
	"time"
)

// A Glance is what Find and Fetch would come upon at one instant.
type Glance struct {
	Result
	// Joins: somebody fetches the answer already, and the request would wait for it.
	Joins bool
	// Late: others have waited for that fetch long enough (Config.StaleWait). The entry
	// would answer at once, and Joins is false.
	Late bool
	// Alone: nobody would wait for an answer to this request. It is none that is
	// shared, or the key's answers were not lately.
	Alone bool
}

// Peek looks at what there is for r under a policy, and leaves no trace: nothing is counted, no
// entry lives longer for it once the Glance is released, and no fetch begins.
func (c *Cache) Peek(r *http.Request, now time.Time, p *Policy) (g Glance) {
	g.Policy = p
	c.look(r, now, &g.Result)
	if c.recallable(&g.Result) {
		c.peekDisk(r, now, &g.Result)
	}
	if g.State == Bypass || g.State == Unavailable || !collapsible(r, &g.Result) {
		g.Alone = true
		return g
	}
	key := c.flightKey(&g.target, r)
	sh := c.flights.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	group := sh.groups[key]
	if g.Alone = sh.marks.has(key, now) || group != nil && !group.target.equal(&g.target); g.Alone || group == nil {
		return g
	}
	for _, f := range group.flights {
		if f.epoch == c.flights.epoch(g.target.hash).Load() && !c.outlived(f, &g.Result) && f.joinable(group, r, &g.Result, now) {
			g.Joins = f.settled || f.joiners() < c.config.CollapseWaiters
			g.Late = g.Joins && !f.settled && f.late.Load() && c.waitsBriefly(r, &g.Result)
			g.Joins = g.Joins && !g.Late
			return g
		}
	}
	return g
}
