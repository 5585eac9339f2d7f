package peers

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLanes(t *testing.T) {
	f := func(o options, name, file string, env ...string) {
		t.Helper()
		all, err := o.contestants()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(c *contender) bool { return c.Name == name })
		if i < 0 || !all[i].ours || all[i].program != file || !slices.Equal(all[i].env, env) {
			t.Errorf("%+v has no lane %q with %q", o, name, env)
		}
	}
	f(options{}, spillway, "")
	f(options{}, noLog, "", "SPILLWAY_LOG__ACCESS=off")
	f(options{settings: []string{"cache.memory=1GiB"}}, noLog, "", "SPILLWAY_CACHE__MEMORY=1GiB", "SPILLWAY_LOG__ACCESS=off")
	f(options{lanes: []string{"slow:http3.gso=false,http3.ecn=false"}}, "slow", "", "SPILLWAY_HTTP3__GSO=false", "SPILLWAY_HTTP3__ECN=false")
	f(options{lanes: []string{"old:program=/tmp/spillway"}}, "old", "/tmp/spillway")
	f(options{lanes: []string{"old:program=/tmp/spillway,http3.gso=false"}}, "old", "/tmp/spillway", "SPILLWAY_HTTP3__GSO=false")
	for _, bad := range []options{{lanes: []string{"slow"}}, {lanes: []string{":a=b"}}, {settings: []string{"slow"}}, {settings: []string{"=b"}}} {
		if _, err := bad.contestants(); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestOptions(t *testing.T) {
	good := options{parts: trialNames(), rounds: 1, each: time.Second}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	f := func(change func(*options)) {
		t.Helper()
		bad := good
		if change(&bad); bad.check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	f(func(o *options) { o.parts = []string{"m11"} })
	f(func(o *options) { o.rounds = 0 })
	f(func(o *options) { o.each = 1 })
	f(func(o *options) { o.contenders = []string{"Apache"} })
}

// Without what scripts/setup peers brings, those who need it are named, and surge is
// the client.
func TestWithoutTools(t *testing.T) {
	b, err := newBed(t.Context(), options{tools: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if b.client != clientSurge || b.noH2load == "" {
		t.Errorf("the client is %s: %q", b.client, b.noH2load)
	}
	for _, c := range b.all {
		if missing := !c.ours && c.Name != bare; missing && !strings.Contains(c.Missing, "scripts/setup peers") {
			t.Errorf("%s: %q", c.Name, c.Missing)
		}
	}
	if _, err := b.command(clientH2load, trials[0].work, "127.0.0.1:1"); !errors.As(err, new(*lackError)) {
		t.Errorf("an h2load that is not there: %v", err)
	}
}

// A root is known by its loader, and its programs are started by that.
func TestRoot(t *testing.T) {
	folder := t.TempDir()
	if _, err := openRoot(folder); err == nil {
		t.Error("a folder with nothing in it is a system")
	}
	for _, file := range []string{"usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/sbin/nginx"} {
		file = filepath.Join(folder, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := openRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	path, args, err := r.find("nginx")
	if err != nil || filepath.Base(path) != "ld-linux-x86-64.so.2" || args[len(args)-1] != filepath.Join(folder, "usr/sbin/nginx") {
		t.Errorf("nginx is started by %s %q, %v", path, args, err)
	}
	if _, _, err := r.find("haproxy"); err == nil {
		t.Error("a program that is not there is found")
	}
}

// Every contender is told where to listen, where its certificate is and where the origin.
func TestConfigurations(t *testing.T) {
	const address, certificate, origin = "127.0.0.1:9000", "/dir/both.pem", "127.0.0.1:9001"
	f := func(text string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%q is missing in\n%s", w, text)
			}
		}
	}
	f(nginxConfig("/dir", address, certificate, origin, "nobody"), "listen 127.0.0.1:9000 quic", "listen 127.0.0.1:9000 ssl", "user nobody;",
		"ssl_certificate "+certificate, "proxy_pass http://127.0.0.1:9001", "worker_processes 1;", "access_log /dir/access.log")
	f(haproxyConfig(address, certificate, origin), "bind quic4@127.0.0.1:9000", "bind 127.0.0.1:9000", "crt "+certificate, "server app 127.0.0.1:9001", "nbthread 1")
	f(caddyConfig("/dir", address, certificate), "https://localhost:9000", "bind 127.0.0.1", "tls "+certificate, "root * /dir")
}
