package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"spillway/config"
	"spillway/edge"
	"spillway/edge/admin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
)

func newBudgetCommand() *cobra.Command {
	var path, address string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "budget [NAME] [--config FILE | --admin ADDRESS] [--json]",
		Short: "Show what functions cost, and change what they may",
		Long: `Show what the budgets of the node on this machine have spent in the present hour,
day and month of UTC, what calls in flight have set aside, what is left, and when
nothing will be at the pace of the last minute; then what each function and each
route has cost since the node started.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := adminClient(path, address)
			if err != nil {
				return err
			}
			return showBudgets(cmd.Context(), client, args, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.PersistentFlags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.PersistentFlags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print everything, as JSON")
	change := func(use, short, long string, query func(args []string) (url.Values, error)) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Long: long, Args: cobra.ExactArgs(len(strings.Fields(use)) - 1),
			DisableFlagsInUseLine: true,
			RunE: func(cmd *cobra.Command, args []string) error {
				q, err := query(args)
				if err != nil {
					return usageError{err}
				}
				client, err := adminClient(path, address)
				if err != nil {
					return err
				}
				if _, err := client.Post(cmd.Context(), "/budget/"+url.PathEscape(args[0])+"?"+q.Encode()); err != nil {
					return notRunning(err)
				}
				return showBudgets(cmd.Context(), client, args[:1], asJSON, cmd.OutOrStdout())
			},
		}
	}
	cmd.AddCommand(
		change("add NAME AMOUNT", "Allow more until the present hour, day and month end",
			`Allow so much beyond each limit of the budget until the present hour, day and
month end, such as '$5' (in quotes, for the shell's sake) or 5. It outlives a restart.`,
			func(args []string) (url.Values, error) {
				amount, err := parseAmount(args[1])
				return url.Values{"add": {strconv.FormatFloat(amount, 'f', -1, 64)}}, err
			}),
		change("reset NAME", "Forget what was spent in the present hour, day and month",
			`Forget what was spent in the present hour, day and month, and what was added to
them or emptied. What calls in flight have set aside stays so.`,
			func([]string) (url.Values, error) { return url.Values{"reset": {"1"}}, nil }),
		change("empty NAME", "Allow nothing more until the shortest limited period ends",
			`Allow nothing more until the shortest period that has a limit ends, or until the
budget is reset. It outlives a restart.`,
			func([]string) (url.Values, error) { return url.Values{"empty": {"1"}}, nil }),
	)
	return cmd
}

// parseAmount reads US dollars, which a shell may have robbed of their sign.
func parseAmount(text string) (float64, error) {
	amount, err := config.ParseMoney("$" + strings.TrimPrefix(text, "$"))
	if err == nil && amount == 0 {
		err = fmt.Errorf("%q adds nothing; write US dollars such as '$2', in quotes", text)
	}
	return amount, err
}

func adminClient(path, given string) (*admin.Client, error) {
	address, err := adminAddress(path, given)
	if err != nil {
		return nil, err
	}
	return admin.NewClient(address), nil
}

// A spending is the part of the status that is about money.
type spending struct {
	Budgets   map[string]budget.State `json:"budgets"`
	Ledger    budget.LedgerState      `json:"ledger"`
	Functions map[string]faas.State   `json:"functions"`
	Routes    []edge.RouteState       `json:"routes"`
}

// showBudgets prints all budgets, or the one that is named.
func showBudgets(ctx context.Context, client *admin.Client, names []string, asJSON bool, out io.Writer) error {
	var s spending
	if err := client.Status(ctx, &s); err != nil {
		return notRunning(err)
	}
	for _, name := range names {
		b, ok := s.Budgets[name]
		if !ok {
			return fmt.Errorf("there is no budget %q; there is %s", name,
				cmp.Or(strings.Join(slices.Sorted(maps.Keys(s.Budgets)), ", "), "none"))
		}
		s.Budgets = map[string]budget.State{name: b}
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	return s.write(out, len(names) == 0)
}

func (s *spending) write(out io.Writer, all bool) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "BUDGET\tPERIOD\tLIMIT\tSPENT\tIN CALLS NOW\tLEFT\tENDS\n")
	for _, name := range slices.Sorted(maps.Keys(s.Budgets)) {
		b := s.Budgets[name]
		for _, p := range b.Periods {
			fmt.Fprintf(w, "%s\t%s\t%s\t$%.6f%s\t$%.6f\t%s\t%s\n", name, p.Period, limitText(p),
				p.Spent, warnedText(p), b.AtRisk, leftText(b, p), p.Ends.UTC().Format("01-02 15:04 MST"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Budgets)) {
		fmt.Fprintf(w, "\n%s\t%s\n", name, forecast(s.Budgets[name]))
	}
	if s.Ledger.Error != "" {
		fmt.Fprintf(w, "\nledger\tdoes not work: %s\n", s.Ledger.Error)
	}
	if all {
		writeCosts(w, s)
	}
	return w.Flush()
}

func limitText(p budget.PeriodState) string {
	switch {
	case p.Limit == 0:
		return "none"
	case p.Added > 0:
		return fmt.Sprintf("$%g + $%g", p.Limit, p.Added)
	}
	return fmt.Sprintf("$%g", p.Limit)
}

func warnedText(p budget.PeriodState) string {
	if p.Warned == 0 {
		return ""
	}
	return fmt.Sprintf(" (over %d%%)", p.Warned)
}

func leftText(b budget.State, p budget.PeriodState) string {
	switch {
	case b.Drained:
		return "emptied"
	case b.Stopped:
		return "stopped"
	case p.Limit == 0:
		return "-"
	}
	return fmt.Sprintf("$%.6f", p.Left)
}

// forecast says when the budget is empty at its present pace.
func forecast(b budget.State) string {
	pace := fmt.Sprintf("spends $%.4g an hour at the pace of the last minute", b.Rate)
	switch {
	case b.Drained:
		return "emptied by the operator"
	case b.Stopped:
		return "spends nothing, because its ledger does not work"
	case b.EmptyAt.IsZero():
		return pace + "; it will last"
	}
	return fmt.Sprintf("%s; empty in %v", pace, time.Until(b.EmptyAt).Round(time.Second))
}

func writeCosts(w io.Writer, s *spending) {
	if len(s.Functions) > 0 {
		fmt.Fprintf(w, "\nFUNCTION\tCALLS\tCOST\tPRICED AS\n")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Functions)) {
		f := s.Functions[name]
		fmt.Fprintf(w, "%s\t%d\t$%.6f\t%s\n", name, f.Calls, f.CostUSD, f.PricedAs)
	}
	writeRouteCosts(w, s.Routes)
}

// writeRouteCosts shows the routes that may cost something.
func writeRouteCosts(w io.Writer, routes []edge.RouteState) {
	if len(routes) > 0 {
		fmt.Fprintf(w, "\nROUTE\tCALLS\tCOST\tAVOIDABLE\tSAVED BY CACHE\tBY COLLAPSING\tEXERCISE\n")
	}
	for _, r := range routes {
		fmt.Fprintf(w, "%s\t%d\t$%.6f\t$%.6f\t$%.6f\t$%.6f\t$%.6f\n",
			r.Route, r.Calls, r.CostUSD, r.AvoidableUSD, r.SavedByCacheUSD, r.SavedByCollapsingUSD, r.ExercisesUSD)
	}
}

// serveBudget changes a budget: POST /budget/NAME?add=DOLLARS, ?reset=1 or
// ?empty=1.
func (n *node) serveBudget(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/budget/")
	n.mu.Lock()
	b := n.parts.budgets[name]
	n.mu.Unlock()
	query, now := r.URL.Query(), time.Now()
	var err error
	switch {
	case r.Method != http.MethodPost:
		http.Error(w, "use POST", http.StatusMethodNotAllowed)
		return
	case b == nil:
		http.Error(w, fmt.Sprintf("there is no budget %q", name), http.StatusNotFound)
		return
	case query.Has("empty"):
		err = b.Empty(now)
		n.log.Info("budget emptied by the operator", "budget", name)
	case query.Has("reset"):
		err = b.Reset(now)
		n.log.Info("budget reset by the operator", "budget", name)
	case query.Has("add"):
		amount, bad := parseAmount(query.Get("add"))
		if bad != nil {
			http.Error(w, bad.Error(), http.StatusBadRequest)
			return
		}
		err = b.Add(now, amount)
		n.log.Info("budget raised by the operator", "budget", name, "usd", amount)
	default:
		http.Error(w, "say ?add=DOLLARS, ?reset=1 or ?empty=1", http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("done, but a restart will forget it: %v", err), http.StatusInternalServerError)
	}
}
