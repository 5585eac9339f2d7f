package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"spillway/bpf"
	"spillway/edge"
	"spillway/edge/admit"
)

// A kernel is what package bpf does, in the words of package admit, which knows
// nothing of it. It judges the packets of one port at the interfaces where visitors
// come in.
type kernel struct {
	*bpf.Admission
	interfaces func() ([]int, error)
	samples    *bpf.Samples

	mu      sync.Mutex // guards what follows
	refused error
	yielded bool // to a successor
	top     bpf.Top
}

var (
	_ admit.Kernel        = (*kernel)(nil)
	_ admit.Steering      = (*kernel)(nil)
	_ admit.ConnectionIDs = (*bpf.ConnectionIDs)(nil)
)

// openKernel loads what judges packets to the node's sockets, and goes on with what the
// process before had of it. It attaches nothing. The error says why packets are not
// judged in the kernel; that nothing can be pinned is none, for it only forgets sooner.
func openKernel(
	c admit.Config, socks edge.Sockets, ids *bpf.ConnectionIDs, inherited []*os.File, log *slog.Logger,
) (*kernel, error) {
	addr := addressOf(socks.TCP.Addr())
	if c.Kernel == "off" {
		return nil, errOff
	}
	if addr.Addr().IsLoopback() && len(c.Interfaces) == 0 {
		return nil, errLoopback
	}
	options := bpf.Options{TCPPorts: [2]uint16{addr.Port()}, Address: addr.Addr(), ConnectionIDs: ids, Inherited: inherited, Pin: c.Pin}
	if len(socks.UDP) > 0 {
		options.UDPPort = addr.Port()
	}
	if socks.HTTP != nil {
		options.TCPPorts[1] = addressOf(socks.HTTP.Addr()).Port()
	}
	loaded, err := bpf.Load(options)
	if errors.Is(err, bpf.ErrPin) {
		log.Warn("what sources owe is forgotten at the next restart", "key", "admission.pin", "error", err)
		options.Pin = ""
		loaded, err = bpf.Load(options)
	}
	if err != nil {
		return nil, err
	}
	k := &kernel{Admission: loaded}
	k.interfaces = func() ([]int, error) { return interfaces(c.Interfaces, addr.Addr()) }
	if k.samples, err = loaded.Samples(); err != nil {
		return nil, errors.Join(err, loaded.Close())
	}
	return k, nil
}

// losesConnections reports whether a successor that goes on without what was handed over
// would take the connections of the process before from their sockets.
func losesConnections(err error) bool { return errors.Is(err, bpf.ErrInherited) }

func addressOf(a net.Addr) netip.AddrPort {
	addr, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// interfaces returns those that are named, or else those that visitors of an address
// come in by: the one that has it, and for any address those with a default route, as for
// one that the loopback has for a balancer or router in front. Others may forward packets
// to the same port of somebody else, as bridges of containers do, which must not be judged.
func interfaces(names []string, addr netip.Addr) ([]int, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	choose := func(i net.Interface) bool { return has(i, addr) }
	onLoopback := func(i net.Interface) bool { return i.Flags&net.FlagLoopback != 0 && has(i, addr) }
	switch {
	case len(names) > 0:
		choose = func(i net.Interface) bool { return slices.Contains(names, i.Name) }
	case addr.IsUnspecified(), slices.ContainsFunc(all, onLoopback):
		outward := defaultRoutes()
		choose = func(i net.Interface) bool { return slices.Contains(outward, i.Name) }
	}
	var found []int
	for _, i := range all {
		if choose(i) {
			found = append(found, i.Index)
		}
	}
	if len(found) < max(1, len(names)) {
		return nil, fmt.Errorf("%w for %s; name them in admission.interfaces",
			errNoInterface, cmp.Or(strings.Join(names, ", "), addr.String()))
	}
	return found, nil
}

func has(i net.Interface, addr netip.Addr) bool {
	all, err := i.Addrs()
	if err != nil {
		return false // it is just gone
	}
	return slices.ContainsFunc(all, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == addr.WithZone("")
	})
}

// defaultRoutes returns the names of the interfaces that have one.
func defaultRoutes() (names []string) {
	for _, table := range []struct {
		file        string
		destination int    // the column of the prefix
		is          string // the prefix of a default route
		name        int    // the column of the interface
	}{
		{"/proc/thread-self/net/route", 1, "00000000", 0},
		{"/proc/thread-self/net/ipv6_route", 0, strings.Repeat("0", 32), 9},
	} {
		text, _ := os.ReadFile(table.file) // a machine without the protocol has none
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[table.destination] != table.is {
				continue
			}
			name := fields[table.name]
			if name != "lo" && !slices.Contains(names, name) { // lo has the routes to nowhere
				names = append(names, name)
			}
		}
	}
	return names
}

// errYielded is why a process that drains judges no packets.
var errYielded = errors.New("a successor judges the packets")

// yield leaves interfaces and rules to a successor, which has taken them over. If this
// process attached again to one that was lost, it would judge packets for a second time,
// and charge them twice where both share what sources owe. A nil kernel has none.
func (k *kernel) yield() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.yielded = true
}

func (k *kernel) hasYielded() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.yielded
}

// Check implements admit.Kernel. What a successor has is that one's to miss.
func (k *kernel) Check() error {
	if k.hasYielded() {
		return nil
	}
	return k.Admission.Check()
}

// Attach implements admit.Kernel. It lets go of interfaces of the process before that
// are none of this one's.
func (k *kernel) Attach(native bool) (admit.Mode, error) {
	if k.hasYielded() {
		return "", errYielded
	}
	mode := bpf.Auto
	if native {
		mode = bpf.Native
	}
	indexes, err := k.interfaces()
	if err != nil {
		return "", err
	}
	var refused []error
	worst := admit.Native
	for i, index := range indexes {
		attached, err := k.Admission.Attach(index, mode)
		if err != nil {
			for _, done := range indexes[:i] {
				err = errors.Join(err, k.Detach(done))
			}
			err = fmt.Errorf("interface %s: %w", nameOf(index), err)
			if errors.Is(err, bpf.ErrNotEthernet) {
				err = fmt.Errorf("%w; name others in admission.interfaces", err)
			}
			return "", err
		}
		refused = append(refused, attached.Refused)
		worst = worse(worst, admit.Mode(attached.Mode))
	}
	// What the process before judged and this one does not is free when that one has ended.
	for _, index := range k.Inherited() {
		if err := k.Detach(index); err != nil {
			return "", err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = errors.Join(refused...)
	return worst, nil
}

// nameOf returns the name of an interface, or its index when it has gone.
func nameOf(index int) string {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return strconv.Itoa(index)
	}
	return i.Name
}

// worse returns the mode of the two that costs more.
func worse(a, b admit.Mode) admit.Mode {
	order := []admit.Mode{admit.Native, admit.Generic, admit.TCX}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// Refused implements admit.Kernel.
func (k *kernel) Refused() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// Configure implements admit.Kernel.
func (k *kernel) Configure(p admit.Policy) error {
	return k.Admission.Configure(bpf.Config{
		Level: bpf.Level(p.Level), Enforce: p.Enforce, DropFragments: p.DropFragments, Stale: p.Stale,
		Source: bpf.Limit(p.Source), QUIC: bpf.Limit(p.QUIC), TCP: bpf.Limit(p.TCP), Proven: bpf.Limit(p.Proven),
		Known: bpf.Limit(p.Known), KnownFor: p.KnownFor,
		QUICTrickle: bpf.Limit(p.QUICTrickle), TCPTrickle: bpf.Limit(p.TCPTrickle), Reset: bpf.Limit(p.Reset), Sample: p.Sample,
	})
}

// SetRule implements admit.Kernel.
func (k *kernel) SetRule(r admit.Rule) error { return k.Admission.SetRule(bpf.Rule(r)) }

// RemoveRule implements admit.Kernel. A rule that ends in a process that drains may have
// been given more time since, and ends in the kernel by itself.
func (k *kernel) RemoveRule(p netip.Prefix) error {
	if k.hasYielded() {
		return nil
	}
	return k.Admission.RemoveRule(p)
}

// Rules implements admit.Kernel.
func (k *kernel) Rules() ([]admit.Rule, error) {
	all, err := k.Admission.Rules()
	var rules []admit.Rule
	for _, r := range all {
		rules = append(rules, admit.Rule(r))
	}
	return rules, err
}

// Counts implements admit.Kernel.
func (k *kernel) Counts() ([]admit.Count, uint64, error) {
	all, err := k.Admission.Counts()
	if err != nil {
		return nil, 0, err
	}
	counts := make([]admit.Count, bpf.Reasons)
	for r, c := range all.Packets {
		reason := bpf.Reason(r)
		counts[r] = admit.Count{Reason: reason.String(), Drop: reason.Drop(), Packets: c.Packets, Unenforced: c.Unenforced}
	}
	return counts, all.SamplesLost, nil
}

// Next implements admit.Kernel.
func (k *kernel) Next() (admit.Sample, error) {
	s, err := k.samples.Next()
	if err != nil {
		return admit.Sample{}, err
	}
	k.mu.Lock()
	k.top.Add(s)
	k.mu.Unlock()
	return admit.Sample{
		Source: s.Source, TCP: s.TCP, Length: s.Length, Reason: s.Reason.String(), Drop: s.Reason.Drop(), Enforced: s.Enforced,
	}, nil
}

// Top implements admit.Kernel.
func (k *kernel) Top(n int) []admit.TopSource {
	k.mu.Lock()
	defer k.mu.Unlock()
	var top []admit.TopSource
	for _, s := range k.top.Sources(n) {
		top = append(top, admit.TopSource(s))
	}
	return top
}

// Close implements admit.Kernel.
func (k *kernel) Close() error { return errors.Join(k.samples.Close(), k.Admission.Close()) }
