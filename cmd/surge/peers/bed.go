package peers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"spillway/cmd/surge/bench"
	"spillway/cmd/surge/program"
)

// The cores: servers have one, the load another.
const (
	serverCore = 0
	loadCore   = 1
)

// serverName is how visitors call the servers.
const serverName = "localhost"

// A bed is where servers are started and loaded.
type bed struct {
	options
	ctx         context.Context
	dir         string
	certificate string // file of an ECDSA P-256 certificate and its key
	source      *bench.Source
	root        *root  // nil when there is none
	noRoot      string // why
	h2load      *root  // in which h2load is, nil when there is none
	client      string // h2load, or surge when that does not speak HTTP/3
	noH2load    string // why the client is not h2load
	all         []*contender
}

func newBed(ctx context.Context, o options) (b *bed, err error) {
	b = &bed{options: o, ctx: ctx}
	all, err := o.contestants()
	if err != nil {
		return nil, err
	}
	b.all = slices.DeleteFunc(all, func(c *contender) bool {
		return len(o.contenders) > 0 && !slices.Contains(o.contenders, c.Name)
	})
	if b.dir, err = os.MkdirTemp("", "surge-peers-"); err != nil {
		return nil, err
	}
	b.certificate = filepath.Join(b.dir, "both.pem")
	if err := bench.WriteCertificate(b.certificate); err != nil {
		os.RemoveAll(b.dir)
		return nil, err
	}
	if b.root, err = openRoot(filepath.Join(o.tools, "trixie")); err != nil {
		b.noRoot = err.Error()
	}
	// The one that was built with HTTP/3, or Debian's, for the other protocols.
	if b.h2load, err = openRoot(filepath.Join(o.tools, clientH2load)); err != nil {
		b.h2load = b.root
	}
	b.client = clientH2load
	if b.noH2load = b.h2load.lacksHTTP3(); b.noH2load != "" {
		b.client = clientSurge
	}
	b.source = bench.NewSource()
	for _, c := range b.all {
		c.Version, c.Missing = c.look(b)
	}
	return b, nil
}

func (b *bed) close() {
	b.source.Close()
	os.RemoveAll(b.dir)
}

// A server is a contender that runs.
type server struct {
	*contender
	process *program.Process
	address string
}

// start starts a contender in a folder of its own and lets it store what it will be
// asked for.
func (b *bed) start(c *contender) (s *server, err error) {
	folder, err := os.MkdirTemp(b.dir, "server-")
	if err != nil {
		return nil, err
	}
	s = &server{contender: c}
	spec, err := c.prepare(b, c, folder, s)
	if err != nil {
		return nil, err
	}
	spec.Name, spec.Dir, spec.Log = c.Name, folder, filepath.Join(folder, "out.log")
	if s.process, err = program.Start(program.Pinned(serverCore, spec)); err != nil {
		return nil, err
	}
	if err := s.await(b.ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// await waits until a server listens and has stored what it will be asked for.
func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := s.process.Await(ctx, func() (ok bool) {
		if s.address == "" {
			if s.address, ok = program.Address(s.process.Output()); !ok {
				return false
			}
		}
		conn, err := net.Dial("tcp", s.address)
		return err == nil && conn.Close() == nil
	})
	if err != nil {
		return err
	}
	return s.store(ctx)
}

// store asks for all that is asked for later, twice: the second is a hit.
func (s *server) store(ctx context.Context) error {
	t := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: serverName}, // its certificate is our own
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", s.address)
		},
	}
	defer t.CloseIdleConnections()
	for range 2 {
		for _, size := range sizes {
			if err := ask(ctx, t, http.MethodGet, size); err != nil {
				return fmt.Errorf("ask %s for %d bytes: %w", s.Name, size, err)
			}
		}
	}
	return nil
}

func (s *server) stop() { s.process.Stop() }

// sizes are the bodies that are asked for.
var sizes = []int{1 << 10, 100 << 10}

func path(bytes int) string { return fmt.Sprintf("/bytes/%d", bytes) }

// ask reads an answer of so many bytes. Anything but the whole of it is an error.
func ask(ctx context.Context, over http.RoundTripper, method string, bytes int) error {
	return program.Ask(ctx, over, method, "https://"+serverName+path(bytes), int64(bytes))
}
