package origin

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"spillway/cmd/surge/serve"
	"spillway/cmd/surge/unit"
	"spillway/cmd/thumbnail/picture"
)

// Command is `surge origin`.
func Command() *cobra.Command {
	var (
		c      = Config{Thrash: 0.05}
		body   = unit.Bytes(1 << 10)
		listen string
		work   string
		asJSON bool
	)
	c, _ = c.withDefaults() // the zero value is valid
	cmd := &cobra.Command{
		Use:   "origin",
		Short: "Serve a reference origin of known capacity",
		Long: `Serve a reference origin of known capacity: slots/service requests a second,
whatever else the machine does. It loses speed beyond a knee, answers 503 beyond
its backlog, and works on for clients that have left unless --cancel is given.

  GET  /stats      counters, and what happened in each second
  POST /control    ?slots=2  ?speed=0.5 (0 hangs)  ?die=1  ?revive=1
  GET  /healthz    200 while alive
  GET  /events     an event stream; ?every=1s
  any  /*          a slot's work. Without --work image the query may hold bytes=N,
                   cache=SECONDS, status=CODE, stream=EVENTS, every=TIME. slow=2
                   takes twice the service time, draw=7 the seventh of the seed's.

--work image answers /picture/NAME.jpg?w=320 and /overlay/NAME.jpg?text=you&w=320
(NAME: harbour, market, meadow) inside the slot and sleeps the rest of the service
time. Work that took longer is counted in /stats as overruns: its answer is late,
the next request in the slot is not.`,
		Example: `  surge origin --slots 4 --service 110ms --work image
  surge origin --model sharing --slots 4 --service 20ms --cv 1
  curl -X POST '127.0.0.1:9000/control?slots=2'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFlags(&c, cmd, work); err != nil {
				return err
			}
			c.Body = int64(body)
			if body == 0 {
				c.Body = -1
			}
			o, err := New(c)
			if err != nil {
				return err
			}
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return run(ctx, cmd, o, listen, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:9000", "address to listen on")
	f.StringVar((*string)(&c.Model), "model", string(c.Model), "fifo: a slot serves one request; sharing: all inside share the slots")
	f.IntVar(&c.Slots, "slots", c.Slots, "requests worked on at a time")
	f.DurationVar(&c.Service, "service", c.Service, "mean time of a slot for one request")
	f.Float64Var(&c.CV, "cv", c.CV, "coefficient of variation of the service time: 0 is fixed, else lognormal")
	f.Float64Var(&c.Knee, "knee", c.Knee, "requests inside above which speed is lost, as a multiple of the slots")
	f.Float64Var(&c.Thrash, "thrash", c.Thrash, "speed lost beyond the knee: rate/(1+thrash*(inside-knee*slots)/slots); 0 is none")
	f.IntVar(&c.Backlog, "backlog", c.Backlog, "requests beyond the slots before 503")
	f.BoolVar(&c.Cancel, "cancel", false, "drop a request when its client leaves, instead of working on")
	f.DurationVar(&c.Patience, "patience", c.Patience, "a completion later than this is of no use to a visitor")
	f.Var(&body, "body", "size of a plain answer")
	f.StringVar(&work, "work", "none", "none, or image: draw real pictures inside the slot")
	f.Uint64Var(&c.Seed, "seed", 1, "seed of the service times")
	f.BoolVar(&asJSON, "json", false, "write JSON: a line when listening, the final counters at the end")
	return cmd
}

// checkFlags refuses what New would take for "not given".
func checkFlags(c *Config, cmd *cobra.Command, work string) error {
	for _, name := range []string{"slots", "service", "knee", "patience"} {
		switch cmd.Flag(name).Value.String() {
		case "0", "0s":
			return fmt.Errorf("--%s: want more than 0", name)
		}
	}
	if c.Backlog == 0 {
		c.Backlog = -1
	}
	switch work {
	case "none":
	case "image":
		c.Work = picture.Handler(picture.Options{})
	default:
		return fmt.Errorf("--work %q: want none or image", work)
	}
	return nil
}

func run(ctx context.Context, cmd *cobra.Command, o *Origin, listen string, asJSON bool) error {
	err := serve.HTTP(ctx, listen, o, func(a net.Addr) {
		serve.Announce(cmd.OutOrStdout(), asJSON, "http://"+a.String())
	})
	if err == nil && asJSON {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(o.Stats())
	}
	return err
}
