package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge"
	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/recorder"
	"spillway/origin/faas"
)

func newExplainCommand() *cobra.Command {
	var path, address, method, client string
	var header []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain URL|REQUEST-ID [--method GET] [-H 'Name: value']... [--client ADDR] [--json]",
		Short: "Say what would become of a request now, or became of one, and why",
		Long: `Ask the node on this machine what would become of a request now, and why: each rung
of the ladder with live numbers, what would happen, and what would if the origin took
no more. Nothing is sent, spent or changed. Who asks is --client, and -H says what
else counts, such as 'User-Agent: Googlebot/2.1' or 'Content-Length: 5000000'.

Instead of a URL, the request ID of the access log or of X-Request-Id names a request
of the last minute, which the flight recorder may have kept: hits it does not keep.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := inquiryQuery(args[0], method, client, header)
			if err != nil {
				return usageError{err}
			}
			node, err := adminClient(path, address)
			if err != nil {
				return err
			}
			if query.Has("id") {
				return printAnswer(cmd.Context(), node, "/explain?"+query.Encode(), asJSON, cmd.OutOrStdout(), writeRecorded)
			}
			return printAnswer(cmd.Context(), node, "/explain?"+query.Encode(), asJSON, cmd.OutOrStdout(), writeExplanation)
		},
	}
	cmd.Flags().StringVar(&method, "method", http.MethodGet, "the `method` of the request")
	cmd.Flags().StringArrayVarP(&header, "header", "H", nil, "a `field` of the request, as 'Name: value'; may be repeated")
	cmd.Flags().StringVar(&client, "client", "", "the `address` that the request comes from; this machine's if none is given")
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything, as JSON")
	return cmd
}

var requestID = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

// inquiryQuery writes an inquiry down for the node, which looks at it closer.
func inquiryQuery(target, method, client string, header []string) (url.Values, error) {
	if requestID.MatchString(target) {
		return url.Values{"id": {target}}, nil
	}
	if !strings.Contains(target, "://") {
		return nil, fmt.Errorf("%q is not a URL; write https://%s", target, target)
	}
	if client != "" {
		if _, err := netip.ParseAddr(client); err != nil {
			return nil, fmt.Errorf("--client: %q is not an address such as 203.0.113.7", client)
		}
	}
	for _, field := range header {
		if name, _, ok := strings.Cut(field, ":"); !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("--header: %q is not 'Name: value'", field)
		}
	}
	return url.Values{"url": {target}, "method": {method}, "client": {client}, "header": header}, nil
}

// serveExplain explains a request: POST /explain?url=URL, and method, client and
// header beside it; or one that was made, by ?id=REQUEST-ID.
func (n *node) serveExplain(w http.ResponseWriter, r *http.Request) {
	if id := r.URL.Query().Get("id"); id != "" {
		n.serveRecorded(w, id)
		return
	}
	inquiry, err := readInquiry(r.URL.Query())
	var e *edge.Explanation
	if err == nil {
		e, err = n.server.Explain(inquiry)
	}
	n.mu.Lock()
	plain := n.config.Edge.HTTP
	n.mu.Unlock()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case strings.HasPrefix(inquiry.URL, "http:") && plain == "off":
		http.Error(w, "nobody listens for plain HTTP: http is off", http.StatusBadRequest)
	default:
		writeIndented(w, e)
	}
}

func writeIndented(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // who asked may have left
}

func readInquiry(query url.Values) (q edge.Inquiry, err error) {
	q = edge.Inquiry{Method: query.Get("method"), URL: query.Get("url"), Header: http.Header{}}
	if q.URL == "" {
		return q, errors.New("say ?url=https://img.example.com/a.jpg")
	}
	if client := query.Get("client"); client != "" {
		if q.Client, err = netip.ParseAddr(client); err != nil {
			return q, fmt.Errorf("client: %q is not an address", client)
		}
	}
	for _, field := range query["header"] {
		name, value, _ := strings.Cut(field, ":")
		q.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return q, nil
}

// writeExplanation prints a line for each rung.
func writeExplanation(out io.Writer, e *edge.Explanation) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(rung, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", rung, fmt.Sprintf(format, a...)) }
	line("request", "%s %s", e.Method, e.URL)
	line("client", "%s", clientText(&e.Client))
	line("route", "%s", routeText(e))
	if e.Cache != nil {
		line("cache", "%s", cacheLookText(e.Cache))
		line("stale", "%s", staleText(e.Cache))
		line("collapsing", "%s", collapsingText(e.Cache))
	}
	if e.Origin != nil {
		line("waiting room", "%s", waitingText(e.Waiting))
		line("origin", "%s", originLookText(e.Origin))
		line("queue", "%d of %d wait, a request of this kind takes %s at an idle origin",
			e.Origin.Queued, e.Origin.QueueLimit, secondsText(e.Origin.Baseline))
		line("functions", "%s", functionsText(e))
		for i := range e.Functions {
			line("  "+e.Functions[i].Name, "%s", functionLookText(&e.Functions[i]))
		}
	}
	fmt.Fprintln(w)
	line("now", "%s", stepsText(e.Now))
	line("if the origin were full", "%s", stepsText(e.Full))
	return w.Flush()
}

func clientText(c *edge.ClientLook) string {
	text := c.Visitor.String()
	switch {
	case c.Visitor != c.Peer:
		text += fmt.Sprintf(", as the trusted proxy %s says", c.Peer)
	case c.Trusted:
		text += ", a trusted proxy"
	default:
		text += ", no trusted proxy"
	}
	if c.Refused != outcome.None {
		return text + ", not let in: " + string(c.Refused)
	}
	return text + ", let in"
}

func routeText(e *edge.Explanation) string {
	var passed []string
	for _, p := range e.Passed {
		passed = append(passed, fmt.Sprintf("%s (%s)", p.Route, p.Why))
	}
	not := ""
	if len(passed) > 0 {
		not = "; not " + strings.Join(passed, ", ")
	}
	switch {
	case len(e.Hosts) > 0:
		return "no site has this host; there are " + strings.Join(e.Hosts, ", ")
	case e.Route == nil:
		return "none" + not
	case !e.Route.Spills:
		return fmt.Sprintf("%s, to the origin %s, no overflow%s", e.Route.Route, e.Route.Origin, not)
	}
	return fmt.Sprintf("%s, to the origin %s, may spill%s", e.Route.Route, e.Route.Origin, not)
}

func cacheLookText(c *edge.CacheLook) string {
	switch {
	case !c.Used:
		return "not used by this route, or for such a request"
	case c.State == cache.Bypass:
		return fmt.Sprintf("not asked for such a request (%s)", c.Why)
	case c.State == cache.FreshSlices:
		return "a hit, put together of slices"
	case c.Why == cache.FwdPartial:
		return "a part, which lacks what is asked for (partial)"
	case !c.Entry:
		return fmt.Sprintf("no entry (%s)", c.Why)
	case c.State == cache.Fresh:
		return fmt.Sprintf("a hit: %s old, fresh for %s more", secondsText(c.Age), secondsText(c.TTL))
	case c.Found != nil && c.Found.Soft:
		return fmt.Sprintf("an entry, %s old, softly purged: it is validated before it answers", secondsText(c.Age))
	case c.State == cache.StaleWhileRevalidate:
		return fmt.Sprintf("an entry, %s old, expired %s ago, which answers while it is fetched anew", secondsText(c.Age), secondsText(-c.TTL))
	case c.TTL > 0:
		return fmt.Sprintf("an entry, %s old and fresh, which the request wants validated", secondsText(c.Age))
	}
	return fmt.Sprintf("an entry, %s old, expired %s ago", secondsText(c.Age), secondsText(-c.TTL))
}

func staleText(c *edge.CacheLook) string {
	switch {
	case c.State == cache.FreshSlices:
		return "not needed"
	case !c.Entry:
		return "no entry that could stand in"
	case c.State == cache.Fresh, c.State == cache.StaleWhileRevalidate:
		return "not needed"
	case c.StaleLeft > 0:
		return fmt.Sprintf("may stand in for %s more", secondsText(c.StaleLeft))
	case c.Forbids:
		return "must not stand in: the response forbids it (RFC 9111 section 4.2.4)"
	}
	return "not while the origin is full: it has no window for that, or is past it"
}

func collapsingText(c *edge.CacheLook) string {
	switch {
	case c.State == cache.Fresh, c.State == cache.FreshSlices, c.State == cache.StaleWhileRevalidate:
		return "not needed"
	case c.Joins:
		return "somebody fetches the same now, and the answer is waited for"
	case c.Late:
		return "somebody fetches the same now and is late, so that the entry answers meanwhile"
	case c.Alone:
		return "none: answers to this request are not shared"
	}
	return "nobody fetches the same now; those who come next would share the answer"
}

func waitingText(w *edge.WaitingLook) string {
	if w == nil {
		return "none"
	}
	text := "this request never waits there"
	if w.Waits {
		text = "this request may be sent there, and is " + w.Standing
	}
	text += fmt.Sprintf("; %d wait", w.Visitors)
	if w.Estimate > 0 {
		text += ", for about " + secondsText(w.Estimate)
	}
	return text
}

func originLookText(o *edge.OriginLook) string {
	state := "up"
	if !o.Up {
		state = "down"
	} else if o.Paused {
		state = "up, asks to be left alone"
	}
	room := "no permit is free"
	if o.Room {
		room = "a permit is free"
	}
	return fmt.Sprintf("%s %s, %d of %d in flight (%s), this request may fill %g%%, %s",
		o.Name, state, o.InFlight, o.Limit, o.Phase, 100*o.Share, room)
}

func functionsText(e *edge.Explanation) string {
	if e.Barred != outcome.None {
		return "none may be called: " + string(e.Barred)
	}
	return "called in this order"
}

func functionLookText(f *faas.Look) string {
	text := "may be called"
	if f.Reason != outcome.None {
		text = string(f.Reason)
	}
	text += fmt.Sprintf(": breaker %s, %d of %d in flight, %d ready", f.Breaker, f.InFlight, f.MaxConcurrency, f.Ready)
	if f.MayStart >= 0 {
		text += fmt.Sprintf(", %d may start", f.MayStart)
	}
	if s := f.Shared; s != nil {
		text += fmt.Sprintf(", %d of %d calls on %s", s.Calls, s.Left, s.Name)
	}
	if f.Worst == 0 {
		return text + ", free of charge"
	}
	text += fmt.Sprintf(", at most $%.6f a call", f.Worst)
	if f.Budget == "" {
		return text + ", no budget"
	}
	left, own := amountText(f.Left), amountText(f.ClientLeft)
	return fmt.Sprintf("%s, budget %s has %s left, this client %s", text, f.Budget, left, own)
}

func amountText(amount *float64) string {
	if amount == nil {
		return "no bound"
	}
	return fmt.Sprintf("$%.4f", *amount)
}

// stepsText is one sentence: each step is taken if the one before comes to nothing.
func stepsText(steps []recorder.Step) string {
	var all []string
	for _, s := range steps {
		text := string(s.Outcome)
		if s.Backend != "" {
			text += " " + s.Backend
		}
		if s.Seconds > 0 {
			text += " for at most " + secondsText(s.Seconds)
		}
		if s.Reason != outcome.None {
			text += " (" + string(s.Reason) + ")"
		}
		all = append(all, text)
	}
	return cmp.Or(strings.Join(all, ", else "), "nothing")
}

// secondsText rounds so that a person can read it.
func secondsText(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d == 0:
		return "an unknown time"
	case d < 100*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
