package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"spillway/cmd/surge/program"
	"spillway/edge/admin"
)

// The reference origin: four slots of a fixed service time, however busy the
// machine is. Its capacity is known, so that the demo can say how much of it
// was used.
const (
	originSlots   = 4
	originService = 133 * time.Millisecond
	capacity      = float64(originSlots) / 0.133
)

// A stage holds the processes of the demo.
type stage struct {
	dir      string
	origin   *part
	host     *part // runs the functions
	edge     *part
	isolated bool // each part has cores of its own

	originURL string
	edgeAddr  string
	admin     *admin.Client
	functions *http.Client
}

// raise starts the parts, in the order in which they need each other.
func raise(ctx context.Context, dir string) (_ *stage, err error) {
	s := &stage{dir: dir}
	defer func() {
		if err != nil {
			s.lower()
		}
	}()
	s.origin, err = start(dir, "origin", "surge", "origin", "--listen", "127.0.0.1:0", "--work", "image",
		"--slots", fmt.Sprint(originSlots), "--service", originService.String())
	if err != nil {
		return nil, err
	}
	addr, err := s.origin.address(ctx)
	if err != nil {
		return nil, err
	}
	s.originURL = "http://" + addr

	bootstrap, err := program.Path("bootstrap")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "functions.sock")
	s.host, err = start(dir, "functions", "spillway", "functions", "serve", "--socket", socket,
		"--function", fmt.Sprintf("thumb=%s,max=%d,wait=2s,user=same", bootstrap, 2*runtime.NumCPU()))
	if err != nil {
		return nil, err
	}
	if err := s.host.appears(ctx, socket); err != nil {
		return nil, err
	}
	s.functions = unixClient(socket)

	if err := s.startEdge(ctx, socket); err != nil {
		return nil, err
	}
	s.isolate()
	return s, nil
}

func (s *stage) startEdge(ctx context.Context, functions string) error {
	control := filepath.Join(s.dir, "admin.sock")
	path := filepath.Join(s.dir, "spillway.yaml")
	if err := os.WriteFile(path, []byte(s.configuration(control, functions)), 0o600); err != nil {
		return err
	}
	var err error
	if s.edge, err = start(s.dir, "edge", "spillway", "run", "--config", path); err != nil {
		return err
	}
	if err := s.edge.appears(ctx, control); err != nil {
		return err
	}
	s.admin = admin.NewClient("unix:" + control)
	for {
		state, err := s.edgeState(ctx)
		if err == nil && state.Ready == "ok" && len(state.Listeners) > 0 {
			s.edgeAddr = state.Listeners[0]
			return nil
		}
		if err := s.edge.wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// configuration is the edge's: its defaults, and what differs on every machine.
func (s *stage) configuration(control, functions string) string {
	return fmt.Sprintf(`listen: "127.0.0.1:0"
http: "off"
admin: unix:%[1]s
state: %[2]s/state
log: {access: %[2]s/access.log}
tls: { self_signed: true }
budgets:
  spill: { per_hour: $1 }
origins:
  app: { servers: [%[3]q] }
functions:
  local: { provider: process, socket: %[4]s, function: thumb, budget: spill, price: { platform: aws-lambda } }
sites:
  - hosts: [localhost]
    routes:
      - match: { path: /* }
        origin: app
        overflow: { to: [local] }
`, control, s.dir, s.originURL, functions)
}

// appears waits for a part's unix socket.
func (p *part) appears(ctx context.Context, socket string) error {
	for {
		if c, err := net.Dial("unix", socket); err == nil {
			return c.Close()
		}
		if err := p.wait(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// lower ends all parts, the edge first.
func (s *stage) lower() {
	for _, p := range []*part{s.edge, s.host, s.origin} {
		if p != nil {
			p.stop()
		}
	}
}

// isolate gives the edge, the origin with the functions, and the crowd cores of
// their own where there are enough. With fewer than four the parts share, and
// the figures of one hold the noise of the others.
func (s *stage) isolate() {
	n := runtime.NumCPU()
	if n < 4 {
		return
	}
	third := n / 3
	s.isolated = pin(s.edge, 0, third) && pin(s.origin, third, 2*third) && pin(s.host, third, 2*third) &&
		pin(nil, 2*third, n)
}

// pin binds a part, or the demo itself, to the cores from (inclusive) to
// (exclusive).
func pin(p *part, from, to int) bool {
	var set unix.CPUSet
	for i := from; i < to; i++ {
		set.Set(i)
	}
	pid := os.Getpid()
	if p != nil {
		pid = p.cmd.Process.Pid
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		var tid int
		if _, err := fmt.Sscan(filepath.Base(task), &tid); err != nil || unix.SchedSetaffinity(tid, &set) != nil {
			return false
		}
	}
	return len(tasks) > 0
}

func unixClient(socket string) *http.Client {
	return &http.Client{
		Timeout: 2 * time.Second,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
	}
}

// post sends a control request.
func post(ctx context.Context, c *http.Client, target string, query url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post %s: %s", target, resp.Status)
	}
	return nil
}
