package budget

import (
	"io/fs"
	"maps"
	"slices"
	"sync"
)

// A step is one act on a recorded disk.
type step struct {
	act  string // create, write, sync, rename, names
	name string // as it was when the file was created
	to   string
	data []byte
}

// recorder is a disk in memory that notes what is done to it. It is safe for
// concurrent use.
type recorder struct {
	mu    sync.Mutex
	steps []step
	now   map[string]*[]byte // what a process reads
	fail  error              // of all writes
	slow  chan struct{}      // if set, a sync waits for it
}

func newRecorder(content map[string][]byte) *recorder {
	r := &recorder{now: map[string]*[]byte{}}
	for name, data := range content {
		r.now[name] = new(slices.Clone(data))
	}
	return r
}

func (r *recorder) note(s step) error {
	if r.fail == nil {
		r.steps = append(r.steps, s)
	}
	return r.fail
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.steps)
}

func (r *recorder) breaks(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *recorder) lock() (func(), error) { return func() {}, nil }

func (r *recorder) read(name string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data := r.now[name]
	if data == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(*data), nil
}

func (r *recorder) create(name string) (file, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data := new([]byte)
	r.now[name] = data
	return &recorded{r, name, data}, r.note(step{act: "create", name: name})
}

func (r *recorder) rename(from, to string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.now[to] = r.now[from]
		delete(r.now, from)
	}
	return r.note(step{act: "rename", name: from, to: to})
}

func (r *recorder) sync() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.note(step{act: "names"})
}

type recorded struct {
	r    *recorder
	name string
	data *[]byte
}

func (f *recorded) Write(p []byte) (int, error) {
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	if f.r.fail == nil {
		*f.data = append(*f.data, p...)
	}
	return len(p), f.r.note(step{act: "write", name: f.name, data: slices.Clone(p)})
}

func (f *recorded) Sync() error {
	f.r.mu.Lock()
	slow := f.r.slow
	f.r.mu.Unlock()
	if slow != nil {
		<-slow
	}
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	return f.r.note(step{act: "sync", name: f.name})
}

func (f *recorded) Close() error { return nil }

// crash is what a machine finds that stops after the steps: what was synced, and of
// what was not, nothing or torn parts of it. Names may have been kept though the
// folder was not synced, since a disk may do more than it was asked for.
func crash(before map[string][]byte, steps []step, torn, eager bool) map[string][]byte {
	type content struct{ durable, pending []byte }
	files := map[string]*content{} // by the name that programs see
	durable := map[string]*content{}
	for name, data := range before {
		files[name] = &content{durable: data}
		durable[name] = files[name]
	}
	open := map[string]*content{} // by the name at creation
	for _, s := range steps {
		switch s.act {
		case "create":
			c := &content{}
			files[s.name], open[s.name] = c, c
		case "write":
			open[s.name].pending = append(open[s.name].pending, s.data...)
		case "sync":
			c := open[s.name]
			c.durable, c.pending = append(slices.Clone(c.durable), c.pending...), nil
		case "rename":
			files[s.to] = files[s.name]
			delete(files, s.name)
		case "names":
			durable = maps.Clone(files)
		}
	}
	if eager {
		durable = files
	}
	found := map[string][]byte{}
	for name, c := range durable {
		data := slices.Clone(c.durable)
		if torn && len(c.pending) > 0 {
			data = append(data, c.pending[:len(c.pending)*2/3]...)
			data = append(data, make([]byte, len(c.pending)-len(c.pending)*2/3)...) // a page that was never written
		}
		found[name] = data
	}
	return found
}
