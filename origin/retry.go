package origin

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// retryWindow is how many seconds the share is reckoned over.
	retryWindow = 10
	// retryLeast is how many retries a second are allowed at any load: a share of
	// few requests is none. They may be saved up, but beyond the share at most
	// retryBurst come in one second: enough to find out that two servers are down.
	retryLeast = 3
	retryBurst = 2 * streakToOpen
)

// A retryBudget sees to it that an origin in trouble is not given its requests
// twice: requests are sent again only up to a share of those sent lately.
type retryBudget struct {
	share atomic.Pointer[float64]
	// seconds holds what happened in each of the last seconds. A count may land in
	// the neighbouring second.
	seconds [retryWindow]retrySecond
	spend   sync.Mutex // retries are rare
}

type retrySecond struct {
	number            atomic.Int64 // of the second; 0 is none
	requests, retries atomic.Int64
}

// request counts a request that is sent for the first time. now is the time
// since any fixed one, not negative.
func (b *retryBudget) request(now time.Duration) { b.at(second(now)).requests.Add(1) }

// allow reports whether a request may be sent again, and counts it if so.
func (b *retryBudget) allow(now time.Duration) bool {
	share := *b.share.Load()
	if share <= 0 {
		return false
	}
	b.spend.Lock()
	defer b.spend.Unlock()
	this := second(now)
	requests, retries := int64(0), int64(0)
	for i := range b.seconds {
		if s := &b.seconds[i]; s.number.Load() > this-retryWindow {
			requests += s.requests.Load()
			retries += s.retries.Load()
		}
	}
	current := b.at(this)
	saved := retries < retryLeast*retryWindow && current.retries.Load() < retryBurst
	if !saved && float64(retries) >= share*float64(requests) {
		return false
	}
	current.retries.Add(1)
	return true
}

func second(now time.Duration) int64 { return int64(now/time.Second) + 1 }

// at returns the counts of a second, emptied by whoever comes first.
func (b *retryBudget) at(number int64) *retrySecond {
	s := &b.seconds[number%retryWindow]
	if was := s.number.Load(); was < number && s.number.CompareAndSwap(was, number) {
		s.requests.Store(0)
		s.retries.Store(0)
	}
	return s
}
