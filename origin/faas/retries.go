package faas

import (
	"sync"
	"time"
)

// How many calls that failed may be tried at another function: a share of those
// that succeed, and a few a second in any case, that few calls may fail over, too.
// Not knobs.
const (
	retryShare     = 0.1
	retriesASecond = 3
	retriesSaved   = 10
)

// retries keeps a platform in trouble from having all its calls made a second time
// elsewhere, where each is paid for again. The zero value has all that may be saved.
type retries struct {
	mu    sync.Mutex
	spent float64 // of what may be saved
	at    time.Time
}

// earn counts a call that succeeded.
func (r *retries) earn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent = max(0, r.spent-retryShare)
}

// allow takes a retry, if one is left.
func (r *retries) allow(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if passed := now.Sub(r.at).Seconds(); passed > 0 {
		r.spent = max(0, r.spent-retriesASecond*passed)
		r.at = now
	}
	if r.spent > retriesSaved-1 {
		return false
	}
	r.spent++
	return true
}

// MayRetry takes the right to try another function with a request that this one
// has failed, after it may have run.
func (f *Function) MayRetry() bool { return f.retries.allow(time.Now()) }
