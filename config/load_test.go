package config

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/edge/cache"
	"spillway/edge/waiting"
	"spillway/origin/faas/process"
)

// whole makes a configuration that passes out of a part: top-level keys that
// the part lacks and a node needs are put behind it.
func whole(part string) string {
	for _, rest := range []string{
		"tls: {self_signed: true}",
		`origins: {app: {servers: ["http://10.0.0.5:8080"]}}`,
		"sites: [{hosts: [img.example.com], routes: [{origin: app}]}]",
	} {
		key, _, _ := strings.Cut(rest, ":")
		if !strings.HasPrefix(part, key+":") && !strings.Contains(part, "\n"+key+":") {
			part += "\n" + rest
		}
	}
	return part
}

// messages returns the problems of err, one a line, without excerpts.
func messages(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	problems, ok := errors.AsType[Problems](err)
	if !ok {
		t.Fatalf("the error is no Problems: %v", err)
	}
	var lines []string
	for _, p := range problems {
		if p.Message == "" || p.Remedy == "" {
			t.Errorf("a problem without cause or remedy: %+v", p)
		}
		p.Excerpt = ""
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func TestProblems(t *testing.T) {
	f := func(part string, want ...string) {
		t.Helper()
		_, err := Parse("f", []byte(whole(part)), nil)
		if got := messages(t, err); got != strings.Join(want, "\n") {
			t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
	}
	// The form of the file.
	f("cache: {", "f:3:1: the { before this has no end, or a comma is missing; part entries by commas, and close it with }")
	f("cache:\n\tmemory: 1GiB", "f:2:1: a tab stands where YAML wants spaces; indent with spaces")
	f("http: off\n---\nhttp: off", "f:2:1: a second document starts here; keep one: a file holds one configuration, without lines of --- or ...")
	f("http: off\nhttp: :81", "f:2:1: http: this key stands twice; first on line 1; keep one")
	f("http: *nowhere", `f:1:7: http: no value is marked &nowhere before this line; mark one, or put the value in quotes if it begins with a star: "*nowhere"`)
	f("http: !!str off", "f:1:7: http: YAML of the kind Tag is not used here; write a plain value")
	f("? [a]\n: b", "f:2:1: this key is not a plain word; write KEY: VALUE")

	f("http: off\n...\nexpose: off", "f:3:7: a second document starts here; keep one: a file holds one configuration, without lines of --- or ...")
	f("cache: {<<: 5}", "f:1:9: cache: << takes in the keys of a group, and here is none; write <<: *NAME, of a group that is marked &NAME")
	f("http: 'off", "f:1:7: the quote that opens here has no end; close it, or remove it")
	f("trusted_proxies: [10.0.0.1", "f:2:1: the [ before this has no end, or a comma is missing; part entries by commas, and close it with ]")
	f("http: a: b", "f:1:7: a second colon stands in this line, or it is indented unlike its group; put a value that holds a colon in quotes, and indent the keys of a group alike")
	f("cache:\n  memory: 1GiB\n max_object: 1MiB", "f:3:2: this line is indented unlike its group; indent the keys of a group alike")
	f("http: @x", "f:1:7: '@' is a reserved character; put the value in quotes")
	f("http: %x", "f:1:7: a value cannot begin with %; put it in quotes")
	f(": off", "f:1:1: there is no key before the colon; write KEY: VALUE")
	f("sites: [{hosts: [*.a.example]}]", "f:1:9: sites[0].routes: this key is missing; add routes: [{origin: ORIGIN}]",
		`f:1:18: sites[0].hosts[0]: no value is marked &.a.example before this line; mark one, or put the value in quotes if it begins with a star: "*.a.example"`)

	// The names of keys.
	f("cach: {}", "f:1:1: cach: no setting has this name; did you mean cache?")
	f("cache: {memroy: 1GiB}", "f:1:9: cache.memroy: no setting has this name; did you mean memory?")
	f("http3: {bogus: 1}", "f:1:9: http3.bogus: no setting has this name; keys here are enabled, gso, ecn, fast_path, alt_svc_max_age")
	f("functions: {a: {provider: process, function: a, url: 'http://a'}}",
		"f:1:49: functions.a.url: this key belongs to provider web, not to process; remove it")
	f("functions: {a: {url: 'http://a'}}", "f:1:13: functions.a.provider: this key is missing; add provider: web, lambda or process")
	f("functions: {a: {provider: proces, function: a, url: 'http://a'}}", `f:1:27: functions.a.provider: "proces" is not one of web, lambda, process; did you mean process?`)
	f("functions: {a b: {provider: process, function: a}}",
		`f:1:13: functions.a b: "a b" is not a name; use letters, digits, - and _, at most 63`)

	// The shape of values.
	f("cache: 512MiB", "f:1:8: cache: this wants keys of its own, not a value; write them below it; keys are memory, max_object, share_cookies, collapse_waiters, collapse_wait, stale_wait, purge, disk")
	f("budgets: $2", "f:1:10: budgets: this wants names with settings below them, not a value; write budgets: {NAME: {per_hour: $2}}")
	f("trusted_proxies: 10.0.0.0/8", "f:1:18: trusted_proxies: this wants a list; write [10.0.0.0/8]")
	f("sites: {hosts: [a]}", "f:1:1: sites: this wants a list; put a dash before each entry")
	f("listen: [':443']", `f:1:1: listen: this wants a single value, not a list; write listen: ":443"`)
	f("listen:", "f:1:1: listen: this key has no value; give it one, or remove the key")
	f("origins: {app: {servers: []}}", "f:1:17: origins.app.servers: this must not be empty; write servers: [http://10.0.0.5:8080]")
	f("origins: {}", "f:1:1: origins: this must not be empty; write origins: {NAME: {servers: [http://10.0.0.5:8080]}}",
		`f:3:54: sites[0].routes[0].origin: origins has no entry "app"; add app under origins`)
	f("origins: {app: {}}", "f:1:11: origins.app.servers: this key is missing; add servers: [http://10.0.0.5:8080]")

	// Units.
	f("cache: {memory: 512}", "f:1:17: cache.memory: 512 has no unit; write 512MiB; units are B, KiB, MiB, GiB, TiB, kB, MB, GB or TB")
	f("cache: {memory: 512mb}", `f:1:17: cache.memory: "mb" is not a unit of size; units are B, KiB, MiB, GiB, TiB, kB, MB, GB or TB`)
	f("cache: {memory: lots}", `f:1:17: cache.memory: "lots" is not a size; write a number and a unit, such as 512MiB`)
	f("timeouts: {idle: 20}", "f:1:18: timeouts.idle: 20 has no unit; write 20s; units are ms, s, m, h or d")
	f("timeouts: {idle: soon}", `f:1:18: timeouts.idle: "soon" is not a time; write a time such as 5s; units are ms, s, m, h or d`)
	f("timeouts: {idle: -5s}", `f:1:18: timeouts.idle: "-5s" is negative; write a time such as 5s`)
	f("origins: {app: {servers: ['http://a'], queue: {length: 0.5}}}", "f:1:56: origins.app.queue.length: 0.5 has no unit; write 50%")
	f("origins: {app: {servers: ['http://a'], queue: {length: half}}}", `f:1:56: origins.app.queue.length: "half" is not a share; write a percentage such as 80%`)
	f("budgets: {b: {per_day: 20}}", "f:1:24: budgets.b.per_day: 20 has no unit; write $20")
	f("budgets: {b: {per_day: 20€}}", `f:1:24: budgets.b.per_day: "20€" is not an amount of money; write US dollars such as $2`)

	// Plain values.
	f("http3: {gso: yes}", `f:1:14: http3.gso: "yes" is neither true nor false; write true or false`)
	f("limits: {streams: many}", `f:1:19: limits.streams: "many" is not a whole number; write 1 to 1000`)
	f("limits: {streams: 0}", "f:1:19: limits.streams: 0 is too small; write 1 to 1000")
	f("limits: {streams: 1001}", "f:1:19: limits.streams: 1001 is too large; write 1 to 1000")
	f("limits: {header_bytes: 2MiB}", "f:1:24: limits.header_bytes: 2MiB is too large; write 1KiB to 1MiB")
	f("timeouts: {idle: 1ms}", "f:1:18: timeouts.idle: 1ms is too small; write 10ms or more")
	f("expose: outcomes", `f:1:9: expose: "outcomes" is not one of full, outcome, off; did you mean outcome?`)
	f("expose: nothing", `f:1:9: expose: "nothing" is not one of full, outcome, off; write full, outcome or off`)

	// Forms.
	f("listen: '443'", `f:1:9: listen: "443" is not an address with a port; write HOST:PORT, such as :443 or 127.0.0.1:8443`)
	f("listen: ':99999'", `f:1:9: listen: "99999" is not a port; ports are 0 to 65535`)
	f("listen: ':0'", "f:1:9: listen: port 0 on every address would be another port at each start; write :443")
	f("listen: 'example.com:443'", `f:1:9: listen: "example.com" is not an IP address; listeners are opened on addresses of this machine`)
	f("admin: ':9443'", `f:1:8: admin: the admin listener has no login, so it must not be reachable from outside; ":9443" is not a loopback address; write 127.0.0.1, [::1] or unix:PATH`)
	f("admin: unix:admin.sock", `f:1:8: admin: "admin.sock" is not an absolute path; write unix:/run/spillway/admin.sock`)
	f("admin: /run/admin.sock", `f:1:8: admin: "/run/admin.sock" is neither unix:PATH nor an address with a port; write unix:/run/spillway/admin.sock or 127.0.0.1:9443`)
	f("admin: unix:/"+strings.Repeat("a", 107), "f:1:8: admin: the path of the socket is too long; the system allows 107 bytes")
	f("state: var", `f:1:8: state: "var" does not start with a slash; write /var`)
	f("tls: {cert: /does/not/exist, key: /does/not/exist}",
		"f:1:13: tls.cert: there is no file /does/not/exist; create it, or name another",
		"f:1:35: tls.key: there is no file /does/not/exist; create it, or name another")
	f("trusted_proxies: [10.0.0.0/8, 10.0.0.1/8]", "f:1:31: trusted_proxies[1]: 10.0.0.1/8 has bits set behind its length; write 10.0.0.0/8")
	f("priority_header: 'X Priority'", `f:1:18: priority_header: "X Priority" is not the name of a header field; write a name such as X-Priority`)
	f("admission: {quic_lb: {server_id: node1}}", `f:1:34: admission.quic_lb.server_id: "node1" is not an even number of hexadecimal digits; write 2 to 16 hexadecimal digits in quotes, such as "0a1b2c3d4e5f6071"`)
	f(`admission: {quic_lb: {server_id: "0123456789abcdef01"}}`, `f:1:34: admission.quic_lb.server_id: 9 bytes are more than a server ID may have; write 2 to 16 hexadecimal digits in quotes, such as "0a1b2c3d4e5f6071"`)
	f("trusted_proxies: [proxy]", `f:1:19: trusted_proxies[0]: "proxy" is neither an address nor a prefix; write one, such as 10.0.0.0/8`)
	f("origins: {app: {servers: [10.0.0.5]}}", `f:1:27: origins.app.servers[0]: "10.0.0.5" is neither http, https nor h2c with a host, nor unix with a path; write http://HOST:PORT, https://HOST:PORT, h2c://HOST:PORT or unix:/PATH`)
	f("origins: {app: {servers: ['http://a:0']}}", `f:1:27: origins.app.servers[0]: "0" is not a port from 1 to 65535; write http://HOST:PORT, https://HOST:PORT, h2c://HOST:PORT or unix:/PATH`)
	f("origins: {app: {servers: ['http://u:p@a']}}", `f:1:27: origins.app.servers[0]: "http://u:xxxxx@a" has a password, which would end up in logs; write http://HOST:PORT, https://HOST:PORT, h2c://HOST:PORT or unix:/PATH`)
	f("origins: {app: {servers: ['http://a/?b']}}", `f:1:27: origins.app.servers[0]: "http://a/?b" has more than scheme, host and port; paths are forwarded as they come; write http://HOST:PORT, https://HOST:PORT, h2c://HOST:PORT or unix:/PATH`)
	f("functions: {a: {provider: web, url: 'http://a', headers: {'a b': c}}}", `f:1:59: functions.a.headers.a b: "a b" is not the name of a header field; use letters, digits and -`)
	f("functions: {a: {provider: web, url: 'http://a', headers: {K: 'env:NOPE'}}}", "f:1:62: functions.a.headers.K: the environment has no variable NOPE; set it, or write file:/etc/spillway/secrets/NAME")
	f("functions: {a: {provider: web, url: 'http://a', headers: {K: 'file:/no'}}}", "f:1:62: functions.a.headers.K: there is no file /no; create it, or name another")
	f("functions: {a: {provider: web, url: 'http://a', headers: {K: 'file:no'}}}", `f:1:62: functions.a.headers.K: "no" is not an absolute path; write file:/etc/spillway/secrets/NAME`)

	warmUp := func(path string) string {
		return "functions: {a: {provider: process, function: a, warm_up: '" + path + "'}}"
	}
	f(warmUp("/a%20b"))
	f(warmUp("off"))
	f(warmUp("up"), `f:1:58: functions.a.warm_up: "up" does not start with a slash; write /up`)
	for _, path := range []string{"/a b", "/a?b", "/a#b", "/%zz"} {
		f(warmUp(path), `f:1:58: functions.a.warm_up: "`+path+`" is not the path of a request; write what a client sends, without a query: /a%20b for a space`)
	}

	// References.
	f("functions: {a: {provider: process, function: a, budget: spil}}\nbudgets: {spill: {per_day: $1}}",
		`f:1:57: functions.a.budget: budgets has no entry "spil"; did you mean spill?`)
	f("functions: {a: {provider: process, function: a, budget: other}}\nbudgets: {spill: {per_day: $1}}",
		`f:1:57: functions.a.budget: budgets has no entry "other"; add other under budgets, which has spill`)
}

func TestProblemsOfRoutes(t *testing.T) {
	f := func(routes string, want ...string) {
		t.Helper()
		part := "functions: {a: {provider: process, function: a}}\nsites: [{hosts: [x], routes: [\n" + routes + "]}]"
		_, err := Parse("f", []byte(whole(part)), nil)
		if got := messages(t, err); got != strings.Join(want, "\n") {
			t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
	}
	f("{origin: app}")
	f("{match: {}}", "f:3:1: sites[0].routes[0].origin: this key is missing; add origin: ORIGIN")
	f("{origin: ap}", `f:3:10: sites[0].routes[0].origin: origins has no entry "ap"; did you mean app?`)
	f("{origin: app, match: {path: thumb}}", `f:3:29: sites[0].routes[0].match.path: "thumb" does not start with a slash; write /thumb`)
	f("{origin: app, match: {path: /a?b}}", `f:3:29: sites[0].routes[0].match.path: "/a?b" holds the character '?'; routes match paths only`)
	f("{origin: app, match: {path: '/a b'}}", `f:3:29: sites[0].routes[0].match.path: "/a b" holds a space or control character; write it percent-encoded, as browsers send it`)
	f("{origin: app, match: {path: '/a['}}", `f:3:29: sites[0].routes[0].match.path: "/a[" is not a pattern: glob: syntax error at 3: unexpected end of input; * stands for any characters; put a backslash before [, { or \`)
	f("{origin: app, match: {methods: [get]}}", `f:3:33: sites[0].routes[0].match.methods[0]: methods are case-sensitive, and "get" is never sent; write GET`)
	f("{origin: app, priority: 8}", `f:3:25: sites[0].routes[0].priority: 8 is too large; write 0 to 7`)
	f("{origin: app, match: {methods: ['G ET']}}", `f:3:33: sites[0].routes[0].match.methods[0]: "G ET" is not a method; write a method such as GET`)
	f("{origin: app, cache: off}")
	f("{origin: app, cache: true}")
	f("{origin: app, cache: maybe}", "f:3:22: sites[0].routes[0].cache: this wants keys of its own, not a value; write them below it; keys are off, ttl, "+
		"force_ttl, negative_ttl, stale_while_revalidate, stale_if_error, slice, key, bypass, compress")
	f("{origin: app, cache: {ttl: 60}}", "f:3:28: sites[0].routes[0].cache.ttl: 60 has no unit; write 60s; units are ms, s, m, h or d")
	f("{origin: app, cache: {negative_ttl: {404: 10s, 5xx: 1s, 200: 1s, 429: 1s, 4x: 1s, 600: 1s}}}",
		`f:3:57: sites[0].routes[0].cache.negative_ttl.200: "200" is not the status of an error; write a status such as 404, or all of them as 4xx or 5xx`,
		`f:3:66: sites[0].routes[0].cache.negative_ttl.429: 429 is about who asks, and not shared; write a status such as 404, or all of them as 4xx or 5xx`,
		`f:3:75: sites[0].routes[0].cache.negative_ttl.4x: "4x" is not the status of an error; write a status such as 404, or all of them as 4xx or 5xx`,
		`f:3:83: sites[0].routes[0].cache.negative_ttl.600: "600" is not the status of an error; write a status such as 404, or all of them as 4xx or 5xx`)
	f("{origin: app, cache: {key: {query: some}}}", `f:3:36: sites[0].routes[0].cache.key.query: "some" is not one of all, none; did you mean none?`)
	f("{origin: app, cache: {key: {query: none, sort_query: true}}}",
		"f:3:36: sites[0].routes[0].cache.key.query: none leaves nothing to ignore_query, only_query and sort_query; remove them, or write all")
	f("{origin: app, cache: {key: {ignore_query: [a], only_query: [b]}}}",
		"f:3:29: sites[0].routes[0].cache.key.ignore_query: only_query says already which parameters count; keep one of the two")
	f("{origin: app, cache: {key: {ignore_query: ['a[]', utm_*, '*', 'a*b']}}}",
		`f:3:44: sites[0].routes[0].cache.key.ignore_query[0]: "a[]" is not a name of parameters that all servers read alike; `+
			"use letters, digits, - and _, such as utm_source; a star at the end stands for any characters",
		`f:3:63: sites[0].routes[0].cache.key.ignore_query[3]: "a*b" is not a name of parameters that all servers read alike; `+
			"use letters, digits, - and _, such as utm_source; a star at the end stands for any characters")
	f("{origin: app, cache: {key: {headers: [X-Tenant, cookie, X-Forwarded-Host, 'a b']}}}",
		`f:3:75: sites[0].routes[0].cache.key.headers[3]: "a b" is not the name of a header field; write a name such as X-Priority`)
	f("{origin: app, cache: {key: {headers: [X-Tenant, cookie, X-Forwarded-Host, authorization, host]}}}",
		"f:3:49: sites[0].routes[0].cache.key.headers[1]: Cookie is a visitor's own; name those that matter in key.cookies",
		"f:3:57: sites[0].routes[0].cache.key.headers[2]: the node writes X-Forwarded-Host itself, so that the origin sees another value; remove it",
		"f:3:75: sites[0].routes[0].cache.key.headers[3]: Authorization is a visitor's own; remove it",
		"f:3:90: sites[0].routes[0].cache.key.headers[4]: Host is part of every key; remove it")
	f("{origin: app, cache: {key: {cookies: [tier, ab_*]}, bypass: {cookies: [wp_*, 'a b']}}}",
		`f:3:45: sites[0].routes[0].cache.key.cookies[1]: "ab_*" stands for many cookies, and a key has the values of single ones; name each`,
		`f:3:78: sites[0].routes[0].cache.bypass.cookies[1]: "a b" is not the name of a cookie; write a name such as session`)
	f("{origin: app, overflow: {to: [b]}}", `f:3:31: sites[0].routes[0].overflow.to[0]: functions has no entry "b"; add b under functions, which has a`)
	f("{origin: app, overflow: {}}", "f:3:15: sites[0].routes[0].overflow.to: this key is missing; add to: [FUNCTION]")
	f("{origin: app, overflow: {to: [a, a]}}", `f:3:34: sites[0].routes[0].overflow.to[1]: "a" stands twice; remove one`)
	f("{origin: app, overflow: {to: [a], exercise_fields: [Etag, 'Content Type']}}",
		`f:3:59: sites[0].routes[0].overflow.exercise_fields[1]: "Content Type" is not the name of a header field; write a name such as Content-Type`)
	f("{origin: app, overflow: {to: [a], overflow_at: 120%}}", "f:3:48: sites[0].routes[0].overflow.overflow_at: 120% is too large; write 1% to 100%")

	unreachable := func(first, second string, want bool) {
		t.Helper()
		wants := []string{"f:4:1: sites[0].routes[1]: no request gets here: sites[0].routes[0] matches " + path(first) + " first; move it up"}
		if !want {
			wants = nil
		}
		f("{origin: app, match: "+first+"},\n{origin: app, match: "+second+"}", wants...)
	}
	unreachable("{path: /*}", "{path: /a}", true)
	unreachable("{path: '*'}", "{path: /a}", true)
	unreachable("{path: /a}", "{path: /*}", false)
	unreachable("{path: /a/*}", "{path: /a/b/*}", true)
	unreachable("{path: /a/*}", "{path: /b/*}", false)
	unreachable("{path: /a/*/c}", "{path: /a/b/c}", false) // not seen, and never wrong
	unreachable("{path: /a/*/c}", "{path: /a/*/c}", true)
	unreachable("{path: /*, methods: [GET]}", "{path: /a}", false)
	unreachable("{path: /*, methods: [GET]}", "{path: /a, methods: [GET]}", true)
	unreachable("{path: /*, methods: [GET]}", "{path: /a, methods: [GET, POST]}", false)
	unreachable("{path: '/[ab]*'}", "{path: '/[ab]c'}", false)
}

func path(match string) string {
	_, after, _ := strings.Cut(match, "path: ")
	return strings.Trim(strings.TrimRight(strings.SplitN(after, ",", 2)[0], "}"), "'")
}

func TestProblemsAcrossSettings(t *testing.T) {
	f := func(part string, want ...string) {
		t.Helper()
		_, err := Parse("f", []byte(whole(part)), nil)
		if got := messages(t, err); got != strings.Join(want, "\n") {
			t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
		}
	}
	f("tls: {}", "f:1:1: tls: there is no certificate; set cert and key, or self_signed: true for tests")
	f("tls: {self_signed: true, cert: load.go, key: load.go}", "f:1:20: tls.self_signed: a certificate is given as well; keep one of the two")
	f("tls: {cert: load.go}", "f:1:13: tls.cert: its key is missing; set tls.key")
	f("tls: {key: load.go}", "f:1:12: tls.key: its certificate is missing; set tls.cert")
	f("tls: {cert: load.go, key: load.go}", "f:1:13: tls.cert: there is no certificate in load.go; name a PEM file that holds -----BEGIN CERTIFICATE-----")
	f("tls: {self_signed: true, secret: hunter2}", "f:1:34: tls.secret: this is neither env:NAME nor file:PATH; a secret does not stand in the configuration: write file:/etc/spillway/secrets/NAME")
	f("tls: {self_signed: true, ech: {keys: /x.pem}}", "f:1:38: tls.ech.keys: the name that is readable instead is missing; set tls.ech.public_name")
	f("tls: {self_signed: true, ech: {public_name: 'a b'}}", `f:1:45: tls.ech.public_name: "a b" is not a host name; write a name that the node has a certificate for, such as cover.example.com`)
	f("state: /dev/null/spillway", "f:1:8: state: this cannot be a folder: /dev/null is a file; name another, such as /var/lib/spillway")
	f("state: /nowhere/spillway")
	f("admission: {pin: bpf}", `f:1:18: admission.pin: "bpf" is not an absolute path; write /sys/fs/bpf/spillway`)
	f("admission: {pin: /proc/spillway}",
		"f:1:18: admission.pin: /proc is on no BPF file system; mount -t bpf bpf /sys/fs/bpf, and name a folder there")
	f("listen: ''", "f:1:9: listen: this must not be empty; write :443")
	f("listen: ':443'\nhttp: '127.0.0.1:443'", "f:2:7: http: port 443 is taken by listen; write another port, or off")
	f("listen: '127.0.0.1:0'\nhttp: '127.0.0.1:0'")
	f("http: off")
	f("cache: {memory: 1MiB}", "f:1:1: cache.max_object: this is more than cache.memory, so it would never be stored; lower it, or raise cache.memory")
	f("cache: {memory: 0}")
	f("origins: {app: {servers: ['http://a'], limit: {min: 9, max: 3}}}", "f:1:53: origins.app.limit.min: 9 is more than max, 3; lower it, or raise max")
	f("admission: {allow: [10.0.0.0/8, 203.0.113.7], deny: [203.0.113.7/32]}",
		"f:1:54: admission.deny[0]: 203.0.113.7/32 stands in admission.allow[1] as well; remove one")
	f("admission: {deny: [10.0.0.0/8, '::ffff:10.0.0.0/104']}",
		"f:1:32: admission.deny[1]: ::ffff:10.0.0.0/104 stands in admission.deny[0] as well; remove one")
	f("admission: {allow: [10.0.0.1/8]}", "f:1:21: admission.allow[0]: 10.0.0.1/8 has bits set behind its length; write 10.0.0.0/8")
	f("origins: {app: {servers: ['http://a', 'http://a']}}", "f:1:39: origins.app.servers[1]: this server stands twice; first as number 1; remove one")
	twice := func(one, other string, want bool) {
		t.Helper()
		part := "origins: {app: {servers: ['" + one + "',\n'" + other + "']}}"
		if want {
			f(part, "f:2:1: origins.app.servers[1]: this server stands twice; first as number 1; remove one")
		} else {
			f(part)
		}
	}
	twice("http://a", "http://a/", true)
	twice("http://a", "http://A:80", true)
	twice("https://a:443", "HTTPS://a", true)
	twice("h2c://a", "h2c://a:80", true)
	twice("http://[::1]:8080", "http://[0:0::1]:8080", true)
	twice("unix:/x", "unix:///x", true)
	twice("unix:/x/y", "unix:/x/./y", true)
	twice("http://a", "https://a", false)
	twice("http://a", "http://a:8080", false)
	twice("unix:/x", "unix:/X", false)
	f("origins: {app: {servers: ['http://a'], read_ahead: {total: 64KiB}}}", "f:1:40: origins.app.read_ahead.per_response: this is more than the total of all responses; lower it, or raise total")
	f("origins: {app: {servers: ['http://a'], scale_out: {webhook: 'http://10.0.0.1/s'}}}",
		"f:1:61: origins.app.scale_out.webhook: this does not begin with https://, and http:// is for this machine, such as 127.0.0.1; "+
			"write https://scale.example.com/spillway")
	f("origins: {app: {servers: ['http://a'], scale_out: {secret: hunter2}}}",
		"f:1:60: origins.app.scale_out.secret: this is neither env:NAME nor file:PATH, and a secret does not stand in the configuration; "+
			"make one with openssl rand -hex 32, and write file:/etc/spillway/secrets/scale")
	f("budgets: {b: {per_client: 5%}}", "f:1:11: budgets.b: this budget bounds nothing; set per_hour, per_day or per_month, such as per_day: $20")
	f("sites: [{hosts: [a, A], routes: [{origin: app}]}]", `f:1:21: sites[0].hosts[1]: "A" has capitals; hosts are compared in small letters; write a`)
	f("sites: [{hosts: [a, 'a:443'], routes: [{origin: app}]}]", `f:1:21: sites[0].hosts[1]: "a:443" is not a host name; write a name, *.name, or default; without port`)
	f("sites: [{hosts: [a], routes: [{origin: app}]}, {hosts: [a], routes: [{origin: app}]}]", `f:1:57: sites[1].hosts[0]: "a" is answered by sites[0] already; remove one`)
	f("sites: [{hosts: [default, '*.a.example', 10.0.0.1, '::1', '[::1]'], routes: [{origin: app}]}]")
}

func TestProblemShowsTheLine(t *testing.T) {
	_, err := Parse("dir/f.yaml", []byte(whole("http: off\ncache:\n  memory: 512 # too short")), nil)
	want := `dir/f.yaml:3:11: cache.memory: 512 has no unit; write 512MiB; units are B, KiB, MiB, GiB, TiB, kB, MB, GB or TB
  3 |   memory: 512 # too short
    |           ^`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestExcerptIsSafeAndShort(t *testing.T) {
	r := newReport("f", []byte(strings.Repeat("x", 300)+"\x1b[31m"))
	excerpt := r.excerpt(place{line: 1, column: 301})
	if strings.Contains(excerpt, "\x1b") || len(excerpt) > 2*(excerptWidth+10) {
		t.Errorf("excerpt %q", excerpt)
	}
	line, caret, _ := strings.Cut(excerpt, "\n")
	if line[strings.Index(caret, "^")] != '?' {
		t.Errorf("the caret points elsewhere:\n%s", excerpt)
	}
}

func TestExcerptHidesSecrets(t *testing.T) {
	f := func(text, canary string) {
		t.Helper()
		_, err := Parse("f", []byte(text), nil)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%v", err)
		}
	}
	f(whole("tls: {unknown: 1, secret: hunter2, self_signed: maybe}"), "hunter2")
	f(whole("tls:\n  secret: hunter2"), "hunter2")
	f(whole("origins: {app: {servers: ['http://a'], scale_out: {secret: hunter2}}}"), "hunter2")
	f(whole("functions: {a: {provider: web, url: 'https://a.example', memory: 1, headers: {X-Key: hunter2}, timeout: soon}}"), "hunter2")
}

func TestAllProblemsAreReported(t *testing.T) {
	_, err := Parse("f", []byte("tls: {selfsigned: true}\ncache: {memory: 1}\norigins: {app: {}}\nsites: [{}]\nhttp: 1"), []string{"SPILLWAY_EXPOSE=x"})
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != 7 {
		t.Errorf("%d problems:\n%v", len(problems), err)
	}
}

func TestDefaults(t *testing.T) {
	c, err := Parse("f", []byte(whole("")), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	f("listen", c.Edge.Listen, ":443")
	f("cache.memory", c.Cache.Memory, int64(512<<20))
	f("timeouts.header", c.Edge.Timeouts.Header, 10*time.Second)
	f("http3.gso", c.Edge.HTTP3.GSO, true)
	app := c.Origins["app"]
	f("limit.max", app.Limit.Max, 10_000)
	f("queue.length", app.Queue.Length, 0.5)
	f("queue.wait", app.Queue.Wait, time.Duration(0))
	route := c.Sites[0].Routes[0]
	f("match.path", route.Match.Path, "/*")
	f("cache", route.Cache, cache.PolicyConfig{Slice: 1 << 20, Key: cache.KeyConfig{Query: "all"}})
	if route.Overflow != nil {
		t.Error("a route without overflow has one")
	}
}

func TestValues(t *testing.T) {
	c, err := Parse("f", []byte(whole(`
http: off
budgets: {b: {per_hour: $0.5, per_client: 5%}}
functions:
  p: &p {provider: process, function: thumb, memory: 128MiB, price: {per_gb_second: $0.0000166667}}
  q: {<<: *p, memory: 1GiB}
  w: {provider: web, url: https://a.example/f, headers: {X-Key: secret, X.Other: b}}
origins:
  app: {servers: ["http://10.0.0.5:8080"], limit: {max: 200}, health: {path: /healthz}}
  auto: {servers: ["http://10.0.0.6"], limit: auto}
sites:
- hosts: [a.example]
  routes:
  - {origin: app, match: {path: /x/*, methods: [GET]}, overflow: {to: [p, w], overflow_at: 80%}, stale_on_overload: 1d}
  - {origin: app, match: {path: /y/*}, cache: off}
  - {origin: app, match: {path: /z/*}, cache: {ttl: 1m, negative_ttl: {404: 10s, 5xx: 1s}, key: {ignore_query: [utm_*], device: true}}}
`)), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	f("per_hour", c.Budgets["b"].PerHour, 0.5)
	f("per_client", c.Budgets["b"].PerClient, 0.05)
	f("memory", c.Functions["p"].Memory, int64(128<<20))
	f("function", c.Functions["p"].Process.Function, "thumb")
	f("socket", c.Functions["p"].Process.Socket, process.DefaultSocket)
	f("per_gb_second", *c.Functions["p"].Price.PerGBSecond, 0.0000166667)
	if c.Functions["p"].Price.PerGBOut != nil {
		t.Error("the price that is auto is set")
	}
	f("merged function", c.Functions["q"].Process.Function, "thumb")
	f("merged memory", c.Functions["q"].Memory, int64(1<<30))
	f("url", c.Functions["w"].Web.URL, "https://a.example/f")
	f("headers", c.Functions["w"].Web.Headers, map[string]string{"X-Key": "secret", "X.Other": "b"})
	f("limit", c.Origins["app"].Limit.Max, 200)
	f("limit auto", c.Origins["auto"].Limit, c.Origins["auto"].Limit)
	f("min of a partly given limit", c.Origins["app"].Limit.Min, 1)
	o := c.Sites[0].Routes[0].Overflow
	f("to", o.To, []string{"p", "w"})
	f("overflow_at", o.At, 0.8)
	f("methods", o.Methods, []string{"GET", "HEAD"})
	f("stale_on_overload", c.Sites[0].Routes[0].StaleOnOverload, 24*time.Hour)
	f("cache that is off", c.Sites[0].Routes[1].Cache, cache.PolicyConfig{Off: true, Slice: 1 << 20, Key: cache.KeyConfig{Query: "all"}})
	f("cache", c.Sites[0].Routes[2].Cache, cache.PolicyConfig{
		TTL: time.Minute, NegativeTTL: map[string]time.Duration{"404": 10 * time.Second, "5xx": time.Second},
		Slice: 1 << 20, Key: cache.KeyConfig{Query: "all", IgnoreQuery: []string{"utm_*"}, Device: true},
	})
}

func TestAliasesCannotBlowUp(t *testing.T) {
	var b strings.Builder
	b.WriteString("trusted_proxies: &a0 [10.0.0.1]\n")
	for i := 1; i < 12; i++ {
		prev := "*a" + string(rune('0'+(i-1)%10))
		b.WriteString("x" + string(rune('a'+i)) + ": &a" + string(rune('0'+i%10)) + " [" + strings.Repeat(prev+", ", 30) + "]\n")
	}
	_, err := Parse("f", []byte(whole(b.String())), nil)
	if err == nil || !strings.Contains(err.Error(), "the aliases up to here stand for too many values") {
		t.Error("a bomb of aliases was resolved")
	}
}

func TestProblemsOfSecretsAndKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := func(settings, want string) {
		t.Helper()
		_, err := Parse("f", []byte(whole("tls:\n  self_signed: true\n  "+settings)), nil)
		if got := strings.ReplaceAll(messages(t, err), dir, "DIR"); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s\ngot:  %s\nwant: %s", settings, got, want)
		}
	}
	f("secret: file:"+file("short", 0o600, "hunter2\n"), "f:3:11: tls.secret: the secret has 7 bytes, fewer than 32; ")
	f("secret: file:"+file("long", 0o600, strings.Repeat("s", 32)), "")
	f("secret: file:"+file("shared", 0o640, strings.Repeat("s", 32)), "")
	f("secret: file:"+file("public", 0o644, strings.Repeat("s", 32)), "f:3:11: tls.secret: the secret has mode 0644, ")

	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, data []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}))
	}
	pair := block("PRIVATE KEY", der) + block("ECHCONFIG", []byte("list"))
	ech := func(path, want string) {
		t.Helper()
		f("ech: {public_name: img.example.com,\nkeys: "+path+"}", want)
	}
	const broken = "f:4:7: tls.ech.keys: there are no pairs of PRIVATE KEY and ECHCONFIG in "
	ech(file("good", 0o600, pair+pair), "")
	ech(dir+"/new", "")
	ech(dir+"/none/new", "f:4:7: tls.ech.keys: there is no folder DIR/none; make it, and let the node write there")
	ech(dir, "f:4:7: tls.ech.keys: DIR is a folder or a device; name a file")
	ech(file("open", 0o640, pair), "f:4:7: tls.ech.keys: others may have read the keys: the mode is 0640; delete the file, or chmod 0600 it if nobody has")
	ech(file("empty", 0o600, ""), broken)
	ech(file("half", 0o600, pair+block("PRIVATE KEY", der)), broken)
	ech(file("certificate", 0o600, block("CERTIFICATE", der)+block("PRIVATE KEY", der)), broken)
	ech(file("damaged", 0o600, block("PRIVATE KEY", der[1:])+block("ECHCONFIG", []byte("list"))), broken)
}

func TestCertificateIsFoundBesideTheFile(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "cert", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	file := filepath.Join(dir, "spillway.yaml")
	if err := os.WriteFile(file, []byte(whole("tls: {cert: cert.pem, key: cert.key}")), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "cert.pem"); c.Edge.TLS.Cert != want {
		t.Errorf("cert is %s, want %s", c.Edge.TLS.Cert, want)
	}
	writePair(t, dir, "cert", time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC))
	_, err = Load(file, nil)
	if got, want := messages(t, err), file+":1:13: tls.cert: the certificate expired on 2020-01-02; renew it"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// writePair makes NAME.pem and NAME.key in the folder, valid for
// img.example.com.
func writePair(t *testing.T, dir, name string, from, until time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return writePairOf(t, key, dir, name, from, until)
}

func writePairOf(t *testing.T, key crypto.Signer, dir, name string, from, until time.Time) (certFile, keyFile string) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until, DNSNames: []string{"img.example.com"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert},
		keyFile:  {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func TestWaitingRooms(t *testing.T) {
	c, err := Parse("f", []byte(whole("sites: [{hosts: [a.example], routes: [{origin: app, waiting: {}}]}]")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Sites[0].Routes[0].Waiting; w == nil || w.Pass != waiting.DefaultPass || w.Page != "" {
		t.Errorf("%+v", w)
	}
	page := filepath.Join(t.TempDir(), "wait.html")
	if err := os.WriteFile(page, []byte("<p>\n{{.Nobody}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Parse("f", []byte(whole("sites: [{hosts: [a.example], routes: [{origin: app, waiting: {page: '"+page+"'}}]}]")), nil)
	if got := messages(t, err); !strings.Contains(got, "sites[0].routes[0].waiting.page: "+page+":2:") {
		t.Errorf("got %s", got)
	}
}

// A folder of a BPF file system passes, there or not.
func TestPinFolder(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mount("bpf", root, "bpf", 0, ""); err != nil {
		t.Skipf("a BPF file system of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	for _, folder := range []string{"", root, root + "/spillway", root + "/a/../b/c"} {
		r := newReport("f", nil)
		if validatePin(folder, r); len(r.problems) > 0 {
			t.Errorf("%s: %v", folder, r.problems)
		}
	}
}
