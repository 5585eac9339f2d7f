package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestChromium opens the page over each protocol. It never upgrades to HTTP/3 by
// Alt-Svc when the certificate is not of a public authority: it is told to use
// it. Its WebSockets take HTTP/2 (RFC 8441) where that is open already, and never
// HTTP/3.
func TestChromium(t *testing.T) {
	program := need(t, "chromium", "chromium")
	for _, c := range []struct{ proto, socket string }{{"http/1.1", "HTTP/1.1"}, {"h2", "HTTP/2.0"}, {"h3", "HTTP/1.1"}} {
		t.Run(c.proto, func(t *testing.T) {
			o := newOrigin(t)
			n := startNode(t, settings{server: o.URL})
			seen := visit(t, o, chromium(t, program, n, "/page", chromiumSpeaks[c.proto]...))
			checkPage(t, o, seen, c.proto)
			for _, line := range n.logged(t) {
				if line.Path == "/socket" && line.Proto != c.socket {
					t.Errorf("the WebSocket came over %s, not %s", line.Proto, c.socket)
				}
			}
		})
	}
}

// chromiumSpeaks are the arguments by which Chromium speaks a protocol.
var chromiumSpeaks = map[string][]string{
	"http/1.1": {"--disable-quic", "--disable-http2"},
	"h2":       {"--disable-quic"},
	"h3":       {"--origin-to-force-quic-on=localhost:PORT", "--host-resolver-rules=MAP localhost 127.0.0.1"},
}

// chromium opens a page of the node. PORT in an argument is the node's.
func chromium(t *testing.T, program string, n *node, page string, more ...string) *exec.Cmd {
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--user-data-dir=" + t.TempDir(),
		"--ignore-certificate-errors-spki-list=" + n.spki,
	}
	for _, arg := range more {
		args = append(args, strings.Replace(arg, "PORT", n.port, 1))
	}
	return exec.Command(program, append(args, n.url+page)...)
}

// TestFirefox opens the page over HTTP/3, which Firefox is told that the node
// speaks, as Chromium is.
func TestFirefox(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	seen := visit(t, o, firefox(t, n, "/page", true, noBackup))
	checkPage(t, o, seen, "h3")
}

// noBackup keeps Firefox from TCP, which it tries as well when a handshake over QUIC
// takes 100 ms: on a busy machine it may.
const noBackup = `user_pref("network.http.http3.backup_timer_delay", 60000);`

// firefox opens a page of the node, over HTTP/3 or else over HTTP/2.
func firefox(t *testing.T, n *node, page string, http3 bool, more ...string) *exec.Cmd {
	t.Helper()
	program, certutil := need(t, "firefox-esr", "firefox-esr"), need(t, "certutil", "libnss3-tools")
	profile := t.TempDir()
	for _, args := range [][]string{
		{"-N", "-d", "sql:" + profile, "--empty-password"},
		{"-A", "-d", "sql:" + profile, "-n", "ca", "-t", "C,,", "-i", n.ca},
	} {
		if out, err := exec.Command(certutil, args...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	prefs := fmt.Sprintf(`user_pref("network.http.http3.enable", %[1]t);
user_pref("network.http.http3.disable_when_third_party_roots_found", false);
user_pref("network.http.http3.alt-svc-mapping-for-testing", "localhost;h3=:%[2]s");
user_pref("network.http.http3.force-use-alt-svc-mapping-for-testing", %[1]t);
user_pref("network.dns.disableIPv6", true);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
`, http3, n.port) + strings.Join(more, "\n")
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--headless", "--no-remote", "--profile", profile, n.url+page)
	cmd.Env = append(os.Environ(), "HOME="+profile)
	return cmd
}

// browse runs a browser until quit is called, and returns what it says.
func browse(t *testing.T, cmd *exec.Cmd) (output *lockedBuffer, quit func()) {
	t.Helper()
	output = new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = output, output
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "DBUS_SESSION_BUS_ADDRESS=disabled:")
	// A browser is many processes, which end together as one group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return output, func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}
}

// visit runs a browser until its page has reported.
func visit(t *testing.T, o *origin, cmd *exec.Cmd) map[string]string {
	t.Helper()
	output, quit := browse(t, cmd)
	defer quit()
	return o.report(t, output)
}

// report waits for what a page reports.
func (o *origin) report(t *testing.T, output *lockedBuffer) map[string]string {
	t.Helper()
	select {
	case body := <-o.reports:
		seen := map[string]string{}
		if err := json.Unmarshal(body, &seen); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return seen
	case <-time.After(3 * time.Minute):
		t.Fatalf("the page never reported; the browser says:\n%s", output.String())
		return nil
	}
}

// checkPage compares what the page reported with what it was sent.
func checkPage(t *testing.T, o *origin, seen map[string]string, proto string) {
	t.Helper()
	want := map[string]string{
		"small": digest(pattern(1024)), "large": digest(pattern(1 << 20)), "echo": digest(pattern(1 << 20)),
		"head": "1024", "fields": `one, two, three, "four, five"`, "odd": odd, "gzip": "11000", "conditional": "304",
		"range":  "206 " + digest(pattern(2000)[1000:]),
		"events": "event 0,event 1,event 2,event 3,event 4", "socket": "echo hello", "protocols": proto,
	}
	for name, value := range want {
		if seen[name] != value {
			t.Errorf("%s: the browser saw %q, want %q", name, seen[name], value)
		}
	}
	if a, _ := o.arrived("/fields"); strings.Join(a.header["X-Several"], "|") != "a, b" {
		t.Errorf("the origin saw %q", a.header["X-Several"])
	}
}

// TestGTLSClient fetches by ngtcp2's client.
func TestGTLSClient(t *testing.T) {
	program := need(t, "gtlsclient", "ngtcp2-client")
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	dir := t.TempDir()
	for _, size := range []int{1024, 1 << 20} {
		name := fmt.Sprint(size)
		cmd := exec.Command(program, "--quiet", "--exit-on-all-streams-close", "--download", dir, "127.0.0.1", n.port, n.url+"/bytes/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || digest(got) != digest(pattern(size)) {
			t.Errorf("%d of %d bytes: %v", len(got), size, err)
		}
	}
	for _, line := range n.logged(t) {
		if line.Proto != "HTTP/3.0" || line.Status != 200 {
			t.Errorf("logged %+v", line)
		}
	}
}
