package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"spillway/edge/admin"
	"spillway/edge/cache"
)

func newPurgeCommand() *cobra.Command {
	var path, address string
	var prefixes, tags, groups []string
	var all, soft, asJSON bool
	cmd := &cobra.Command{
		Use:   "purge URL... | --prefix URL | --tag TAG | --group GROUP ORIGIN... | --all [--soft] [--json]",
		Short: "Make the cache forget what has changed",
		Long: `Tell the node on this machine to forget stored answers: those of a URL in all of
their variants; all whose URL begins so, such as https://img.example.com/thumb/; all
that the origin has tagged by Surrogate-Key or Cache-Tag, whatever their host; all in
a group of Cache-Groups (RFC 9875) on the origins that are named beside it, such as
https://img.example.com; or everything.

With --soft they stay and are stale: they are validated before they answer, and may
stand in meanwhile where a stale answer may. Fetches that began before the purge are
not stored. It costs as much as there is to forget, not as much as is stored.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"prefix": prefixes, "tag": tags, "group": groups}
			if all {
				query.Set("all", "1")
			}
			if len(groups) > 0 {
				query["origin"] = args
			} else {
				query["url"] = args
			}
			if err := checkPurge(query); err != nil {
				return usageError{err}
			}
			client, err := adminClient(path, address)
			if err != nil {
				return err
			}
			report, err := askPurge(cmd.Context(), client, query, soft)
			if err != nil {
				return err
			}
			return report.write(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().StringArrayVar(&prefixes, "prefix", nil, "purge what lies under a `URL`; may be repeated")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "purge what has the `tag`; may be repeated")
	cmd.Flags().StringArrayVar(&groups, "group", nil, "purge what is in the `group` on the origins named; may be repeated")
	cmd.Flags().BoolVar(&all, "all", false, "purge everything")
	cmd.Flags().BoolVar(&soft, "soft", false, "mark as stale instead of forgetting")
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the counts as JSON")
	return cmd
}

// checkPurge reports whether a purge names things by one kind, as it must: so a
// slip of the shell, such as a variable that is not set, purges neither more nor less
// than was meant.
func checkPurge(query url.Values) error {
	kinds := 0
	for _, kind := range []string{"url", "prefix", "tag", "group", "all"} {
		if len(query[kind]) > 0 {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return errors.New("name URLs, or --prefix, --tag, --group or --all")
	case kinds > 1:
		return errors.New("name what to purge by one of URLs, --prefix, --tag, --group and --all")
	case len(query["group"]) > 0 && len(query["origin"]) == 0:
		return errors.New("--group: name the origins of the group as well, such as https://img.example.com")
	case slices.Contains(query["tag"], ""):
		return errors.New("--tag: this tag is empty; name one that the origin sends in Surrogate-Key or Cache-Tag, or say --all")
	case slices.Contains(query["group"], ""):
		return errors.New("--group: this group is empty; name one that the origin sends in Cache-Groups, or say --prefix with the origin")
	}
	return nil
}

// A purgeReport says what a purge has found. Its keys in JSON do not change from
// version to version.
type purgeReport struct {
	Soft   bool         `json:"soft"`
	Purged int          `json:"purged"` // entries in all
	Named  []purgeCount `json:"named"`
	// DiskError says why what was purged may be back after a restart; empty if not.
	DiskError string `json:"disk_error,omitempty"`
}

// A purgeCount is one thing that was named.
type purgeCount struct {
	Kind   cache.Kind `json:"kind"`
	Name   string     `json:"name,omitempty"`
	Origin string     `json:"origin,omitempty"` // of a group
	Purged int        `json:"purged"`

	selection cache.Selection
}

func (r *purgeReport) write(out io.Writer, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	done := "purged"
	if r.Soft {
		done = "softly purged"
	}
	for _, n := range r.Named {
		what := string(n.Kind)
		if n.Name != "" {
			what += " " + n.Name
		}
		if n.Origin != "" {
			what += " of " + n.Origin
		}
		fmt.Fprintf(out, "%s: %s %s\n", what, countedEntries(n.Purged), done)
	}
	if len(r.Named) != 1 {
		fmt.Fprintf(out, "%s %s in all\n", countedEntries(r.Purged), done)
	}
	if r.DiskError != "" {
		fmt.Fprintf(out, "the disk cache has not written this down, and may have it back after a restart: %s\n", oneLine(r.DiskError))
	}
	return nil
}

func countedEntries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// queryRoom bounds the query of one request to the admin listener, whose headers
// are bounded as well.
const queryRoom = 6 << 10

// askPurge has the node purge, in as many requests as the names need.
func askPurge(ctx context.Context, client *admin.Client, query url.Values, soft bool) (*purgeReport, error) {
	report := &purgeReport{Soft: soft}
	for _, part := range splitQuery(query) {
		if soft {
			part.Set("soft", "1")
		}
		one, _, err := askNode[purgeReport](ctx, client, "/purge?"+part.Encode())
		if err != nil {
			return nil, err
		}
		report.Named = append(report.Named, one.Named...)
		report.Purged += one.Purged
		report.DiskError = cmp.Or(report.DiskError, one.DiskError)
	}
	return report, nil
}

// splitQuery parts a query so that each part has room. Origins belong to all.
func splitQuery(query url.Values) (parts []url.Values) {
	part, room := url.Values{}, 0
	begin := func() {
		part, room = url.Values{"origin": query["origin"]}, queryRoom
		parts = append(parts, part)
	}
	for _, kind := range []string{"url", "prefix", "tag", "group", "all"} {
		for _, name := range query[kind] {
			size := len(url.QueryEscape(name)) + len(kind) + 2
			if size > room {
				begin()
			}
			room -= size
			part.Add(kind, name)
		}
	}
	return parts
}

// servePurge purges: POST /purge?url=URL, prefix=URL, tag=TAG, group=GROUP with
// origin=ORIGIN, or all=1; and soft=1 beside it.
func (n *node) servePurge(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	named, err := n.readPurge(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	report := purgeReport{Soft: query.Has("soft"), Named: named}
	for i := range named {
		named[i].Purged = n.cache.PurgeBy(named[i].selection, report.Soft)
		report.Purged += named[i].Purged
	}
	patience, cancel := context.WithTimeout(r.Context(), cache.SyncPatience)
	defer cancel()
	if err := n.cache.Sync(patience); err != nil {
		report.DiskError = err.Error()
		n.log.Warn("a purge could not be written to the disk cache", "error", err)
	}
	n.log.Info("purged by the operator", "kind", named[0].Kind, "named", len(named), "entries", report.Purged, "soft", report.Soft)
	writeIndented(w, report)
}

// readPurge reads what to purge, all of it before anything is.
func (n *node) readPurge(query url.Values) (named []purgeCount, err error) {
	if err := checkPurge(query); err != nil {
		return nil, err
	}
	add := func(kind cache.Kind, name, origin string, selection cache.Selection, wrong error) {
		err = errors.Join(err, wrong)
		named = append(named, purgeCount{Kind: kind, Name: name, Origin: origin, selection: selection})
	}
	for _, name := range query["url"] {
		selection, wrong := n.server.Select(name)
		add(cache.KindURL, name, "", selection, wrong)
	}
	for _, name := range query["prefix"] {
		selection, wrong := cache.SelectPrefix(name)
		add(cache.KindPrefix, name, "", selection, wrong)
	}
	for _, name := range query["tag"] {
		add(cache.KindTag, name, "", cache.SelectTag(name), nil)
	}
	for _, name := range query["group"] {
		for _, origin := range query["origin"] {
			selection, wrong := cache.SelectGroup(origin, name)
			add(cache.KindGroup, name, origin, selection, wrong)
		}
	}
	if query.Has("all") {
		add(cache.KindAll, "", "", cache.SelectAll(), nil)
	}
	return named, err
}
