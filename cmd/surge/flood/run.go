package flood

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"spillway/cmd/surge/program"
)

// The cores: the sender has one, the node and its visitors another.
const (
	senderCore = 0
	nodeCore   = 1
)

// A field is where the floods take place.
type field struct {
	options
	network network
	dir     string
	hellos  string // file
	self    string // this program
}

func newField(ctx context.Context, o options) (f *field, err error) {
	f = &field{options: o}
	if f.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if f.dir, err = os.MkdirTemp("", "surge-flood-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(f.dir)
		}
	}()
	if f.network, err = newNetwork(nodeCore); err != nil {
		return nil, err
	}
	if slices.Contains(o.payloads, string(hello)) {
		f.hellos = filepath.Join(f.dir, "hellos")
		if err := writeHellos(ctx, f.hellos, hellos); err != nil {
			f.network.close()
			return nil, err
		}
	}
	return f, nil
}

func (f *field) close() {
	f.network.close()
	os.RemoveAll(f.dir)
}

// A trial is one flood.
type trial struct {
	Profile profile
	Payload payload
	Rate    int
	Setting setting
}

// A result is what a trial came to.
type result struct {
	loads         []load
	sent          sent
	node          float64 // of its core: what the program used
	softirq, idle float64
	memory        int64
	counts        map[string]float64
	levels        []string
}

// play starts a node, lets visitors come, sends the flood, and ends all again.
func (f *field) play(ctx context.Context, t trial) (r result, err error) {
	dir, err := os.MkdirTemp(f.dir, "node-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	n, err := startNode(ctx, f.network.node, nodeCore, t.Setting, dir)
	if err != nil {
		return r, err
	}
	defer n.stop()
	crowd, err := f.start(ctx, nodeCore, "visit", plan{Profile: t.Profile, Node: nodeListens, For: f.each})
	if err != nil {
		return r, err
	}
	defer crowd.stop()
	if err := crowd.awaitLine(); err != nil {
		return r, err
	}
	flood, err := f.start(ctx, senderCore, "send", order{
		Profile: t.Profile, Payload: t.Payload, Rate: t.Rate, QUIC: t.Setting.target(), TCP: t.Setting.target(),
		Hellos: f.hellos, Most: f.each + 2*patience,
	})
	if err != nil {
		return r, err
	}
	defer flood.stop()
	err = f.measure(ctx, n, crowd, flood, &r)
	return r, err
}

// measure is the flood itself: from when the visitors begin until the last of them
// has a page or has given up.
func (f *field) measure(ctx context.Context, n *node, crowd, flood *child, r *result) error {
	before, err := coreUsage(nodeCore)
	if err != nil {
		return err
	}
	used, err := program.CPU(n.process.Pid())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := crowd.begin(); err != nil {
		return err
	}
	if err := crowd.result(&r.loads); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := coreUsage(nodeCore)
	if err != nil {
		return err
	}
	usedAfter, err := program.CPU(n.process.Pid())
	if err != nil {
		return fmt.Errorf("%w; the node said:\n%s", err, n.process.Output())
	}
	r.node = share(usedAfter-used, took)
	r.softirq, r.idle = after.since(before)
	flood.cmd.Process.Signal(syscall.SIGTERM)
	if err := flood.result(&r.sent); err != nil {
		return err
	}
	if r.counts, err = n.counts(ctx); err != nil {
		return err
	}
	r.levels = levels(n.process.Output(), began)
	r.memory, err = n.peak()
	return err
}

// A child is this program again, in the outside network.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors bytes.Buffer
	ended  bool
}

// start starts a child that is told what to do as JSON.
func (f *field) start(ctx context.Context, core int, command string, what any) (*child, error) {
	told, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, f.self, "flood", command, string(told))}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = &c.errors
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, f.network.outside.do(core, c.cmd.Start)
}

// awaitLine waits until the child is ready.
func (c *child) awaitLine() error {
	if _, err := c.out.ReadString('\n'); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.cmd.Args[2], err, c.stop())
	}
	return nil
}

// begin tells the child that it may.
func (c *child) begin() error {
	_, err := io.WriteString(c.in, "go\n")
	return err
}

// result reads what the child says at its end.
func (c *child) result(into any) error {
	if err := json.NewDecoder(c.out).Decode(into); err != nil {
		return fmt.Errorf("%s: %w\n%s", c.cmd.Args[2], err, c.stop())
	}
	return nil
}

// stop ends the child, if it has not ended, and returns what it said of its errors.
func (c *child) stop() string {
	if !c.ended {
		c.ended = true
		c.in.Close()
		c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
	return c.errors.String()
}
