package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"spillway/cmd/surge/program"
)

// A server is one of the two that are compared.
type server struct {
	name string
	cmd  *exec.Cmd
	addr string
	path string
}

// measure loads the server and returns its CPU time per request, in
// microseconds.
func (s *server) measure(ctx context.Context, sh shape, d time.Duration) (float64, error) {
	before, err := program.CPU(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	answered, err := drive(ctx, sh, s.addr, s.path, d)
	if err != nil {
		return 0, err
	}
	after, err := program.CPU(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	if answered == 0 {
		return 0, fmt.Errorf("nothing was answered")
	}
	return float64((after - before).Microseconds()) / float64(answered), nil
}

// startServers starts the edge with an origin behind it, and the yardstick.
// Both have one core, so that the load generator keeps another.
func startServers(ctx context.Context, dir string) (edge, bare *server, stop func(), err error) {
	var started []*exec.Cmd
	stop = func() {
		for _, cmd := range started {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	launch := func(name, executable string, args ...string) (*exec.Cmd, string, error) {
		cmd, addr, err := launch(ctx, filepath.Join(dir, name+".log"), executable, args...)
		if cmd != nil {
			started = append(started, cmd)
		}
		return cmd, addr, err
	}
	_, origin, err := launch("origin", "surge", "origin", "--listen", "127.0.0.1:0", "--service", "1ms", "--body", fmt.Sprintf("%dB", hitBytes))
	if err != nil {
		return nil, nil, stop, err
	}
	config := filepath.Join(dir, "spillway.yaml")
	if err := os.WriteFile(config, []byte(configuration(dir, origin)), 0o600); err != nil {
		return nil, nil, stop, err
	}
	cmd, addr, err := launch("edge", "spillway", "run", "--config", config)
	if err != nil {
		return nil, nil, stop, err
	}
	edge = &server{"edge", cmd, addr, "/hit?cache=3600"}
	if cmd, addr, err = launch("bare", "surge", "bare"); err != nil {
		return nil, nil, stop, err
	}
	return edge, &server{"bare", cmd, addr, fmt.Sprintf("/bytes/%d", hitBytes)}, stop, nil
}

// configuration is the edge's default, with its access log on. What bounds one
// visitor, and the origin, is wide: here one address is the whole crowd.
func configuration(dir, origin string) string {
	return fmt.Sprintf(`listen: "127.0.0.1:0"
http: "off"
admin: unix:%[1]s/admin.sock
state: %[1]s/state
log: {access: %[1]s/access.log}
tls: { self_signed: true }
admission: { handshakes_per_core: 1000000, in_flight: 1000000 }
origins:
  app: { servers: ["http://%[2]s"], limit: {min: 1000, max: 1000} }
sites:
  - hosts: [localhost]
    routes:
      - origin: app
`, dir, origin)
}

// launch starts a program on one core, with the collector as the edge sets it for
// itself, and waits for the line in which the program says where it listens.
func launch(ctx context.Context, log, name string, args ...string) (*exec.Cmd, string, error) {
	path, err := program.Path(name)
	if err != nil {
		return nil, "", err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, "", err
	}
	defer out.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	for range 200 {
		b, err := os.ReadFile(log)
		if err != nil {
			return cmd, "", err
		}
		if addr, ok := program.Address(string(b)); ok {
			return cmd, addr, nil
		}
		select {
		case <-ctx.Done():
			return cmd, "", ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	b, _ := os.ReadFile(log)
	return cmd, "", fmt.Errorf("%s does not say where it listens:\n%s", name, b)
}
