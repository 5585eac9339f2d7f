package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"spillway/origin/limit"
)

const (
	// learnedVersion is the version of the file. One of another version is left
	// alone until the next write: what it says is soon learned again.
	learnedVersion = 1
	// learnedEvery is how often the file is written: what a crash may lose.
	learnedEvery = 10 * time.Second
	// learnedAge is how old what it says may be. Much longer than a restart, and
	// the origin may have been changed meanwhile.
	learnedAge = time.Hour
	// learnedSkew is how far the clock may have been set back since.
	learnedSkew = time.Minute
	// learnedMost bounds what is read of it.
	learnedMost = 1 << 20
)

// learnedFile is the form of learned.json, which keeps what the limiters have
// learned over a restart. Without it a node that starts in a crowd has to find the
// limit anew.
type learnedFile struct {
	Version int                      `json:"version"`
	Origins map[string]learnedOrigin `json:"origins"`
}

// learnedOrigin is what was learned about one origin. It holds for the same
// servers under the same name.
type learnedOrigin struct {
	At      time.Time `json:"at"`
	Servers []string  `json:"servers"`
	// Useful is the useful concurrency, zero if it is not known.
	Useful float64 `json:"useful"`
	// Safe and Unsafe are the baselines of the routes, by what they match. The
	// numbers of classes mean nothing after a restart.
	Safe   map[string]time.Duration `json:"safe_ns"`
	Unsafe map[string]time.Duration `json:"unsafe_ns"`
}

// readLearned reads the file in the state folder. One that cannot be read is no
// reason not to start.
func readLearned(folder string, log *slog.Logger) learnedFile {
	var file learnedFile
	if folder == "" {
		return file
	}
	b, err := readAtMost(learnedPath(folder), learnedMost)
	if errors.Is(err, fs.ErrNotExist) {
		return file
	}
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err == nil && file.Version != learnedVersion {
		err = fmt.Errorf("version %d is unknown, this program knows %d", file.Version, learnedVersion)
	}
	if err != nil {
		log.Warn("what was learned about origins is not used and will be learned anew", "file", learnedPath(folder), "error", err)
		return learnedFile{}
	}
	return file
}

func learnedPath(folder string) string { return filepath.Join(folder, "learned.json") }

// readAtMost reads a file that must not be longer than most.
func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("longer than %d bytes", most)
	}
	return b, err
}

// fits reports whether what was learned may still hold for an origin.
func (l *learnedOrigin) fits(servers []string, now time.Time) bool {
	age := now.Sub(l.At)
	return -learnedSkew <= age && age <= learnedAge && slices.Equal(sorted(l.Servers), sorted(servers))
}

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// of returns what is known in the classes of today.
func (l *learnedOrigin) of(classes map[string]limit.Class) limit.Learned {
	known := limit.Learned{At: l.At, Useful: l.Useful}
	for route, class := range classes {
		if b, ok := l.Safe[route]; ok {
			known.Baselines = append(known.Baselines, limit.Baseline{Class: class, Latency: b})
		}
		if b, ok := l.Unsafe[route]; ok {
			known.Baselines = append(known.Baselines, limit.Baseline{Class: class + 1, Latency: b})
		}
	}
	return known
}

// learnedFrom is the reverse of of.
func learnedFrom(known limit.Learned, classes map[string]limit.Class, servers []string) learnedOrigin {
	l := learnedOrigin{
		At: known.At, Servers: servers, Useful: known.Useful,
		Safe: map[string]time.Duration{}, Unsafe: map[string]time.Duration{},
	}
	for _, b := range known.Baselines {
		for route, class := range classes {
			switch b.Class {
			case class:
				l.Safe[route] = b.Latency
			case class + 1:
				l.Unsafe[route] = b.Latency
			}
		}
	}
	return l
}

// restoreLearned tells the limiter of an origin that does not run yet what the
// file says about it.
func (n *node) restoreLearned(name string) {
	l, ok := n.learned.Origins[name]
	if !ok || !l.fits(n.config.Origins[name].Servers, time.Now()) {
		return
	}
	n.parts.origins[name].Limiter().Restore(l.of(n.server.Classes(name)))
	n.log.Info("limit restored", "origin", name, "limit", n.parts.origins[name].Limiter().State().Limit, "learned", l.At)
}

// keepLearned writes the file until ctx ends, and once more then.
func (n *node) keepLearned(ctx context.Context, folder string) {
	ticker := time.NewTicker(learnedEvery)
	defer ticker.Stop()
	failed := false
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-ticker.C:
		}
		err := n.writeLearned(folder)
		if err != nil && !failed {
			n.log.Warn("what was learned about origins is lost with a restart", "error", err)
		}
		failed = err != nil
	}
}

// writeLearned replaces the file, so that a crash leaves the old or the new one. It
// is not synced: a damaged one costs what no file costs.
func (n *node) writeLearned(folder string) error {
	b, err := json.Marshal(n.learnedNow())
	if err != nil {
		return fmt.Errorf("write what was learned: %w", err)
	}
	temporary := learnedPath(folder) + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return fmt.Errorf("write what was learned: %w", err)
	}
	if err := os.Rename(temporary, learnedPath(folder)); err != nil {
		return fmt.Errorf("write what was learned: %w", err)
	}
	return nil
}

// learnedNow is what the limiters know now. Of an origin about which nothing is
// known yet, such as after a restart without a visitor, it keeps what the file
// said.
func (n *node) learnedNow() learnedFile {
	n.mu.Lock()
	defer n.mu.Unlock()
	file := learnedFile{Version: learnedVersion, Origins: map[string]learnedOrigin{}}
	for name, o := range n.parts.origins {
		servers := n.config.Origins[name].Servers
		known := o.Limiter().Learned()
		if known.Useful > 0 || len(known.Baselines) > 0 {
			file.Origins[name] = learnedFrom(known, n.server.Classes(name), servers)
		} else if l, ok := n.learned.Origins[name]; ok && l.fits(servers, time.Now()) {
			file.Origins[name] = l
		}
	}
	return file
}
