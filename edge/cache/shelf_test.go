package cache

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"spillway/edge/cache/disk"
)

// A shelved cache has a disk below it.
type shelved struct {
	*Cache
	t    *testing.T
	stop func() // as the end of the process does, in good order
}

func onShelf(t *testing.T, folder string, c Config) *shelved {
	t.Helper()
	s := shelve(t, folder, c)
	s.ready()
	return s
}

// shelve is onShelf for a disk that may not work.
func shelve(t *testing.T, folder string, c Config) *shelved {
	s := &shelved{Cache: New(c), t: t}
	tier := disk.New(disk.Config{Path: folder, Size: 8 << 20}, slog.New(slog.DiscardHandler))
	s.UseDisk(tier)
	s.recalls.patience = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := tier.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	s.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(s.stop)
	return s
}

// ready waits until all that was asked of the disk is done.
func (s *shelved) ready() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Sync(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// again ends the process and begins another one on the same folder.
func (s *shelved) again(folder string) *shelved {
	s.t.Helper()
	s.stop()
	return onShelf(s.t, folder, s.config)
}

// asks asks for a request so many times, the answer being the same.
func (s *shelved) asks(times int, r *http.Request, fetch Func) {
	s.t.Helper()
	for range times {
		read(s.t, s.Cache, r, fetch)
	}
	s.ready()
}

// finds reports whether there is a fresh answer, and what it says.
func (s *shelved) finds(r *http.Request) (body string, ok bool) {
	found := s.Lookup(r, time.Now())
	defer found.Release()
	if found.State != Fresh {
		return string(found.State), false
	}
	return string(found.Entry.Body()), true
}

func (s *shelved) mustFind(r *http.Request, want string) {
	s.t.Helper()
	if got, ok := s.finds(r); !ok || got != want {
		s.t.Errorf("%s: %.40q, %t, want %.40q", r.URL, got, ok, want)
	}
}

func (s *shelved) mustMiss(r *http.Request) {
	s.t.Helper()
	if got, ok := s.finds(r); ok {
		s.t.Errorf("%s: %.40q, want nothing", r.URL, got)
	}
}

func (s *shelved) objects() int { return s.State().Disk.Objects }
