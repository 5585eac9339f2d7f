package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"spillway/edge/admit"
)

// An admissionReport is what `spillway admission show` prints. Its keys in JSON do not
// change from version to version.
type admissionReport struct {
	admit.State
	RuleList []listedRule `json:"rule_list"`
}

// A listedRule is a rule, and whether it stands in the configuration.
type listedRule struct {
	admit.Rule
	Configured bool `json:"configured"`
}

func newAdmissionShowCommand(f *admissionFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show how strict admission is and why, and what it did",
		Long: `Show where packets are judged and why nowhere better, how strict the node is with new
connections and why, what became of packets, the rules in force, and the sources of
which most packets were dropped. Anybody may have written the source of a packet over
UDP.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			return printAnswer(cmd.Context(), client, "/admission/show", f.asJSON, cmd.OutOrStdout(),
				func(out io.Writer, r *admissionReport) error { return r.write(out) })
		},
	}
}

// serveAdmission tells all about admission: POST /admission/show.
func (n *node) serveAdmission(w http.ResponseWriter, _ *http.Request) {
	report := admissionReport{State: n.admit.State(), RuleList: []listedRule{}}
	for _, rule := range n.admit.Rules() {
		report.RuleList = append(report.RuleList, listedRule{rule, n.configured(rule.Prefix) != nil})
	}
	writeIndented(w, report)
}

func (r *admissionReport) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, a...)) }
	line("mode", "%s", modeText(&r.State))
	if r.Refused != "" {
		line("nothing better", "%s", oneLine(r.Refused))
	}
	line("level", "%s", levelText(&r.State))
	if r.Heartbeat >= 0 {
		line("heartbeat", "%.1f s ago", r.Heartbeat)
	}
	line("connections", "%d of %d, %d half-open of %d", r.Connections, r.ConnectionsLimit, r.HalfOpen, r.HalfOpenLimit)
	line("handshakes", "%d begun, %d complete, %d failed, %d asked to prove their address", r.Started, r.Completed, r.Failed, r.Retries)
	line("refused", "%d by their sources, %d by rules, %d by budgets, %d while closed, %d without room",
		r.RefusedSource, r.RefusedDenied, r.RefusedBudget, r.RefusedClosed, r.RefusedFull+r.RefusedHalfOpen)
	line("a handshake", "takes %.2f ms of a processor", r.HandshakeCost.Seconds()*1e3)
	if r.BudgetQUIC > 0 || r.BudgetTCP > 0 {
		line("budget", "%.0f new connections a second over QUIC, %.0f over TCP", r.BudgetQUIC, r.BudgetTCP)
	}
	if r.Bans > 0 {
		line("bans", "%d rules that the node made by itself", r.Bans)
	}
	writePackets(w, r.Packets)
	writeRules(w, r.RuleList)
	writeSources(w, r)
	return w.Flush()
}

// modeText says where packets are judged, and whether it counts.
func modeText(s *admit.State) string {
	text := string(s.Mode)
	if s.Mode == admit.UserSpace {
		text = "user space: handshakes are judged, not packets"
	}
	if s.Trial > 0 {
		text += fmt.Sprintf(", on trial for %.0f s more", s.Trial)
	}
	return text + enforceText(s)
}

// enforceText says when nothing is refused, which is easily forgotten.
func enforceText(s *admit.State) string {
	if s.Enforce {
		return ""
	}
	return "; counts only (admission.enforce is false)"
}

func levelText(s *admit.State) string {
	text := s.Level.String()
	if s.Why != "" {
		text += ": " + oneLine(s.Why)
	}
	if !s.PinnedUntil.IsZero() {
		text += ", until " + untilText(s.PinnedUntil)
	}
	return text
}

// admissionLine is all of it on a line, for the status.
func admissionLine(s *admit.State) string {
	text := fmt.Sprintf("%s, level %s%s", s.Mode, levelText(s), enforceText(s))
	if s.Refused != "" {
		text += "; nothing better: " + oneLine(s.Refused)
	}
	return text
}

// writePackets shows the reasons that any packet has met.
func writePackets(w io.Writer, counts []admit.Count) {
	head := "\nPACKETS\tPASSED\tDROPPED\tWOULD BE DROPPED\n"
	for _, c := range counts {
		if c.Packets+c.Unenforced == 0 {
			continue
		}
		passed, dropped := c.Packets, uint64(0)
		if c.Drop {
			passed, dropped = 0, c.Packets
		}
		fmt.Fprintf(w, "%s%s\t%d\t%d\t%d\n", head, c.Reason, passed, dropped, c.Unenforced)
		head = ""
	}
}

func writeRules(w io.Writer, rules []listedRule) {
	head := "\nPREFIX\tNEW CONNECTIONS\tUNTIL\n"
	for _, r := range rules {
		what, until := "dropped", untilText(r.Until)
		if r.Allow {
			what = "allowed"
		}
		if r.Configured {
			until = "the configuration changes"
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\n", head, r.Prefix, what, until)
		head = ""
	}
}

// writeSources shows who most of the samples came from, or claimed to.
func writeSources(w io.Writer, r *admissionReport) {
	head := "\nTOP SOURCES\tSAMPLES\n"
	for _, s := range r.Top {
		samples := fmt.Sprintf("%d", s.Samples)
		if s.Over > 0 {
			samples = fmt.Sprintf("%d to %d", s.Samples-min(s.Over, s.Samples), s.Samples)
		}
		fmt.Fprintf(w, "%s%s\t%s\n", head, s.Addr, samples)
		head = ""
	}
	if r.SamplesLost > 0 {
		fmt.Fprintf(w, "samples lost\t%d\n", r.SamplesLost)
	}
}
