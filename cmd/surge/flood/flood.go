// Package flood measures what of a flood of new connections reaches good visitors:
// how many of their pages come, how late, and what the node pays for it.
//
// Node and visitors run in network namespaces of their own, joined by one cable. A
// sender with a core of its own puts frames on the cable, Initials and SYNs with
// sources that are not its own, while fifty visitors load a page once a second, each
// time on a new connection. The same is done with all of admission, with Retry alone,
// with none, and with the flood sent to a closed port, in turn, round by round.
//
// It needs root and two cores, touches no network but its own, and ends by itself. What
// cannot be measured is an error, never a figure. On a machine with other work to do
// its figures tell of that work.
package flood

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// most is the name of a rate: as much as the sender can.
const most = "max"

// The rates that bars are set for, and the others.
var rates = []string{"5000", "20000", "100000", most}

type options struct {
	profiles, payloads, rates, settings []string

	rounds int
	each   time.Duration
	strict bool
	json   bool
}

// Command is `surge flood`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "flood",
		Short: "Measure what visitors see of a flood of new connections, with and without admission in the kernel",
		Long: `Flood sends Initials and SYNs with forged sources to a node, in network namespaces
of its own, while fifty visitors load a page once a second, each on a new
connection. It compares all of admission, Retry alone, none, and the same flood
sent to a closed port.

The whole takes an hour and a half, on a machine with nothing else to do. It needs
root, and two cores: the sender has the first, node and visitors the second.`,
		Example: `  surge flood
  surge flood --rate 5000 --rate 20000 --profile random --rounds 1
  surge flood --setting full --rate max --for 5s --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			cmd.SilenceUsage = true
			rows, err := run(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), rows, o.json); err != nil {
				return err
			}
			return o.judge(rows, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.profiles, "profile", names(profiles), "whose addresses the flood uses")
	f.StringSliceVar(&o.payloads, "payload", []string{string(hello)}, "what the Initials are: hello, genuine ones, or garbage")
	f.StringSliceVar(&o.rates, "rate", rates, "packets a second, or "+most)
	f.StringSliceVar(&o.settings, "setting", settingNames(), "how the node meets it")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of all; medians are reported")
	f.DurationVar(&o.each, "for", 30*time.Second, "length of one flood")
	f.BoolVar(&o.strict, "strict", false, "exit 1 when a bar is missed, or could not be measured")
	f.BoolVar(&o.json, "json", false, "write JSON")
	cmd.AddCommand(sendCommand(), visitCommand())
	return cmd
}

func names[T ~string](of []T) []string {
	all := make([]string, len(of))
	for i, v := range of {
		all[i] = string(v)
	}
	return all
}

func settingNames() []string {
	all := make([]string, len(settings))
	for i, s := range settings {
		all[i] = s.Name
	}
	return all
}

func (o options) check() error {
	known := func(kind string, asked, there []string) error {
		for _, a := range asked {
			if !slices.Contains(there, a) {
				return fmt.Errorf("%s %q: must be one of %s", kind, a, strings.Join(there, ", "))
			}
		}
		return nil
	}
	err := errors.Join(known("profile", o.profiles, names(profiles)), known("payload", o.payloads, names(payloads)),
		known("setting", o.settings, settingNames()))
	for _, r := range o.rates {
		if n, bad := strconv.Atoi(r); r != most && (bad != nil || n < 1) {
			err = errors.Join(err, fmt.Errorf("rate %q: must be a number of packets a second, or %s", r, most))
		}
	}
	if o.rounds < 1 {
		err = errors.Join(err, errors.New("rounds: must be at least 1"))
	}
	if o.each < every || o.each > 10*time.Minute {
		err = errors.Join(err, fmt.Errorf("for: must be %s to 10m", every))
	}
	return err
}

// run plays all trials, those that are compared one after the other.
func run(ctx context.Context, o options, progress io.Writer) ([]row, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	if runtime.NumCPU() <= nodeCore {
		return nil, errors.New("the sender and the node need a core each")
	}
	f, err := newField(ctx, o)
	if err != nil {
		return nil, err
	}
	defer f.close()
	trials := o.trials()
	results := make([][]result, len(trials))
	for round := range o.rounds {
		for i, t := range trials {
			r, err := f.play(ctx, t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t, err)
			}
			results[i] = append(results[i], r)
			fmt.Fprintf(progress, "%s  round %d: %s: %s\n", time.Now().Format(time.TimeOnly), round+1, t, newRow(t, []result{r}).line())
		}
	}
	rows := make([]row, len(trials))
	for i, t := range trials {
		rows[i] = newRow(t, results[i])
	}
	return rows, nil
}

// trials are all that was asked for.
func (o options) trials() []trial {
	var all []trial
	for _, p := range o.profiles {
		for _, kind := range o.payloads {
			for _, r := range o.rates {
				rate, _ := strconv.Atoi(r) // 0 for most
				for _, s := range settings {
					if slices.Contains(o.settings, s.Name) {
						all = append(all, trial{profile(p), payload(kind), rate, s})
					}
				}
			}
		}
	}
	return all
}

// String says which trial it is.
func (t trial) String() string {
	return fmt.Sprintf("%s, %s, %s/s, %s", t.Profile, t.Payload, rateName(t.Rate), t.Setting.Name)
}

func rateName(rate int) string {
	if rate == 0 {
		return most
	}
	return strconv.Itoa(rate)
}
