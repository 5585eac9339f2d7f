package faas

import "time"

// Hold books what the instances that the platform keeps ready cost in a time that
// has begun, from the budget. It is paid whatever is left: the bill comes anyway.
func (f *Function) Hold(d time.Duration) {
	cost := f.price.held(f.config) * d.Seconds()
	if cost == 0 {
		return
	}
	f.budget.Spend(time.Now(), cost)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.CostUSD += cost
	f.stats.HeldUSD += cost
}
