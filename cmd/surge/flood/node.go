package flood

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"spillway/cmd/surge/program"
)

// pageBytes is the page that visitors load.
const pageBytes = 10 << 10

// Where the node is, and where nobody is.
var (
	nodeListens = netip.AddrPortFrom(nodeAddr, 443)
	closedPort  = netip.AddrPortFrom(nodeAddr, 9)
)

// A setting is how the node meets the flood.
type setting struct {
	Name      string
	about     string
	admission string // YAML
	closed    bool   // the flood goes to a port that nobody listens on
}

// reference is what the latencies of the others are compared with.
const reference = "closed port"

var settings = []setting{
	{Name: reference, about: "all of admission; the flood goes to a port that is closed", admission: `{kernel: auto}`, closed: true},
	{Name: "full", about: "all of admission", admission: `{kernel: auto}`},
	{Name: "retry", about: "in user space, every client proves its address", admission: `{kernel: "off", handshakes_per_core: 1}`},
	{Name: "none", about: "verdicts are counted and not acted on", admission: `{enforce: false}`},
}

// target is where the flood goes.
func (s setting) target() netip.AddrPort {
	if s.closed {
		return closedPort
	}
	return nodeListens
}

// A node is the program, running in its namespace on its core.
type node struct {
	process *program.Process
	page    *http.Server
	admin   *http.Client
}

// startNode starts a node with its own origin, which serves one page that may be kept.
func startNode(ctx context.Context, in namespace, core int, s setting, dir string) (n *node, err error) {
	n = &node{admin: adminClient(filepath.Join(dir, "admin.sock"))}
	defer func() {
		if err != nil {
			n.stop()
		}
	}()
	path, err := program.Path("spillway")
	if err != nil {
		return n, err
	}
	config := filepath.Join(dir, "spillway.yaml")
	err = in.do(core, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		n.page = &http.Server{Handler: http.HandlerFunc(servePage)}
		go n.page.Serve(l)
		if err := os.WriteFile(config, []byte(configuration(dir, l.Addr().String(), s.admission)), 0o600); err != nil {
			return err
		}
		n.process, err = program.Start(program.Spec{
			Name: "spillway", Path: path, Args: []string{"run", "--config", config}, Log: filepath.Join(dir, "node.log"),
		})
		return err
	})
	if err != nil {
		return n, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return n, n.process.Await(ctx, func() bool {
		_, err := n.ask(ctx, "/readyz")
		return err == nil
	})
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "max-age=3600")
	w.Header().Set("Content-Length", strconv.Itoa(pageBytes))
	w.Write(make([]byte, pageBytes))
}

// configuration is the node's defaults, but for what it does about floods and for a
// limit of the origin that has nothing to do with them.
func configuration(dir, origin, admission string) string {
	return fmt.Sprintf(`listen: "%[1]s"
http: "off"
admin: unix:%[2]s/admin.sock
state: %[2]s/state
log: {access: %[2]s/access.log}
tls: {self_signed: true}
admission: %[3]s
origins:
  app: {servers: ["http://%[4]s"], limit: {min: 1000, max: 1000}}
sites:
  - hosts: [%[5]s]
    routes:
      - origin: app
`, nodeListens, dir, admission, origin, serverName)
}

func (n *node) stop() {
	if n.process != nil {
		n.process.Stop()
	}
	if n.page != nil {
		n.page.Close()
	}
	n.admin.CloseIdleConnections()
}

// adminClient is patient: without admission a node is busy with the flood for a while
// after it.
func adminClient(socket string) *http.Client {
	return &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// ask reads what the node says of itself.
func (n *node) ask(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.admin.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the node: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask the node: %s", resp.Status)
	}
	return body, err
}

// counted begin the names of the metrics that tell of a flood.
var counted = []string{
	"spillway_admission_packets_total", "spillway_admission_level", "spillway_admission_mode", "spillway_handshake",
	"spillway_connections_refused_total",
}

// counts returns what the node counted of packets and handshakes, without zeros.
func (n *node) counts(ctx context.Context) (map[string]float64, error) {
	text, err := n.ask(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return parseCounts(text), nil
}

func parseCounts(metrics []byte) map[string]float64 {
	all := map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(metrics)); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || value == 0 {
			continue
		}
		for _, prefix := range counted {
			if strings.HasPrefix(name, prefix) {
				all[strings.TrimPrefix(name, "spillway_")] = value
			}
		}
	}
	return all
}

// raised is how the node says in its log that the level has changed.
var raised = regexp.MustCompile(`time=(\S+) .*msg="admission level" level=(\S+) .*why="?([^"\n]*)`)

// levels returns when the level changed, in seconds since the flood began, to what, and
// why.
func levels(log string, began time.Time) []string {
	var all []string
	for _, m := range raised.FindAllStringSubmatch(log, -1) {
		if at, err := time.Parse(time.RFC3339, m[1]); err == nil {
			all = append(all, fmt.Sprintf("%.1f s %s: %s", at.Sub(began).Seconds(), m[2], m[3]))
		}
	}
	return all
}

// peak returns the most memory that the node held, in bytes.
func (n *node) peak() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("read the node's memory: the kernel does not tell")
}
