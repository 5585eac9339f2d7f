package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge/admin"
	"spillway/edge/outcome"
)

// longestReady bounds how long an operator has instances kept ready: what is to be
// ready for longer belongs into the configuration.
const longestReady = 24 * time.Hour

func newPrewarmCommand() *cobra.Command {
	var path, address string
	length := 15 * time.Minute
	cmd := &cobra.Command{
		Use:   "prewarm FUNCTION INSTANCES [--for 15m] [--config FILE | --admin ADDRESS]",
		Short: "Have instances of a function ready for what is about to come",
		Long: `Tell the node on this machine to keep so many instances of a function ready for a
while, by calls that only start them. They are paid for out of the function's
budget. 0 instances ends it. A restart, and a reload that changes the function,
forget it: an event that is known ahead belongs into the configuration, as prewarm
of the function.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			instances, err := strconv.ParseUint(args[1], 10, 31)
			if err != nil {
				return usageError{fmt.Errorf("INSTANCES: %q is not a number", args[1])}
			}
			address, err := adminAddress(path, address)
			if err != nil {
				return err
			}
			return askPrewarm(cmd.Context(), admin.NewClient(address), args[0], int(instances), length, cmd.OutOrStdout())
		},
	}
	cmd.Flags().DurationVar(&length, "for", length, "how long to keep them ready")
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	return cmd
}

func askPrewarm(ctx context.Context, client *admin.Client, function string, instances int, length time.Duration, out io.Writer) error {
	query := url.Values{"instances": {strconv.Itoa(instances)}, "for": {length.String()}}
	body, err := client.Post(ctx, "/function/"+url.PathEscape(function)+"/prewarm?"+query.Encode())
	if err != nil {
		return notRunning(err)
	}
	_, err = out.Write(body)
	return err
}

// serveFunction keeps instances of a function ready: POST
// /function/NAME/prewarm?instances=20&for=15m.
func (n *node) serveFunction(w http.ResponseWriter, r *http.Request) {
	name, act, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/function/"), "/")
	n.mu.Lock()
	f, c := n.parts.functions[name], n.config.Functions[name].Config
	n.mu.Unlock()
	instances, length, err := readPrewarm(r.URL.Query())
	switch {
	case r.Method != http.MethodPost:
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
	case f == nil:
		http.Error(w, fmt.Sprintf("there is no function %q", name), http.StatusNotFound)
	case act != "prewarm":
		http.Error(w, "say /function/NAME/prewarm?instances=20&for=15m", http.StatusBadRequest)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case !c.WarmsUp():
		http.Error(w, fmt.Sprintf("the function %s is not to be warmed up: its warm_up is off", name), http.StatusBadRequest)
	default:
		until := time.Now().Add(length)
		f.KeepReady(instances, until)
		n.log.Info("prewarming set by the operator", "function", name, "instances", instances, "until", until)
		fmt.Fprintf(w, "%d instances of %s ready until %s\n", min(instances, c.MaxConcurrency), name, until.UTC().Format(time.RFC3339))
		if why := f.ReadyToWarm(time.Now()); why != outcome.None && instances > 0 {
			fmt.Fprintf(w, "none can be started at this moment: %s\n", why)
		}
	}
}

func readPrewarm(query url.Values) (instances int, length time.Duration, err error) {
	number, err := strconv.ParseUint(query.Get("instances"), 10, 31)
	if err != nil {
		return 0, 0, errors.New("say ?instances=20")
	}
	length = 15 * time.Minute
	if text := query.Get("for"); text != "" {
		length, err = time.ParseDuration(text)
	}
	if err != nil || length <= 0 || length > longestReady {
		return 0, 0, fmt.Errorf("say &for=15m, at most %v", longestReady)
	}
	return int(number), length, nil
}
