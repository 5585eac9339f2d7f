package recorder

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Config says where the files go.
type Config struct {
	// Folder is made when there is something to write. Empty writes nothing.
	Folder string
	Log    *slog.Logger
}

const (
	// mostFiles are kept; then the oldest goes.
	mostFiles = 8
	// quiet is how long nothing must have been shed before shedding counts as begun
	// again, so that an overload that comes and goes does not write again and again.
	quiet = time.Minute
	// names of files sort by time; the pattern is that of all of them.
	fileName    = "flight-20060102T150405Z.jsonl"
	filePattern = "flight-*T*Z.jsonl"
)

// files are the minutes that were written out.
type files struct {
	folder string
	log    *slog.Logger
	shed   time.Time // when requests were shed last; Run's alone

	mu    sync.Mutex
	state State
}

// A State says what was written out last. The zero value is nothing yet.
type State struct {
	File  string    `json:"file,omitempty"`
	At    time.Time `json:"at,omitzero"`
	Count int       `json:"decisions,omitempty"` // in the file
	// Error says why the last file could not be written.
	Error string `json:"error,omitempty"`
}

func newFiles(c Config) files { return files{folder: c.Folder, log: c.Log} }

// State returns what was written out last.
func (r *Recorder) State() State {
	r.files.mu.Lock()
	defer r.files.mu.Unlock()
	return r.files.state
}

// Run watches over the counts of hits and of requests that were shed, which only
// grow, and writes the last minute out when shedding begins, until ctx ends.
func (r *Recorder) Run(ctx context.Context, counts func() (hits, shed uint64)) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	hits, shed := counts()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, wasHit, wasShed := time.Now(), hits, shed
		hits, shed = counts()
		r.addHits(hits-wasHit, now)
		r.forget(now)
		if shed > wasShed && r.files.begins(now) {
			r.save(now)
		}
	}
}

// begins notes that requests are shed, and reports whether that is news.
func (f *files) begins(now time.Time) bool {
	was := f.shed
	f.shed = now
	return was.IsZero() || now.Sub(was) > quiet
}

// save writes the last minute into a file, and tells where.
func (r *Recorder) save(now time.Time) {
	f := &r.files
	if f.folder == "" {
		f.log.Warn("requests are shed", "decisions", "nowhere written, there is no folder for them")
		return
	}
	path, n, err := r.write(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.state.Error = err.Error()
		f.log.Warn("requests are shed, and the last minute of decisions cannot be written", "error", err)
		return
	}
	f.state = State{File: path, At: now, Count: n}
	f.log.Warn("requests are shed, the last minute of decisions is written", "file", path, "decisions", n)
	if err := dropOldest(f.folder); err != nil {
		f.log.Warn("an old minute of decisions cannot be removed", "error", err)
	}
}

// write makes a file that appears whole or not at all.
func (r *Recorder) write(now time.Time) (path string, n int, err error) {
	folder := r.files.folder
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", 0, err
	}
	dropDrafts(folder)
	path = filepath.Join(folder, now.UTC().Format(fileName))
	draft, err := os.CreateTemp(folder, filepath.Base(path)+".*") // has mode 0600: visitors may be found in it
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(draft.Name()) // fails once it is renamed
	n, err = r.WriteTo(draft, now, "shedding began")
	if err := cmp.Or(err, draft.Close()); err != nil {
		return "", 0, fmt.Errorf("write %s: %w", draft.Name(), err)
	}
	if err := os.Rename(draft.Name(), path); err != nil {
		return "", 0, err
	}
	return path, n, nil
}

// dropDrafts removes what a crash has left. Nobody else writes drafts there.
func dropDrafts(folder string) {
	left, _ := filepath.Glob(filepath.Join(folder, filePattern+".*")) // the pattern is sound
	for _, draft := range left {
		_ = os.Remove(draft) // what stays takes room, and no more
	}
}

// dropOldest keeps the newest files.
func dropOldest(folder string) (err error) {
	all, _ := filepath.Glob(filepath.Join(folder, filePattern)) // sorted; the pattern is sound
	for len(all) > mostFiles {
		err = errors.Join(err, os.Remove(all[0]))
		all = all[1:]
	}
	return err
}

// A head is the first line of a file.
type head struct {
	Written time.Time `json:"written"`
	Why     string    `json:"why"`
	Seconds []Second  `json:"seconds"`
}

// WriteTo writes the last minute as lines of JSON: the first says why, and how much
// of each second was kept; each other is a request. It returns how many these are.
func (r *Recorder) WriteTo(w io.Writer, now time.Time, why string) (n int, err error) {
	seconds, entries := r.Last(now)
	b := bufio.NewWriter(w)
	lines := json.NewEncoder(b)
	if err := lines.Encode(head{now.UTC(), why, seconds}); err != nil {
		return 0, err
	}
	for i := range entries {
		if err := lines.Encode(entries[i].Line()); err != nil {
			return i, err
		}
	}
	return len(entries), b.Flush()
}
