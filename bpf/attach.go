package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A Mode is where in the kernel packets are judged.
type Mode string

// The modes. Native is never chosen by Auto: drivers reset the link and take queues
// and offloads for it.
const (
	Auto    Mode = "auto"    // generic, else tcx
	Generic Mode = "generic" // XDP in the network stack, with any driver
	TCX     Mode = "tcx"     // behind XDP, beside other programs; kernel 6.6
	Native  Mode = "native"  // XDP in the driver
)

// An Attachment is a program at work on one interface.
type Attachment struct {
	// Interface is its index.
	Interface int
	// Mode is Generic, TCX or Native.
	Mode Mode
	// Refused says why a better mode was not to be had; nil if none was tried.
	Refused error

	link link.Link
}

// Attach lets the packets of an interface be judged, in the given mode. Attaching
// again replaces what was there, Attach with the same interface and mode does
// nothing. When no mode is possible the error says why of each, or that the interface
// is none for any (ErrNotEthernet).
//
// Where a link was inherited, it first takes the place of the other process. Auto keeps
// the mode of the link then, even Native.
func (a *Admission) Attach(iface int, mode Mode) (*Attachment, error) {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	if old := a.inherited[iface]; old != nil {
		if err := a.succeed(old); err != nil {
			return nil, err
		}
		if mode == Auto {
			return old, nil
		}
	}
	// Another interface may have got the number of one that has gone.
	if old := a.attached[iface]; old != nil && indexOf(old.link) != iface {
		if err := a.detach(iface); err != nil {
			return nil, err
		}
	}
	if old := a.attached[iface]; old != nil {
		if old.Mode == mode || mode == Auto && old.Mode != Native {
			return old, nil
		}
		if err := a.detach(iface); err != nil {
			return nil, err
		}
	}
	if err := needEthernet(iface); err != nil {
		return nil, err
	}
	modes := []Mode{mode}
	if mode == Auto {
		modes = []Mode{Generic, TCX}
	}
	var refused error
	for _, m := range modes {
		l, err := a.attach(iface, m)
		if err == nil {
			attachment := &Attachment{Interface: iface, Mode: m, Refused: refused, link: l}
			a.attached[iface] = attachment
			a.pins.sweep()
			return attachment, nil
		}
		refused = errors.Join(refused, fmt.Errorf("attach in %s mode: %w", m, err))
	}
	return nil, inOneSentence(refused)
}

// program returns the name of the program of a mode.
func (m Mode) program() string {
	if m == TCX {
		return admissionProgAdmitTcx
	}
	return admissionProgAdmitXdp
}

func (a *Admission) attach(iface int, mode Mode) (l link.Link, err error) {
	program, err := a.program(mode.program())
	if err != nil {
		return nil, err
	}
	switch mode {
	case Generic:
		l, err = link.AttachXDP(link.XDPOptions{Interface: iface, Program: program, Flags: link.XDPGenericMode})
	case Native:
		l, err = link.AttachXDP(link.XDPOptions{Interface: iface, Program: program, Flags: link.XDPDriverMode})
	case TCX:
		// Before the others, any of which may end the chain.
		l, err = link.AttachTCX(link.TCXOptions{
			Interface: iface, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
		})
	default:
		panic("BUG: mode " + mode)
	}
	if err != nil {
		return nil, explain(err)
	}
	return l, nil
}

// indexOf returns the interface of a link, 0 when it has gone.
func indexOf(l link.Link) int {
	info, err := l.Info()
	if err != nil {
		return 0
	}
	if xdp := info.XDP(); xdp != nil {
		return int(xdp.Ifindex)
	}
	if tcx := info.TCX(); tcx != nil {
		return int(tcx.Ifindex)
	}
	return 0
}

// Detach lets all packets of an interface pass again. It does nothing if none were
// judged, or if another process has taken the interface over.
func (a *Admission) Detach(iface int) error {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	return a.detach(iface)
}

func (a *Admission) detach(iface int) (err error) {
	if attachment := a.inherited[iface]; attachment != nil {
		delete(a.inherited, iface)
		err = attachment.link.Close()
	}
	if attachment := a.attached[iface]; attachment != nil {
		delete(a.attached, iface)
		// Closing would not do where another process holds the link too.
		if a.governs(attachment) {
			err = errors.Join(err, attachment.link.Detach())
		}
		err = errors.Join(err, attachment.link.Close())
	}
	if err != nil {
		return fmt.Errorf("detach from interface %d: %w", iface, err)
	}
	return nil
}
