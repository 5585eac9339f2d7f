package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"spillway/edge/admin"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"spillway": main, "halfway": halfway, "orphan": orphan})
}

// TestScripts runs the program as an operator does. Each script finds an origin
// at $ORIGIN, which answers with the path. What lies under /tagged/ may be stored.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/tagged/") {
					w.Header().Set("Cache-Control", "max-age=3600")
					w.Header().Set("Surrogate-Key", "all "+r.URL.Path)
					w.Header().Set("Cache-Groups", `"pages"`)
				}
				fmt.Fprintf(w, "origin serves %s\n", r.URL.Path)
			}))
			e.Defer(origin.Close)
			e.Defer(func() { killNode(filepath.Join(e.WorkDir, "admin.sock")) })
			e.Setenv("ORIGIN", origin.URL)
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "kernel" {
				return mayJudge(), nil
			}
			return false, fmt.Errorf("there is no condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"subst": subst, "ready": ready, "get": get, "await": await, "signal": sendSignal, "end": end,
		},
	})
}

// mayJudge reports whether this process may make a network and judge packets in it.
func mayJudge() bool {
	status, _ := os.ReadFile("/proc/self/status")
	_, effective, _ := strings.Cut(string(status), "CapEff:\t")
	effective, _, _ = strings.Cut(effective, "\n")
	has, err := strconv.ParseUint(effective, 16, 64)
	for _, capability := range []int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN} {
		if has>>capability&1 == 0 {
			return false
		}
	}
	_, noIP := exec.LookPath("ip")
	_, noUnshare := exec.LookPath("unshare")
	return err == nil && noIP == nil && noUnshare == nil
}

// killNode kills the process that serves, if one does at the end of a script. After an
// upgrade the script has not started it, but would wait for it without end: it has the
// output of the one that was started.
func killNode(socket string) {
	var state nodeState
	if err := admin.NewClient("unix:"+socket).Status(context.Background(), &state); err == nil && state.PID != 0 {
		_ = syscall.Kill(state.PID, syscall.SIGKILL) // it may be ending
	}
}

// subst FILE... puts the environment into files.
func subst(ts *testscript.TestScript, _ bool, files []string) {
	for _, file := range files {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// ready SOCKET waits until the node is ready.
func ready(ts *testscript.TestScript, _ bool, args []string) {
	client := admin.NewClient("unix:" + ts.MkAbs(args[0]))
	for range 6000 {
		if _, err := client.Get(context.Background(), "/readyz"); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("the node is not ready")
}

// get SOCKET PATH [ID] prints what the node answers to a visitor of img.example.com,
// whose request has that ID.
func get(ts *testscript.TestScript, _ bool, args []string) {
	var state nodeState
	ts.Check(admin.NewClient("unix:"+ts.MkAbs(args[0])).Status(context.Background(), &state))
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "img.example.com"},
	}}
	// Listeners read as https://127.0.0.1:8443 or as 127.0.0.1:8443 (h1, h2, h3).
	address := strings.Fields(strings.TrimPrefix(state.Listeners[0], "https://"))[0]
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+address+args[1], nil)
	ts.Check(err)
	req.Host = "img.example.com"
	if len(args) > 2 {
		req.Header.Set("X-Request-Id", args[2])
	}
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d %s\n", resp.StatusCode, body)
}

// await SOCKET REGEXP waits until the node's status matches.
func await(ts *testscript.TestScript, _ bool, args []string) {
	client := admin.NewClient("unix:" + ts.MkAbs(args[0]))
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	for range 6000 {
		body, err := client.Get(context.Background(), "/status")
		ts.Check(err)
		if want.Match(body) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("the status does not match %s", args[1])
}

// sendSignal sends HUP, TERM or KILL to the programs in the background.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	s := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[0]]
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(s))
	}
}

// end SOCKET ends the process that serves, which the script need not have started.
func end(ts *testscript.TestScript, _ bool, args []string) {
	var state nodeState
	client := admin.NewClient("unix:" + ts.MkAbs(args[0]))
	ts.Check(client.Status(context.Background(), &state))
	ts.Check(syscall.Kill(state.PID, syscall.SIGTERM))
	for range 6000 {
		if _, err := client.Get(context.Background(), "/healthz"); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("the node does not end")
}
