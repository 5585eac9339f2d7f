package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"spillway/config"
	"spillway/edge"
	"spillway/edge/admin"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/cache/disk"
	"spillway/edge/outcome"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
	"spillway/origin/faas/lambda"
	"spillway/origin/faas/process"
	"spillway/origin/faas/web"
)

// A node is a running Spillway: all parts, wired together. It lives from build
// to the end of Run; Reload changes its configuration in between.
type node struct {
	log     *slog.Logger
	path    string
	started time.Time
	memory  int64 // bytes that the process may use

	cache     *cache.Cache
	disk      *disk.Tier // nil: there is none
	admit     *admit.Controller
	kernel    *kernel // nil: packets are not judged in the kernel
	server    *edge.Server
	ids       connectionIDs
	listeners *edge.Listeners
	admin     *admin.Server
	metrics   *metrics.Set
	learned   learnedFile // as it was at the start

	draining atomic.Bool
	failed   chan error      // of what runs in the background
	running  sync.WaitGroup  // background work
	ctx      context.Context // of the background work; stop ends it
	stop     context.CancelFunc
	// Duties are the background work of the process that serves, which one that was
	// replaced has laid down.
	duties    sync.WaitGroup
	endDuties context.CancelFunc

	reloading sync.Mutex // held while a file is read and put in force

	inherited *inheritance
	before    predecessor
	program   program // what a successor is started from
	first     bool    // process 1
	// How long a successor may take.
	prepareIn, serveIn time.Duration
	upgrading          sync.Mutex      // held while a successor is made
	stopping           context.Context // ends when the node is to end
	successor          *successor      // once replaced is closed
	replaced           chan struct{}
	released           atomic.Bool // the rules of commands are with the successor
	stopPassed         bool        // the successor was told to end, and nobody comes

	mu      sync.Mutex // guards what follows, stopping and endDuties; held for a reload as a whole
	config  *config.Config
	parts   *parts
	refused refusal  // the last reload, if it was refused
	changed []string // by the last reload that was not
	loaded  time.Time
	// How many reloads took effect, and how many did not.
	reloads, refusals uint64
	upgradeRefusals   uint64
	upgradeRefused    refusedUpgrade
}

// build makes a node. It opens the sockets that it does not inherit, and starts
// nothing. What a process before still has is taken over by receive.
func build(c *config.Config, path string, from *inheritance, log *slog.Logger) (_ *node, err error) {
	open := budget.OpenLedger
	if from.succeeds() {
		open = budget.AwaitLedger
	}
	ledger := open(c.Edge.State, log)
	defer func() {
		from.close()
		if err != nil {
			err = errors.Join(err, ledger.Close())
		}
	}()
	n := &node{
		log: log, path: path, started: time.Now(), loaded: time.Now(), config: c, metrics: metrics.NewSet(),
		failed: make(chan error, 8), inherited: from, first: os.Getpid() == 1, prepareIn: preparePatience, serveIn: servePatience,
		replaced: make(chan struct{}), before: predecessor{stopped: make(chan struct{}, 1)},
	}
	if n.program, err = ownProgram(); err != nil {
		return nil, err
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.stopping = n.ctx
	n.cache = cache.New(c.Cache)
	if c.Cache.Disk.Path != "" {
		n.disk = disk.New(c.Cache.Disk, log)
		n.cache.UseDisk(n.disk)
	}
	n.admit = admit.New(c.Admission, runtime.GOMAXPROCS(0))
	if n.parts, err = newParts(c, &config.Config{}, &parts{aws: lambda.NewAccount(log), ledger: ledger}, log); err != nil {
		return nil, err
	}
	n.parts.share(c)
	if !from.succeeds() {
		n.learned = readLearned(c.Edge.State, log)
	}
	n.server, err = edge.NewServer(c.Edge, c.Sites, c.Origins, n.parts.backends(c), n.cache, n.admit, n.metrics, log)
	if err != nil {
		return nil, err
	}
	operator, err := from.operator()
	if err != nil {
		return nil, err
	}
	n.admin, err = admin.New(admin.Config{Address: c.Admin, Inherited: operator}, n.adminOptions(), log)
	if err != nil {
		return nil, err
	}
	if err := n.listen(c); err != nil {
		return nil, errors.Join(err, n.admin.Close())
	}
	n.server.SignTickets(n.listeners.TicketKeys)
	return n, nil
}

// listen opens the visitors' sockets, and has packets to them judged in the kernel where
// that can be. A successor's get no QUIC flow before it serves.
func (n *node) listen(c *config.Config) (err error) {
	if n.ids, err = openConnectionIDs(c, n.inherited); err != nil {
		return err
	}
	passed, err := n.inherited.sockets()
	if err != nil {
		return err
	}
	socks, err := edge.InheritSockets(context.Background(), c.Edge, passed)
	if err != nil {
		return err
	}
	around := admit.Surroundings{Refusal: refusalOf, Spent: n.spent, Cache: c.Cache.Memory, Log: n.log}
	steering := edge.Steering{IDs: n.ids, Generation: n.inherited.generation, Before: n.inherited.steering}
	n.kernel, err = openKernel(c.Admission, socks, n.ids.ConnectionIDs, n.inherited.kernel(), n.log)
	switch {
	case losesConnections(err):
		return errors.Join(fmt.Errorf("%w; restart the node instead", err), socks.Close())
	case err == nil:
		around.Kernel, steering.Kernel = n.kernel, n.kernel
	}
	around.NoKernel = err
	n.admit.Use(around)
	if err := socks.Steer(context.Background(), steering); err != nil {
		return errors.Join(unsteered(err, around.NoKernel), socks.Close(), n.closeKernel())
	}
	n.listeners, err = edge.NewListenersOn(socks, c.Edge, hosts(c), n.admit, n.server, n.log)
	if err != nil {
		return errors.Join(err, n.closeKernel())
	}
	return nil
}

// unsteered says what to do about sockets that cannot be steered as those of the process
// before, and why they cannot.
func unsteered(err, noKernel error) error {
	if !errors.Is(err, edge.ErrOtherSteering) {
		return err
	}
	if noKernel != nil {
		err = fmt.Errorf("%w: %w", err, noKernel)
	}
	return fmt.Errorf("%w; restart the node instead", err)
}

func (n *node) closeKernel() error {
	if n.kernel == nil {
		return nil
	}
	return n.kernel.Close()
}

// spent reports whether every origin is saturated and every function can take nothing:
// then no new visitor can be served but from the cache. Without functions it is never
// so, for then the origins' queues and waiting rooms are the answer.
func (n *node) spent() bool {
	n.mu.Lock()
	p := n.parts
	n.mu.Unlock()
	for _, o := range p.origins {
		if o.Up() && !o.Limiter().Full(1) {
			return false
		}
	}
	for _, f := range p.functions {
		if f.Ready("") == outcome.None {
			return false
		}
	}
	return len(p.functions) > 0
}

// addresses returns where visitors are served, HTTPS first.
func (n *node) addresses() []string {
	all := []string{n.listeners.Addr().String()}
	if a := n.listeners.HTTPAddr(); a != nil {
		all = append(all, a.String())
	}
	return all
}

// newProvider is the table of function platforms.
func newProvider(c config.Function, aws *lambda.Account) (faas.Provider, error) {
	switch c.Provider {
	case "web":
		return web.New(c.Web)
	case "process":
		return process.New(c.Process), nil
	case "lambda":
		return lambda.New(c.Lambda, aws)
	}
	return nil, fmt.Errorf("provider %q is not known", c.Provider)
}

func hosts(c *config.Config) []string {
	var names []string
	for _, s := range c.Sites {
		names = append(names, s.Hosts...)
	}
	return names
}

// ready says why the node should get no traffic, or nil.
func (n *node) ready() error {
	if n.draining.Load() {
		return errors.New("draining")
	}
	return nil
}

func (n *node) adminOptions() admin.Options {
	return admin.Options{
		Metrics: n.writeMetrics, Ready: n.ready, Status: func() any { return n.status() },
		Handlers: map[string]http.Handler{
			"/budget/": http.HandlerFunc(n.serveBudget), "/origin/": http.HandlerFunc(n.serveOrigin), "/function/": http.HandlerFunc(n.serveFunction),
			"/reload": http.HandlerFunc(n.serveReload), "/upgrade": http.HandlerFunc(n.serveUpgrade), "/explain": http.HandlerFunc(n.serveExplain),
			"/purge": http.HandlerFunc(n.servePurge), "/cache/get": http.HandlerFunc(n.serveCached),
			"/cache/list": http.HandlerFunc(n.serveList), "/cache/warm": http.HandlerFunc(n.serveWarm),
			"/admission/show": http.HandlerFunc(n.serveAdmission), "/admission/level": http.HandlerFunc(n.serveLevel),
			"/admission/allow": http.HandlerFunc(n.serveRule), "/admission/deny": http.HandlerFunc(n.serveRule),
			"/admission/clear": http.HandlerFunc(n.serveClear), "/admission/native": http.HandlerFunc(n.serveNative),
			"/recorder": http.HandlerFunc(n.serveRecorder), "/online": http.HandlerFunc(n.serveOnline),
		},
	}
}
