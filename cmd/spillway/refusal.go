package main

import (
	"errors"

	"spillway/bpf"
	"spillway/edge/admit"
)

// Why packets are not judged in the kernel, beside what package bpf says.
var (
	errOff         = errors.New("admission.kernel is off")
	errLoopback    = errors.New("the node listens on a loopback address, where no flood comes from")
	errNoInterface = errors.New("no interface")
)

// refusals are the words for why packets are judged nowhere better. Of an error that is
// several of them the first counts, for it is what to mend.
var refusals = []struct {
	err    error
	reason admit.Refusal
}{
	{errOff, admit.Off},
	{errLoopback, admit.Loopback},
	{errNoInterface, admit.NoInterface},
	{bpf.ErrNoPrivilege, admit.NoPrivilege},
	{bpf.ErrNotEthernet, admit.NotEthernet},
	{bpf.ErrHookInUse, admit.HookInUse},
	{bpf.ErrOldKernel, admit.OldKernel},
	{bpf.ErrRejected, admit.Rejected},
	{bpf.ErrDetached, admit.Detached},
	{bpf.ErrNotByDriver, admit.NotByDriver},
}

func refusalOf(err error) admit.Refusal {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return admit.Other
}
