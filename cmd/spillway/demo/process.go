package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"spillway/cmd/surge/program"
)

// A part is one process of the demo. Parts are processes of their own, so that
// the CPU time of each can be told.
type part struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  *os.File
}

// start runs a program, with its output in a log file of the folder.
func start(dir, name, executable string, args ...string) (*part, error) {
	path, err := program.Path(executable)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	p := &part{name: name, cmd: exec.Command(path, args...), done: make(chan struct{}), log: log}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// The parts must not outlive a demo that is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// address waits until a part says where it listens.
func (p *part) address(ctx context.Context) (string, error) {
	for {
		if addr, ok := program.Address(p.output()); ok {
			return addr, nil
		}
		if err := p.wait(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// wait sleeps, unless the part or the demo ends.
func (p *part) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.done:
		return fmt.Errorf("%s ended early:\n%s", p.name, p.output())
	case <-time.After(d):
		return nil
	}
}

func (p *part) output() string {
	b, _ := io.ReadAll(io.NewSectionReader(p.log, 0, 1<<20))
	return string(b)
}

// stop ends the part: politely, then by force.
func (p *part) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(8 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
	}
	p.log.Close()
}

// cpu returns the CPU seconds that the part and its children have used; 0 when it
// is gone.
func (p *part) cpu() float64 {
	used, _ := program.CPU(p.cmd.Process.Pid)
	return used.Seconds()
}

// machineIdle returns the idle and the total CPU seconds of all cores.
func machineIdle() (idle, total float64) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	for i, field := range strings.Fields(line)[1:] {
		n, _ := strconv.ParseFloat(field, 64)
		if i < 8 { // guest times are contained in the user's
			total += n / 100
		}
		if i == 3 || i == 4 {
			idle += n / 100
		}
	}
	return idle, total
}
