package bench

import (
	"fmt"
	"os"
	"path/filepath"

	"spillway/cmd/surge/program"
)

// startSpillway starts the node with its defaults and its access log, but for what
// a bench must not meet: a learned limit, and a bound on one visitor.
func (f *field) startSpillway(folder string) (*peer, error) {
	config := filepath.Join(folder, "spillway.yaml")
	if err := os.WriteFile(config, []byte(NodeConfiguration(folder, f.source.Address())), 0o600); err != nil {
		return nil, err
	}
	return f.ours(folder, "spillway", "run", "--config", config)
}

// ours starts a program of our own, with the collector as the node sets it for
// itself, and waits for the line in which it says where it listens.
func (f *field) ours(folder, name string, args ...string) (*peer, error) {
	path, err := program.Path(name)
	if err != nil {
		return nil, err
	}
	p := &peer{}
	p.process, err = program.Start(program.Pinned(firstCore, program.Spec{
		Name: name, Path: path, Args: args, Log: filepath.Join(folder, "out.log"), Env: []string{"GOMAXPROCS=1", "GOGC=400"},
	}))
	if err != nil {
		return nil, err
	}
	p.pid = p.process.Pid()
	return p, f.await(p, func() (ok bool) {
		p.address, ok = program.Address(p.process.Output())
		return ok
	})
}

// NodeConfiguration is the edge's default, with its access log on. What bounds one
// visitor, and the origin, is wide: here one address is the whole crowd. And nobody is
// refused because the node has no time left for newcomers: what one costs is the question.
func NodeConfiguration(dir, origin string) string {
	return fmt.Sprintf(`listen: "127.0.0.1:0"
http: "off"
admin: unix:%[1]s/admin.sock
state: %[1]s/state
log: {access: %[1]s/access.log}
tls: { self_signed: true }
admission: { enforce: false, handshakes_per_core: 1000000, in_flight: 1000000 }
origins:
  app: { servers: ["http://%[2]s"], limit: {min: 1000, max: 1000} }
sites:
  - hosts: [localhost]
    routes:
      - origin: app
`, dir, origin)
}
