package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge"
	"spillway/edge/admin"
	"spillway/edge/cache"
)

// cacheFlags are those of all commands about the cache.
type cacheFlags struct {
	path, address string
	asJSON        bool
}

func (f *cacheFlags) client() (*admin.Client, error) { return adminClient(f.path, f.address) }

func newCacheCommand() *cobra.Command {
	var f cacheFlags
	cmd := &cobra.Command{
		Use:   "cache stats|get|list|warm [--config FILE | --admin ADDRESS] [--json]",
		Short: "Look into the cache, and fill it",
		Long: `Show what the cache of the node on this machine holds and has done, what it has for
a URL, or what has a tag; or fill it from a list of URLs. See also spillway purge.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&f.path, "config", defaultConfig, "configuration `file` of the node")
	cmd.PersistentFlags().StringVar(&f.address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	cmd.PersistentFlags().BoolVar(&f.asJSON, "json", false, "print everything, as JSON")
	cmd.AddCommand(newCacheStatsCommand(&f), newCacheGetCommand(&f), newCacheListCommand(&f), newCacheWarmCommand(&f))
	for _, sub := range cmd.Commands() {
		sub.DisableFlagsInUseLine = true
	}
	return cmd
}

func newCacheStatsCommand(f *cacheFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Show what the cache holds and has done",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			var s nodeState
			if err := client.Status(cmd.Context(), &s); err != nil {
				return notRunning(err)
			}
			if f.asJSON {
				return printIndented(cmd.OutOrStdout(), s.Cache)
			}
			return writeCacheStats(cmd.OutOrStdout(), &s.Cache)
		},
	}
}

func printIndented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func writeCacheStats(out io.Writer, s *cache.State) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, a...)) }
	line("memory", "%s of %s, %s", sizeText(s.Bytes), sizeText(s.Limit), countedEntries(int(s.Entries)))
	if d := s.Disk; d != nil {
		line("disk", "%s", diskText(d))
		line("hits from the disk", "%d%s, %s read", d.Recalled, shareText(d.Recalled, s.Hits+s.Stale+s.Misses), sizeText(int64(d.Read)))
		line("written to the disk", "%s, of which %s again", sizeText(int64(d.Written)), sizeText(int64(d.Moved)))
		line("the disk was late", "%d", d.Late)
		line("evicted, refused, damaged", "%d, %d, %d",
			d.Evicted, d.RefusedQueue+d.RefusedSize+d.RefusedOff+d.RefusedPinned, d.Damaged)
	}
	line("bodies on their way in", "%s of %s", sizeText(s.FillBytes), sizeText(s.FillLimit))
	line("fetches in flight", "%d", s.Flights)
	line("hits", "%d%s", s.Hits, shareText(s.Hits, s.Hits+s.Stale+s.Misses))
	line("expired", "%d", s.Stale)
	line("misses", "%d", s.Misses)
	line("not for the cache", "%d", s.Bypassed)
	line("collapsed", "%d", s.Collapsed)
	line("waited in vain", "%d", s.Rejected)
	line("stored", "%d", s.Stored)
	line("evicted", "%d", s.Evicted)
	line("not to be shared", "%d", s.Uncacheable)
	line("purges", "%d by URL, %d by prefix, %d by tag, %d by group, %d of everything",
		s.Purges.URL, s.Purges.Prefix, s.Purges.Tag, s.Purges.Group, s.Purges.All)
	line("purged", "%s", countedEntries(int(s.Purged)))
	line("tags ignored", "%d", s.TagsIgnored)
	return w.Flush()
}

func shareText(part, all uint64) string {
	if all == 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f%% of what was looked up", 100*float64(part)/float64(all))
}

func newCacheGetCommand(f *cacheFlags) *cobra.Command {
	var header []string
	cmd := &cobra.Command{
		Use:   "get URL [-H 'K: V']...",
		Short: "Say what the cache has for a URL, and why it would hit or miss",
		Long: `Say what the cache has for a URL: the entry that would answer a GET with these fields,
or why none would, and all variants that are stored. The cache does not notice. See
also spillway explain, which goes on to the origin and the functions.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := inquiryQuery(args[0], http.MethodGet, "", header)
			if err == nil && query.Has("id") {
				err = fmt.Errorf("%q is not a URL; write https://%s", args[0], args[0])
			}
			if err != nil {
				return usageError{err}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			return printAnswer(cmd.Context(), client, "/cache/get?"+query.Encode(), f.asJSON, cmd.OutOrStdout(), writeCached)
		},
	}
	cmd.Flags().StringArrayVarP(&header, "header", "H", nil, "a `field` of the request, as 'Name: value'; may be repeated")
	return cmd
}

// A cached is what the cache has for a URL. Without Cache the request would not come
// so far.
type cached struct {
	*edge.Explanation
	Variants []cache.Look `json:"variants"`
}

func writeCached(out io.Writer, c *cached) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	line := func(what, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, a...)) }
	line("request", "%s %s", c.Method, c.URL)
	line("route", "%s", routeText(c.Explanation))
	if c.Cache == nil {
		line("cache", "not asked: %s", stepsText(c.Now))
		return w.Flush()
	}
	line("cache", "%s", cacheLookText(c.Cache))
	if e := c.Cache.Found; e != nil {
		line("entry", "status %d, %s, %s", e.Status, bodyText(e), tierText(e))
		line("vary", "%s", listText(e.Vary))
		line("tags", "%s", listText(e.Tags))
		line("groups", "%s", listText(e.Groups))
	}
	line("stale", "%s", staleText(c.Cache))
	line("collapsing", "%s", collapsingText(c.Cache))
	line("variants", "%d", len(c.Variants))
	for i := range c.Variants {
		v := &c.Variants[i]
		line("  "+cmp.Or(strings.Join(v.Vary, ", "), "for all"),
			"status %d, %s, %s, %s", v.Status, bodyText(v), tierText(v), ageText(v))
	}
	return w.Flush()
}

func tierText(l *cache.Look) string {
	if l.Tier == "disk" {
		return "on the disk"
	}
	return "in " + l.Tier
}

func listText(words []string) string { return oneLine(cmp.Or(strings.Join(words, ", "), "none")) }

func bodyText(l *cache.Look) string {
	switch {
	case l.Offset > 0:
		return sizeText(l.Bytes) + " of " + sizeText(l.Whole) + " at " + sizeText(l.Offset)
	case l.Whole > 0:
		return sizeText(l.Bytes) + " of " + sizeText(l.Whole)
	case l.Whole < 0:
		return sizeText(l.Bytes) + " of more"
	case l.Coding != "":
		return sizeText(l.Bytes) + " " + oneLine(l.Coding)
	}
	return sizeText(l.Bytes)
}

func ageText(l *cache.Look) string {
	switch {
	case l.Soft:
		return secondsText(l.Age) + " old, softly purged"
	case l.TTL > 0:
		return fmt.Sprintf("%s old, fresh for %s more", secondsText(l.Age), secondsText(l.TTL))
	}
	return fmt.Sprintf("%s old, expired %s ago", secondsText(l.Age), secondsText(-l.TTL))
}

// serveCached says what the cache has for a request: POST /cache/get?url=URL, and
// header beside it.
func (n *node) serveCached(w http.ResponseWriter, r *http.Request) {
	inquiry, err := readInquiry(r.URL.Query())
	var c cached
	if err == nil {
		c.Explanation, err = n.server.Explain(inquiry)
	}
	var selection cache.Selection
	if err == nil {
		selection, err = n.server.Select(inquiry.URL)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.Variants, _, _ = n.cache.List(selection, "", 0, time.Now()) // a URL is one page
	writeIndented(w, c)
}
