package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge/admin"
	"spillway/edge/cache"
)

// mostListed bounds a page of the admin listener.
const mostListed = 1000

func newCacheListCommand(f *cacheFlags) *cobra.Command {
	var prefix, tag, group, after string
	limit := 100
	cmd := &cobra.Command{
		Use:   "list --prefix URL | --tag TAG | --group GROUP ORIGIN [--limit 100] [--after CURSOR]",
		Short: "List what has a tag, or lies under a URL",
		Long: `List the entries that have a tag, are in a group of an origin, or lie under a URL, in
no order. Entries that come and go meanwhile may be missing or told twice.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			for key, value := range map[string]string{"prefix": prefix, "tag": tag, "group": group} {
				if value != "" {
					query.Set(key, value)
				}
			}
			query["origin"] = args
			if err := checkPurge(query); err != nil || len(args) > 0 && group == "" {
				return usageError{errors.New("say one of --prefix URL, --tag TAG, and --group GROUP with an origin")}
			}
			if limit < 1 {
				return usageError{fmt.Errorf("--limit: %d is not a number of entries", limit)}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			listed, err := askList(cmd.Context(), client, query, limit, after)
			if err != nil {
				return err
			}
			if f.asJSON {
				return printIndented(cmd.OutOrStdout(), listed)
			}
			return listed.write(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "list what lies under a `URL`")
	cmd.Flags().StringVar(&tag, "tag", "", "list what has the `tag`")
	cmd.Flags().StringVar(&group, "group", "", "list what is in the `group` of an origin")
	cmd.Flags().IntVar(&limit, "limit", limit, "list at most so many `entries`")
	cmd.Flags().StringVar(&after, "after", "", "go on at the `cursor` that the list before has ended with")
	return cmd
}

// A listing is a part of a list of entries.
type listing struct {
	Entries []cache.Look `json:"entries"`
	// Next goes on where the listing ends; empty at the end.
	Next string `json:"next,omitempty"`
}

// askList asks for pages until there are as many entries as wanted.
func askList(ctx context.Context, client *admin.Client, query url.Values, limit int, after string) (*listing, error) {
	all := &listing{Entries: []cache.Look{}, Next: after}
	for len(all.Entries) < limit {
		query.Set("limit", strconv.Itoa(min(limit-len(all.Entries), mostListed)))
		query.Set("after", all.Next)
		page, _, err := askNode[listing](ctx, client, "/cache/list?"+query.Encode())
		if err != nil {
			return nil, err
		}
		all.Entries = append(all.Entries, page.Entries...)
		if all.Next = page.Next; page.Next == "" {
			break
		}
	}
	return all, nil
}

func (l *listing) write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "URL\tSTATUS\tSIZE\tTIER\tAGE\tVARY\n")
	for i := range l.Entries {
		e := &l.Entries[i]
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", oneLine(e.URL), e.Status, bodyText(e), e.Tier, ageText(e), listText(e.Vary))
	}
	if l.Next != "" {
		fmt.Fprintf(w, "\nthere is more; go on by --after %s\n", l.Next)
	}
	return w.Flush()
}

// serveList lists entries: POST /cache/list?tag=TAG, prefix=URL, or group=GROUP
// with origin=ORIGIN; and limit and after beside it.
func (n *node) serveList(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	named, err := n.readPurge(query)
	limit, wrong := strconv.Atoi(cmp.Or(query.Get("limit"), "100"))
	var l listing
	switch {
	case err != nil:
	case len(named) != 1:
		err = errors.New("say one of tag, prefix, and group with origin")
	case wrong != nil || limit < 1 || limit > mostListed:
		err = fmt.Errorf("limit: say a number from 1 to %d", mostListed)
	default:
		l.Entries, l.Next, err = n.cache.List(named[0].selection, query.Get("after"), limit, time.Now())
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeIndented(w, l)
}
