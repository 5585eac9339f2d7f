package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

const envBase = `
tls: {self_signed: true}
origins: {main-app: {servers: ["http://10.0.0.5:8080"]}}
sites:
- hosts: [a.example]
  routes:
  - {origin: main-app}
`

func TestEnvironmentWins(t *testing.T) {
	f := func(variable string, value func(*Config) any, want any) {
		t.Helper()
		c, err := Parse("f", []byte(envBase), []string{"PATH=/bin", variable, "SPILLWAY_REQUIRE=1"})
		if err != nil {
			t.Errorf("%s: %v", variable, err)
			return
		}
		if got := value(c); !reflect.DeepEqual(got, want) {
			t.Errorf("%s gives %v, want %v", variable, got, want)
		}
	}
	f("SPILLWAY_CACHE__MEMORY=1GiB", func(c *Config) any { return c.Cache.Memory }, int64(1<<30))
	f("SPILLWAY_LISTEN=[::1]:8443", func(c *Config) any { return c.Edge.Listen }, "[::1]:8443")
	f("SPILLWAY_LOG__ACCESS=off", func(c *Config) any { return c.Edge.Log.Access }, "off")
	f("SPILLWAY_TIMEOUTS__IDLE=1m", func(c *Config) any { return c.Edge.Timeouts.Idle }, time.Minute)
	f("SPILLWAY_ORIGINS__MAIN_APP__SERVERS=http://b, http://c", func(c *Config) any { return c.Origins["main-app"].Servers }, []string{"http://b", "http://c"})
	f("SPILLWAY_ORIGINS__MAIN_APP__SERVERS=[http://b]", func(c *Config) any { return c.Origins["main-app"].Servers }, []string{"http://b"})
	f("SPILLWAY_ORIGINS__MAIN_APP__LIMIT__MAX=7", func(c *Config) any { return c.Origins["main-app"].Limit.Max }, 7)
	f("SPILLWAY_ORIGINS__MAIN_APP__LIMIT={min: 2, max: 7}", func(c *Config) any { return c.Origins["main-app"].Limit.Min }, 2)
	f("SPILLWAY_ORIGINS__MAIN_APP__LIMIT=auto", func(c *Config) any { return c.Origins["main-app"].Limit.Min }, 1)
	f("SPILLWAY_ORIGINS__SECOND__SERVERS=http://b", func(c *Config) any { return c.Origins["second"].Servers }, []string{"http://b"})
	f("SPILLWAY_SITES__0__HOSTS=b.example,c.example", func(c *Config) any { return c.Sites[0].Hosts }, []string{"b.example", "c.example"})
	f("SPILLWAY_SITES__0__ROUTES__0__MATCH__PATH=/x/*", func(c *Config) any { return c.Sites[0].Routes[0].Match.Path }, "/x/*")
	f("SPILLWAY_SITES=[{hosts: [d], routes: [{origin: main-app}]}]", func(c *Config) any { return c.Sites[0].Hosts }, []string{"d"})
	f("SPILLWAY_TRUSTED_PROXIES=", func(c *Config) any { return len(c.Edge.TrustedProxies) }, 0)
}

func TestProblemsOfTheEnvironment(t *testing.T) {
	f := func(want string, variables ...string) {
		t.Helper()
		_, err := Parse("f", []byte(envBase), variables)
		if got := messages(t, err); got != want {
			t.Errorf("%v\ngot:  %s\nwant: %s", variables, got, want)
		}
	}
	f("SPILLWAY_CACHE__MEMORY: cache.memory: 512 has no unit; write 512MiB; units are B, KiB, MiB, GiB, TiB, kB, MB, GB or TB",
		"SPILLWAY_CACHE__MEMORY=512")
	f("SPILLWAY_CACHE__MEMROY: cache.memroy: no setting has this name; did you mean SPILLWAY_CACHE__MEMORY?", "SPILLWAY_CACHE__MEMROY=1GiB")
	f("SPILLWAY_CACHE_MEMORY: cache_memory: no setting has this name; did you mean SPILLWAY_CACHE__MEMORY?", "SPILLWAY_CACHE_MEMORY=1GiB")
	f("SPILLWAY_ORIGINS__MAIN_APP__LIMITS: origins.main-app.limits: no setting has this name; did you mean SPILLWAY_ORIGINS__MAIN_APP__LIMIT?", "SPILLWAY_ORIGINS__MAIN_APP__LIMITS=auto")
	f("SPILLWAY_COLOR: color: no setting has this name; names are as SPILLWAY_CACHE__MEMORY, with two underscores between levels", "SPILLWAY_COLOR=red")
	f("SPILLWAY_LISTEN__PORT: listen: nothing stands below this setting; set SPILLWAY_LISTEN", "SPILLWAY_LISTEN__PORT=1")
	f(`SPILLWAY_SITES__1__HOSTS: sites: "1" is not the number of an entry; entries count from 0, and there are 1`, "SPILLWAY_SITES__1__HOSTS=a")
	f("SPILLWAY_CACHE: cache: this wants keys of its own, not a value; write them below it; keys are memory, max_object, share_cookies, collapse_waiters, collapse_wait, stale_wait, purge, disk", "SPILLWAY_CACHE=1GiB")
	f("SPILLWAY_CACHE: the [ before this has no end, or a comma is missing; part entries by commas, and close it with ]", "SPILLWAY_CACHE=[")
	f(`SPILLWAY_EXPOSE: expose: "" is not one of full, outcome, off; write full, outcome or off`, "SPILLWAY_EXPOSE=")
	f("SPILLWAY_FUNCTIONS__F__URL: functions.f.url: this key belongs to provider web, not to process; remove it",
		"SPILLWAY_FUNCTIONS__F__PROVIDER=process", "SPILLWAY_FUNCTIONS__F__FUNCTION=f", "SPILLWAY_FUNCTIONS__F__URL=http://a")
}

func TestEnvironmentOverridesWhatIsWrongInTheFile(t *testing.T) {
	file := strings.Replace(envBase, "self_signed: true", "self_signed: maybe", 1)
	if _, err := Parse("f", []byte(file), []string{"SPILLWAY_TLS__SELF_SIGNED=true"}); err != nil {
		t.Error(err)
	}
}
