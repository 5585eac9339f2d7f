package admit

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// maxRules is how many rules there may be, as many as the kernel's lists hold of one
// family.
const maxRules = 1024

var errRulesFull = errors.New("there are 1024 rules already; remove some")

// ruleSet is immutable. The zero ruleSet has no rules.
type ruleSet struct {
	all map[netip.Prefix]Rule
	// lengths are those of the prefixes of each family, longest first.
	lengths4, lengths6 []int
}

func newRuleSet(all map[netip.Prefix]Rule) *ruleSet {
	s := &ruleSet{all: all}
	for p := range all {
		lengths := &s.lengths6
		if p.Addr().Is4() {
			lengths = &s.lengths4
		}
		if !slices.Contains(*lengths, p.Bits()) {
			*lengths = append(*lengths, p.Bits())
		}
	}
	for _, lengths := range [][]int{s.lengths4, s.lengths6} {
		slices.SortFunc(lengths, func(a, b int) int { return cmp.Compare(b, a) })
	}
	return s
}

// of returns the rule of the longest prefix of an address that is in force.
func (s *ruleSet) of(addr netip.Addr, now time.Time) (Rule, bool) {
	lengths := s.lengths6
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		lengths = s.lengths4
	}
	for _, bits := range lengths {
		prefix, err := addr.Prefix(bits)
		if err != nil {
			return Rule{}, false // no address
		}
		if r, found := s.all[prefix]; found && r.holds(now) {
			return r, true
		}
	}
	return Rule{}, false
}

func (r Rule) holds(now time.Time) bool { return r.Until.IsZero() || r.Until.After(now) }

// canonical is a prefix as rules are found by it.
func canonical(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return p, fmt.Errorf("%s is no prefix", p)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}

// SetRule adds a rule, or replaces that of the same prefix. It holds in the kernel and
// in user space. The error says why not; then it holds in user space alone, or, if
// there are too many, nowhere.
func (c *Controller) SetRule(r Rule) error {
	var err error
	if r.Prefix, err = canonical(r.Prefix); err != nil {
		return err
	}
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	return c.setRule(r)
}

// setRule is SetRule for who holds the lock.
func (c *Controller) setRule(r Rule) error {
	c.expire(time.Now())
	all := maps.Clone(c.rules.Load().all)
	if all == nil {
		all = map[netip.Prefix]Rule{}
	}
	if _, replaces := all[r.Prefix]; !replaces && len(all) >= maxRules {
		return errRulesFull
	}
	all[r.Prefix] = r
	c.rules.Store(newRuleSet(all))
	if c.control.kernel == nil {
		return nil
	}
	return c.control.kernel.SetRule(r)
}

// expire removes rules that hold no more, for who holds the lock. In the kernel one
// would go on to hide those of shorter prefixes.
func (c *Controller) expire(now time.Time) {
	var left map[netip.Prefix]Rule
	for p, r := range c.rules.Load().all {
		if r.holds(now) {
			continue
		}
		if left == nil {
			left = maps.Clone(c.rules.Load().all)
		}
		delete(left, p)
		if c.control.kernel != nil {
			_ = c.control.kernel.RemoveRule(p) // what stays lets packets pass
		}
	}
	if left != nil {
		c.rules.Store(newRuleSet(left))
	}
}

// RemoveRule removes the rule of exactly this prefix, if there is one.
func (c *Controller) RemoveRule(p netip.Prefix) error {
	p, err := canonical(p)
	if err != nil {
		return err
	}
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	all := maps.Clone(c.rules.Load().all)
	delete(all, p)
	c.rules.Store(newRuleSet(all))
	if c.control.kernel == nil {
		return nil
	}
	return c.control.kernel.RemoveRule(p)
}

// Rules returns the rules in force, by prefix.
func (c *Controller) Rules() []Rule {
	now := time.Now()
	rules := []Rule{}
	for _, r := range c.rules.Load().all {
		if r.holds(now) {
			rules = append(rules, r)
		}
	}
	slices.SortFunc(rules, func(a, b Rule) int {
		return cmp.Or(a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
	return rules
}

// Forget forgives all sources what they owe, and forgets who is known. Rules stay.
func (c *Controller) Forget() {
	c.meter.forget()
	c.known.forget()
	if k := c.control.kernel; k != nil {
		k.Forget()
	}
}
