package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"spillway/bpf"
	"spillway/edge/admit"
)

func TestRefusalsInAWord(t *testing.T) {
	for _, c := range []struct {
		err  error
		want admit.Refusal
	}{
		{errOff, admit.Off},
		{fmt.Errorf("attach: %w", bpf.ErrNoPrivilege), admit.NoPrivilege},
		{errors.Join(bpf.ErrOldKernel, bpf.ErrHookInUse), admit.HookInUse},
		{bpf.ErrOldKernel, admit.OldKernel},
		{bpf.ErrRejected, admit.Rejected},
		{bpf.ErrDetached, admit.Detached},
		{bpf.ErrNotByDriver, admit.NotByDriver},
		{os.ErrClosed, admit.Other},
	} {
		if got := refusalOf(c.err); got != c.want {
			t.Errorf("%v is %s", c.err, got)
		}
	}
	if _, err := interfaces([]string{"none-of-that-name"}, netip.IPv4Unspecified()); refusalOf(err) != admit.NoInterface {
		t.Errorf("%v is %s", err, refusalOf(err))
	}
}

// Every reason is documented, and every word that the label may have is one of them.
func TestRefusalsAreDocumented(t *testing.T) {
	var row string
	for line := range strings.Lines(readFile(t, "../../edge/README.md")) {
		if strings.HasPrefix(line, "| `spillway_admission_mode{") {
			row = line
		}
	}
	for _, reason := range admit.Refusals {
		if !strings.Contains(row, "`"+string(reason)+"`") {
			t.Errorf("the reason %s is not in %q", reason, row)
		}
	}
	for _, r := range refusals {
		if !slices.Contains(admit.Refusals, r.reason) {
			t.Errorf("%s is no reason", r.reason)
		}
	}
}
