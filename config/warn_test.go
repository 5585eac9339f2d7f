package config

import (
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// warnings returns what a configuration that passes warns of.
func warnings(t *testing.T, part string) string {
	t.Helper()
	c, err := Parse("f", []byte(whole(part)), nil)
	if err != nil {
		t.Fatalf("%s\n%v", part, err)
	}
	if len(c.Warnings()) == 0 {
		return ""
	}
	return messages(t, c.Warnings())
}

func TestWarnings(t *testing.T) {
	f := func(part string, want ...string) {
		t.Helper()
		if got := warnings(t, part); got != strings.Join(want, "\n") {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", part, got, strings.Join(want, "\n"))
		}
	}
	f("")
	f("trusted_proxies: [10.0.0.0/8, 0.0.0.0/0, '::/0']",
		"f:1:31: warning: trusted_proxies[1]: everybody may pretend to be another client; list the addresses of your own proxies only",
		"f:1:42: warning: trusted_proxies[2]: everybody may pretend to be another client; list the addresses of your own proxies only")
	f("trusted_proxies: [10.0.0.0/8]\npriority_header: X-Priority")
	f("priority_header: X-Priority",
		"f:1:18: warning: priority_header: without trusted_proxies nobody is believed, so it has no effect; list the proxies that write it")
	f("proxy_protocol: ['::ffff:0:0/96']",
		"f:1:18: warning: proxy_protocol[0]: everybody may pretend to be another client; list the addresses of your own proxies only")
	f("cache: {purge: {from: [10.0.0.0/8, 0.0.0.0/0, '::/0', '::ffff:0:0/96']}}",
		"f:1:36: warning: cache.purge.from[1]: everybody may purge, and so send every visitor to the origin; list the addresses of your own publishing systems only",
		"f:1:47: warning: cache.purge.from[2]: everybody may purge, and so send every visitor to the origin; list the addresses of your own publishing systems only",
		"f:1:55: warning: cache.purge.from[3]: everybody may purge, and so send every visitor to the origin; list the addresses of your own publishing systems only")
	f("admission: {allow: [10.0.0.0/8], deny: [203.0.113.7]}")
	f("admission: {deny: [203.0.113.0/24, '::/0']}",
		"f:1:36: warning: admission.deny[1]: nobody gets in but whom admission.allow names; deny the networks that do harm")
	f("proxy_protocol: [10.0.1.4]\nadmission: {deny: [10.0.0.0/8]}",
		"f:2:20: warning: admission.deny[0]: visitors who come through the proxy 10.0.1.4 are kept out; deny them at the proxy, which knows their addresses")
	f("cache: {share_cookies: true}",
		"f:1:24: warning: cache.share_cookies: a cookie that is meant for one visitor reaches all; remove it, unless no origin sets such cookies")
	f("timeouts: {drain: 0}", "f:1:19: warning: timeouts.drain: each stop cuts off the requests in flight; give them time, such as 30s")

	// Origins.
	app := func(settings string) string { return "origins: {app: {" + settings + "}}" }
	f("origins: {app: {servers: ['http://a']}, old: {servers: ['http://b']}}",
		"f:1:41: warning: origins.old: no route uses this origin; name it in a route, or remove it")
	f("listen: ':8443'\n"+app("servers: ['https://127.0.0.1:8443']"),
		"f:2:27: warning: origins.app.servers[0]: the node itself listens here, so requests would go in a circle; name the origin's own port; listen is :8443")
	f(app("servers: ['http://localhost']"),
		"f:1:27: warning: origins.app.servers[0]: the node itself listens here, so requests would go in a circle; name the origin's own port; http is :80")
	f(app("servers: ['h2c://localhost']"),
		"f:1:27: warning: origins.app.servers[0]: the node itself listens here, so requests would go in a circle; name the origin's own port; http is :80")
	f("listen: '10.0.0.1:8443'\nhttp: off\n" + app("servers: ['https://127.0.0.1:8443']"))
	f(app("servers: ['http://10.0.0.5:80']"))
	f(app("servers: ['http://a'], timeout: 1s, connect_timeout: 3s, queue: {unsafe_wait: 0}"),
		"f:1:70: warning: origins.app.connect_timeout: this is longer than timeout, so it has no effect; lower it, or raise timeout")
	f(app("servers: ['http://a'], queue: {unsafe_wait: 1m}"),
		"f:1:61: warning: origins.app.queue.unsafe_wait: requests would wait longer for the origin than it may take to answer; lower it below timeout, 30s")
	f("origins: {app: {servers: ['http://a']}, b: {servers: ['http://A:80']}}\nsites: [{hosts: [x], routes: [{match: {path: /b}, origin: b}, {origin: app}]}]",
		"f:1:55: warning: origins.b.servers[0]: this server is in origin app too, and each origin would find a limit of its own for it; use one origin in both routes")
	f(app("servers: ['http://a'], scale_out: {webhook: 'https://b.example/s'}"),
		"f:1:61: warning: origins.app.scale_out.webhook: the messages are not signed, so that whoever reaches the webhook can order servers; "+
			"set secret, such as file:/etc/spillway/secrets/scale")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("s", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	f(app("servers: ['http://a'], scale_out: {secret: 'file:"+secret+"'}"),
		"f:1:60: warning: origins.app.scale_out.secret: there is no webhook whose messages it signs; set webhook, or remove it")

	// Functions and budgets.
	functions := func(settings, budgets string) string {
		return "functions: {a: {" + settings + "}}\nbudgets: {" + budgets + "}\nsites: [{hosts: [x], routes: [{origin: app, overflow: {to: [a]}}]}]"
	}
	const free, paid = "provider: process, function: a", "provider: web, url: 'http://a', price: {platform: aws-lambda}"
	f(functions(free, ""))
	f("functions: {a: {"+free+"}}", "f:1:13: warning: functions.a: no route spills to this function; name it in overflow.to of a route, or remove it")
	f(functions(free+", prewarm: [{instances: 5}, {at: '2026-12-01T18:00Z', instances: 100, for: 1h}]", ""))
	f(functions(free+`, warm_up: "", prewarm: [{instances: 5}]`, ""),
		"f:1:72: warning: functions.a.prewarm[0]: nothing makes instances ready while warm_up is off; remove this, or name a path in warm_up")
	f(functions(free+", warm_up: off, prewarm: [{instances: 5}]", ""),
		"f:1:73: warning: functions.a.prewarm[0]: nothing makes instances ready while warm_up is off; remove this, or name a path in warm_up")
	f(functions(free+", max_concurrency: 4, prewarm: [{instances: 5}]", ""),
		"f:1:91: warning: functions.a.prewarm[0].instances: this is more than max_concurrency, so fewer will be ready; lower it, or raise max_concurrency")
	f("shared: {db: {max: 5}}\norigins: {app: {servers: ['http://a'], protects: db}}",
		"f:1:10: warning: shared.db: this is not shared by an origin and a function; name it as protects of both, or remove it")
	f("shared: {db: {max: 5}}\norigins: {app: {servers: ['http://a'], protects: db}}\n" + functions(free+", protects: db", ""))
	f(functions(paid, ""), "f:1:13: warning: functions.a: nothing bounds what calls of this function cost; set budget: NAME, of one under budgets")
	f(functions(free+", budget: b", "b: {per_day: $1, per_client: 5%}"))
	f(functions("provider: web, url: 'http://a', budget: b", "b: {per_day: $1, per_client: 5%}"),
		"f:1:57: warning: functions.a.budget: calls of this function cost nothing, so the budget never ends; set price.platform, or the amounts of price")
	f(functions(paid+", budget: b", "b: {per_day: $1, per_client: 5%}"))
	f(functions(paid+", budget: b", "b: {per_day: $0.01, per_client: 5%}"),
		"f:1:13: warning: functions.a: this can never be called: the worst case of a call is $0.000617, and budget b allows one visitor $0.000500; lower timeout, memory or max_response, or raise per_client or the amounts of the budget")
	f(functions(paid+", budget: b, timeout: 1s, max_response: 1MiB", "b: {per_day: $0.01, per_client: 5%}"))
	f(functions(paid+", budget: b", "b: {per_day: $1}"),
		"f:2:11: warning: budgets.b: one visitor may use up the whole budget; set per_client, such as per_client: 5%")
	f(functions(paid+", budget: b", "b: {per_day: $1, per_hour: $2, per_client: 5%}"),
		"f:2:38: warning: budgets.b.per_hour: this is more than per_day, so it has no effect; lower it, or remove it")
	f(functions(paid+", budget: b", "b: {per_day: $2, per_month: $1, per_client: 5%}"),
		"f:2:24: warning: budgets.b.per_day: this is more than per_month, so it has no effect; lower it, or remove it")
	f(functions(paid+", budget: b", "b: {per_hour: $2, per_month: $1, per_client: 5%}"),
		"f:2:25: warning: budgets.b.per_hour: this is more than per_month, so it has no effect; lower it, or remove it")
	f(functions(paid+", budget: b", "b: {per_day: $1, free_per_month: $1, per_client: 5%}"),
		"f:2:44: warning: budgets.b.free_per_month: there is no per_month that it adds to, so it has no effect; set per_month, or remove it")
	f(functions(free+", price: {gateway: aws-http-api}", ""),
		"f:1:66: warning: functions.a.price.gateway: calls of this function pass no gateway, and would be counted too dear; remove it")
	f("budgets: {b: {per_day: $1, per_client: 5%}}", "f:1:11: warning: budgets.b: no function is paid from this budget; name it as budget of a function, or remove it")
}

func TestWarningsOfRoutes(t *testing.T) {
	f := func(top, route string, want ...string) {
		t.Helper()
		part := top + "\nfunctions: {a: {provider: process, function: a}, w: {provider: web, url: 'http://a', budget: b, price: {platform: aws-lambda}}}\n" +
			"budgets: {b: {per_day: $1, per_client: 5%}}\n" +
			"sites: [{hosts: [x], routes: [{origin: app, match: {path: /keep}, overflow: {to: [a, w]}},\n" + route + "]}]"
		if got := warnings(t, part); got != strings.Join(want, "\n") {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", route, got, strings.Join(want, "\n"))
		}
	}
	f("", "{origin: app, stale_on_overload: 1m}")
	f("", "{origin: app, deadline: 1s, stale_on_overload: 1m}")
	f("", "{origin: app, deadline: 1s}",
		"f:5:25: warning: sites[0].routes[1].deadline: the route has no overflow, so what would be late has nowhere to go; add overflow, or remove it")
	f("", "{origin: app, stale_on_overload: 1m, cache: false}",
		"f:5:34: warning: sites[0].routes[1].stale_on_overload: nothing of this route is stored, so there is nothing stale; remove it, or cache: false")
	f("", "{origin: app, cache: {off: true, ttl: 1m}}",
		"f:5:28: warning: sites[0].routes[1].cache.off: the route does not use the cache, so the keys beside this have no effect; remove them, or this")
	f("", "{origin: app, cache: {ttl: 1m, force_ttl: 2m}}",
		"f:5:28: warning: sites[0].routes[1].cache.ttl: force_ttl takes its place, so it has no effect; remove one of the two")
	f("cache: {memory: 0}", "{origin: app, stale_on_overload: 1m}",
		"f:5:34: warning: sites[0].routes[1].stale_on_overload: cache.memory is 0, so there is nothing stale; remove it, or give the cache memory")
	f("", "{origin: app, overflow: {to: [w, a], max_body: 5MiB}}",
		"f:5:48: warning: sites[0].routes[1].overflow.max_body: function a takes no more than 4.5MiB; lower it; larger requests fail there")
	f("", "{origin: app, overflow: {to: [w], max_body: 5MiB}}")
	f("limits: {body_bytes: 2MiB}", "{origin: app, overflow: {to: [w], max_body: 5MiB}}",
		"f:5:45: warning: sites[0].routes[1].overflow.max_body: this is more than limits.body_bytes, so it has no effect; lower it, or raise limits.body_bytes")
	f("overflow: {buffer: 4MiB}", "{origin: app, overflow: {to: [w], max_body: 5MiB}}",
		"f:5:45: warning: sites[0].routes[1].overflow.max_body: this is more than overflow.buffer, so the largest requests never spill; lower it, or raise overflow.buffer")
	f("overflow: {buffer: 5MiB}", "{origin: app, overflow: {to: [w], max_body: 5MiB}}")
	f("", "{origin: app, match: {methods: [POST]}, overflow: {to: [w]}}",
		"f:5:41: warning: sites[0].routes[1].overflow.methods: the route matches only POST, so nothing of it spills; list one of them, or remove overflow")
	f("", "{origin: app, match: {methods: [POST]}, overflow: {to: [w], methods: [POST]}}")
}

func TestCertificates(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	cert, key := writePair(t, dir, "good", now.Add(-time.Hour), now.Add(90*24*time.Hour))
	_, other := writePair(t, dir, "other", now.Add(-time.Hour), now.Add(90*24*time.Hour))
	f := func(cert, key, host, want string) {
		t.Helper()
		part := "tls:\n  cert: " + cert + "\n  key: " + key + "\nsites: [{hosts: ['" + host + "'], routes: [{origin: app}]}]"
		c, err := Parse("f", []byte(whole(part)), nil)
		if err == nil && len(c.Warnings()) > 0 {
			err = c.Warnings()
		}
		if got := strings.ReplaceAll(messages(t, err), dir, "DIR"); got != want {
			t.Errorf("got:  %s\nwant: %s", got, want)
		}
	}
	f(cert, key, "img.example.com", "")
	f(cert, key, "default", "")
	f(cert, key, "www.example.com", "f:4:18: warning: sites[0].hosts[0]: no certificate of tls covers www.example.com; get one that does; browsers refuse the others")
	f(key, key, "img.example.com", "f:2:9: tls.cert: there is no certificate in DIR/good.key; name a PEM file that holds -----BEGIN CERTIFICATE-----")
	f(cert, cert, "img.example.com", "f:3:8: tls.key: there is no private key in DIR/good.pem; name a PEM file that holds -----BEGIN PRIVATE KEY-----, not encrypted")
	f(cert, other, "img.example.com", "f:3:8: tls.key: this key belongs to another certificate; name the key that DIR/good.pem was made for")

	cert, key = writePair(t, dir, "old", now.Add(-48*time.Hour), now.Add(-24*time.Hour))
	f(cert, key, "img.example.com", "f:2:9: tls.cert: the certificate expired on "+dateOf(now.Add(-24*time.Hour))+"; renew it")
	cert, key = writePair(t, dir, "soon", now.Add(-48*time.Hour), now.Add(48*time.Hour))
	f(cert, key, "img.example.com", "f:2:9: warning: tls.cert: the certificate expires on "+dateOf(now.Add(48*time.Hour))+"; renew it now; the node takes the new file by itself")
	cert, key = writePair(t, dir, "new", now.Add(48*time.Hour), now.Add(90*24*time.Hour))
	f(cert, key, "img.example.com", "f:2:9: warning: tls.cert: the certificate is not valid before "+dateOf(now.Add(48*time.Hour))+"; wait, or set the clock of this machine")

	cert, key = writePair(t, dir, "open", now.Add(-time.Hour), now.Add(90*24*time.Hour))
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	f(cert, key, "img.example.com", "f:3:8: warning: tls.key: everyone on this machine may read the key: its mode is 0644; chmod 0640 DIR/open.key")
}

func TestWarningsOfECH(t *testing.T) {
	now := time.Now()
	cert, key := writePair(t, t.TempDir(), "good", now.Add(-time.Hour), now.Add(90*24*time.Hour))
	f := func(name, want string) {
		t.Helper()
		if got := warnings(t, "tls:\n  cert: "+cert+"\n  key: "+key+"\n  ech: {public_name: "+name+"}"); got != want {
			t.Errorf("got:  %s\nwant: %s", got, want)
		}
	}
	f("img.example.com", "")
	f("cloud.example.net", "f:4:22: warning: tls.ech.public_name: no certificate of tls covers cloud.example.net; get one that does; browsers whose ECH record is old fail without")
}

func TestSelfSignedIsForTests(t *testing.T) {
	f := func(host string, want bool) {
		t.Helper()
		got := warnings(t, "sites: [{hosts: ['"+host+"'], routes: [{origin: app}]}]")
		if said := got == "f:2:20: warning: tls.self_signed: browsers refuse a self-signed certificate for "+host+"; set tls.cert and tls.key before visitors come"; said != want || !want && got != "" {
			t.Errorf("%s warns of %q", host, got)
		}
	}
	f("img.spillway.dev", true)
	f("*.spillway.dev", true)
	f("img.example.com", false)
	f("web.internal", false)
	f("localhost", false)
	f("10.0.0.1", false)
	f("::1", false)
	f("default", false)
}

// TestReferenceWarnsOfNothing keeps the reference an example of what is meant.
func TestReferenceWarnsOfNothing(t *testing.T) {
	c, err := Load(filepath.Join(".", "spillway.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.Warnings() {
		t.Error(p)
	}
}

// An RSA key is warned of unless visitors are shown another one.
func TestWarnsOfRSA(t *testing.T) {
	dir, from, until := t.TempDir(), time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	slow, slowKey := writePairOf(t, key, dir, "slow", from, until)
	fast, fastKey := writePair(t, dir, "fast", from, until)
	f := func(tls string, want int) {
		t.Helper()
		if got := strings.Count(warnings(t, tls), "this is an RSA key: each new visitor costs"); got != want {
			t.Errorf("%s: %d warnings of RSA, want %d", tls, got, want)
		}
	}
	f("tls: {cert: "+slow+", key: "+slowKey+"}", 1)
	f("tls: {cert: "+fast+", key: "+fastKey+"}", 0)
	f("tls: {cert: "+slow+", key: "+slowKey+", certificates: [{cert: "+fast+", key: "+fastKey+"}]}", 0)
	f("tls: {cert: "+fast+", key: "+fastKey+", certificates: [{cert: "+slow+", key: "+slowKey+"}]}", 0)
}
