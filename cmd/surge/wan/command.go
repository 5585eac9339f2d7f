package wan

import (
	"context"
	"encoding/json"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"spillway/cmd/surge/serve"
	"spillway/cmd/surge/unit"
)

// Command is `surge wan`.
func Command() *cobra.Command {
	var (
		c           Config
		loss, slow  unit.Share
		rate, queue unit.Bytes
		asJSON      bool
	)
	slow = 1
	cmd := &cobra.Command{
		Use:   "wan",
		Short: "Relay UDP and TCP with delay, jitter, loss and a rate",
		Long: `Relay UDP and TCP between clients and one server through a network with delay,
jitter, loss and a rate, in user space, on one port number for both.

A flow is a client's address and port; the server sees it from one socket, and from
the client's own address when that lies in 127.0.0.0/8. --slow says which share of
the flows --rate bounds, so that one relay makes a mixed crowd. Over HTTP/3 let the
crowd use --own-sockets, or visitors behind one address are one flow.

UDP datagrams are lost by --loss and dropped when they overfill a flow's --queue or
an MTU of 1500. TCP is never lost: its sender is held back, and its set-up takes one
round trip before the first byte.`,
		Example: `  surge wan --listen 127.0.0.1:9443 --to 127.0.0.1:8443 --rtt 80ms --rate 16KiB --slow 5%
  surge wan --listen 127.0.0.1:9443 --to 127.0.0.1:8443 --rtt 120ms --jitter 20ms --loss 1%`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if slow == 0 {
				return fmt.Errorf("--slow: want more than 0%%; without --rate no flow is slow")
			}
			if cmd.Flags().Changed("slow") && rate == 0 {
				return fmt.Errorf("--slow says which flows --rate bounds: give --rate too")
			}
			c.Loss, c.Slow, c.Rate, c.Queue = float64(loss), float64(slow), int64(rate), int64(queue)
			r, err := New(c)
			if err != nil {
				return err
			}
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return run(ctx, cmd, r, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Listen, "listen", "127.0.0.1:9443", "address for clients, UDP and TCP")
	f.StringVar(&c.To, "to", "", "address of the server (required)")
	f.DurationVar(&c.RTT, "rtt", 0, "round trip that the network adds, half each way")
	f.DurationVar(&c.Jitter, "jitter", 0, "what a datagram may take more; none overtakes another of its flow")
	f.Var(&loss, "loss", "share of datagrams lost each way")
	f.Var(&rate, "rate", "bytes a second of a slow flow each way; 0 is no bound")
	f.Var(&slow, "slow", "share of the flows that --rate bounds")
	f.Var(&queue, "queue", "bytes of a flow that may wait for its rate; 0 is half a second's")
	f.DurationVar(&c.Idle, "idle", time.Minute, "time without datagrams after which a UDP flow is forgotten")
	f.IntVar(&c.MaxFlows, "max-flows", 10000, "UDP flows and TCP connections at a time")
	f.Uint64Var(&c.Seed, "seed", 1, "seed of losses, jitter and the choice of the slow")
	f.BoolVar(&asJSON, "json", false, "write JSON: a line when listening, the counters at the end")
	_ = cmd.MarkFlagRequired("to") // fails for an unknown flag only
	return cmd
}

func run(ctx context.Context, cmd *cobra.Command, r *Relay, asJSON bool) error {
	serve.Announce(cmd.OutOrStdout(), asJSON, r.Addr().String())
	err := r.Run(ctx)
	if err == nil && asJSON {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(r.Stats())
	}
	return err
}
