package admit

import (
	"fmt"
	"net/netip"
)

// ParsePrefix reads a network or an address, which is the network of it alone. IPv4 that
// is written as IPv6 becomes that, as the addresses of peers do.
func ParsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is neither an address nor a prefix; write 203.0.113.7 or 203.0.113.0/24", text)
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set behind its length; write %s", text, p.Masked())
	}
	const mapped = 128 - 32
	if p.Addr().Is4In6() && p.Bits() >= mapped {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	return p, nil
}

// Rules returns those of Allow and Deny, in their order; what is no prefix is left out.
func (c Config) Rules() (rules []Rule) {
	add := func(list []string, allow bool) {
		for _, text := range list {
			if p, err := ParsePrefix(text); err == nil {
				rules = append(rules, Rule{Prefix: p, Allow: allow})
			}
		}
	}
	add(c.Allow, true)
	add(c.Deny, false)
	return rules
}
