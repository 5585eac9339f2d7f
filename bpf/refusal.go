package bpf

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Why the kernel does not admit. The errors of Load and Attach are one of these
// where the reason is known, and wrap what the kernel said.
var (
	// ErrNoPrivilege means that CAP_BPF, CAP_NET_ADMIN or CAP_PERFMON is missing, as the
	// text says, or does not count where the process runs. The last is for the verifier:
	// without it a kernel with mitigations lets no program move along a packet by what
	// the packet says, and any kernel minds how the compiler uses the stack.
	ErrNoPrivilege = errors.New("no privilege")
	// ErrOldKernel means that the kernel lacks what the programs need: 5.12, for
	// tcx 6.6.
	ErrOldKernel = errors.New("the kernel is too old")
	// ErrHookInUse means that another program holds the interface's hook.
	ErrHookInUse = errors.New("another program holds the hook")
	// ErrNotByDriver means that the driver does not do what was asked for, which
	// native mode needs.
	ErrNotByDriver = errors.New("the driver does not support it")
	// ErrNotEthernet means that the interface's frames have no Ethernet headers: the
	// programs would look for addresses and ports at the wrong place.
	ErrNotEthernet = errors.New("its packets have no Ethernet headers, without which they are not judged")
	// ErrRejected means that the kernel's verifier refused a program of a process with
	// all privileges: a defect of ours, or a kernel that we have not met. No setting
	// mends it, and the next load goes the same way. The text ends with the verifier's
	// last line; all of its log is what %+v prints of the *ebpf.VerifierError within.
	ErrRejected = errors.New("the kernel's verifier refused the program")
)

// A refusal is an error of the kernel whose text would mislead, with another one.
type refusal struct {
	error
	kernel error
}

func (r refusal) Unwrap() []error { return []error{r.error, r.kernel} }

// explain adds to an error of the kernel what it means.
func explain(err error) error {
	var verifier *ebpf.VerifierError
	var reason error
	switch refused := errors.As(err, &verifier); {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !(refused && may(unix.CAP_PERFMON)):
		// It is told as a limit of locked memory, or by the verifier as a pointer's fault.
		return refusal{noPrivilege(), err}
	case errors.Is(err, ebpf.ErrNotSupported):
		reason = ErrOldKernel
	case refused:
		reason = ErrRejected
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		reason = ErrHookInUse
	case errors.Is(err, unix.EOPNOTSUPP):
		reason = ErrNotByDriver
	default:
		return err
	}
	return fmt.Errorf("%w: %w", reason, err)
}

// inOneSentence says what to do where both modes of Auto are refused, each for a reason
// that the other could do without.
func inOneSentence(err error) error {
	if !errors.Is(err, ErrHookInUse) || !errors.Is(err, ErrOldKernel) {
		return err
	}
	return refusal{errors.New("another XDP program holds the hook, and the kernel is too old to judge behind it " +
		"(tcx, 6.6): detach that program, or upgrade the kernel"), err}
}

// noPrivilege says which capabilities the thread is without.
func noPrivilege() error {
	var missing []string
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_PERFMON, "CAP_PERFMON"}} {
		if !may(c.bit) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return fmt.Errorf("%w: the capabilities are there, but a user namespace, a sandbox or a lockdown forbids it",
			ErrNoPrivilege)
	}
	return fmt.Errorf("%w: %s missing", ErrNoPrivilege, strings.Join(missing, ", "))
}

// may reports whether the thread has a capability.
func may(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[capability/32].Effective>>(capability%32)&1 != 0
}
