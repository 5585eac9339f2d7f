package process

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What an instance may use. Not knobs: a function needs far less.
const (
	maxFiles = 1024
	nobody   = 65534
)

// An instance is one child process and the Runtime API that it talks to.
type instance struct {
	cmd    *exec.Cmd
	server *http.Server
	next   chan *invocation // taken by the runtime's long poll
	exited chan struct{}    // closed when the process has been reaped
	idle   time.Time        // since when; guarded by the pool

	output *output

	mu      sync.Mutex
	current *invocation // delivered and not yet answered
	failure *report     // why the runtime could not start
	exit    error
	killed  bool // from here
	reaping bool // the process number may soon be another's
}

// start makes an instance: its listener, then the process that is told of it.
func (p *pool) start() (*instance, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open runtime API: %w", err)
	}
	i := &instance{
		next: make(chan *invocation), exited: make(chan struct{}),
		output: &output{limit: &p.lines, log: p.log},
	}
	i.server = &http.Server{Handler: p.runtimeAPI(i), ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
	i.cmd = p.command(listener.Addr().String(), i.output)
	if err := p.spawner.start(i.cmd); err != nil {
		listener.Close()
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: the program must be readable and executable by the user nobody", err)
		}
		return nil, fmt.Errorf("start instance: %w", err)
	}
	// The runtime may go on with one file less; the host cannot do more.
	limit := unix.Rlimit{Cur: maxFiles, Max: maxFiles}
	if err := unix.Prlimit(i.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil && !errors.Is(err, unix.ESRCH) {
		p.log.Warn("limit the files of a function", "error", err)
	}
	p.background.Go(func() { i.server.Serve(listener) }) // ends by Close
	p.background.Go(func() { p.reap(i) })
	return i, nil
}

// command describes the child process.
func (p *pool) command(api string, out *output) *exec.Cmd {
	cmd := exec.Command(p.config.Command[0], p.config.Command[1:]...)
	cmd.Dir = p.config.Dir
	cmd.Env = p.config.environ(p.name, api)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // a grandchild may hold on to the output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 && !p.config.KeepUser {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

// reap waits for the end of the process and ends what it left behind.
func (p *pool) reap(i *instance) {
	pid := i.cmd.Process.Pid
	// The process stays a zombie until Wait, so that its group is still its own
	// when the rest of the group is killed.
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	i.mu.Lock()
	i.reaping = true
	i.mu.Unlock()
	kill(pid)
	exit := i.cmd.Wait()
	i.server.Close()
	i.output.flush()
	p.stats.cpu.Add(int64(i.cmd.ProcessState.UserTime() + i.cmd.ProcessState.SystemTime()))
	i.mu.Lock()
	i.exit = exit
	i.mu.Unlock()
	p.forget(i)
}

// exitText says how the process ended, after it did.
func (i *instance) exitText() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.exit == nil {
		return "without providing a reason"
	}
	return "with error: " + i.exit.Error()
}

// kill ends the process with its group. It does not wait for that.
func (i *instance) kill() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.reaping {
		i.killed = true
		kill(i.cmd.Process.Pid)
	}
}

// stop kills the process, and returns when it has been reaped.
func (i *instance) stop() {
	i.kill()
	<-i.exited
}

func (i *instance) alive() bool {
	select {
	case <-i.exited:
		return false
	default:
		return true
	}
}

func (i *instance) wasKilled() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.killed
}
