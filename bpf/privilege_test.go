package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		kernel, want error
	}{
		{unix.EPERM, ErrNoPrivilege},
		{unix.EACCES, ErrNoPrivilege},
		{ebpf.ErrNotSupported, ErrOldKernel},
		{&ebpf.VerifierError{Cause: unix.EINVAL}, ErrRejected},
		{&ebpf.VerifierError{Cause: unix.EPERM}, ErrNoPrivilege},
		{unix.EBUSY, ErrHookInUse},
		{unix.EEXIST, ErrHookInUse},
		{unix.EOPNOTSUPP, ErrNotByDriver},
		{unix.ENOMEM, unix.ENOMEM},
	} {
		err := explain(fmt.Errorf("load: %w", c.kernel))
		if !errors.Is(err, c.want) || !errors.Is(err, c.kernel) {
			t.Errorf("%v became %v", c.kernel, err)
		}
		if c.want == ErrRejected && !errors.As(err, new(*ebpf.VerifierError)) {
			t.Errorf("%v has lost the verifier's log", err)
		}
	}
}

// A hook in use and a kernel without tcx are told together, with what to do.
func TestBothModesRefused(t *testing.T) {
	inUse, old := explain(unix.EBUSY), explain(ebpf.ErrNotSupported)
	err := inOneSentence(errors.Join(inUse, old))
	if !errors.Is(err, ErrHookInUse) || !errors.Is(err, ErrOldKernel) || !errors.Is(err, unix.EBUSY) {
		t.Errorf("the reasons are lost: %v", err)
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, "detach that program, or upgrade the kernel") {
		t.Errorf("it is told as %q", text)
	}
	for _, alone := range []error{inUse, old, errors.Join(inUse, explain(unix.ENOMEM))} {
		if inOneSentence(alone) != alone {
			t.Errorf("%v became another", alone)
		}
	}
}

// childEnv names what a child process is to do; see TestMain.
const childEnv = "SPILLWAY_TEST_CHILD"

// child attaches to v0 as another process with these rights and says how that went.
func child(t *testing.T, wait bool, attributes *syscall.SysProcAttr) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe") // which needs no right to read its folder
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%v", childEnv, wait))
	cmd.SysProcAttr = attributes
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	return cmd, strings.TrimSpace(line)
}

// beChild loads, attaches to v0 in any mode, judges a packet and says how that went.
// Then it waits for the end of its input, if it is to wait.
func beChild(wait bool) {
	say := func(err error) {
		if refused := (refusal{}); errors.As(err, &refused) {
			fmt.Println(refused)
			return
		}
		for name, reason := range map[string]error{"old kernel": ErrOldKernel, "in use": ErrHookInUse} {
			if errors.Is(err, reason) {
				fmt.Println(name)
				return
			}
		}
		fmt.Println(err)
	}
	ids, err := NewConnectionIDs(nil, testKeys)
	if err != nil {
		say(err)
		return
	}
	a, err := Load(Options{UDPPort: testUDPPort, ConnectionIDs: ids})
	if err != nil {
		say(err)
		return
	}
	v0, err := net.InterfaceByName("v0")
	if err != nil {
		say(err)
		return
	}
	attached, err := a.Attach(v0.Index, Auto)
	if err != nil {
		say(err)
		return
	}
	if err := a.Configure(configured(Normal)); err != nil {
		say(err)
		return
	}
	if _, err := a.Counts(); err != nil {
		say(err)
		return
	}
	fmt.Println(attached.Mode)
	if wait {
		_, _ = os.Stdin.Read(make([]byte, 1))
	}
}

const nobody = 65534

func TestPrivilege(t *testing.T) {
	needKernel(t, Options{})
	ownNamespace(t)
	unprivileged := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if _, said := child(t, false, unprivileged); said != "no privilege: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing" {
		t.Errorf("without any right: %s", said)
	}
	capabilities := func(c ...uintptr) string {
		attributes := *unprivileged
		attributes.AmbientCaps = c
		_, said := child(t, false, &attributes)
		return said
	}
	if said := capabilities(unix.CAP_BPF); said != "no privilege: CAP_NET_ADMIN, CAP_PERFMON missing" {
		t.Errorf("with CAP_BPF: %s", said)
	}
	// Enough for no verifier that was tried; another may ask for no more.
	said := capabilities(unix.CAP_BPF, unix.CAP_NET_ADMIN)
	t.Logf("with CAP_BPF and CAP_NET_ADMIN: %s", said)
	if said != "no privilege: CAP_PERFMON missing" && said != string(Generic) {
		t.Errorf("with CAP_BPF and CAP_NET_ADMIN: %s", said)
	}
	if said := capabilities(unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON); said != string(Generic) {
		t.Errorf("with CAP_PERFMON too: %s", said)
	}
}

// TestKilled kills a process that holds the hook: the interface is free at once.
func TestKilled(t *testing.T) {
	a := needKernel(t, Options{})
	ownNamespace(t)
	v0 := interfaceIndex(t, "v0")
	cmd, said := child(t, true, nil)
	if said != string(Generic) {
		t.Fatalf("the child: %s", said)
	}
	if _, err := a.Attach(v0, Generic); !errors.Is(err, ErrHookInUse) {
		t.Fatalf("while the child lives: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := a.Attach(v0, Generic); err != nil {
		t.Errorf("after its end: %v", err)
	}
}
