package cache

import (
	"context"
	"sync"
	"time"

	"spillway/edge/coding"
)

// An original is what is to be recoded: an entry with its body, which the caller has
// pinned, or one whose body is on its way.
type original struct {
	entry  *Entry
	grows  *fill
	coding coding.Coding // to be made of it
	keep   bool          // what is made is stored
}

// source returns the original's body, and keeps it until it is closed, or nil where it
// cannot be had any more. The context ends it.
func (o *original) source(ctx context.Context) coding.Source {
	if o.grows == nil {
		return &pinnedSource{coding.NewWhole(o.entry.body), ctx, sync.OnceFunc(o.entry.retain())}
	}
	if !o.grows.expect() {
		return nil
	}
	return o.grows.attach(ctx)
}

// A pinnedSource is the body of an entry that stays pinned until it is closed.
type pinnedSource struct {
	*coding.Whole
	ctx     context.Context
	release func()
}

// Next ends with the context.
func (s *pinnedSource) Next(patience time.Duration) ([]byte, error) {
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	return s.Whole.Next(patience)
}

// Close releases the entry.
func (s *pinnedSource) Close() error {
	s.release()
	return nil
}
