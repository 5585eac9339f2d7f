package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/origin/faas"
)

// warn notes what works and is surely not meant: settings that contradict each
// other, have no effect, or cost money without a bound.
func warn(c *Config, r *report) {
	warnProxies("trusted_proxies", c.Edge.TrustedProxies, r)
	warnProxies("proxy_protocol", c.Edge.ProxyProtocol, r)
	if c.Edge.PriorityHeader != "" && len(c.Edge.TrustedProxies) == 0 {
		r.warn("priority_header", "without trusted_proxies nobody is believed, so it has no effect", "list the proxies that write it")
	}
	warnPurgers(c.Cache.Purge.From, r)
	warnDenied(c, r)
	warnCertificates(c, r)
	if c.Edge.Timeouts.Drain == 0 {
		r.warn("timeouts.drain", "each stop cuts off the requests in flight", "give them time, such as 30s")
	}
	if c.Cache.ShareCookies {
		r.warn("cache.share_cookies", "a cookie that is meant for one visitor reaches all", "remove it, unless no origin sets such cookies")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		warnOrigin(c, name, r)
		warnScaleOut(c, name, r)
	}
	warnSharedServers(c, r)
	for _, name := range slices.Sorted(maps.Keys(c.Functions)) {
		warnFunction(c, name, r)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Shared)) {
		warnShared(c, name, r)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Budgets)) {
		warnBudget(c, name, r)
	}
	eachRoute(c, func(key string, rc edge.RouteConfig) { warnRoute(c, key, rc, r) })
}

// eachRoute visits the routes of all sites.
func eachRoute(c *Config, visit func(key string, rc edge.RouteConfig)) {
	for i, site := range c.Sites {
		for j, rc := range site.Routes {
			visit(index(index("sites", i)+".routes", j), rc)
		}
	}
}

// mapped is all of IPv4, as IPv6 writes it (RFC 4291 section 2.5.5.2).
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

func warnProxies(setting string, proxies []string, r *report) {
	for i, text := range proxies {
		if isEverybody(text) {
			r.warn(index(setting, i), "everybody may pretend to be another client", "list the addresses of your own proxies only")
		}
	}
}

func warnPurgers(from []string, r *report) {
	for i, text := range from {
		if isEverybody(text) {
			r.warn(index("cache.purge.from", i), "everybody may purge, and so send every visitor to the origin",
				"list the addresses of your own publishing systems only")
		}
	}
}

// warnDenied finds rules that keep everybody out.
func warnDenied(c *Config, r *report) {
	for i, text := range c.Admission.Deny {
		key := index("admission.deny", i)
		if isEverybody(text) {
			r.warn(key, "nobody gets in but whom admission.allow names", "deny the networks that do harm")
			continue
		}
		denied, err := admit.ParsePrefix(text)
		for _, proxy := range slices.Concat(c.Edge.TrustedProxies, c.Edge.ProxyProtocol) {
			p, wrong := admit.ParsePrefix(proxy)
			if err == nil && wrong == nil && p.Overlaps(denied) {
				r.warn(key, "visitors who come through the proxy "+proxy+" are kept out", "deny them at the proxy, which knows their addresses")
				break
			}
		}
	}
}

// isEverybody reports whether a network has all addresses of its kind.
func isEverybody(text string) bool {
	p, err := netip.ParsePrefix(text)
	return err == nil && (p.Bits() == 0 || p == mapped)
}

func warnOrigin(c *Config, name string, r *report) {
	o, key := c.Origins[name], "origins."+name
	used := false
	eachRoute(c, func(_ string, rc edge.RouteConfig) { used = used || rc.Origin == name })
	if !used {
		r.warn(key, "no route uses this origin", "name it in a route, or remove it")
	}
	for i, server := range o.Servers {
		if own := ownListener(c, server); own != "" {
			r.warn(index(key+".servers", i), "the node itself listens here, so requests would go in a circle", "name the origin's own port; "+own)
		}
	}
	if o.ConnectTimeout > o.Timeout {
		r.warn(key+".connect_timeout", "this is longer than timeout, so it has no effect", "lower it, or raise timeout")
	}
	if o.Queue.UnsafeWait > o.Timeout {
		r.warn(key+".queue.unsafe_wait", "requests would wait longer for the origin than it may take to answer", "lower it below timeout, "+o.Timeout.String())
	}
}

// warnScaleOut finds messages that anybody could have sent, or nobody does.
func warnScaleOut(c *Config, name string, r *report) {
	o, key := c.Origins[name].ScaleOut, "origins."+name+".scale_out"
	switch {
	case o.Webhook == "" && o.Secret != "":
		r.warn(key+".secret", "there is no webhook whose messages it signs", "set webhook, or remove it")
	case o.Webhook != "" && o.Secret == "":
		r.warn(key+".webhook", "the messages are not signed, so that whoever reaches the webhook can order servers", "set secret, such as file:/etc/spillway/secrets/scale")
	}
}

// ownListener returns which listener of the node the server's URL leads to, or
// an empty string.
func ownListener(c *Config, server string) string {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := portOf(u)
	for _, own := range []struct{ key, address string }{{"listen", c.Edge.Listen}, {"http", c.Edge.HTTP}} {
		host, ownPort, err := net.SplitHostPort(own.address)
		if err == nil && port == ownPort && reaches(u.Hostname(), host) {
			return own.key + " is " + own.address
		}
	}
	return ""
}

// portOf returns the port of a server's URL, which may be that of its scheme.
func portOf(u *url.URL) string {
	return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443", "h2c": "80"}[u.Scheme])
}

// whereIs returns one spelling for all that a server's address may be written as.
func whereIs(server string) string {
	if path, ok := strings.CutPrefix(server, "unix:"); ok {
		return "unix:" + filepath.Clean(path)
	}
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	host := strings.ToLower(u.Hostname())
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	}
	return u.Scheme + "://" + net.JoinHostPort(host, portOf(u))
}

// reaches reports whether who connects to the name gets to a listener on the
// host. It knows the addresses of no interface, only what every machine has.
func reaches(name, host string) bool {
	addr, err := netip.ParseAddr(name)
	loopback := name == "localhost" || err == nil && (addr.IsLoopback() || addr.IsUnspecified())
	listens, err := netip.ParseAddr(host)
	everywhere := host == "" || err == nil && listens.IsUnspecified()
	return name == host || loopback && (everywhere || host == "localhost")
}

// warnSharedServers finds servers of two origins: each origin learns a limit of
// its own, and both together are too much.
func warnSharedServers(c *Config, r *report) {
	first := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		for i, server := range c.Origins[name].Servers {
			at := whereIs(server)
			if other := first[at]; other != "" && other != name {
				r.warn(index("origins."+name+".servers", i),
					fmt.Sprintf("this server is in origin %s too, and each origin would find a limit of its own for it", other),
					"use one origin in both routes")
				continue
			}
			first[at] = name
		}
	}
}

func warnFunction(c *Config, name string, r *report) {
	f, key := c.Functions[name], "functions."+name
	used := false
	eachRoute(c, func(_ string, rc edge.RouteConfig) {
		used = used || rc.Overflow != nil && slices.Contains(rc.Overflow.To, name)
	})
	if !used {
		r.warn(key, "no route spills to this function", "name it in overflow.to of a route, or remove it")
	}
	if f.Provider != "web" && f.Price.Gateway != "none" {
		r.warn(key+".price.gateway", "calls of this function pass no gateway, and would be counted too dear", "remove it")
	}
	warnPrewarm(f, key, r)
	switch {
	case f.Provider == "process": // runs on this machine, and costs nothing more
	case f.Budget == "":
		r.warn(key, "nothing bounds what calls of this function cost", "set budget: NAME, of one under budgets")
	case f.Free():
		r.warn(key+".budget", "calls of this function cost nothing, so the budget never ends", "set price.platform, or the amounts of price")
	}
	if largest := c.Budgets[f.Budget].Largest(); f.Budget != "" && f.Worst() > largest {
		r.warn(key, fmt.Sprintf("this can never be called: the worst case of a call is $%.6f, and budget %s allows one visitor $%.6f", f.Worst(), f.Budget, largest),
			"lower timeout, memory or max_response, or raise per_client or the amounts of the budget")
	}
}

// warnPrewarm finds plans that cannot be kept.
func warnPrewarm(f Function, key string, r *report) {
	for i, p := range f.Prewarm {
		switch at := index(key+".prewarm", i); {
		case !f.WarmsUp():
			r.warn(at, "nothing makes instances ready while warm_up is off", "remove this, or name a path in warm_up")
		case p.Instances > f.MaxConcurrency:
			r.warn(at+".instances", "this is more than max_concurrency, so fewer will be ready", "lower it, or raise max_concurrency")
		}
	}
}

// warnShared finds what is shared in name only: the bound of one alone is said
// elsewhere.
func warnShared(c *Config, name string, r *report) {
	origins, functions := 0, 0
	for _, o := range c.Origins {
		if o.Protects == name {
			origins++
		}
	}
	for _, f := range c.Functions {
		if f.Protects == name {
			functions++
		}
	}
	if origins == 0 || functions == 0 {
		r.warn("shared."+name, "this is not shared by an origin and a function", "name it as protects of both, or remove it")
	}
}

func warnBudget(c *Config, name string, r *report) {
	b, key := c.Budgets[name], "budgets."+name
	used := false
	for _, f := range c.Functions {
		used = used || f.Budget == name
	}
	if !used {
		r.warn(key, "no function is paid from this budget", "name it as budget of a function, or remove it")
	}
	if b.PerClient == 0 {
		r.warn(key, "one visitor may use up the whole budget", "set per_client, such as per_client: 5%")
	}
	if b.PerDay > 0 && b.PerHour > b.PerDay {
		r.warn(key+".per_hour", "this is more than per_day, so it has no effect", "lower it, or remove it")
	}
	if b.FreePerMonth > 0 && b.PerMonth == 0 {
		r.warn(key+".free_per_month", "there is no per_month that it adds to, so it has no effect", "set per_month, or remove it")
	}
	if b.PerMonth > 0 && b.PerDay > b.PerMonth {
		r.warn(key+".per_day", "this is more than per_month, so it has no effect", "lower it, or remove it")
	}
	if b.PerMonth > 0 && b.PerHour > b.PerMonth {
		r.warn(key+".per_hour", "this is more than per_month, so it has no effect", "lower it, or remove it")
	}
}

func warnRoute(c *Config, key string, rc edge.RouteConfig, r *report) {
	if rc.StaleOnOverload > 0 {
		switch {
		case rc.Cache.Off:
			r.warn(key+".stale_on_overload", "nothing of this route is stored, so there is nothing stale", "remove it, or cache: false")
		case c.Cache.Memory == 0:
			r.warn(key+".stale_on_overload", "cache.memory is 0, so there is nothing stale", "remove it, or give the cache memory")
		}
	}
	if rc.Deadline > 0 && rc.Overflow == nil && rc.StaleOnOverload == 0 {
		r.warn(key+".deadline", "the route has no overflow, so what would be late has nowhere to go", "add overflow, or remove it")
	}
	warnCaching(rc.Cache, key+".cache", r)
	if rc.Overflow != nil {
		warnOverflow(c, key, rc, r)
	}
}

// warnCaching finds settings of a route's cache that others make void.
func warnCaching(c cache.PolicyConfig, key string, r *report) {
	rest := c
	rest.Off, rest.Slice, rest.Key.Query = false, 0, ""
	switch {
	case c.Off && !reflect.DeepEqual(rest, cache.PolicyConfig{}):
		r.warn(key+".off", "the route does not use the cache, so the keys beside this have no effect", "remove them, or this")
	case c.TTL > 0 && c.ForceTTL > 0:
		r.warn(key+".ttl", "force_ttl takes its place, so it has no effect", "remove one of the two")
	}
}

// maxEvent is the largest body that fits into the event of an invocation: the
// platform takes 6 MiB, and base64 makes four bytes of three.
const maxEvent = faas.MaxPayload / 4 * 3

func warnOverflow(c *Config, key string, rc edge.RouteConfig, r *report) {
	o, over := rc.Overflow, key+".overflow"
	for _, name := range o.To {
		if f := c.Functions[name]; f.Provider != "web" && o.MaxBody > maxEvent {
			r.warn(over+".max_body", fmt.Sprintf("function %s takes no more than 4.5MiB", name), "lower it; larger requests fail there")
			break
		}
	}
	limits := c.Edge.Limits
	if o.MaxBody > limits.BodyBytes {
		r.warn(over+".max_body", "this is more than limits.body_bytes, so it has no effect", "lower it, or raise limits.body_bytes")
	}
	if buffer := c.Edge.Overflow.Buffer; o.MaxBody > buffer && buffer > 0 {
		r.warn(over+".max_body", "this is more than overflow.buffer, so the largest requests never spill", "lower it, or raise overflow.buffer")
	}
	if matched := rc.Match.Methods; len(matched) > 0 && !slices.ContainsFunc(o.Methods, func(m string) bool { return slices.Contains(matched, m) }) {
		r.warn(over+".methods", "the route matches only "+strings.Join(matched, ", ")+", so nothing of it spills",
			"list one of them, or remove overflow")
	}
}
