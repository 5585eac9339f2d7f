package functions

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"spillway/cmd/surge/serve"
	"spillway/cmd/surge/unit"
	"spillway/cmd/thumbnail/picture"
)

// Command is `surge functions`.
func Command() *cobra.Command {
	var (
		c      = Config{Service: 60 * time.Millisecond, ColdStart: 500 * time.Millisecond, ColdCV: 0.36}
		listen string
		work   string
		key    string
		asJSON bool
	)
	c, _ = c.withDefaults() // the zero value is valid
	memory, body := unit.Bytes(c.Memory), unit.Bytes(c.Body)
	cmd := &cobra.Command{
		Use:   "functions",
		Short: "Emulate a function platform: cold starts, ramp, cap, throttling, bill",
		Long: `Emulate a function platform. An instance serves one call at a time, starts cold
and stops when idle; a ramp and a cap bound how many there are. What is refused and
what fails has the shape of --platform. Calls that were started are finished and
billed, also when their client left.

  GET  /stats      counters
  GET  /bill       requests, GB-seconds with the start of instances, data out, USD
  POST /control    ?throttle=1 (0 ends it)  ?cap=5  ?fail=0.1
                   ?reason=CallerRateLimitExceeded (of throttles, on lambda)
  any  /*          the function, by plain HTTP; on openfaas also /function/NAME/*
  POST /2015-03-31/functions/NAME/invocations      Lambda's Invoke API, with
                   --platform lambda: payload format 2.0 and 1.0, RequestResponse and DryRun

Prices: ` + PriceTable + `.`,
		Example: `  surge functions --platform lambda --work image
  surge functions --platform cloud-run --service 60ms --cv 0.5 --cap 100
  curl -X POST '127.0.0.1:9100/control?throttle=1'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if key != "" {
				c.AccessKey, c.SecretKey, _ = strings.Cut(key, ":")
			}
			switch work {
			case "none":
			case "image":
				c.Work = picture.Handler(picture.Options{})
			default:
				return fmt.Errorf("--work %q: want none or image", work)
			}
			for _, name := range []string{"idle-timeout", "burst", "ramp", "cap", "memory", "body"} {
				switch cmd.Flag(name).Value.String() {
				case "0", "0s", "0B":
					return fmt.Errorf("--%s: want more than 0", name)
				}
			}
			c.Memory, c.Body = int64(memory), int64(body)
			e, err := New(c)
			if err != nil {
				return err
			}
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return run(ctx, cmd, e, listen, asJSON)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:9100", "address to listen on")
	f.StringVar((*string)(&c.Platform), "platform", string(c.Platform), "lambda, cloud-run, azure or openfaas")
	f.DurationVar(&c.Service, "service", c.Service, "mean time of a call in a warm instance")
	f.Float64Var(&c.CV, "cv", c.CV, "coefficient of variation of the service time: 0 is fixed, else lognormal")
	f.DurationVar(&c.ColdStart, "cold-start", c.ColdStart, "mean time to start an instance")
	f.Float64Var(&c.ColdCV, "cold-cv", c.ColdCV, "coefficient of variation of the cold start")
	f.DurationVar(&c.IdleTimeout, "idle-timeout", c.IdleTimeout, "time without a call after which an instance stops")
	f.IntVar(&c.Burst, "burst", c.Burst, "instances that may start at once")
	f.Float64Var(&c.Ramp, "ramp", c.Ramp, "instances that may start each second after the burst")
	f.IntVar(&c.Cap, "cap", c.Cap, "instances, and so calls, at a time")
	f.Var(&memory, "memory", "memory of an instance, for the bill")
	f.Var(&body, "body", "size of a plain answer")
	f.StringVar(&c.Function, "function", "", "the only function that Lambda's Invoke API knows; empty: any")
	f.StringVar(&key, "key", "", "access key and secret key, ID:SECRET, that calls of Lambda's Invoke API must be signed with")
	f.StringVar(&work, "work", "none", "none, or image: draw real pictures")
	f.Uint64Var(&c.Seed, "seed", 1, "seed of times and failures")
	f.BoolVar(&asJSON, "json", false, "write JSON: a line when listening, counters and bill at the end")
	return cmd
}

func run(ctx context.Context, cmd *cobra.Command, e *Emulator, listen string, asJSON bool) error {
	err := serve.HTTP(ctx, listen, e, func(a net.Addr) {
		serve.Announce(cmd.OutOrStdout(), asJSON, "http://"+a.String())
	})
	if err == nil && asJSON {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
			Stats Stats `json:"stats"`
			Bill  Bill  `json:"bill"`
		}{e.Stats(), e.Bill()})
	}
	return err
}
