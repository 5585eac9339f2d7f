package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"spillway/cmd/surge/bench"
	"spillway/cmd/surge/program"
)

// A contender is a server that is measured.
type contender struct {
	Name    string `json:"name"`
	About   string `json:"about"` // what it serves, and how it is set up
	Version string `json:"version,omitempty"`
	Missing string `json:"missing,omitempty"` // why it does not run here

	ours    bool   // a lane of the node
	program string // another node than the one beside surge; empty is that
	env     []string
	// look finds the program, or says why it cannot.
	look func(*bed) (version, missing string)
	// prepare writes its configuration and says how to start it. Where it listens is
	// put in the server, unless it says so itself.
	prepare func(*bed, *contender, string, *server) (program.Spec, error)
}

// The names that goals speak of.
const (
	spillway = "spillway"
	noLog    = "spillway, no log"
	bare     = "quic-go alone"
	caddy    = "Caddy"
	nginx    = "nginx"
	haproxy  = "HAProxy"
)

// contestants are all that may be measured. The node is the first.
func (o options) contestants() ([]*contender, error) {
	set, err := settings(o.settings)
	if err != nil {
		return nil, err
	}
	node := func(name, about string, more ...string) *contender {
		return &contender{
			Name: name, About: about, ours: true, look: lookOurs(spillway), prepare: prepareSpillway,
			env: append(slices.Clone(set), more...),
		}
	}
	all := []*contender{
		node(spillway, "a hit out of its memory; access log in a file"),
		node(noLog, "the same without the access log", "SPILLWAY_LOG__ACCESS=off"),
	}
	for _, lane := range o.lanes {
		name, list, _ := strings.Cut(lane, ":")
		keys := strings.Split(list, ",")
		file, other := strings.CutPrefix(keys[0], "program=")
		if other {
			keys = keys[1:]
		}
		more, err := settings(keys)
		if err != nil || name == "" {
			return nil, fmt.Errorf("lane %q: must be NAME:KEY=VALUE[,KEY=VALUE]", lane)
		}
		c := node(name, "the node with "+list, more...)
		if other {
			c.program, c.look = file, lookFile(file)
		}
		all = append(all, c)
	}
	return append(all,
		&contender{
			Name: bare, About: "http3.Server, and net/http for HTTP/2 and HTTP/1.1; the body in memory, no log, GOGC=400",
			env: []string{"GOGC=400"}, look: lookOurs("surge"), prepare: prepareBare,
		},
		&contender{Name: caddy, About: "file_server, of files in the kernel's memory; no log", look: lookCaddy, prepare: prepareCaddy},
		&contender{Name: nginx, About: "a hit of proxy_cache; access log in a file, buffered; one worker", look: lookRoot("nginx", "-v"), prepare: prepareNginx},
		&contender{Name: haproxy, About: "a hit of its cache; no log; one thread", look: lookRoot("haproxy", "-v"), prepare: prepareHAProxy},
	), nil
}

// settings are what the node reads of its environment instead of its file: a dot
// parts the levels of a key.
func settings(list []string) ([]string, error) {
	var env []string
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("setting %q: must be KEY=VALUE, such as cache.memory=1GiB", s)
		}
		env = append(env, "SPILLWAY_"+strings.ToUpper(strings.ReplaceAll(key, ".", "__"))+"="+value)
	}
	return env, nil
}

func lookOurs(name string) func(*bed) (string, string) {
	return func(*bed) (string, string) {
		if _, err := program.Path(name); err != nil {
			return "", err.Error()
		}
		return "", ""
	}
}

func lookFile(path string) func(*bed) (string, string) {
	return func(*bed) (string, string) {
		if _, err := os.Stat(path); err != nil {
			return "", err.Error()
		}
		return "", ""
	}
}

// oneCore is how a Go program is told that it has one core.
const oneCore = "GOMAXPROCS=1"

// prepareSpillway sets the node up as it is by default, but for what a bench must not
// meet: a learned limit, bounds on one visitor, and newcomers who are refused because the
// node has no time left.
func prepareSpillway(b *bed, c *contender, folder string, _ *server) (program.Spec, error) {
	path := c.program
	if path == "" {
		var err error
		if path, err = program.Path(spillway); err != nil {
			return program.Spec{}, err
		}
	}
	config := filepath.Join(folder, "spillway.yaml")
	if err := os.WriteFile(config, []byte(bench.NodeConfiguration(folder, b.source.Address())), 0o600); err != nil {
		return program.Spec{}, err
	}
	return program.Spec{Path: path, Args: []string{"run", "--config", config}, Env: append([]string{oneCore}, c.env...)}, nil
}

func prepareBare(_ *bed, c *contender, _ string, _ *server) (program.Spec, error) {
	path, err := program.Path("surge")
	return program.Spec{Path: path, Args: []string{"bare"}, Env: append([]string{oneCore}, c.env...)}, err
}
