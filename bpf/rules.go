package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrListFull means that a list holds as many prefixes as it can, 1,024 of each
// family.
var ErrListFull = errors.New("the list of prefixes is full")

// A Rule is what becomes of new connections from a prefix. The longest prefix of an
// address counts.
type Rule struct {
	Prefix netip.Prefix
	// Allow passes them over all limits but those of RFC 9000. Otherwise they are
	// dropped, at every level.
	Allow bool
	// Until is when the rule ends; zero is never.
	Until time.Time
}

// SetRule adds a rule, or replaces that of the same prefix. Addresses in UDP packets
// are anybody's to write: rules are for what was proven, or for the operator.
func (a *Admission) SetRule(r Rule) error {
	value := admissionRule{}
	if r.Allow {
		value.Allow = 1
	}
	if !r.Until.IsZero() {
		left := time.Until(r.Until)
		if left <= 0 {
			return a.RemoveRule(r.Prefix)
		}
		value.Until = monotonic() + uint64(left)
	}
	m, key, err := a.ruleOf(r.Prefix)
	if err != nil {
		return err
	}
	err = m.Put(key, &value)
	if errors.Is(err, unix.ENOSPC) {
		if err = a.removeExpired(); err == nil {
			err = m.Put(key, &value)
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		err = ErrListFull
	}
	if err != nil {
		return fmt.Errorf("set the rule of %s: %w", r.Prefix, err)
	}
	return a.list()
}

// RemoveRule removes the rule of exactly this prefix, if there is one.
func (a *Admission) RemoveRule(p netip.Prefix) error {
	m, key, err := a.ruleOf(p)
	if err != nil {
		return err
	}
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove the rule of %s: %w", p, err)
	}
	return a.list()
}

// list tells the programs of a change.
func (a *Admission) list() error {
	a.writes.Lock()
	defer a.writes.Unlock()
	return a.put()
}

// ruleOf returns the map of a prefix and its key there.
func (a *Admission) ruleOf(p netip.Prefix) (*ebpf.Map, any, error) {
	if !p.IsValid() {
		return nil, nil, fmt.Errorf("%s is no prefix", p)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	p = p.Masked()
	if p.Addr().Is4() {
		return a.maps.Rules4, &admissionPrefix4{Bits: uint32(p.Bits()), Addr: p.Addr().As4()}, nil
	}
	return a.maps.Rules6, &admissionPrefix6{Bits: uint32(p.Bits()), Addr: p.Addr().As16()}, nil
}

// Rules returns the rules that are in force, by prefix.
func (a *Admission) Rules() ([]Rule, error) {
	now, wall := monotonic(), time.Now()
	var rules []Rule
	err := a.eachRule(func(p netip.Prefix, value admissionRule) {
		r := Rule{Prefix: p, Allow: value.Allow != 0}
		if value.Until != 0 {
			r.Until = wall.Add(time.Duration(value.Until - now))
			if !r.Until.After(wall) {
				return
			}
		}
		rules = append(rules, r)
	})
	slices.SortFunc(rules, func(a, b Rule) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return rules, err
}

func (a *Admission) removeExpired() error {
	now := monotonic()
	var expired []netip.Prefix
	err := a.eachRule(func(p netip.Prefix, value admissionRule) {
		if value.Until != 0 && int64(value.Until-now) <= 0 {
			expired = append(expired, p)
		}
	})
	for _, p := range expired {
		err = errors.Join(err, a.RemoveRule(p))
	}
	return err
}

func (a *Admission) eachRule(f func(netip.Prefix, admissionRule)) error {
	var value admissionRule
	var key4 admissionPrefix4
	all4 := a.maps.Rules4.Iterate()
	for all4.Next(&key4, &value) {
		f(netip.PrefixFrom(netip.AddrFrom4(key4.Addr), int(key4.Bits)), value)
	}
	var key6 admissionPrefix6
	all6 := a.maps.Rules6.Iterate()
	for all6.Next(&key6, &value) {
		f(netip.PrefixFrom(netip.AddrFrom16(key6.Addr), int(key6.Bits)), value)
	}
	if err := errors.Join(all4.Err(), all6.Err()); err != nil {
		return fmt.Errorf("read the rules of the packet filter: %w", err)
	}
	return nil
}
