package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/config"
	"spillway/edge/admin"
	"spillway/edge/admit"
)

// halfway is a successor that does not come to serve, as its first argument says.
func halfway() {
	from, err := inherit()
	if err != nil {
		os.Exit(1)
	}
	switch os.Args[1] {
	case "refuses":
		from.refuse(errors.New("not today"))
	case "chats":
		from.talk.send(message{Word: "hello yourself"})
	case "crashes":
		if _, err := from.await(""); err == nil {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	case "hangs":
		from.await("")
		time.Sleep(time.Hour)
	case "usurps":
		usurp(from, os.Args[len(os.Args)-1])
	case "dawdles":
		if err := dawdle(from, os.Args[len(os.Args)-1]); err == nil {
			os.Exit(0)
		}
	case "fails":
		from.await("")
		from.refuse(errors.New("no room"))
	case "asks":
		from.await("")
		_, err := admin.NewClient(os.Args[2]).Post(context.Background(), "/admission/deny?prefix=203.0.113.7")
		from.refuse(fmt.Errorf("a denial: %w", err))
	case "future":
		from.talk.conn.Write([]byte(`{"word": "prepared", "version": 2}`))
		time.Sleep(time.Hour)
	}
	runtime.KeepAlive(from) // the collector would hang up while it sleeps
	os.Exit(1)
}

// usurp takes packets and new flows, as the program does, and does not live to tell.
func usurp(from *inheritance, path string) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	n, err := assemble(path, from, log, io.Discard)
	if err != nil {
		from.refuse(err)
		return
	}
	go n.admit.Run(n.ctx)
	go n.listeners.Run(n.ctx)
	<-n.listeners.Started()
	for n.admit.State().Mode == admit.UserSpace {
		time.Sleep(time.Millisecond)
	}
	log.Info("usurped", "mode", n.admit.State().Mode)
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// dawdle serves, as the program does, but not before there is a file for it. What is
// exclusive it has already.
func dawdle(from *inheritance, path string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	n, err := assemble(path, from, log, io.Discard)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM)
	log.Info("dawdling", "pid", os.Getpid())
	for errors.Is(syscall.Access(path+".go", 0), syscall.ENOENT) {
		time.Sleep(time.Millisecond)
	}
	return serve(context.Background(), n, log, signals)
}

func programOf(t *testing.T, name string, args ...string) program {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return program{path, append([]string{name}, args...)}
}

// Whatever becomes of the successor, the process that runs says why and goes on: it
// answers, writes its state, spends, and keeps its disk.
func TestUpgradeThatFails(t *testing.T) {
	s := startSlowNode(t)
	dir := t.TempDir()
	s.prepareIn, s.serveIn = time.Minute, time.Minute
	close(s.answer)
	go func() {
		for range s.arrived {
		}
	}()
	refused := uint64(0)
	f := func(p program, want string) {
		t.Helper()
		s.program = p
		err := s.upgrade(t.Context(), func(string) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", p.args, err, want)
		}
		if got := <-s.visit(); got != "200 OK done" {
			t.Errorf("%s: then a visitor got %q", p.args, got)
		}
		refused++
		if state := s.status(); state.Upgrade.Refusals != refused || !strings.Contains(state.Upgrade.Refused.Reason, want) ||
			state.Ready != "ok" || state.Ledger.Error != "" {
			t.Errorf("%s: status %+v, %s, ledger %q", p.args, state.Upgrade, state.Ready, state.Ledger.Error)
		}
	}
	unreadable := filepath.Join(dir, "unreadable")
	if err := os.WriteFile(unreadable, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	f(program{filepath.Join(dir, "none"), []string{"none"}}, "no such file or directory")
	f(program{unreadable, []string{"unreadable"}}, "exec format error")
	f(programOf(t, "sh", "-c", "exit 3"), "it ended before it was prepared: exit status 3")
	f(programOf(t, "halfway", "refuses"), "not today")
	f(programOf(t, "halfway", "chats"), `it said "hello yourself"`)
	f(programOf(t, "halfway", "future"), "it speaks version 2 of the hand-over, this program version 1")
	f(programOf(t, "halfway", "crashes"), "it ended before it was serving: signal: killed")
	s.serveIn = 300 * time.Millisecond
	f(programOf(t, "halfway", "hangs"), "it was not serving within 300ms")
	s.serveIn = time.Minute
	f(programOf(t, "halfway", "fails"), "no room")
	f(programOf(t, "halfway", "asks", s.admin.Addr()), "a denial: ") // which it might not hear of
	if !strings.Contains(s.status().Upgrade.Refused.Reason, "say it again when the new process serves") || s.released.Load() {
		t.Errorf("a command after release: %q, then %v", s.status().Upgrade.Refused.Reason, s.released.Load())
	}
	f(programOf(t, "spillway", "run", "--config", filepath.Join(dir, "none.yaml")), "none.yaml")
	s.prepareIn = 300 * time.Millisecond
	f(programOf(t, "sh", "-c", "exec sleep 1000"), "it was not prepared within 300ms")
	s.first = true
	f(programOf(t, "spillway"), "this is process 1")
	s.first = false

	// Who goes away before anything was handed over has changed its mind.
	ctx, leave := context.WithCancel(t.Context())
	s.program, s.prepareIn = programOf(t, "sh", "-c", "exec sleep 1000"), time.Minute
	err := s.upgrade(ctx, func(text string) { leave() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	s.signals <- syscall.SIGTERM
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// A configuration that does not pass is the successor's reason, problem by problem.
func TestUpgradeWithBadConfiguration(t *testing.T) {
	s := startSlowNode(t)
	defer func() {
		s.signals <- syscall.SIGTERM
		<-s.ended
	}()
	file := filepath.Join(t.TempDir(), "spillway.yaml")
	if err := os.WriteFile(file, []byte("listen: nowhere\nsites: [{}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(file, nil)
	s.program = programOf(t, "spillway", "run", "--config", file)
	refusal := s.upgrade(t.Context(), func(string) {})
	if err == nil || refusal == nil || !strings.Contains(refusal.Error(), err.Error()) {
		t.Errorf("refused for\n%v, want\n%v", refusal, err)
	}
}

// A process makes one successor. Who asks it once more, through the admin listener that
// both have for a moment, or while it stops, gets none.
func TestUpgradeOfWhoLeaves(t *testing.T) {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f := func(n *node, want string) {
		t.Helper()
		err := n.upgrade(t.Context(), func(text string) { t.Errorf("it went on: %s", text) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	n := &node{stopping: t.Context(), replaced: make(chan struct{}), successor: &successor{process: self}}
	close(n.replaced)
	f(n, "has just taken this one's place; ask again")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	f(&node{stopping: ctx, replaced: make(chan struct{})}, "the node is stopping")

	// One that is under way says so too.
	s := startSlowNode(t)
	<-s.listeners.Started()
	s.program, s.prepareIn = programOf(t, "sh", "-c", "exec sleep 1000"), time.Minute
	err = s.upgrade(t.Context(), func(string) { s.signals <- syscall.SIGTERM })
	if err == nil || !strings.Contains(err.Error(), "the node is stopping") {
		t.Errorf("stopped meanwhile: %v", err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// Without privilege too a successor whose connection IDs have another length could not
// tell whose a packet is.
func TestUpgradeWithOtherConnectionIDs(t *testing.T) {
	s := startSlowNode(t)
	defer func() {
		s.signals <- syscall.SIGTERM
		<-s.ended
	}()
	dir := t.TempDir()
	file := filepath.Join(dir, "spillway.yaml")
	err := os.WriteFile(file, []byte(`
listen: 127.0.0.1:0
http: off
admin: unix:`+dir+`/a.sock
state: ""
log: {access: off}
tls: {self_signed: true}
admission: {quic_lb: {server_id: 0102030405060708}}
origins: {app: {servers: ["http://127.0.0.1:1"]}}
sites: [{hosts: [default], routes: [{origin: app}]}]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s.program = programOf(t, "spillway", "run", "--config", file)
	refusal := s.upgrade(t.Context(), func(string) {})
	if refusal == nil || !strings.Contains(refusal.Error(), "connection IDs have 20 bytes now and had 12") {
		t.Errorf("refused for %v", refusal)
	}
}
