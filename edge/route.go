package edge

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gobwas/glob"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/limit"
)

// Backends are what routes refer to by name. They outlive a reload when their
// settings stay the same, with all that they have learned.
type Backends struct {
	Origins   map[string]*origin.Origin
	Functions map[string]*faas.Function
	// ShedUnpaid names the functions whose budget answers exhaustion by shedding,
	// WaitUnpaid those whose budget sends page visits to the waiting room.
	ShedUnpaid, WaitUnpaid map[string]bool
}

// A route is a RouteConfig, ready for use. It is immutable, but for what prewarming
// counts.
type route struct {
	name    string // its methods, if it names some, its hosts and its path
	path    *glob.Pattern
	methods []string

	origin     *origin.Origin
	originName string
	queue      origin.QueueConfig
	policy     *overflow.Policy // nil: never spills
	functions  []*faas.Function
	shedUnpaid []bool
	hedge      *hedge
	exercised  *exercised // nil: never spills
	staleFor   time.Duration
	priority   int
	deadline   time.Duration // zero is none
	cached     bool          // it uses the cache
	hints      bool          // what stored responses say is told early
	caching    *cache.Policy // never nil
	tally      *cacheTally
	errorPages errorPages
	room       *room // of the origin, where page visits of some routes wait; nil: of none
	waits      *waitingRoute
	// bodyKept is the largest request body that is read before a permit is taken.
	bodyKept int64
	// class is what the limiter learns latencies by; unsafe methods have the next.
	class limit.Class
	purse *purse // nil: never spills

	lates    atomic.Int64 // requests that the origin would have answered too late
	arrivals arrivals
	// What follows is prewarming's alone: what the route asks of its origin, and how
	// long its safe and its unsafe requests take there.
	work    overflow.Trend
	latency [2]time.Duration
}

const (
	// defaultBodyKept is what is read before a permit is taken of a body that may
	// not spill: enough for a form, so that a slow sender holds no permit.
	defaultBodyKept = 1 << 20
	// likelyEmpty is what is read of the body that a GET may have over HTTP/3,
	// which says at the end of a request only that there is none.
	likelyEmpty = 4 << 10
)

// keeps returns how much of a request's body is kept.
func (r *route) keeps(req *http.Request) int64 {
	switch length := req.ContentLength; {
	case length < 0 && overflow.Safe(req.Method):
		return min(r.bodyKept, likelyEmpty)
	case length < 0:
		length = r.bodyKept
		fallthrough
	case r.policy == nil || !r.policy.Spills(req.Method):
		return min(r.bodyKept, length, defaultBodyKept)
	default:
		return min(r.bodyKept, length)
	}
}

// sites maps hosts to routes. It is immutable as routes are; a reload swaps it as a whole.
type sites struct {
	exact     map[string][]*route
	wildcards map[string][]*route // by the name without its first label
	fallback  []*route
	demands   []*demand
	functions []*faas.Function // all there are
	exercised []*exercised
}

// classes numbers the routes of each origin. A route keeps its number through
// reloads, as the origin keeps what it has learned about it.
type classes map[string]map[string]limit.Class

func (c classes) of(origin string, m MatchConfig) limit.Class {
	known := c[origin]
	if known == nil {
		known = map[string]limit.Class{}
		c[origin] = known
	}
	key := strings.Join(m.Methods, ",") + " " + m.Path
	if _, ok := known[key]; !ok {
		known[key] = limit.Class(2 * len(known) % 16)
	}
	return known[key]
}

// newSites compiles the routes of all sites.
func newSites(
	configs []SiteConfig, origins map[string]origin.Config, b Backends, c classes, rooms rooms, p purses, t cacheTallies,
) (*sites, error) {
	s := &sites{
		exact: map[string][]*route{}, wildcards: map[string][]*route{},
		functions: slices.Collect(maps.Values(b.Functions)),
	}
	crowded := rooms.of(configs, b)
	for _, site := range configs {
		var routes []*route
		var policies []*cache.Policy
		for _, rc := range site.Routes {
			r, err := newRoute(rc, origins[rc.Origin].Queue, b)
			if err != nil {
				return nil, fmt.Errorf("route %s of %s: %w", rc.Match.Path, strings.Join(site.Hosts, ", "), err)
			}
			r.name = routeName(site, rc)
			r.class, r.room, r.purse = c.of(rc.Origin, rc.Match), crowded[rc.Origin], p.of(r.name, rc)
			r.tally = t.of(r.name)
			s.addDemand(r)
			s.addExercised(r)
			routes = append(routes, r)
			policies = append(policies, r.caching)
		}
		cache.Relate(policies...)
		for _, host := range site.Hosts {
			s.add(strings.ToLower(host), routes)
		}
	}
	return s, nil
}

func routeName(site SiteConfig, rc RouteConfig) string {
	name := strings.Join(site.Hosts, ",") + rc.Match.Path
	if len(rc.Match.Methods) > 0 {
		name = strings.Join(rc.Match.Methods, ",") + " " + name
	}
	return name
}

func (s *sites) add(host string, routes []*route) {
	if host == "default" {
		s.fallback = routes
	} else if parent, ok := strings.CutPrefix(host, "*."); ok {
		s.wildcards[parent] = routes
	} else {
		s.exact[host] = routes
	}
}

func newRoute(c RouteConfig, queue origin.QueueConfig, b Backends) (*route, error) {
	g, err := glob.Compile(c.Match.Path)
	if err != nil {
		return nil, fmt.Errorf("compile path: %w", err)
	}
	r := &route{
		path: g, origin: b.Origins[c.Origin], originName: c.Origin, queue: queue,
		priority: c.Priority, deadline: c.Deadline, staleFor: c.StaleOnOverload, cached: !c.Cache.Off, hints: c.EarlyHints != "off", bodyKept: defaultBodyKept,
	}
	if r.origin == nil {
		return nil, fmt.Errorf("origin %q does not exist", c.Origin)
	}
	if r.caching, err = cache.NewPolicy(c.Cache); err != nil {
		return nil, fmt.Errorf("read cache policy: %w", err)
	}
	for _, m := range c.Match.Methods {
		r.methods = append(r.methods, strings.ToUpper(m))
	}
	if r.errorPages, err = newErrorPages(c.ErrorPages); err != nil {
		return nil, err
	}
	if r.waits, err = newWaitingRoute(c, b); err != nil {
		return nil, err
	}
	if c.Overflow == nil {
		return r, nil
	}
	r.policy = overflow.New(*c.Overflow)
	r.bodyKept = r.policy.MaxBody
	r.hedge = newHedge(c.Overflow.Hedge)
	for _, name := range c.Overflow.To {
		f := b.Functions[name]
		if f == nil {
			return nil, fmt.Errorf("function %q does not exist", name)
		}
		r.functions = append(r.functions, f)
		r.shedUnpaid = append(r.shedUnpaid, b.ShedUnpaid[name])
	}
	r.exercised = r.newExercised(c.Overflow)
	return r, nil
}

// match returns the route of a request, or why there is none.
func (s *sites) match(r *http.Request, path string) (*route, outcome.Reason) {
	host := hostname(r.Host)
	routes, ok := s.exact[host]
	// Only a host that a site names letter by letter is known to be sound: that is
	// how it goes to the origin, port and all.
	if (!ok || host != r.Host) && plainHost(r.Host) == "" {
		return nil, outcome.BadRequest
	}
	if !ok {
		if routes, ok = s.host(host); !ok {
			return nil, outcome.UnknownHost
		}
	}
	why := outcome.NoRoute
	for _, rt := range routes {
		if !rt.path.Match(path) {
			continue
		}
		if len(rt.methods) == 0 || slices.Contains(rt.methods, r.Method) {
			return rt, outcome.None
		}
		why = outcome.MethodNotAllowed
	}
	return nil, why
}

// allowed lists the methods that a route takes for the target of a request.
func (s *sites) allowed(r *http.Request, path string) string {
	routes, _ := s.host(hostname(r.Host))
	var methods []string
	for _, rt := range routes {
		if !rt.path.Match(path) {
			continue
		}
		if len(rt.methods) == 0 {
			return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
		}
		methods = append(methods, rt.methods...)
	}
	slices.Sort(methods)
	return strings.Join(slices.Compact(methods), ", ")
}

func (s *sites) host(name string) ([]*route, bool) {
	if routes, ok := s.exact[name]; ok {
		return routes, true
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if routes, ok := s.wildcards[parent]; ok {
			return routes, true
		}
	}
	return s.fallback, s.fallback != nil
}

// classOf returns the class of a request: requests of one class are expected to
// take about as long as each other.
func (r *route) classOf(method string) limit.Class {
	return r.class + limit.Class(classIn(method))
}

// at is the share of the origin's limit that the route may fill.
func (r *route) at() float64 {
	if r.policy == nil {
		return 1
	}
	return r.policy.At
}

// hostname strips the port and the final dot of a host and lowers its case.
func hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// sentPath returns the path of a request as the client sent it, without the
// query. It is empty when the target is not a path.
func sentPath(r *http.Request) string {
	path := r.RequestURI
	if !strings.HasPrefix(path, "/") {
		// The absolute form of RFC 9112 section 3.2.2; an empty path is the root's (RFC
		// 9110 section 4.2.3).
		if path = r.URL.EscapedPath(); path == "" && r.URL.Host != "" {
			path = "/"
		}
	}
	path, _, _ = strings.Cut(path, "?")
	return path
}

// ambiguous reports whether servers disagree about where a path leads: dot
// segments, plain or escaped, and NUL. Browsers resolve dot segments before
// they send, so that only an attempt to pass one route for another carries
// them.
func ambiguous(path string) bool {
	if !strings.ContainsAny(path, ".%\\") {
		return false
	}
	if strings.Contains(path, "%00") {
		return true
	}
	if strings.Contains(path, "%2") {
		path = strings.NewReplacer("%2e", ".", "%2E", ".", "%2f", "/", "%2F", "/").Replace(path)
	}
	for segment := range strings.SplitSeq(strings.ReplaceAll(path, `\`, "/"), "/") {
		if segment == ".." || segment == "." {
			return true
		}
	}
	return false
}
