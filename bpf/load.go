// Package bpf decides in the kernel which packets reach the node: an XDP program,
// which serves tcx as well, recognises established connections by the tag in their
// connection IDs and holds the beginning of new ones to limits; another program
// hands each datagram to the socket of its connection.
//
// The kernel judges, user space governs: it sets level and limits several times a
// second, gives charges back for completed handshakes, and says by doing so that
// it is well. The package holds no policy of its own and starts nothing.
//
// It fails open. A kernel that cannot run the programs, or may not, is an error of
// Load or Attach that says why; a process that hangs leaves a program that passes
// everything, and one that dies leaves none.
//
// It does not answer packets (no SYN cookies, no Retry), does not look into frames
// that are not Ethernet, and keeps no table of connections.
package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Options are what cannot change while the programs are loaded.
type Options struct {
	// UDPPort is that of QUIC; zero judges no UDP.
	UDPPort uint16
	// TCPPorts are those whose SYNs are metered, at most two; zero is none.
	TCPPorts [2]uint16
	// Address is that of UDPPort and of the first of TCPPorts: at others of the machine
	// they are somebody else's. The zero Addr, or an unspecified one, is all addresses.
	Address netip.Addr
	// ConnectionIDs are those of the node. Required.
	ConnectionIDs *ConnectionIDs
	// Inherited are the Files of another process, whose place this one takes; others
	// among them are left alone. Load keeps none of them open.
	Inherited []*os.File
	// Pin is a folder of a BPF file system that keeps what sources owe and who is known
	// over the end of the process, however it ends, for the next one with the same
	// programs. It is for one process, and the one that takes its place. Empty pins
	// nothing.
	Pin string
}

// An Admission is the loaded programs and their maps. All methods but Close may be
// called concurrently.
type Admission struct {
	ids   *ConnectionIDs
	spec  *ebpf.CollectionSpec
	maps  admissionMaps
	pins  *pins
	hash  sourceHash
	owed  *words
	flows *words
	known *words

	writes sync.Mutex // guards what follows
	last   admissionConfig

	attaching sync.Mutex // guards what follows
	programs  map[string]*ebpf.Program
	attached  map[int]*Attachment
	inherited map[int]*Attachment // with the program of the other process
}

// Load creates the maps, or takes those that it inherits. Programs are loaded when
// they are attached. The errors are ErrNoPrivilege, ErrOldKernel, ErrInherited, ErrPin and
// others, which are the kernel's.
func Load(o Options) (*Admission, error) {
	if o.ConnectionIDs == nil {
		panic("BUG: no connection IDs")
	}
	// Needed below 5.11 only, where maps count as locked memory.
	if err := rlimit.RemoveMemlock(); err != nil && !errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("raise the limit of locked memory: %w", err)
	}
	spec, err := loadAdmission()
	if err != nil {
		return nil, err
	}
	pins, err := openPins(o.Pin, o.Inherited)
	if err != nil {
		return nil, err
	}
	inherited, err := inherit(o.Inherited, pins, spec.Maps, o.ConnectionIDs)
	if err != nil {
		return nil, errors.Join(err, pins.close())
	}
	a := &Admission{
		ids:       o.ConnectionIDs,
		spec:      spec,
		pins:      pins,
		hash:      newSourceHash(),
		programs:  map[string]*ebpf.Program{},
		attached:  map[int]*Attachment{},
		inherited: inherited.links,
	}
	if inherited.config != nil {
		a.last, a.hash = *inherited.config, sourceHash(inherited.config.SourceKey)
	}
	err = a.begin(o, inherited.maps)
	if err = errors.Join(err, inherited.closeMaps()); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Admission) begin(o Options, inherited map[string]*ebpf.Map) error {
	if err := a.setConstants(o); err != nil {
		return err
	}
	if err := a.spec.LoadAndAssign(&a.maps, &ebpf.CollectionOptions{MapReplacements: inherited}); err != nil {
		return fmt.Errorf("create the maps of the packet filter: %w", explain(err))
	}
	if err := a.mapMemory(); err != nil {
		return fmt.Errorf("map the memory of the packet filter: %w", explain(err))
	}
	// Steering goes by the tags at once, verdicts with the first heartbeat.
	a.last.TagKeys, a.last.SourceKey, a.last.FlowKeys = a.ids.tagKeys(), uint64(a.hash), a.hash.flowKeys()
	if err := a.list(); err != nil {
		return err
	}
	return a.pins.put(a.replacements())
}

func (a *Admission) setConstants(o Options) error {
	var ports [2]uint16
	for i, port := range o.TCPPorts {
		ports[i] = networkOrder(port)
	}
	version, address := addressWords(o.Address.Unmap())
	for name, value := range map[string]any{
		admissionVarUdpPort:        networkOrder(o.UDPPort),
		admissionVarTcpPorts:       ports,
		admissionVarCidLength:      uint8(o.ConnectionIDs.Len()),
		admissionVarAddressVersion: version,
		admissionVarNodeAddress:    address,
	} {
		if err := a.spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// addressWords returns the version of an address, 0 for all of them, and what a header has
// of it.
func addressWords(addr netip.Addr) (version uint8, words [2]uint64) {
	switch {
	case !addr.IsValid(), addr.IsUnspecified():
		return 0, words
	case addr.Is4():
		b := addr.As4()
		return 4, [2]uint64{uint64(binary.LittleEndian.Uint32(b[:]))}
	}
	b := addr.As16()
	return 6, [2]uint64{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

func (a *Admission) mapMemory() (err error) {
	for _, m := range []struct {
		words **words
		from  *ebpf.Map
	}{{&a.owed, a.maps.Sources}, {&a.flows, a.maps.Flows}, {&a.known, a.maps.Known}} {
		if *m.words, err = mapWords(m.from); err != nil {
			return err
		}
	}
	return nil
}

// program loads a program once. The caller holds attaching.
func (a *Admission) program(name string) (*ebpf.Program, error) {
	if p := a.programs[name]; p != nil {
		return p, nil
	}
	spec := a.spec.Copy()
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: a.replacements()})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", name, explain(err))
	}
	p := collection.DetachProgram(name)
	collection.Close()
	a.programs[name] = p
	return p, nil
}

func (a *Admission) replacements() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		admissionMapBudgets:  a.maps.Budgets,
		admissionMapClock:    a.maps.Clock,
		admissionMapConfig:   a.maps.Config,
		admissionMapCounters: a.maps.Counters,
		admissionMapFlows:    a.maps.Flows,
		admissionMapKnown:    a.maps.Known,
		admissionMapRoutes:   a.maps.Routes,
		admissionMapRules4:   a.maps.Rules4,
		admissionMapRules6:   a.maps.Rules6,
		admissionMapSamples:  a.maps.Samples,
		admissionMapSockets:  a.maps.Sockets,
		admissionMapSources:  a.maps.Sources,
	}
}

// Close detaches the programs and frees what they used. What is pinned, and what another
// process holds by the Files of this one, stays. The methods that read and refund what
// sources owe stay harmless.
func (a *Admission) Close() error {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	var errs []error
	for _, attachments := range []map[int]*Attachment{a.attached, a.inherited} {
		for index, attachment := range attachments {
			errs = append(errs, attachment.link.Close())
			delete(attachments, index)
		}
	}
	for name, program := range a.programs {
		errs = append(errs, program.Close())
		delete(a.programs, name)
	}
	return errors.Join(append(errs, a.maps.Close(), a.pins.close())...)
}
