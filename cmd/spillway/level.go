package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge/admit"
)

// longestHold bounds how long a level is held: who forgets about it has the node's
// own judgement back a day later.
const longestHold = 24 * time.Hour

func newLevelCommand(f *admissionFlags) *cobra.Command {
	during := 10 * time.Minute
	cmd := &cobra.Command{
		Use:   "level normal|guarded|shedding|closed [--for 10m] | auto",
		Short: "Be so strict for a while, or as strict as the node finds right",
		Long: `Hold the level for a while, whatever the node sees of its load:
  normal    only what RFC 9000 lets a server discard is dropped
  guarded   sources are limited, QUIC clients prove their address
  shedding  new connections have a budget
  closed    only who is known, allowed or lucky gets in
auto goes back to what the node finds right, and so does an upgrade.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"level": args, "for": {during.String()}}
			if _, _, err := readLevel(query, time.Now()); err != nil {
				return usageError{err}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			return printAnswer(cmd.Context(), client, "/admission/level?"+query.Encode(), f.asJSON, cmd.OutOrStdout(), writeLevel)
		},
	}
	cmd.Flags().DurationVar(&during, "for", during, "how long to hold it")
	return cmd
}

func writeLevel(out io.Writer, s *admit.State) error {
	_, err := fmt.Fprintf(out, "level %s\n", levelText(s))
	return err
}

// readLevel reads a level and until when it is held. Auto is the zero time.
func readLevel(query url.Values, now time.Time) (level admit.Level, until time.Time, err error) {
	if query.Get("level") == "auto" {
		return level, until, nil
	}
	if err := level.UnmarshalText([]byte(query.Get("level"))); err != nil {
		return level, until, fmt.Errorf("%w, and auto", err)
	}
	d, err := time.ParseDuration(query.Get("for"))
	if err != nil || d <= 0 || d > longestHold {
		return level, until, fmt.Errorf("for: say how long, such as 10m, at most %v", longestHold)
	}
	return level, now.Add(d), nil
}

// serveLevel holds the level: POST /admission/level?level=guarded&for=10m, or
// ?level=auto.
func (n *node) serveLevel(w http.ResponseWriter, r *http.Request) {
	level, until, err := readLevel(r.URL.Query(), time.Now())
	if err == nil {
		err = n.admit.SetLevel(level, until)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if n.missed(w) {
		return
	}
	n.log.Info("admission level set by the operator", "level", r.URL.Query().Get("level"), "until", untilText(until))
	writeIndented(w, n.admit.State())
}
