package peers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"spillway/cmd/surge/program"
)

// A root is a system in a folder, or what of it some programs need, made by
// scripts/setup peers. Its programs are started by its own loader with its own libraries: that needs no rights, and they
// see the network and the files of the machine.
type root struct {
	folder string
	loader string
}

// openRoot finds the loader of a root.
func openRoot(folder string) (*root, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return nil, err
	}
	loaders, _ := filepath.Glob(filepath.Join(folder, "usr/lib/*-linux-gnu*/ld-linux-*.so.*"))
	if len(loaders) == 0 {
		return nil, errors.New("there is no Debian 13: scripts/setup peers makes one, as root")
	}
	return &root{folder, loaders[0]}, nil
}

// find returns how a program of the root is started, before its own arguments.
func (r *root) find(name string) (path string, args []string, err error) {
	for _, folder := range []string{"usr/bin", "usr/sbin"} {
		file := filepath.Join(r.folder, folder, name)
		if _, err := os.Stat(file); err == nil {
			return r.loader, []string{"--library-path", filepath.Dir(r.loader), file}, nil
		}
	}
	return "", nil, fmt.Errorf("there is no %s in %s: scripts/setup peers brings it", name, r.folder)
}

// lookRoot finds a program of the root.
func lookRoot(name string, flags ...string) func(*bed) (string, string) {
	return func(b *bed) (version, missing string) {
		if b.root == nil {
			return "", b.noRoot
		}
		path, args, err := b.root.find(name)
		if err != nil {
			return "", err.Error()
		}
		return program.Version(path, append(args, flags...)...), ""
	}
}

// lacksHTTP3 says why the root's h2load is no client for HTTP/3; empty if it is one.
func (r *root) lacksHTTP3() string {
	if r == nil {
		return "there is no h2load"
	}
	path, args, err := r.find(clientH2load)
	if err != nil {
		return err.Error()
	}
	// It does not say so itself, but its loader lists its libraries.
	out, err := exec.Command(path, append([]string{"--list"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("h2load does not run: %v: %s", err, tail(string(out)))
	}
	if !strings.Contains(string(out), "ngtcp2") {
		return "Debian's h2load is built without HTTP/3"
	}
	return ""
}

func host(address string) string {
	h, _, _ := net.SplitHostPort(address)
	return h
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}
