package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spillway/cmd/spillway/doctor"
	"spillway/edge/admin"
	"spillway/edge/admit"
)

// errOnlyNative is told to who names no mode: all others are found by the node.
var errOnlyNative = errors.New("say --native; the other modes are found by the node itself")

func newEnableCommand(f *admissionFlags) *cobra.Command {
	var native, yes bool
	cmd := &cobra.Command{
		Use:   "enable --native [--yes]",
		Short: "Judge packets in the network driver, on trial first",
		Long: `Judge packets in the driver of the network interface, which is cheapest. Drivers
interrupt the link for it, and take queues and offloads: what is known of yours is
said first. Nothing else is changed, neither the MTU nor the queues.

Then the node waits for ten seconds: for packets of established connections, and for
your yes. Without either it goes back by itself, also when this command, or your
connection to this machine, has come to an end. --yes confirms without asking.
Once it is confirmed, it holds until the next restart, disable --native, or a failure
of the kernel, after which packets are judged in the network stack.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !native {
				return usageError{errOnlyNative}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			answer := cmd.InOrStdin()
			if yes {
				answer = strings.NewReader("yes\n")
			}
			show, talk := writeMode, cmd.OutOrStdout()
			if f.asJSON {
				show, talk = func(out io.Writer, s *admit.State) error { return printIndented(out, s) }, cmd.ErrOrStderr()
			}
			s, err := enableNative(cmd.Context(), client, answer, talk)
			if err != nil {
				return err
			}
			if err := show(cmd.OutOrStdout(), &s); err != nil || s.Mode == admit.Native {
				return err
			}
			return fmt.Errorf("native mode did not last: %s", oneLine(s.Refused))
		},
	}
	cmd.Flags().BoolVar(&native, "native", false, "in the driver of the network interface")
	cmd.Flags().BoolVar(&yes, "yes", false, "confirm without asking")
	return cmd
}

func newDisableCommand(f *admissionFlags) *cobra.Command {
	var native bool
	cmd := &cobra.Command{
		Use:   "disable --native",
		Short: "Judge packets in the network stack again",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !native {
				return usageError{errOnlyNative}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			return printAnswer(cmd.Context(), client, "/admission/native?do=disable", f.asJSON, cmd.OutOrStdout(), writeMode)
		},
	}
	cmd.Flags().BoolVar(&native, "native", false, "not in the driver any more")
	return cmd
}

func writeMode(out io.Writer, s *admit.State) error {
	_, err := fmt.Fprintf(out, "mode %s\n", modeText(s))
	return err
}

// enableNative asks for native mode and for the operator's yes, and returns what became
// of it.
func enableNative(ctx context.Context, client *admin.Client, answer io.Reader, talk io.Writer) (admit.State, error) {
	for _, f := range doctor.Interfaces() {
		fmt.Fprintf(talk, "%s: %s\n", f.What, f.Result)
	}
	s, _, err := askNode[admit.State](ctx, client, "/admission/native?do=enable")
	if err != nil || s.Trial == 0 {
		return s, err
	}
	fmt.Fprintf(talk, "packets are judged in the driver, on trial for %.0f s; does the network still work? yes: ", s.Trial)
	yes := saidYes(answer, time.Duration(s.Trial*float64(time.Second)))
	fmt.Fprintln(talk)
	if yes {
		if _, err := client.Post(ctx, "/admission/native?do=confirm"); err != nil {
			return s, err
		}
	}
	return endOfTrial(ctx, client)
}

// saidYes reports whether a line with yes comes in time.
func saidYes(answer io.Reader, patience time.Duration) bool {
	said := make(chan string, 1)
	go func() { // it ends with the command
		line, _ := bufio.NewReader(answer).ReadString('\n')
		said <- strings.TrimSpace(line)
	}()
	select {
	case line := <-said:
		return line == "yes" || line == "y"
	case <-time.After(patience):
		return false
	}
}

// endOfTrial waits until it is decided whether native mode stays.
func endOfTrial(ctx context.Context, client *admin.Client) (admit.State, error) {
	for {
		s, _, err := askNode[admissionReport](ctx, client, "/admission/show")
		if err != nil || s.Trial == 0 {
			return s.State, err
		}
		select {
		case <-ctx.Done():
			return s.State, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// serveNative begins, confirms and ends native mode: POST /admission/native?do=enable,
// confirm or disable.
func (n *node) serveNative(w http.ResponseWriter, r *http.Request) {
	if !n.upgrading.TryLock() {
		http.Error(w, sayAgain, http.StatusConflict)
		return
	}
	defer n.upgrading.Unlock()
	if n.missed(w) { // both processes have the admin listener for a moment
		return
	}
	var err error
	switch do := r.URL.Query().Get("do"); do {
	case "enable":
		err = n.admit.EnableNative()
	case "confirm":
		err = n.admit.Confirm()
	case "disable":
		err = n.admit.DisableNative()
	default:
		http.Error(w, "say ?do=enable, confirm or disable", http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeIndented(w, n.admit.State())
}
