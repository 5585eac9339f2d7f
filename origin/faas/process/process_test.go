package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"spillway/origin/faas"
)

// text calls the function and returns the body of its answer.
func text(t *testing.T, p *Provider, path string) string {
	t.Helper()
	resp, err := p.Invoke(t.Context(), get(path))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v", path, resp.StatusCode, err)
	}
	return string(body)
}

// fails calls the function and checks what its failure is taken for.
func fails(t *testing.T, p *Provider, path string, class faas.Class, executed bool, message string) *faas.Error {
	t.Helper()
	_, err := p.Invoke(t.Context(), get(path))
	var e *faas.Error
	if !errors.As(err, &e) {
		t.Fatalf("%s: error %v", path, err)
	}
	if e.Class != class || e.Executed != executed || !strings.Contains(e.Error(), message) {
		t.Errorf("%s: %s, executed %t: %v; want %s, %t, %q", path, e.Class, e.Executed, e, class, executed, message)
	}
	return e
}

// gone waits until a process has ended. The kernel may take a moment.
func gone(t *testing.T, pid string) {
	t.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	for syscall.Kill(number, 0) == nil && !zombie(number) {
		if t.Context().Err() != nil {
			t.Fatalf("process %d goes on", number)
		}
		time.Sleep(time.Millisecond)
	}
}

// zombie reports whether a process has ended and nobody has asked for its
// status: a container may have no init that does.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestWarmInstanceIsUsedAgain(t *testing.T) {
	h, p := host(t, self(t))
	first := text(t, p, "/pid")
	for range 5 {
		if again := text(t, p, "/pid"); again != first {
			t.Errorf("process %s, then %s", first, again)
		}
	}
	if s := h.Stats().Functions["f"]; s.ColdStarts != 1 || s.Invocations != 6 || s.Instances != 1 || s.Crashes != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("EDGE_SECRET", "canary")
	c := self(t)
	c.Env = map[string]string{"GREETING": "hello"}
	_, p := host(t, c)
	env := "\n" + text(t, p, "/environ") + "\n"
	if strings.Contains(env, "canary") {
		t.Error("the host's environment reaches the function")
	}
	for _, want := range []string{"GREETING=hello", "AWS_LAMBDA_FUNCTION_NAME=f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=512"} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("no %s in%s", want, env)
		}
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	h, p := host(t, self(t))
	fails(t, p, "/error", faas.FunctionError, true, "a handler's error")
	first := text(t, p, "/pid")
	if e := fails(t, p, "/panic", faas.FunctionError, true, "a secret in a panic"); strings.Contains(e.Error(), ".go") {
		t.Errorf("a stack trace left the host: %v", e)
	}
	if second := text(t, p, "/pid"); second == first {
		t.Error("the instance that panicked was used again")
	}
	fails(t, p, "/exit", faas.FunctionError, true, "exit status 7")
	text(t, p, "/pid")
	fails(t, p, "/big", faas.TooLarge, true, "Function.ResponseSizeTooLarge")
	text(t, p, "/pid")
	if s := h.Stats().Functions["f"]; s.Errors != 4 || s.Crashes != 3 || s.Instances != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestHangIsKilledAndReplaced(t *testing.T) {
	c := self(t)
	c.Timeout = 300 * time.Millisecond
	h, p := host(t, c)
	fails(t, p, "/hang", faas.Timeout, true, "Task timed out after 0.30 seconds")
	h.functions["f"].config.Timeout = 20 * time.Second // what is answered may take its time
	text(t, p, "/pid")
	if s := h.Stats().Functions["f"]; s.Timeouts != 1 || s.ColdStarts != 2 || s.Crashes != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestFullPoolThrottles(t *testing.T) {
	c := self(t)
	c.MaxWait = time.Millisecond
	h, p := host(t, c)
	release := filepath.Join(t.TempDir(), "go on")
	var wg sync.WaitGroup
	wg.Go(func() { text(t, p, release) })
	for h.Stats().Functions["f"].Busy == 0 {
		time.Sleep(time.Millisecond)
	}
	fails(t, p, "/pid", faas.Throttled, false, "every instance is busy")
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for h.Stats().Functions["f"].Busy > 0 { // it has answered a little earlier
		time.Sleep(time.Millisecond)
	}
	text(t, p, "/pid")
}

func TestWaitForAnInstanceRespectsTheCaller(t *testing.T) {
	h, p := host(t, self(t))
	release := filepath.Join(t.TempDir(), "go on")
	var wg sync.WaitGroup
	wg.Go(func() { text(t, p, release) })
	for h.Stats().Functions["f"].Busy == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.Invoke(ctx, get("/pid")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestCrashLoopIsSlowedDown(t *testing.T) {
	c := self(t)
	c.Env = map[string]string{"BROKEN": "yes"}
	h, p := host(t, c)
	for range 100 {
		e := fails(t, p, "/pid", faas.Unavailable, false, "")
		if strings.Contains(e.Error(), "keeps crashing") {
			if s := h.Stats().Functions["f"]; s.ColdStarts > 90 || s.Crashes < 2 {
				t.Errorf("stats %+v", s)
			}
			return
		}
	}
	t.Error("a function that always crashes is started again and again")
}

func TestProgramThatCannotBeFound(t *testing.T) {
	_, err := NewHost(HostConfig{Socket: filepath.Join(t.TempDir(), "s"), Functions: map[string]FunctionConfig{"f": {Command: []string{"/no/such/bootstrap"}}}})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := NewHost(HostConfig{Functions: map[string]FunctionConfig{"f": {}}}); err == nil {
		t.Error("a function without a command is accepted")
	}
}

func TestShutdownLeavesNoProcess(t *testing.T) {
	var processes []string
	t.Run("host", func(t *testing.T) {
		c := self(t)
		c.MaxInstances = 3
		h, p := host(t, c)
		processes = append(processes, text(t, p, "/family"), text(t, p, "/pid"))
		// A call that never ends on its own does not keep the host from stopping.
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = p.Invoke(ctx, get("/hang")) })
		for h.Stats().Functions["f"].Busy == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		wg.Wait()
	})
	for _, pid := range processes {
		gone(t, pid)
	}
}

// Functions do not outlive a host that is killed.
func TestDeathOfTheHostEndsItsFunctions(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOST_SOCKET="+socket)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	end := func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	defer end()
	for !exists(socket) {
		select {
		case <-ended:
			t.Fatal("the host has not begun")
		case <-time.After(time.Millisecond):
		}
	}
	p := New(Config{Socket: socket, Function: "f"})
	defer p.Close()
	pid := text(t, p, "/pid")
	end()
	gone(t, pid)
	// The socket that it left behind is in nobody's way.
	host, err := NewHost(HostConfig{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := host.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestExitTakesTheGroupAlong(t *testing.T) {
	_, p := host(t, self(t))
	grandchild := text(t, p, "/family")
	fails(t, p, "/exit", faas.FunctionError, true, "exit status 7")
	gone(t, grandchild)
}

func TestIdleInstanceIsRetired(t *testing.T) {
	c := self(t)
	c.IdleTimeout = 10 * time.Millisecond
	h, p := host(t, c)
	pid := text(t, p, "/pid")
	gone(t, pid)
	for h.Stats().Functions["f"].Instances != 0 {
		time.Sleep(time.Millisecond)
	}
	if s := h.Stats().Functions["f"]; s.Crashes != 0 || s.CPUSeconds == 0 {
		t.Errorf("stats %+v", s)
	}
	text(t, p, "/pid")
}

func TestOperatorThrottles(t *testing.T) {
	h, p := host(t, self(t))
	post := func(query string, status int) {
		t.Helper()
		resp, err := p.client.Post("http://functions/throttle?"+query, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: %d", query, resp.StatusCode)
		}
	}
	post("on=1", http.StatusNoContent)
	fails(t, p, "/pid", faas.Throttled, false, "throttled by the operator")
	post("on=perhaps", http.StatusBadRequest)
	if !h.Stats().Throttle {
		t.Error("not throttled")
	}
	post("on=0", http.StatusNoContent)
	text(t, p, "/pid")
	resp, err := p.client.Get("http://functions/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), `"throttled":1`) {
		t.Errorf("stats %s, %v", body, err)
	}
}

func TestUnknownFunctionAndHost(t *testing.T) {
	_, p := host(t, self(t))
	other := *p
	other.url = strings.Replace(p.url, "/f/", "/g/", 1)
	fails(t, &other, "/pid", faas.Unavailable, false, "there is no function g")
	nowhere := New(Config{Socket: filepath.Join(t.TempDir(), "nothing"), Function: "f"})
	fails(t, nowhere, "/pid", faas.Unavailable, false, "no such file")
	large := get("/pid")
	large.Body = make([]byte, faas.MaxPayload)
	if _, err := p.Invoke(t.Context(), large); faas.AsError(err).Class != faas.TooLarge {
		t.Errorf("error %v", err)
	}
}

func TestSocketInUseIsNotTaken(t *testing.T) {
	h, _ := host(t, self(t))
	if _, err := NewHost(HostConfig{Socket: h.socket}); err == nil || !strings.Contains(err.Error(), "another function host") {
		t.Errorf("error %v", err)
	}
	info, err := os.Stat(h.socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A lineCounter counts what a function prints.
type lineCounter struct {
	slog.Handler
	mu    sync.Mutex
	lines int
}

func (c *lineCounter) Handle(_ context.Context, r slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Message == "function output" {
		c.lines++
	}
	return nil
}
func (c *lineCounter) WithAttrs([]slog.Attr) slog.Handler { return c }

func TestOutputIsLimited(t *testing.T) {
	var now time.Time
	var l lineLimit
	passed := 0
	for range 3 * linesPerSecond {
		if ok, _ := l.take(now); ok {
			passed++
		}
	}
	_, dropped := l.take(now.Add(time.Second))
	if passed != linesPerSecond || dropped != 2*linesPerSecond {
		t.Errorf("%d passed, %d dropped", passed, dropped)
	}

	count := &lineCounter{Handler: slog.NewTextHandler(io.Discard, nil)}
	out := &output{limit: &lineLimit{}, log: slog.New(count)}
	for _, part := range []string{"one\ntw", "o\n\n", strings.Repeat("long", maxLine), "\nlast"} {
		if n, err := io.WriteString(out, part); n != len(part) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	out.flush()
	if count.lines != 4 {
		t.Errorf("%d lines", count.lines)
	}
}

func TestOutputReachesTheLog(t *testing.T) {
	count := &lineCounter{Handler: slog.NewTextHandler(io.Discard, nil)}
	_, p := hostWithLog(t, self(t), slog.New(count))
	text(t, p, "/print")
	for {
		count.mu.Lock()
		lines := count.lines
		count.mu.Unlock()
		if lines > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// thumbnail builds the example function as a Lambda bootstrap in a folder that
// the user nobody may enter.
func thumbnail(tb testing.TB) FunctionConfig {
	tb.Helper()
	dir, err := os.MkdirTemp("", "bootstrap")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	program := filepath.Join(dir, "bootstrap")
	if out, err := exec.Command("go", "build", "-o", program, "spillway/cmd/thumbnail").CombinedOutput(); err != nil {
		tb.Fatalf("build: %v\n%s", err, out)
	}
	return patient(FunctionConfig{Command: []string{program}})
}

// The example function runs unchanged, as nobody when the tests run as root.
func TestThumbnail(t *testing.T) {
	h, p := host(t, thumbnail(t))
	r := get("/overlay/market.jpg")
	r.Query = "text=visitor%201&w=320"
	resp, err := p.Invoke(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Content-Type") != "image/jpeg" || !strings.HasPrefix(string(body), "\xff\xd8") {
		t.Errorf("%d bytes, header %v, %v", len(body), resp.Header, err)
	}
	if os.Geteuid() != 0 {
		return
	}
	pool := h.functions["f"]
	pool.mu.Lock()
	defer pool.mu.Unlock()
	for i := range pool.all {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", i.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != nobody {
			t.Errorf("runs as user %d", uid)
		}
	}
}

func benchmarkInvoke(b *testing.B, c FunctionConfig, r *faas.Request) {
	socket := filepath.Join(b.TempDir(), "s")
	h, err := NewHost(HostConfig{Socket: socket, Functions: map[string]FunctionConfig{"f": c}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	p := New(Config{Socket: socket, Function: "f"})
	call := func() {
		resp, err := p.Invoke(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
	call()
	before := h.Stats().Functions["f"].CPUSeconds
	var self, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	for b.Loop() {
		call()
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	own := time.Duration(after.Utime.Nano() + after.Stime.Nano() - self.Utime.Nano() - self.Stime.Nano())
	b.ReportMetric(float64(own.Microseconds())/1e3/float64(b.N), "host-cpu-ms/op")
	b.ReportMetric((h.Stats().Functions["f"].CPUSeconds-before)*1e3/float64(b.N), "function-cpu-ms/op")
	p.Close()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkInvokeOverlay(b *testing.B) {
	r := get("/overlay/market.jpg")
	r.Query = "text=visitor&w=480"
	benchmarkInvoke(b, thumbnail(b), r)
}

func BenchmarkInvokeSmall(b *testing.B) { benchmarkInvoke(b, thumbnail(b), get("/picture/none.jpg")) }
