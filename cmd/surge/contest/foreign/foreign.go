// Package foreign runs origins that are not ours, out of Debian's packages: nginx
// with php-fpm, gunicorn with sync workers, an event loop of Node, and a handler
// with a pool of connections to PostgreSQL.
//
// Each listens on a unix socket in a folder of its own, runs as nobody when we are
// root, and takes its work from the query: /?ms=20 takes 20 ms of whatever it is
// short of. Nothing is left behind.
package foreign

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"spillway/cmd/surge/program"
)

// A Kind is one of the origins.
type Kind struct {
	Name  string
	About string
	// Slots and Service are what it can do: Slots/Service requests a second.
	Slots   int
	Service time.Duration
	// Inside is how many requests it can have inside without one waiting for
	// another: the middle of a sweep.
	Inside int
	start  func(*Origin) error
}

// Kinds are all of them.
var Kinds = []Kind{
	{"php", "nginx with five children of php-fpm", 5, 25 * time.Millisecond, 5, startPHP},
	{"gunicorn", "gunicorn with four sync workers", 4, 20 * time.Millisecond, 4, startGunicorn},
	// A millisecond of work is followed by nine of waiting: the loop itself is the slot.
	{"node", "an event loop of Node with 5 ms of computing and 45 ms of waiting a request", 1, 5 * time.Millisecond, 10, startNode},
	{"postgres", "a handler with 32 threads and a pool of 8 connections to PostgreSQL", 8, 40 * time.Millisecond, 8, startPostgres},
}

//go:embed programs
var programs embed.FS

// An Origin runs until it is stopped.
type Origin struct {
	URL string // as Spillway names servers

	ctx       context.Context
	dir       string
	processes []*program.Process
}

// A MissingError says that a program is not installed.
type MissingError struct{ Program string }

func (e *MissingError) Error() string {
	return e.Program + " is not installed: scripts/setup contest installs it"
}

// Start runs an origin and waits until it answers connections. ctx bounds the
// waiting only.
func Start(ctx context.Context, name string) (_ *Origin, err error) {
	i := slices.IndexFunc(Kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("foreign origin %q: there is none of that name", name)
	}
	dir, err := os.MkdirTemp("", "surge-origin-")
	if err != nil {
		return nil, err
	}
	o := &Origin{ctx: ctx, dir: dir, URL: "unix:" + filepath.Join(dir, "origin.sock")}
	defer func() {
		if err != nil {
			o.Stop()
		}
	}()
	if err := o.unpack(); err != nil {
		return nil, err
	}
	if err := Kinds[i].start(o); err != nil {
		return nil, err
	}
	return o, o.appears("origin.sock")
}

// Stop ends its processes, the last first, and removes its folder.
func (o *Origin) Stop() error {
	for _, p := range slices.Backward(o.processes) {
		p.Stop()
	}
	return os.RemoveAll(o.dir)
}

// unpack writes the programs, with the folder filled in, and gives the folder to
// whom they run as.
func (o *Origin) unpack() error {
	err := fs.WalkDir(programs, "programs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := programs.ReadFile(path)
		if err != nil {
			return err
		}
		content := strings.ReplaceAll(string(b), "DIR", o.dir)
		if filepath.Ext(path) == ".py" {
			content = string(b)
		}
		return os.WriteFile(o.path(filepath.Base(path)), []byte(content), 0o644)
	})
	if err != nil {
		return fmt.Errorf("unpack origin: %w", err)
	}
	nobody, err := program.Nobody()
	if err != nil || nobody == nil {
		return err
	}
	return errors.Join(os.Chmod(o.dir, 0o755), os.Chown(o.dir, int(nobody.Uid), int(nobody.Gid)))
}

func (o *Origin) path(name string) string { return filepath.Join(o.dir, name) }

// run starts one of its programs. Folders are looked for it in, after the usual.
func (o *Origin) run(name string, folders []string, args ...string) error {
	path, err := find(name, folders...)
	if err != nil {
		return err
	}
	p, err := program.Start(program.Spec{
		Name: filepath.Base(path), Path: path, Args: args, Dir: o.dir, Log: o.path(filepath.Base(path) + ".out"),
		Env: []string{"ORIGIN_DIR=" + o.dir, "HOME=" + o.dir, "PYTHONDONTWRITEBYTECODE=1"}, Unprivileged: true,
	})
	if err == nil {
		o.processes = append(o.processes, p)
	}
	return err
}

// find looks for a program where users have it, and where administrators do. The
// name may be a pattern; the last of several versions is taken.
func find(name string, folders ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range append(folders, "/usr/sbin", "/usr/local/sbin") {
		if paths, _ := filepath.Glob(filepath.Join(folder, name)); len(paths) > 0 {
			return paths[len(paths)-1], nil
		}
	}
	return "", &MissingError{strings.Trim(name, "*.[0-9]")}
}

// appears waits until the program that was started last listens on the socket.
func (o *Origin) appears(socket string) error {
	ctx, cancel := context.WithTimeout(o.ctx, 30*time.Second)
	defer cancel()
	return o.processes[len(o.processes)-1].Await(ctx, func() bool {
		c, err := net.Dial("unix", o.path(socket))
		return err == nil && c.Close() == nil
	})
}

func startPHP(o *Origin) error {
	if err := o.run("php-fpm[0-9]*", nil, "--nodaemonize", "--fpm-config", o.path("fpm.conf")); err != nil {
		return err
	}
	if err := o.appears("php.sock"); err != nil {
		return err
	}
	return o.run("nginx", nil, "-c", o.path("nginx.conf"), "-e", o.path("nginx.err"))
}

func startGunicorn(o *Origin) error {
	return o.run("gunicorn", nil, "--workers", "4", "--worker-class", "sync", "--bind", "unix:"+o.path("origin.sock"),
		"--worker-tmp-dir", o.dir, "work:app")
}

func startNode(o *Origin) error {
	return o.run("node", nil, o.path("loop.js"), o.path("origin.sock"))
}

func startPostgres(o *Origin) error {
	const versions = "/usr/lib/postgresql/*/bin"
	initdb, err := find("initdb", versions)
	if err != nil {
		return err
	}
	nobody, err := program.Nobody()
	if err != nil {
		return err
	}
	cluster := exec.CommandContext(o.ctx, initdb, "-D", o.path("data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
	cluster.Dir, cluster.SysProcAttr = o.dir, &syscall.SysProcAttr{Credential: nobody}
	if out, err := cluster.CombinedOutput(); err != nil {
		return fmt.Errorf("make the database: %w\n%s", err, out)
	}
	err = o.run("postgres", []string{filepath.Dir(initdb)}, "-D", o.path("data"), "-k", o.dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=20", "-c", "shared_buffers=16MB")
	if err != nil {
		return err
	}
	if err := o.appears(".s.PGSQL.5432"); err != nil {
		return err
	}
	return o.run("gunicorn", nil, "--workers", "1", "--worker-class", "gthread", "--threads", "32", "--bind", "unix:"+o.path("origin.sock"),
		"--worker-tmp-dir", o.dir, "database:app")
}
