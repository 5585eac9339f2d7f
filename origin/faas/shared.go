package faas

import "sync/atomic"

// SharedConfig describes something that functions share with origins, such as the
// database behind both.
type SharedConfig struct {
	// Max is how many requests may be at work on it at once.
	Max int `koanf:"max" default:"40" min:"1"`
}

// A Shared bounds the calls of the functions that use one thing together with
// origins, so that overflow does not bury what the origin stands on. Origins come
// first: functions get what the limits of the origins leave, whether it is used or
// not, since an origin may take it up at any moment. It is safe for concurrent use.
// A nil *Shared bounds nothing.
type Shared struct {
	name    string
	max     atomic.Int64
	calls   atomic.Int64
	origins atomic.Pointer[[]func() int]
}

// NewShared returns one that nobody uses yet.
func NewShared(name string, c SharedConfig) *Shared {
	s := &Shared{name: name}
	s.Set(c, nil)
	return s
}

// Set changes the bound, and the origins that come first: each says how many
// requests it may have at work.
func (s *Shared) Set(c SharedConfig, origins []func() int) {
	s.max.Store(int64(c.Max))
	s.origins.Store(&origins)
}

// left is how many calls the origins leave to functions.
func (s *Shared) left() int64 {
	left := s.max.Load()
	for _, claim := range *s.origins.Load() {
		left -= int64(claim())
	}
	return max(0, left)
}

// full reports whether no call may be made now.
func (s *Shared) full() bool { return s != nil && s.calls.Load() >= s.left() }

// enter takes a place, or reports that there is none.
func (s *Shared) enter() bool {
	if s == nil {
		return true
	}
	left := s.left()
	for {
		n := s.calls.Load()
		if n >= left {
			return false
		}
		if s.calls.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (s *Shared) leave() {
	if s != nil {
		s.calls.Add(-1)
	}
}

// A SharedState is a snapshot for metrics and the status view.
type SharedState struct {
	Name string `json:"name"`
	Max  int    `json:"max"`
	// Calls are those of functions at work, Left those that there may be.
	Calls int `json:"calls"`
	Left  int `json:"left"`
}

// State returns a snapshot.
func (s *Shared) State() SharedState {
	return SharedState{Name: s.name, Max: int(s.max.Load()), Calls: int(s.calls.Load()), Left: int(s.left())}
}

// Protect makes the function's calls count among those that use s, which may be
// nil. It is called before the first call.
func (f *Function) Protect(s *Shared) { f.shared = s }
