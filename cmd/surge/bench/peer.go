package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

// errMissing says that the program of a peer is not installed.
var errMissing = errors.New("is not installed: scripts/setup bench installs it")

// A field starts peers in front of one source, each in a folder of its own.
type field struct {
	ctx    context.Context
	dir    string
	source *source
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
func newField(ctx context.Context) (f *field, err error) {
	dir, err := os.MkdirTemp("", "surge-bench-")
	if err != nil {
		return nil, err
	}
	f = &field{ctx: ctx, dir: dir, source: newSource()}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // peers run as nobody, below it
		return nil, err
	}
	for _, name := range []string{bare, "spillway", "nginx", "varnish"} {
		switch err := f.start(name); {
		case errors.Is(err, errMissing):
			f.skipped = append(f.skipped, fmt.Sprintf("%s %v", name, err))
		case err != nil:
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
	}
	return f, nil
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

// onOneCore starts a program that has the first core and no other, so that the load
// keeps the rest.
func onOneCore(s program.Spec) (*program.Process, error) {
	if taskset, err := exec.LookPath("taskset"); err == nil {
		s.Path, s.Args = taskset, append([]string{"-c", "0", s.Path}, s.Args...)
	}
	return program.Start(s)
}

// foreign starts a program of others, as nobody when we are root, and waits until
// it listens.
func (f *field) foreign(p *peer, folder, path string, args ...string) (*peer, error) {
	var err error
	p.process, err = onOneCore(program.Spec{
		Name: filepath.Base(path), Path: path, Args: args, Dir: folder, Log: filepath.Join(folder, "out.log"), Unprivileged: true,
	})
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

// find looks for a program where users have it, and where administrators do.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		return path, nil
	}
	return "", errMissing
}

// freeAddress is a port of loopback that nobody has: these programs do not say which
// one they were given.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// version is the first number with a dot that a program says when asked.
func version(path, flag string) string {
	out, _ := exec.Command(path, flag).CombinedOutput()
	return numberIn(string(out))
}

func numberIn(text string) string {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }) {
		if word = strings.Trim(word, "."); strings.Contains(word, ".") {
			return word
		}
	}
	return ""
}
