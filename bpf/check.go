package bpf

import (
	"errors"
	"fmt"
)

// ErrDetached means that the program was detached by somebody else, or that its
// interface is gone.
var ErrDetached = errors.New("the program was detached")

// Check says which interfaces have lost the program that Attach gave them, with
// ErrDetached for each, or nil. Attach gives it to them again.
func (a *Admission) Check() error {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	var errs []error
	for iface, attachment := range a.attached {
		if err := attachment.check(); err != nil {
			errs = append(errs, fmt.Errorf("interface %d: %w", iface, err), a.detach(iface))
		}
	}
	return errors.Join(errs...)
}

// check asks the kernel where the link is: one that was detached is nowhere.
func (t *Attachment) check() error {
	info, err := t.link.Info()
	if err != nil {
		return fmt.Errorf("ask for the link: %w", err)
	}
	index := uint32(0)
	if xdp := info.XDP(); xdp != nil {
		index = xdp.Ifindex
	} else if tcx := info.TCX(); tcx != nil {
		index = tcx.Ifindex
	}
	if index != uint32(t.Interface) {
		return ErrDetached
	}
	return nil
}
