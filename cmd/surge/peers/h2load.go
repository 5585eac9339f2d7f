package peers

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A tally is what a client says at its end.
type tally struct {
	Answers int64         `json:"answers"`
	Failed  int64         `json:"failed,omitempty"`
	Took    time.Duration `json:"took"`
	P50     time.Duration `json:"p50,omitempty"` // of a request, from when it was due
	P99     time.Duration `json:"p99,omitempty"`
	Lacks   string        `json:"lacks,omitempty"` // why the server cannot do it
}

// h2loadPace is how often h2load makes connections where they come at a rate.
const h2loadPace = 10 * time.Millisecond

// h2load returns the arguments of h2load for some work. What is timed has a warm-up
// in which connections are made.
func (w work) h2load(address string) []string {
	// The groups are those of all servers and of surge's client: one exchange for all.
	args := []string{"--connect-to=" + address, "--groups=X25519", "-t1", "-m", strconv.Itoa(max(w.Streams, 1))}
	switch w.Protocol {
	case h1:
		args = append(args, "--h1")
	case h2:
		args = append(args, "--alpn-list=h2")
	case h3:
		args = append(args, "--alpn-list=h3")
	}
	switch {
	case w.Shape == steady:
		args = append(args, "-c", strconv.Itoa(w.Connections),
			"-D", wholeMillis(w.For), "--warm-up-time", wholeMillis(warmUp))
	case w.Rate > 0:
		n := strconv.Itoa(w.visitors())
		args = append(args, "-n", n, "-c", n,
			"--rate", strconv.Itoa(max(1, int(w.Rate*h2loadPace.Seconds()))), "--rate-period", wholeMillis(h2loadPace))
	default:
		n := strconv.Itoa(w.Connections)
		args = append(args, "-n", n, "-c", n)
	}
	return append(args, "https://"+serverName+path(w.Bytes))
}

func wholeMillis(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// How h2load says that what is timed begins, and that it is over.
const (
	h2loadBegins = "Main benchmark duration is started"
	h2loadEnds   = "Main benchmark duration is over"
)

var (
	h2loadFinished = regexp.MustCompile(`(?m)^finished in ([\d.]+(?:us|ms|s))`)
	h2loadRequests = regexp.MustCompile(`(?m)^requests: .* (\d+) succeeded, (\d+) failed, `)
	h2loadStatus   = regexp.MustCompile(`(?m)^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
	h2loadProtocol = regexp.MustCompile(`(?m)^Application protocol: (\S+)`)
	h2loadTLS      = regexp.MustCompile(`(?m)^TLS Protocol: (\S+)`)
)

// parseH2load reads what h2load says. Answers that are not good, or not in the
// protocol, are an error.
func parseH2load(out string, want protocol) (t tally, err error) {
	requests, status := h2loadRequests.FindStringSubmatch(out), h2loadStatus.FindStringSubmatch(out)
	finished := h2loadFinished.FindStringSubmatch(out)
	if requests == nil || status == nil || finished == nil {
		return t, fmt.Errorf("h2load said nothing of requests:\n%s", tail(out))
	}
	if t.Took, err = time.ParseDuration(finished[1]); err != nil {
		return t, err
	}
	if t.Answers, err = strconv.ParseInt(requests[1], 10, 64); err != nil {
		return t, err
	}
	// Of those that fail, some are errors and some time-outs.
	if t.Failed, err = strconv.ParseInt(requests[2], 10, 64); err != nil {
		return t, err
	}
	// Heads are counted before their bodies: at the end of what is timed there are more.
	if bad := strings.Join(status[2:], "+"); bad != "0+0+0" || t.Answers == 0 {
		return t, fmt.Errorf("%d answers, of them %s are of 3xx, 4xx and 5xx", t.Answers, bad)
	}
	if spoken := h2loadProtocol.FindStringSubmatch(out); spoken == nil || spoken[1] != string(want) {
		return t, fmt.Errorf("h2load did not speak %s: %q", want, spoken)
	}
	if version := h2loadTLS.FindStringSubmatch(out); version == nil || version[1] != "TLSv1.3" {
		return t, fmt.Errorf("h2load did not speak TLS 1.3: %q", version)
	}
	return t, nil
}

// tail is the end of what a program said.
func tail(out string) string {
	return strings.TrimSpace(out[max(0, len(out)-1000):])
}
