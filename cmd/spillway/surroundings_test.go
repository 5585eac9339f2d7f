package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/edge/admin"
)

// A harm is done to the surroundings of a node that runs, or before it does.
type harm struct {
	name   string
	change []string // of the configuration
	do     func(*testing.T, *place)
	// metric and log tell of it.
	metric, log string
}

var harms = []harm{
	{
		"access log on a full disk",
		[]string{"DIR/access.log", "/dev/full"},
		func(t *testing.T, p *place) { p.serves(t) },
		`spillway_access_log_lost_total [1-9]\d*`, "access log cannot be written",
	},
	{
		"configuration that is none", nil,
		func(t *testing.T, p *place) {
			was := p.status().Config.Hash
			p.put(t, "spillway.yaml", "origins: [\x00")
			if r := p.reload(); r.OK || r.Hash != was || len(p.status().Config.Refused.Problems) == 0 {
				t.Errorf("%+v", r)
			}
		},
		`spillway_reloads_total\{result="refused"\} 1`, "reload refused",
	},
	{
		"configuration that names an expired certificate", nil,
		func(t *testing.T, p *place) {
			p.certify(t, -time.Hour)
			if r := p.reload(); r.OK || !strings.Contains(r.Problems.Error(), "expired") {
				t.Errorf("%+v", r)
			}
		},
		`spillway_config_refused 1`, "reload refused",
	},
	{
		"certificate replaced by garbage", nil,
		func(t *testing.T, p *place) { p.put(t, "cert.pem", "half of a cer") },
		`spillway_certificates_refused_total 1`, "the old one stays",
	},
	{
		"certificate that expires", nil,
		func(t *testing.T, p *place) {
			for life := 2 * time.Second; ; life *= 2 { // a busy machine may need longer to read it
				p.certify(t, life)
				r := p.reload()
				if r.OK {
					break
				}
				if !strings.Contains(r.Problems.Error(), "expired") || life > time.Minute {
					t.Fatalf("%+v", r)
				}
			}
			p.await(t, "its end", func() bool { return strings.Contains(p.log.String(), "has expired") })
		},
		`spillway_certificate_expiry_timestamp_seconds 1\d{9}`, "TLS certificate in use has expired",
	},
}

func TestHarmAroundTheNode(t *testing.T) {
	for _, h := range harms {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, h.change...)
			p.start(t)
			p.serves(t)
			h.do(t, p)
			p.awaitMetric(t, h.metric)
			p.told(t, h.log)
			p.serves(t)
		})
	}
}

// TestHarmBeforeTheStart lists what a node does not start with, and what it says
// about it.
func TestHarmBeforeTheStart(t *testing.T) {
	f := func(name, want string, change ...string) func(do func(p *place)) {
		return func(do func(p *place)) {
			t.Run(name, func(t *testing.T) {
				p := prepare(t, change...)
				do(p)
				if err := p.build(); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %q", err, want)
				}
			})
		}
	}
	keys := func(text string) func(p *place) {
		return func(p *place) {
			if err := os.Mkdir(p.file("state"), 0o700); err != nil {
				t.Fatal(err)
			}
			p.put(t, "state/keys.json", text)
		}
	}
	f("a file in place of the state folder", "/state is a file; name another")(func(p *place) { p.put(t, "state", "") })
	f("a state folder that cannot be made", "name a folder in state", "state: DIR/state", "state: /proc/state")(func(*place) {})
	f("keys of another version", "version 2 is unknown, this program knows 1: delete the file")(keys(`{"version":2}`))
	f("keys cut off", "keys.json is damaged (unexpected EOF): delete it")(keys(`{"version":1,`))
	f("an access log in no folder", "there is no folder", "DIR/access.log", "DIR/none/access.log")(func(*place) {})
	f("an expired certificate", "the certificate expired on")(func(p *place) { p.certify(t, -time.Hour) })
	f("a certificate with another's key", "this key belongs to another certificate")(func(p *place) {
		was, err := os.ReadFile(p.file("key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		p.certify(t, time.Hour)
		p.put(t, "key.pem", string(was))
	})
}

// TestFunctionHostThatComesAndGoes replaces the host of functions while the node
// runs.
func TestFunctionHostThatComesAndGoes(t *testing.T) {
	p := prepare(t)
	p.start(t)
	f := func(status int, reason string) {
		t.Helper()
		got, header, body, err := visit(p.node, "/spill")
		if err != nil || got != status || !strings.Contains(header.Get("Spillway"), reason) {
			t.Errorf("got %d, %s, %q (%v), want %d, %s", got, header.Get("Spillway"), body, err, status, reason)
		}
	}
	f(503, "shed")
	for range 2 {
		l, err := net.Listen("unix", p.file("f.sock"))
		if err != nil {
			t.Fatal(err)
		}
		host := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, `{"statusCode":200,"body":"done"}`)
		})}
		go host.Serve(l)
		f(200, "function")
		f(200, "function")
		host.Close()
		f(503, "shed")
	}
	p.awaitMetric(t, `spillway_function_failures_total\{function="f",class="unavailable"\} [1-9]`)
	p.serves(t)
}

// TestReaderOfTheLogsThatEnds closes the pipe that the program writes both its
// logs into: visitors do not notice.
func TestReaderOfTheLogsThatEnds(t *testing.T) {
	p := prepare(t, "DIR/access.log", "stdout")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	program := exec.Command("spillway", "run", "--config", p.file("spillway.yaml"))
	program.Stdout, program.Stderr = writer, writer
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	defer program.Process.Kill()
	writer.Close()
	client := admin.NewClient("unix:" + p.file("a.sock"))
	var state nodeState
	p.await(t, "the node", func() bool { return client.Status(t.Context(), &state) == nil })
	reader.Close()
	for range 3 {
		if got := ask(t, dialTLS(t, state.Listeners[0]), "/good"); got.StatusCode != 200 {
			t.Errorf("got %d", got.StatusCode)
		}
	}
	lost := regexp.MustCompile(`(?m)^spillway_access_log_lost_total [1-9]`)
	p.await(t, "the loss", func() bool {
		metrics, err := client.Get(t.Context(), "/metrics")
		return err == nil && lost.Match(metrics)
	})
	if err := program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}
