package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge/recorder"
)

func newRecorderCommand() *cobra.Command {
	var path, address string
	cmd := &cobra.Command{
		Use:   "recorder [--config FILE | --admin ADDRESS]",
		Short: "Print the last minute of decisions",
		Long: `Print what the flight recorder of the node on this machine has of the last minute, as
lines of JSON: the first says how many requests came in each second and how many of
them were kept, each other is one request. The node writes the same by itself into a
file when requests begin to be shed; spillway status says where.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := adminClient(path, address)
			if err != nil {
				return err
			}
			body, err := client.Post(cmd.Context(), "/recorder")
			if err == nil {
				_, err = cmd.OutOrStdout().Write(body)
			}
			return notRunning(err)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	return cmd
}

// serveRecorder writes the last minute out: POST /recorder.
func (n *node) serveRecorder(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	_, _ = n.server.Recorder().WriteTo(w, time.Now(), "asked for") // who asked may have left
}

// serveRecorded looks a request up.
func (n *node) serveRecorded(w http.ResponseWriter, id string) {
	e, ok := n.server.Recorder().Find(id, time.Now())
	if !ok {
		http.Error(w, fmt.Sprintf("the flight recorder has no request %s: it keeps a minute, no hits, "+
			"and of more than %d other requests a second a sample", id, recorder.PerSecond), http.StatusNotFound)
		return
	}
	writeIndented(w, e.Line())
}

// writeRecorded prints what became of a request, a line for each step.
func writeRecorded(out io.Writer, l *recorder.Line) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "request\t%s, %s of %s\n", l.ID, l.Method, l.Time.Local().Format(time.DateTime))
	if l.Client != "" {
		fmt.Fprintf(w, "client\t%s\n", l.Client)
	}
	if l.Route != "" {
		fmt.Fprintf(w, "route\t%s\n", l.Route)
	}
	if l.Limit > 0 {
		fmt.Fprintf(w, "origin\t%d of %d in flight when it came\n", l.InFlight, l.Limit)
	}
	for i, s := range l.Steps {
		took := ""
		if s.Seconds > 0 {
			took = " for " + secondsText(s.Seconds)
		}
		s.Seconds = 0
		fmt.Fprintf(w, "step %d\t%s%s\n", i+1, stepsText([]recorder.Step{s}), took)
	}
	last := recorder.Step{Outcome: l.Outcome, Reason: l.Reason, Backend: l.Backend}
	fmt.Fprintf(w, "answered\t%d after %s, %s\n", l.Status, secondsText(l.Milliseconds/1000), stepsText([]recorder.Step{last}))
	return w.Flush()
}
