package peers

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"spillway/cmd/surge/program"
)

// The clients, in the words of the report.
const (
	clientH2load = "h2load"
	clientSurge  = "surge"
)

// clientOf is who does the work of a trial: the same for all contenders. Without an
// h2load that speaks HTTP/3 that is surge itself.
func (b *bed) clientOf(t trial) string {
	if t.surge || t.work.Protocol == h3 {
		if t.surge {
			return clientSurge
		}
		return b.client
	}
	return clientH2load
}

// load lets a client do the work of a trial, and reads what the server used meanwhile.
func (b *bed) load(t trial, s *server) (m measurement, err error) {
	w := t.work
	w.For = cmp.Or(w.For, b.each)
	client := b.clientOf(t)
	cmd, err := b.command(client, w, s.address)
	if err != nil {
		return m, err
	}
	run := &running{pid: s.process.Pid()}
	if t.beside.Shape != "" {
		beside := t.beside
		beside.For = 2 * b.each // until it is ended: what counts may take longer than it should
		if run.beside, err = b.command(b.client, beside, s.address); err != nil {
			return m, err
		}
	}
	out, err := run.watch(cmd, client, w)
	if left := run.endBeside(); err == nil {
		err = left
	}
	if err != nil {
		return m, err
	}
	m.CPU, m.Window, m.Memory = run.after.cpu-run.before.cpu, run.after.at.Sub(run.before.at), run.after.memory-run.before.memory
	if client == clientH2load {
		m.tally, err = parseH2load(out, w.Protocol)
	} else {
		err = json.Unmarshal([]byte(out), &m.tally)
	}
	switch {
	case err != nil:
		return m, err
	case m.Lacks != "":
		return m, &lackError{m.Lacks}
	}
	return m, m.enough(w.Shape)
}

// enough is an error where answers are missing. A visitor in a hundred may fail: they
// come at their rate, whatever becomes of the others.
func (t tally) enough(s shape) error {
	all := t.Answers + t.Failed
	if t.Answers == 0 || t.Failed > 0 && (s != visitors || t.Failed*100 > all) {
		return fmt.Errorf("%d of %d requests failed", t.Failed, all)
	}
	return nil
}

// command prepares a client on its core.
func (b *bed) command(client string, w work, address string) (*exec.Cmd, error) {
	var path string
	var args []string
	if client == clientH2load {
		if b.h2load == nil {
			return nil, &lackError{b.noH2load}
		}
		loader, before, err := b.h2load.find(clientH2load)
		if err != nil {
			return nil, &lackError{err.Error()}
		}
		// Into a pipe it would say all at its end, when what is timed begins as well.
		path, args = "stdbuf", slices.Concat([]string{"-oL", loader}, before, w.h2load(address))
	} else {
		told, err := json.Marshal(w)
		if err != nil {
			return nil, err
		}
		if path, err = program.Path("surge"); err != nil {
			return nil, err
		}
		args = []string{"peers", "visit", address, string(told)}
	}
	s := program.Pinned(loadCore, program.Spec{Path: path, Args: args})
	cmd := exec.CommandContext(b.ctx, s.Path, s.Args...)
	cmd.Env = append(os.Environ(), oneCore, "GOGC=400", "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// A reading is what the server had used at a moment.
type reading struct {
	at     time.Time
	cpu    time.Duration
	memory int64
}

func read(pid int) (r reading, err error) {
	r.at = time.Now()
	if r.cpu, err = program.OnCPU(pid); err != nil {
		return r, err
	}
	r.memory, err = program.Resident(pid)
	return r, err
}

// A running is a client at work.
type running struct {
	pid           int // of the server
	before, after reading
	beside        *exec.Cmd  // begins with what counts: the connections of that are there
	left          chan error // gets how that ended; nil until it has begun
}

func (r *running) startBeside() error {
	if err := r.beside.Start(); err != nil {
		return err
	}
	r.left = make(chan error, 1)
	go func() { r.left <- r.beside.Wait() }()
	return nil
}

// endBeside ends what is done beside, which lasts longer than what counts. If it has ended
// by itself, something else was measured.
func (r *running) endBeside() error {
	if r.left == nil {
		return nil
	}
	select {
	case err := <-r.left:
		return fmt.Errorf("what was to be done beside ended too early: %v", err)
	default:
	}
	_ = r.beside.Process.Kill() // it may have ended just now
	<-r.left
	return nil
}

// settle is how long a server may still be busy with visitors who have left.
const settle = 100 * time.Millisecond

// watch runs a client, and reads the server when the client says that what counts
// begins, and that it is over. Where all of its work counts, it is read around it.
func (r *running) watch(cmd *exec.Cmd, client string, w work) (out string, err error) {
	begins, ends := visitBegins, visitEnds
	whole := client == clientH2load && w.Shape != steady
	if client == clientH2load {
		begins, ends = h2loadBegins, h2loadEnds
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	var said, complaints bytes.Buffer
	cmd.Stderr = &complaints
	if whole {
		if r.before, err = read(r.pid); err != nil {
			return "", err
		}
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var failed error
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		line := lines.Text()
		switch {
		case !whole && strings.HasPrefix(line, begins):
			if r.before, err = read(r.pid); err == nil && r.beside != nil {
				err = r.startBeside()
			}
		case !whole && strings.HasPrefix(line, ends):
			r.after, err = read(r.pid)
		default:
			said.WriteString(line + "\n")
		}
		if err != nil && failed == nil {
			failed = err
		}
	}
	if err := cmd.Wait(); err != nil && failed == nil {
		failed = fmt.Errorf("%s: %w\n%s", client, err, tail(said.String()+complaints.String()))
	}
	if whole && failed == nil {
		time.Sleep(settle)
		r.after, failed = read(r.pid)
	}
	timed := r.after.at.Sub(r.before.at)
	if short := r.after.at.IsZero() || w.Shape == steady && timed < w.For*4/5; failed == nil && short && !strings.Contains(said.String(), `"lacks"`) {
		failed = fmt.Errorf("%s worked for %s by what it said, not for %s:\n%s", client, timed, w.For, tail(said.String()))
	}
	return said.String(), failed
}

// digits writes a figure with three digits, or all of those before the point.
func digits(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
