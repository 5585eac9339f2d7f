package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"spillway/edge/admin"
)

// A part is something that runs while the tests do.
type part struct {
	stop func()
}

// patience bounds the start of a part, and its end.
const patience = 30 * time.Second

// startProgram starts a program and waits until it is ready. What the program has
// said is told when it does not get there.
func startProgram(ctx context.Context, cmd *exec.Cmd, ready func() bool) (*part, error) {
	var output bytes.Buffer // written until the program has ended, and read then
	cmd.Stdout, cmd.Stderr = &output, &output
	// It must not outlive a run that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	p := &part{stop: func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			cmd.Process.Kill()
			<-ended
		}
	}}
	late := time.After(patience)
	for !ready() {
		select {
		case <-ended:
			return nil, fmt.Errorf("%s ends at once:\n%s", cmd.Path, output.String())
		case <-late:
			p.stop()
			return nil, fmt.Errorf("%s is never ready:\n%s", cmd.Path, output.String())
		case <-ctx.Done():
			p.stop()
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return p, nil
}

// originNames is by how many names the node knows the suite's origin, which hangs
// up so often that a lone server would be taken out of use.
const originNames = 16

// startNode starts the node in front of the origin at a socket and returns where it
// listens.
func startNode(ctx context.Context, o options, dir, origin string) (*part, string, error) {
	var servers []string
	for i := range originNames {
		name := filepath.Join(dir, fmt.Sprintf("origin-%d.sock", i))
		if err := os.Symlink(origin, name); err != nil {
			return nil, "", err
		}
		servers = append(servers, "unix:"+name)
	}
	socket := "unix:" + filepath.Join(dir, "admin.sock")
	cmd := exec.Command(o.program, "run", "--config", filepath.Join(o.folder, "testdata", "spillway.yaml"))
	cmd.Env = append(os.Environ(), "SPILLWAY_ADMIN="+socket, "SPILLWAY_ORIGINS__SUITE__SERVERS="+strings.Join(servers, ","))
	for _, protocol := range []string{"HTTP1", "HTTP2", "HTTP3"} {
		cmd.Env = append(cmd.Env, "SPILLWAY_"+protocol+"__FAST_PATH="+o.fastPath)
	}
	client := admin.NewClient(socket)
	p, err := startProgram(ctx, cmd, func() bool {
		_, err := client.Get(ctx, "/readyz")
		return err == nil
	})
	if err != nil {
		return nil, "", err
	}
	var state struct {
		Listeners []string `json:"listeners"`
	}
	if err := client.Status(ctx, &state); err != nil {
		p.stop()
		return nil, "", fmt.Errorf("ask the node where it listens: %w", err)
	}
	return p, state.Listeners[0], nil
}
