package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// A suite is the installed npm package.
type suite struct {
	folder string
}

// errNotInstalled says that there is nothing to run.
var errNotInstalled = errors.New("http-cache-tests or Node.js is not installed; scripts/setup test installs them")

func findSuite(folder string) (suite, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return suite{}, err
	}
	if _, err := exec.LookPath("node"); err != nil {
		return suite{}, errNotInstalled
	}
	if _, err := os.Stat(filepath.Join(folder, "package.json")); err != nil {
		return suite{}, errNotInstalled
	}
	return suite{folder: folder}, nil
}

// node returns a command of Node.js in the suite's folder.
func (s suite) node(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", append([]string{"--no-warnings"}, args...)...)
	cmd.Dir = s.folder
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// startOrigin starts the suite's origin on a socket in a folder, where nobody else
// can reach it; on a port it would listen on every address of the machine.
func (s suite) startOrigin(ctx context.Context, dir string) (*part, string, error) {
	socket := filepath.Join(dir, "origin.sock")
	cmd := s.node(ctx, []string{
		"npm_config_protocol=http", "npm_config_port=" + socket, "npm_config_pidfile=" + os.DevNull,
	}, "server/server.mjs")
	p, err := startProgram(ctx, cmd, func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return p, socket, err
}

// listing prints the tests as JSON: those of the suite, and those of a draft that
// RFC 9213 has superseded.
const listing = `
import tests from './tests/index.mjs'
import draft from './tests/surrogate-control.mjs'
console.log(JSON.stringify({tests, draft}))
`

// catalogue asks the suite for its tests.
func (s suite) catalogue(ctx context.Context) (*catalogue, error) {
	out, err := s.output(s.node(ctx, nil, "--input-type=module", "--eval", listing))
	if err != nil {
		return nil, fmt.Errorf("list the tests: %w", err)
	}
	var c catalogue
	if err := json.Unmarshal(out, &c); err != nil {
		return nil, fmt.Errorf("list the tests: %w", err)
	}
	return &c, nil
}

// results runs all tests against the node at base.
func (s suite) results(ctx context.Context, base string) (results, error) {
	out, err := s.output(s.client(ctx, base, ""))
	if err != nil {
		return nil, fmt.Errorf("run the tests: %w", err)
	}
	return parseResults(out)
}

// show runs one test and writes what both sides saw.
func (s suite) show(ctx context.Context, base, id string, out io.Writer) error {
	cmd := s.client(ctx, base, id)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// client is the suite's own client. The node's certificate is its own making.
func (s suite) client(ctx context.Context, base, id string) *exec.Cmd {
	return s.node(ctx, []string{
		"npm_config_base=" + base, "npm_config_id=" + id, "npm_package_config_id=", "NODE_TLS_REJECT_UNAUTHORIZED=0",
	}, "cli.mjs")
}

// output runs a command to its end. What it complained of is in the error.
func (s suite) output(cmd *exec.Cmd) ([]byte, error) {
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, complaints.Bytes())
	}
	return out, nil
}
