package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"spillway/cmd/surge/program"
)

// A peer is one of the caches that are compared, or the bare server.
type peer struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// Lacks says of each protocol that it does not speak why it is left out.
	Lacks map[protocol]string `json:"lacks,omitempty"`
	// Plain is spoken without TLS.
	Plain bool `json:"plain,omitempty"`

	process *program.Process
	pid     int
	address string
}

// bare is the peer that keeps nothing and is what the others are divided by.
const bare = "bare"

// firstCore is the peers', and no other: the load keeps the rest.
const firstCore = 0

// A field starts peers in front of one source, each in a folder of its own.
type field struct {
	ctx    context.Context
	dir    string
	source *Source
	peers  []*peer // the bare server is the first
	// skipped are those that are not installed.
	skipped []string
}

// stop ends all peers, the last first.
func (f *field) stop() {
	for i := len(f.peers) - 1; i >= 0; i-- {
		f.peers[i].process.Stop()
	}
	f.source.Close()
	os.RemoveAll(f.dir)
}

// newField starts all peers but those that are not installed.
func newField(ctx context.Context) (*field, error) {
	dir, err := os.MkdirTemp("", "surge-bench-")
	if err != nil {
		return nil, err
	}
	f := &field{ctx: ctx, dir: dir, source: NewSource()}
	if err := f.startAll(); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *field) startAll() error {
	if err := os.Chmod(f.dir, 0o755); err != nil { // peers run as nobody, below it
		return err
	}
	for _, name := range []string{bare, "spillway", "nginx", "varnish"} {
		switch err := f.start(name); {
		case errors.Is(err, program.ErrMissing):
			f.skipped = append(f.skipped, fmt.Sprintf("%s %v: scripts/setup bench installs it", name, program.ErrMissing))
		case err != nil:
			return fmt.Errorf("start %s: %w", name, err)
		}
	}
	return nil
}

func (f *field) start(name string) error {
	folder, err := f.folder(name)
	if err != nil {
		return err
	}
	var p *peer
	switch name {
	case "spillway":
		p, err = f.startSpillway(folder)
	case bare:
		p, err = f.startBare(folder)
	case "nginx":
		p, err = f.startNginx(folder)
	case "varnish":
		p, err = f.startVarnish(folder)
	default:
		err = errors.New("there is no such peer")
	}
	if p != nil {
		p.Name = name
		f.peers = append(f.peers, p)
	}
	return err
}

// peer returns the one of that name, which is ours and so always there.
func (f *field) peer(name string) *peer {
	return f.peers[slices.IndexFunc(f.peers, func(p *peer) bool { return p.Name == name })]
}

// folder makes the folder of a peer, which belongs to whom the peer runs as.
func (f *field) folder(name string) (string, error) {
	folder := filepath.Join(f.dir, name)
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", err
	}
	nobody, err := program.Nobody()
	if err != nil || nobody == nil {
		return folder, err
	}
	return folder, os.Chown(folder, int(nobody.Uid), int(nobody.Gid))
}

// foreign starts a program of others, as nobody when we are root, and waits until
// it listens.
func (f *field) foreign(p *peer, folder, path string, args ...string) (*peer, error) {
	var err error
	p.process, err = program.Start(program.Pinned(firstCore, program.Spec{
		Name: filepath.Base(path), Path: path, Args: args, Dir: folder, Log: filepath.Join(folder, "out.log"), Unprivileged: true,
	}))
	if err != nil {
		return nil, err
	}
	p.pid = p.process.Pid()
	return p, f.await(p, func() bool {
		c, err := net.Dial("tcp", p.address)
		return err == nil && c.Close() == nil
	})
}

// await waits until a peer is ready, half a minute at most.
func (f *field) await(p *peer, ready func() bool) error {
	ctx, cancel := context.WithTimeout(f.ctx, 30*time.Second)
	defer cancel()
	return p.process.Await(ctx, ready)
}

// usage is the CPU time that the peer takes while something is done to it.
func (p *peer) usage(act func() error) (time.Duration, error) {
	before, err := program.CPU(p.pid)
	if err != nil {
		return 0, err
	}
	if err := act(); err != nil {
		return 0, err
	}
	after, err := program.CPU(p.pid)
	return after - before, err
}
