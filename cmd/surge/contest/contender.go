package contest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"spillway/cmd/surge/contest/foreign"
	"spillway/cmd/surge/contest/load"
	"spillway/cmd/surge/contest/rival"
	"spillway/cmd/surge/program"
)

// A Contender stands between the crowd, the origin and the functions.
type Contender struct {
	Name     string
	About    string
	Protocol string
	start    func(*stage) (*edgeProcess, error)
}

// contenders returns all of the crowd group.
func contenders() []Contender {
	return []Contender{
		{"spillway", "Spillway, no number configured", load.H2, startSpillway("auto")},
		{"haproxy-right", "HAProxy with the right maxconn", load.H2, startHAProxy(1)},
		{"haproxy-high", "HAProxy with ten times the right maxconn", load.H2, startHAProxy(10)},
		{"haproxy-low", "HAProxy with a fifth of the right maxconn", load.H2, startHAProxy(.2)},
		{"none", "our listeners, no control", load.H2, startRival(rival.None)},
		{"failsafe", "our listeners, failsafe-go's adaptive limiter as it comes", load.H2, startRival(rival.Failsafe)},
		{"spandana", "our listeners, spilling what would miss a deadline of 1.5 times the unloaded p99", load.H2, startRival(rival.Spandana)},
		{"spillway-h3", "Spillway, visitors over HTTP/3", load.H3, startSpillway("auto")},
	}
}

// contender finds one by its name. A fixed limit is fixed-N.
func contender(name string) (Contender, error) {
	for _, c := range contenders() {
		if c.Name == name {
			return c, nil
		}
	}
	if number, ok := strings.CutPrefix(name, "fixed-"); ok {
		if n, err := strconv.Atoi(number); err == nil && n > 0 {
			return fixed(n), nil
		}
	}
	return Contender{}, fmt.Errorf("contender %q: there is none of that name", name)
}

// isSpillway reports whether a contender is Spillway, in whatever form.
func isSpillway(name string) bool {
	return strings.HasPrefix(name, "spillway") || strings.HasPrefix(name, "fixed-")
}

// fixed is Spillway with a limit that does not move.
func fixed(n int) Contender {
	return Contender{
		Name: fmt.Sprintf("fixed-%d", n), About: fmt.Sprintf("Spillway with a limit of %d", n), Protocol: load.H2,
		start: startSpillway(fmt.Sprintf("{min: %d, max: %d}", n, n)),
	}
}

// An edgeProcess is a contender that runs.
type edgeProcess struct {
	*program.Process
	address string
	admin   string // socket of Spillway's admin listener
	setting string // what was configured, for the report
}

func startSpillway(limit string) func(*stage) (*edgeProcess, error) {
	return func(s *stage) (*edgeProcess, error) {
		path, err := program.Path("spillway")
		if err != nil {
			return nil, err
		}
		file, err := s.write("spillway.yaml", s.spillwayConfig(limit))
		if err != nil {
			return nil, err
		}
		e := &edgeProcess{admin: filepath.Join(s.dir, "admin.sock"), setting: "limit " + limit}
		e.Process, err = program.Start(program.Spec{
			Name: "spillway", Path: path, Args: []string{"run", "--config", file}, Log: s.path("spillway.log"),
		})
		if err != nil {
			return nil, err
		}
		return e, e.says(s)
	}
}

// spillwayConfig leaves every number of the origin to the node. What it says of the
// functions is what the platform allows, and a budget that does not end, so that
// the ledger is kept.
func (s *stage) spillwayConfig(limit string) string {
	methods := "[GET, HEAD]"
	if s.plan.scenario.Uploads > 0 {
		methods = "[GET, HEAD, POST]"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `listen: "127.0.0.1:0"
http: "off"
admin: unix:%[1]s/admin.sock
state: %[1]s/state
log: {access: off}
tls: { cert: %[1]s/cert.pem, key: %[1]s/key.pem }
budgets:
  spill: { per_hour: $1000, per_day: $10000 }
origins:
  app: { servers: [%[2]q], limit: %[3]s }
functions:
  spill: { provider: web, url: %[4]q, max_concurrency: 1000, budget: spill, price: {platform: aws-lambda} }
sites:
  - hosts: [localhost]
    routes:
`, s.dir, s.originURL, limit, s.functionsURL)
	for _, c := range s.plan.scenario.Classes {
		fmt.Fprintf(&b, "      - { match: { path: %s/* }, origin: app, cache: false, overflow: { to: [spill], methods: %s } }\n", c.Path, methods)
	}
	return b.String()
}

// says waits for the line in which the process says where it listens.
func (e *edgeProcess) says(s *stage) error {
	return e.Await(s.ctx, func() (ok bool) {
		e.address, ok = program.Address(e.Output())
		return ok
	})
}

// startHAProxy runs HAProxy with a multiple of the right number.
func startHAProxy(times float64) func(*stage) (*edgeProcess, error) {
	return func(s *stage) (*edgeProcess, error) {
		path, err := exec.LookPath("haproxy")
		if err != nil {
			return nil, &foreign.MissingError{Program: "haproxy"}
		}
		maxconn := max(1, int(times*float64(s.plan.scenario.Right)))
		file, err := s.write("haproxy.cfg", s.haproxyConfig(maxconn))
		if err != nil {
			return nil, err
		}
		e := &edgeProcess{setting: fmt.Sprintf("maxconn %d", maxconn)}
		// HAProxy does not say which port it was given: it inherits an open one.
		listener, address, err := s.listen()
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		e.address = address
		e.Process, err = program.Start(program.Spec{
			Name: "haproxy", Path: path, Args: []string{"-db", "-f", file}, Log: s.path("haproxy.log"), Files: []*os.File{listener},
		})
		if err != nil {
			return nil, err
		}
		return e, nil
	}
}

// haproxyConfig is what an operator who knows HAProxy well and the right number
// writes: overflow as soon as no connection is free, and when the origin is down.
func (s *stage) haproxyConfig(maxconn int) string {
	return fmt.Sprintf(`global
    maxconn 4000
    ssl-server-verify none
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout queue 30s
    timeout http-request 10s
    http-reuse always
frontend crowd
    bind fd@3 ssl crt %s alpn h2,http/1.1
    use_backend functions if { be_conn_free(origin) le 0 }
    use_backend functions if { nbsrv(origin) lt 1 }
    default_backend origin
backend origin
    option httpchk GET /healthz
    server app %s maxconn %d check inter 1s fall 2 rise 1
backend functions
    server functions %s
`, s.path("both.pem"), hostOf(s.originURL), maxconn, hostOf(s.functionsURL))
}

func startRival(rule string) func(*stage) (*edgeProcess, error) {
	return func(s *stage) (*edgeProcess, error) {
		path, err := program.Path("surge")
		if err != nil {
			return nil, err
		}
		e := &edgeProcess{setting: "rule " + rule}
		args := []string{
			"contest", "edge", "--rule", rule, "--origin", s.originURL, "--functions", s.functionsURL,
			"--cert", s.path("cert.pem"), "--key", s.path("key.pem"),
		}
		if rule == rival.Spandana {
			deadline := time.Duration(1.5 * s.plan.unloaded() * float64(time.Second)).Round(time.Millisecond)
			args = append(args, "--deadline", deadline.String())
			e.setting = "deadline " + deadline.String()
		}
		e.Process, err = program.Start(program.Spec{Name: rule, Path: path, Args: args, Log: s.path("edge.log"), Env: []string{"GOGC=400"}})
		if err != nil {
			return nil, err
		}
		return e, e.says(s)
	}
}
