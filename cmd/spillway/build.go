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

// Run serves until ctx ends or a successor serves, then drains: the node stops being
// ready, takes no new connections, tells clients to go elsewhere, and gives requests in
// flight until the drain time-out.
func (n *node) Run(ctx context.Context) error {
	n.mu.Lock()
	n.setRules(&config.Config{}, n.config)
	n.stopping = ctx
	n.runOrigins(n.parts)
	n.mu.Unlock()

	// A successor answers the operator as soon as it serves.
	operator, closeAdmin := context.WithCancel(n.ctx)
	defer closeAdmin()
	n.start(&n.running, n.ctx, "admission", n.admit.Run)
	n.start(&n.running, n.ctx, "access log", n.server.Run)
	n.start(&n.running, n.ctx, "memory", reclaim)
	n.start(&n.running, n.ctx, "flight recorder", n.server.Record)
	n.takeDuties()
	n.start(&n.running, operator, "admin listener", n.admin.Run)
	n.start(&n.running, n.ctx, "listeners", n.listeners.Run)
	n.start(&n.running, n.ctx, "connection IDs", n.ids.run)
	announced := make(chan struct{})
	n.running.Go(func() { n.announce(n.ctx); close(announced) })

	err := n.awaitEnd(ctx, announced)
	if ctx.Err() != nil {
		// An upgrade gives up, or has come so far that it is done in a moment.
		n.upgrading.Lock()
		defer n.upgrading.Unlock()
		n.passStop()
	}
	if n.wasReplaced() {
		closeAdmin()
		n.kernel.yield()
	}
	return errors.Join(err, n.end())
}

// awaitEnd returns when the node is to end, with an error if it failed. One that is told
// to stop very soon serves first: the process before waits for that.
func (n *node) awaitEnd(ctx context.Context, announced <-chan struct{}) error {
	select {
	case <-announced:
	case err := <-n.failed:
		return err
	}
	select {
	case <-ctx.Done():
	case err := <-n.failed:
		return err
	case <-n.replaced:
	}
	return nil
}

// end drains, ends the background work, and closes what is still open.
func (n *node) end() error {
	err := n.drain()
	n.stop()
	n.layDown()
	n.running.Wait()
	if n.wasReplaced() {
		return errors.Join(err, n.leave())
	}
	if failure := n.parts.ledger.Close(); failure != nil {
		err = errors.Join(err, fmt.Errorf("close budget ledger: %w", failure))
	}
	return err
}

func (n *node) wasReplaced() bool {
	select {
	case <-n.replaced:
		return true
	default:
		return false
	}
}

// takeDuties begins what one process does at a time: it writes the files of the state
// folder and of the disk cache, and spends money without a visitor's request.
func (n *node) takeDuties() {
	ctx, end := context.WithCancel(n.ctx)
	n.mu.Lock()
	n.endDuties = end
	folder := n.config.Edge.State
	n.mu.Unlock()
	if folder != "" {
		n.duties.Go(func() { n.keepLearned(ctx, folder) })
	}
	n.start(&n.duties, ctx, "budget ledger", n.parts.ledger.Run)
	n.start(&n.duties, ctx, "prewarming", n.server.Prewarm)
	n.start(&n.duties, ctx, "exercise", n.server.Exercise)
	n.start(&n.duties, ctx, "revalidation", n.cache.Revalidate)
	if n.disk != nil {
		n.start(&n.duties, ctx, "disk cache", n.disk.Run)
	}
	n.start(&n.duties, ctx, "provisioned instances", n.payProvisioned)
}

// layDown ends the duties: what they write is written when it returns.
func (n *node) layDown() {
	n.mu.Lock()
	end := n.endDuties
	n.mu.Unlock()
	end()
	n.duties.Wait()
}

func (n *node) start(group *sync.WaitGroup, ctx context.Context, name string, run func(context.Context) error) {
	group.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil && !n.draining.Load() {
			n.failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// runOrigins starts the background work of the origins that do not run yet.
func (n *node) runOrigins(p *parts) {
	for name, o := range p.origins {
		if p.stop[name] != nil {
			continue
		}
		n.restoreLearned(name)
		ctx, stop := context.WithCancel(n.ctx)
		p.stop[name] = stop
		n.running.Go(func() { o.Run(ctx) })
	}
}

// payProvisioned books what functions cost that are kept ready, a minute at a time.
func (n *node) payProvisioned(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		n.mu.Lock()
		functions := n.parts.functions
		n.mu.Unlock()
		for _, f := range functions {
			f.Hold(time.Minute)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// patience is how long requests in flight may take when the node drains.
func (n *node) patience() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.config.Edge.Timeouts.Drain
}

func (n *node) drain() error {
	n.draining.Store(true)
	patience := n.patience()
	n.log.Info("draining", "in_flight", n.server.InFlight(), "deadline", patience)
	if n.wasReplaced() {
		n.running.Go(func() { n.report(n.ctx, time.Now().Add(patience)) })
	}
	ctx, cut := context.WithCancel(context.Background())
	defer cut()
	var left atomic.Int64
	defer time.AfterFunc(patience, func() {
		left.Store(n.server.InFlight())
		cut()
	}).Stop()
	leave := n.listeners.Shutdown
	if n.wasReplaced() && !n.stopPassed {
		leave = n.listeners.HandOver
	}
	err := leave(ctx)
	n.awaitPredecessor(ctx)
	if left.Load() > 0 {
		n.log.Warn("drain deadline reached, requests were cut off", "requests", left.Load())
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Reload puts c in force, or returns why not and leaves everything as it was.
func (n *node) Reload(c *config.Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := fixed(n.config, c); err != nil {
		return err
	}
	next, err := newParts(c, n.config, n.parts, n.log)
	if err != nil {
		return err
	}
	apply, err := n.server.Prepare(c.Edge, c.Sites, c.Origins, next.backends(c))
	if err != nil {
		return err
	}
	if err := n.listeners.Reload(c.Edge, hosts(c)); err != nil {
		return err
	}
	apply()
	n.adopt(c, next)
	return nil
}

// adopt makes next the node's parts. Nothing can fail any more.
func (n *node) adopt(c *config.Config, next *parts) {
	for name, b := range next.budgets {
		b.SetConfig(c.Budgets[name])
	}
	next.share(c)
	for _, apply := range next.changes {
		apply()
	}
	next.changes = nil
	n.setRules(n.config, c)
	old := n.parts
	n.runOrigins(next)
	for name, o := range old.origins {
		// A reload may come before Run, when there is nothing to stop.
		if stop := old.stop[name]; stop != nil && next.origins[name] != o {
			stop() // requests in flight keep the origin; only probes end
		}
	}
	n.reloads++
	n.changed, n.refused = config.Diff(n.config, c), refusal{}
	n.config, n.parts, n.loaded = c, next, time.Now()
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
