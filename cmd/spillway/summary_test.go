package main

import (
	"strings"
	"testing"

	"spillway/config"
)

func TestSummary(t *testing.T) {
	f := func(file, want string) {
		t.Helper()
		c, err := config.Parse("/etc/spillway.yaml", []byte(file), nil)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		summarize(&b, c, "/etc/spillway.yaml")
		want = strings.Replace(want, "HASH", c.Hash(), 1)
		if got := b.String(); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
	f(`
http3: {enabled: false}
http: off
tls: {self_signed: true}
admission: {enforce: false}
cache: {memory: 0}
origins: {app: {servers: ["http://10.0.0.5:8080"]}}
sites: [{hosts: [a.example], routes: [{origin: app}]}]
`, `  listen     :443 (h1, h2), http off
  tls        self-signed for a.example
  admission  in the kernel where that can be, counts only
  origins    app (1 server, limit found within 1 to 10000)
  functions  none
  budgets    none
  cache      stores nothing
  sites      1 site with 1 route, 0 may spill
  admin      unix:/run/spillway/admin.sock
  config     /etc/spillway.yaml, hash HASH, 0 warnings
`)
	f(`
tls: {self_signed: true}
origins:
  app: {servers: ["http://10.0.0.5:8080", "http://10.0.0.6:8080"], limit: {min: 2, max: 50}}
  old: {servers: ["http://10.0.0.7:8080"]}
budgets: {spill: {per_hour: $2, per_day: $20, per_client: 5%}}
functions:
  near: {provider: process, function: thumb, socket: /does/not/exist.sock}
  far: {provider: web, url: https://functions.example.com/, budget: spill, price: {platform: google-cloud-run}}
sites:
- hosts: [a.example, "*.b.example"]
  routes:
  - {match: {path: /thumb/*}, origin: app, overflow: {to: [near, far]}}
  - {origin: app}
- hosts: [default]
  routes: [{origin: app}]
`, `  listen     :443 (h1, h2, h3), http :80
  tls        self-signed for a.example, *.b.example, default
  admission  in the kernel where that can be, enforced
  origins    app (2 servers, limit found within 2 to 50), old (1 server, limit found within 1 to 10000)
  functions  far (web, budget spill), near (process, no host at /does/not/exist.sock yet, no budget)
  budgets    spill ($2 an hour, $20 a day, then stale)
  cache      512 MiB, objects up to 8 MiB
  sites      2 sites with 3 routes, 1 may spill
  admin      unix:/run/spillway/admin.sock
  config     /etc/spillway.yaml, hash HASH, 1 warning
`)
}
