package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A part is one process of the demo. Parts are processes of their own, so that
// the CPU time of each can be told.
type part struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	log  *os.File
}

// binary finds a program that was built beside this one.
func binary(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the demo's programs: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the demo needs %s: run make build first", path)
	}
	return path, nil
}

// start runs a program, with its output in a log file of the folder.
func start(dir, name, program string, args ...string) (*part, error) {
	path, err := binary(program)
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

// address waits for the line in which a part says where it listens.
func (p *part) address(ctx context.Context) (string, error) {
	pattern := regexp.MustCompile(`listening on (?:http://)?(\S+)`)
	for {
		if m := pattern.FindStringSubmatch(p.output()); m != nil {
			return m[1], nil
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

// cpu returns the CPU seconds that the part and its ended children have used.
func (p *part) cpu() float64 { return processCPU(p.cmd.Process.Pid) }

// processCPU reads the times of a process and of its children, living ones
// included: function instances come and go.
func processCPU(pid int) float64 {
	fields, err := statFields(pid)
	if err != nil {
		return 0
	}
	ticks := 0.0
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, _ := strconv.ParseFloat(fields[i], 64)
		ticks += n
	}
	seconds := ticks / 100 // USER_HZ is 100 on every Linux that Go runs on
	for _, child := range children(pid) {
		seconds += processCPU(child)
	}
	return seconds
}

// statFields returns the fields of /proc/PID/stat behind the name, which may
// itself hold spaces.
func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 15 {
		return nil, fmt.Errorf("read the state of process %d", pid)
	}
	return fields, nil
}

func children(pid int) []int {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, path := range paths {
		b, _ := os.ReadFile(path)
		for field := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(field); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
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
