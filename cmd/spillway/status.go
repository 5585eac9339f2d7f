package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"spillway/config"
	"spillway/edge"
	"spillway/edge/admin"
	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/recorder"
	"spillway/edge/waiting"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
)

func newStatusCommand() *cobra.Command {
	var path, address string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [--config FILE | --admin ADDRESS] [--json]",
		Short: "Show what the node on this machine does",
		Long: `Ask the admin listener of the node on this machine, and show what it does. The
address of the listener is read from the configuration file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := adminAddress(path, address)
			if err != nil {
				return err
			}
			return status(cmd.Context(), admin.NewClient(address), asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything, as JSON")
	return cmd
}

// adminAddress returns the address that was given, or else the one of the
// configuration.
func adminAddress(path, given string) (string, error) {
	if given != "" {
		if err := config.CheckAdmin(given); err != nil {
			return "", usageError{fmt.Errorf("--admin %s: %w", given, err)}
		}
		return given, nil
	}
	c, err := config.Load(path, os.Environ())
	if err != nil {
		return "", fmt.Errorf("%w\n(to ask without a configuration, name the listener by --admin)", err)
	}
	return c.Admin, nil
}

func status(ctx context.Context, client *admin.Client, asJSON bool, out io.Writer) error {
	if asJSON {
		body, err := client.Get(ctx, "/status")
		if err == nil {
			_, err = out.Write(body)
		}
		return notRunning(err)
	}
	var s nodeState
	if err := client.Status(ctx, &s); err != nil {
		return notRunning(err)
	}
	return s.write(out)
}

// notRunning says what to do when no node could be asked.
func notRunning(err error) error {
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return fmt.Errorf("%w; is the node running?", err)
	case errors.Is(err, admin.ErrForbidden):
		return fmt.Errorf("%w; run this as root", err)
	}
	return err
}

// write prints the state as tables.
func (s *nodeState) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	uptime := time.Duration(s.Uptime * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(w, "node\t%s, up %s, %s\n", s.Version, uptime, readiness(s.Ready))
	fmt.Fprintf(w, "listen\t%s\n", strings.Join(s.Listeners, ", "))
	if s.ECH != "" {
		fmt.Fprintf(w, "ech\t%s\n", s.ECH)
	}
	fmt.Fprintf(w, "config\t%s, hash %s, loaded %s\n", s.Config.Path, s.Config.Hash, s.Config.Loaded.Local().Format(time.DateTime))
	s.Config.write(w)
	s.Upgrade.write(w)
	fmt.Fprintf(w, "requests\t%d in flight\n", s.InFlight)
	fmt.Fprintf(w, "connections\t%d of %d, %d half-open\n", s.Admission.Connections, s.Admission.ConnectionsLimit, s.Admission.HalfOpen)
	fmt.Fprintf(w, "admission\t%s\n", admissionLine(&s.Admission))
	fmt.Fprintf(w, "memory\t%s\n", s.Memory)
	fmt.Fprintf(w, "cache\t%s of %s, %d entries\n", sizeText(s.Cache.Bytes), sizeText(s.Cache.Limit), s.Cache.Entries)
	if d := s.Cache.Disk; d != nil {
		fmt.Fprintf(w, "disk cache\t%s\n", diskText(d))
	}
	writeFlight(w, &s.Recorder)
	writeOutcomes(w, s.Outcomes)
	writeOrigins(w, s.Origins)
	writeWaiting(w, s.Waiting)
	writeFunctions(w, s.Functions)
	writeProofs(w, s.Proofs)
	writeBudgets(w, s.Budgets)
	if s.Ledger.Error != "" {
		fmt.Fprintf(w, "ledger\tdoes not work: %s\n", s.Ledger.Error)
	}
	writeRouteCosts(w, s.Routes)
	writeCacheRoutes(w, s.CacheRoutes)
	return w.Flush()
}

// diskText says what the tier on the disk holds, or why it does not work.
func diskText(d *cache.DiskState) string {
	switch {
	case d.Phase == "opening":
		return "being read"
	case d.Phase == "off":
		return oneLine("off: " + d.Error)
	case d.Limit < d.Size:
		return fmt.Sprintf("%s of %s, %s; the disk is full, so it is smaller than %s",
			sizeText(d.Bytes), sizeText(d.Limit), countedObjects(d.Objects), sizeText(d.Size))
	}
	return fmt.Sprintf("%s of %s, %s", sizeText(d.Bytes), sizeText(d.Size), countedObjects(d.Objects))
}

func countedObjects(n int) string {
	if n == 1 {
		return "1 object"
	}
	return fmt.Sprintf("%d objects", n)
}

// write shows what the last reloads did, and what the node warns of.
func (c *configState) write(w io.Writer) {
	if len(c.Changed) > 0 {
		fmt.Fprintf(w, "reload changed\t%s\n", strings.Join(c.Changed, ", "))
	}
	for _, p := range c.Refused.Problems {
		fmt.Fprintf(w, "reload refused\t%s, %s\n", c.Refused.At.Local().Format(time.DateTime), firstLine(p.String()))
	}
	for _, p := range c.Warnings {
		fmt.Fprintf(w, "warning\t%s\n", firstLine(p.String()))
	}
}

// writeFlight shows where the minute before the last shedding is.
func writeFlight(w io.Writer, r *recorder.State) {
	if r.File != "" {
		fmt.Fprintf(w, "recorder\t%s, %d decisions before %s\n", r.File, r.Count, r.At.Local().Format(time.DateTime))
	}
	if r.Error != "" {
		fmt.Fprintf(w, "recorder\tcannot write: %s\n", r.Error)
	}
}

func readiness(ready string) string {
	if ready == "ok" {
		return "ready"
	}
	return "not ready: " + ready
}

// writeOutcomes shows every outcome that happened, with its share.
func writeOutcomes(w io.Writer, outcomes map[outcome.Outcome]uint64) {
	var total uint64
	for _, n := range outcomes {
		total += n
	}
	if total == 0 {
		return
	}
	fmt.Fprintf(w, "\nOUTCOME\tREQUESTS\tSHARE\n")
	for _, o := range outcome.All {
		if n := outcomes[o]; n > 0 {
			fmt.Fprintf(w, "%s\t%d\t%.1f%%\n", o, n, 100*float64(n)/float64(total))
		}
	}
}

func writeOrigins(w io.Writer, origins map[string]origin.State) {
	fmt.Fprintf(w, "\nORIGIN\tSTATE\tLIMIT\tIN FLIGHT\tQUEUED\tLONG-LIVED\tSERVERS UP\n")
	for _, name := range slices.Sorted(maps.Keys(origins)) {
		o := origins[name]
		up, draining := 0, ""
		for _, server := range o.Servers {
			if server.Up {
				up++
			}
			if server.Draining {
				draining = ", draining"
			}
		}
		state := "up"
		if !o.Up {
			state = "down"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d of %d%s\n",
			name, state, o.Limit.Limit, o.Limit.InFlight, o.Limit.Queued, o.Limit.LongLived, up, len(o.Servers), draining)
	}
	for _, name := range slices.Sorted(maps.Keys(origins)) {
		if s := origins[name].Scale; s.Known && (s.Needed || s.Wanted != s.Servers) {
			fmt.Fprintf(w, "%s wants %.1f times its capacity: %s instead of %d\n", name, s.Ratio, counted(s.Wanted, "server"), s.Servers)
		}
	}
}

// writeWaiting shows the rooms in which anybody waits, or has waited.
func writeWaiting(w io.Writer, rooms map[string]waiting.State) {
	head := "\nWAITING FOR\tVISITORS\tCALLED\tAT THE DOOR\tWAIT\tADMITTED\tLEFT\n"
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		r := rooms[name]
		if r.Tickets == 0 {
			continue
		}
		wait := time.Duration(r.Estimate) * time.Second
		fmt.Fprintf(w, "%s%s\t%d\t%d\t%d\t%s\t%d\t%d\n", head, name, r.Visitors, r.Called, r.AtDoor, wait, r.Admitted, r.Left)
		head = ""
	}
}

func writeFunctions(w io.Writer, functions map[string]faas.State) {
	if len(functions) == 0 {
		return
	}
	fmt.Fprintf(w, "\nFUNCTION\tBREAKER\tIN FLIGHT\tREADY\tSTARTING\tCALLS\tOK\tFAILURES\tCOST\n")
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		f := functions[name]
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d\t%d\t%d\t%d\t%s\t$%.6f\n",
			name, f.Breaker, f.InFlight, f.MaxConcurrency, f.Ready, f.Starting, f.Calls, f.OK, failuresText(f.Failures), f.CostUSD)
	}
}

func failuresText(failures map[faas.Class]uint64) string {
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(failures)) {
		if n := failures[class]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, class))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func writeBudgets(w io.Writer, budgets map[string]budget.State) {
	if len(budgets) == 0 {
		return
	}
	fmt.Fprintf(w, "\nBUDGET\tLEFT\tTHIS HOUR\tTODAY\tTHIS MONTH\tIN CALLS NOW\n")
	for _, name := range slices.Sorted(maps.Keys(budgets)) {
		b := budgets[name]
		left := fmt.Sprintf("$%.4f", b.Left)
		switch {
		case b.Drained:
			left = "emptied"
		case b.Stopped:
			left = "stopped"
		case !b.Limited:
			left = "no limit"
		}
		fmt.Fprintf(w, "%s\t%s", name, left)
		for _, p := range b.Periods {
			fmt.Fprintf(w, "\t%s", spentText(p.Spent, p.Limit+p.Added))
		}
		fmt.Fprintf(w, "\t$%.4f\n", b.AtRisk)
	}
}

func spentText(spent, limit float64) string {
	if limit == 0 {
		return fmt.Sprintf("$%.4f", spent)
	}
	return fmt.Sprintf("$%.4f of $%g", spent, limit)
}

// writeCacheRoutes shows the routes that have asked the cache.
func writeCacheRoutes(w io.Writer, routes []edge.CacheState) {
	head := "\nROUTE\tHIT RATIO\tHITS\tSTALE\tCOLLAPSED\tREVALIDATED\tMISSES\tBYPASSED\n"
	for _, r := range routes {
		var all uint64
		for _, n := range r.Requests {
			all += n
		}
		if all == 0 {
			continue
		}
		fmt.Fprintf(w, "%s%s\t%.1f%%", head, r.Route, 100*r.HitRatio)
		for _, status := range edge.CacheStatuses {
			fmt.Fprintf(w, "\t%d", r.Requests[status])
		}
		fmt.Fprintln(w)
		head = ""
	}
}

func sizeText(n int64) string {
	size, unit := float64(n), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, larger
	}
	return fmt.Sprintf("%.4g %s", size, unit)
}
