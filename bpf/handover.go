package bpf

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// ErrInherited means that the steering of another process cannot be gone on with, so
// that its connections would lose their sockets: its maps, or its connection IDs, are
// of another form.
var ErrInherited = errors.New("the steering that was handed over is of another form")

// FilePrefix begins the names of all Files.
const FilePrefix = "bpf/"

// The names of what is handed over. The words of the state mean something to the
// same programs only, so that its names carry a digest of them.
var (
	digest     = fmt.Sprintf("%.8x", sha256.Sum256(_AdmissionBytes))
	mapFiles   = FilePrefix + "map/"
	stateFiles = FilePrefix + "state/" + digest + "/"
	linkFiles  = FilePrefix + "link/"
)

// handedOver are maps whose form is the same from version to version.
var handedOver = []string{admissionMapSockets, admissionMapRoutes, admissionMapRules4, admissionMapRules6}

// state are the maps with what sources owe and who is known. It is handed over as a
// whole, with the configuration, which has the key of sources.
var state = []string{admissionMapSources, admissionMapFlows, admissionMapKnown, admissionMapBudgets}

// pinned are the state and the configuration.
var pinned = append(slices.Clone(state), admissionMapConfig)

// Files returns what another process needs to take the place of this one: steering,
// rules, what sources owe, who is known, and the links to interfaces. It gives them,
// with their names, to Options.Inherited. The caller closes them.
//
// Both processes then share the maps, so that this one goes on to refund, and its
// sockets keep their slots until they are closed. Each has a configuration of its own,
// and that of the program at work counts: the other's Configure changes nothing. An
// interface goes over when the other process attaches to it; from then on Detach and
// Close leave it alone here.
func (a *Admission) Files() ([]*os.File, error) {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	all := a.replacements()
	shared := map[string]any{stateFiles + admissionMapConfig: all[admissionMapConfig]}
	for _, name := range handedOver {
		shared[a.ids.mapFile(name)] = all[name]
	}
	for _, name := range state {
		shared[stateFiles+name] = all[name]
	}
	if a.pins != nil {
		shared[pinFile] = a.pins
	}
	links := maps.Clone(a.attached)
	maps.Copy(links, a.inherited) // whose interfaces this process has not come to judge
	for index, attachment := range links {
		shared[fmt.Sprintf("%s%d/%s", linkFiles, index, attachment.Mode)] = attachment.link
	}
	var files []*os.File
	for _, name := range slices.Sorted(maps.Keys(shared)) {
		fd, err := unix.FcntlInt(uintptr(shared[name].(interface{ FD() int }).FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("hand over %s: %w", name, err)
		}
		files = append(files, os.NewFile(uintptr(fd), name))
	}
	return files, nil
}

// mapFile returns the name of a map that is handed over. That of sockets tells the
// length of connection IDs, without which none of another process is recognised.
func (c *ConnectionIDs) mapFile(name string) string {
	if name == admissionMapSockets {
		return fmt.Sprintf("%s%s/%d", mapFiles, name, c.Len())
	}
	return mapFiles + name
}

// An inheritance is what another process handed over and this one can use.
type inheritance struct {
	maps   map[string]*ebpf.Map
	config *admissionConfig // nil without the state
	links  map[int]*Attachment
}

// inherit looks through files, and through what a process before has left pinned. What
// is of another form is left out, but for steering.
func inherit(files []*os.File, left *pins, specs map[string]*ebpf.MapSpec, ids *ConnectionIDs) (inheritance, error) {
	i := inheritance{maps: map[string]*ebpf.Map{}, links: map[int]*Attachment{}}
	if !slices.ContainsFunc(files, isState) {
		i.maps = left.take(specs)
	}
	for _, f := range files {
		if err := i.take(f, specs, ids); err != nil {
			return inheritance{}, errors.Join(fmt.Errorf("take over %s: %w", f.Name(), err), i.close())
		}
	}
	return i, i.takeState()
}

func isState(f *os.File) bool { return strings.HasPrefix(f.Name(), stateFiles) }

func (i *inheritance) take(f *os.File, specs map[string]*ebpf.MapSpec, ids *ConnectionIDs) error {
	if name, found := strings.CutPrefix(f.Name(), linkFiles); found {
		return i.takeLink(f, name)
	}
	if name, found := strings.CutPrefix(f.Name(), stateFiles); found {
		return i.takeMap(f, name, specs[name])
	}
	name, found := strings.CutPrefix(f.Name(), mapFiles)
	if !found {
		return nil
	}
	name, _, _ = strings.Cut(name, "/")
	if name == admissionMapSockets && f.Name() != ids.mapFile(name) {
		return fmt.Errorf("%w: connection IDs have %d bytes now", ErrInherited, ids.Len())
	}
	return i.takeMap(f, name, specs[name])
}

func (i *inheritance) takeMap(f *os.File, name string, spec *ebpf.MapSpec) error {
	if spec == nil {
		return nil // of another version
	}
	fd, err := duplicate(f)
	if err != nil {
		return err
	}
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return err
	}
	if err := spec.Compatible(m); err != nil {
		m.Close()
		if name == admissionMapSockets || name == admissionMapRoutes {
			return fmt.Errorf("%w: %w", ErrInherited, err)
		}
		return nil
	}
	i.maps[name] = m
	return nil
}

// takeState reads the configuration, which no two processes share. Without it, or one
// of the maps that need its key, all of them begin anew.
func (i *inheritance) takeState() error {
	whole := i.maps[admissionMapConfig] != nil
	for _, name := range state {
		whole = whole && i.maps[name] != nil
	}
	var err error
	if whole {
		i.config = &admissionConfig{}
		err = i.maps[admissionMapConfig].Lookup(uint32(0), i.config)
	}
	for name, m := range i.maps {
		if name == admissionMapConfig || slices.Contains(state, name) && !whole {
			m.Close()
			delete(i.maps, name)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("read the configuration that was handed over: %w", err), i.close())
	}
	return nil
}

// takeLink takes a link whose name ends with its mode, which the kernel does not tell.
// One whose interface has gone is of no use.
func (i *inheritance) takeLink(f *os.File, name string) error {
	fd, err := duplicate(f)
	if err != nil {
		return err
	}
	l, err := link.NewFromFD(fd)
	if err != nil {
		return err
	}
	index := indexOf(l)
	_, mode, _ := strings.Cut(name, "/")
	if index == 0 || Mode(mode) != Generic && Mode(mode) != Native && Mode(mode) != TCX {
		return l.Close()
	}
	i.links[index] = &Attachment{Interface: index, Mode: Mode(mode), link: l}
	return nil
}

func (i *inheritance) closeMaps() (err error) {
	for _, m := range i.maps {
		err = errors.Join(err, m.Close())
	}
	return err
}

func (i *inheritance) close() error {
	err := i.closeMaps()
	for _, attachment := range i.links {
		err = errors.Join(err, attachment.link.Close())
	}
	return err
}

// duplicate returns a descriptor that is not the file's own.
func duplicate(f *os.File) (fd int, err error) {
	err = withDescriptor(f, func(own int) (err error) {
		fd, err = unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// Inherited returns the interfaces whose links were handed over and not attached to
// since. Detach releases them.
func (a *Admission) Inherited() []int {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	return slices.Sorted(maps.Keys(a.inherited))
}

// succeed puts the program at the place of that of another process, with no packet in
// between. The caller holds attaching.
func (a *Admission) succeed(attachment *Attachment) error {
	delete(a.inherited, attachment.Interface)
	program, err := a.program(attachment.Mode.program())
	if err == nil {
		err = attachment.link.Update(program)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("take over interface %d: %w", attachment.Interface, explain(err)), attachment.link.Close())
	}
	a.attached[attachment.Interface] = attachment
	a.pins.sweep()
	return nil
}

// Retake puts the programs and the pinned maps of this process where a successor that
// came to nothing has put its own.
func (a *Admission) Retake() error {
	a.attaching.Lock()
	defer a.attaching.Unlock()
	var errs []error
	for _, attachment := range a.attached {
		if a.governs(attachment) {
			continue
		}
		program, err := a.program(attachment.Mode.program())
		if err == nil {
			err = attachment.link.Update(program)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("take interface %d back: %w", attachment.Interface, explain(err)))
		}
	}
	a.pins.sweep()
	return errors.Join(append(errs, a.pins.put(a.replacements()))...)
}

// governs reports whether the program at work is that of this process. Another one,
// to which the link was handed over, may have put its own there.
func (a *Admission) governs(attachment *Attachment) bool {
	link, err := attachment.link.Info()
	if err != nil {
		return false
	}
	program, err := a.programs[attachment.Mode.program()].Info()
	if err != nil {
		return false
	}
	id, known := program.ID()
	return known && id == link.Program
}
