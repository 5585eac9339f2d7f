package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spillway/config"
	"spillway/edge"
	"spillway/edge/admin"
)

func newReloadCommand() *cobra.Command {
	var path, address string
	cmd := &cobra.Command{
		Use:   "reload [--config FILE | --admin ADDRESS]",
		Short: "Put the changed configuration of the running node in force",
		Long: `Tell the node on this machine to read its configuration file again, and print
which settings changed. A configuration that does not pass changes nothing: then
the problems are printed, and the exit code is 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := adminAddress(path, address)
			if err != nil {
				return err
			}
			return askReload(cmd.Context(), admin.NewClient(address), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	return cmd
}

func askReload(ctx context.Context, client *admin.Client, out, errs io.Writer) error {
	r, _, err := askNode[reloaded](ctx, client, "/reload")
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		fmt.Fprintln(errs, r.Problems)
	}
	if !r.OK {
		fmt.Fprintf(errs, "refused; the configuration with hash %s goes on\n", r.Hash)
		return errReported
	}
	fmt.Fprintf(out, "reloaded, hash %s, %s changed\n", r.Hash, counted(len(r.Changed), "setting"))
	for _, key := range r.Changed {
		fmt.Fprintf(out, "  %s\n", key)
	}
	return nil
}

// reloaded is the answer to POST /reload: what changed, or why nothing did.
type reloaded struct {
	OK       bool            `json:"ok"`
	Hash     string          `json:"hash"` // of the configuration in force now
	Changed  []string        `json:"changed"`
	Problems config.Problems `json:"problems"` // warnings, or why it was refused
}

func (n *node) serveReload(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(n.reload())
}

// reload puts the configuration file in force as it is now, or says why not. It
// is safe for concurrent use; the log has the outcome too.
func (n *node) reload() reloaded {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	was := n.config // nothing else replaces it
	c, err := load(n.path)
	if err == nil && n.wasReplaced() {
		err = errors.New("this process drains, and its successor has read the configuration")
	}
	if err == nil {
		err = n.Reload(c)
	}
	if err != nil {
		problems := problemsOf(n.path, err)
		n.refuse(problems)
		n.log.Error("reload refused, the configuration in force goes on", "hash", was.Hash(), "error", err)
		return reloaded{Hash: was.Hash(), Problems: problems}
	}
	changed := config.Diff(was, c)
	for _, p := range c.Warnings() {
		n.log.Warn("configuration", "problem", firstLine(p.String()))
	}
	n.log.Info("reloaded", "hash", c.Hash(), "changed", changed)
	return reloaded{OK: true, Hash: c.Hash(), Changed: changed, Problems: c.Warnings()}
}

// refuse notes why a configuration was not put in force, for the status.
func (n *node) refuse(problems config.Problems) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refusals++
	n.refused = refusal{At: time.Now(), Problems: problems}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// fixed returns the settings that differ and cannot change while the node runs,
// all of them.
func fixed(was, c *config.Config) error {
	names := edge.FixedChanges(was.Edge, c.Edge)
	for _, key := range config.Diff(was, c) {
		group, name, _ := strings.Cut(key, ".")
		if rules := group == "admission" && (strings.HasPrefix(name, "allow") || strings.HasPrefix(name, "deny")); rules {
			continue
		}
		if group == "admin" || group == "admission" || group == "cache" {
			names = append(names, key)
		}
	}
	var problems config.Problems
	for _, key := range names {
		problems = append(problems, c.Problem(key, "this cannot change while the node runs", "restart it, or set this back"))
	}
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// Reload puts c in force, or returns why not and leaves everything as it was.
func (n *node) Reload(c *config.Config) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := fixed(n.config, c); err != nil {
		return err
	}
	next, err := newParts(c, n.config, n.parts, n.log)
	if err != nil {
		return err
	}
	apply, err := n.server.Prepare(c.Edge, c.Sites, c.Origins, next.backends(c))
	if err != nil {
		return err
	}
	if err := n.listeners.Reload(c.Edge, hosts(c)); err != nil {
		return err
	}
	apply()
	n.adopt(c, next)
	return nil
}

// adopt makes next the node's parts. Nothing can fail any more.
func (n *node) adopt(c *config.Config, next *parts) {
	for name, b := range next.budgets {
		b.SetConfig(c.Budgets[name])
	}
	next.share(c)
	for _, apply := range next.changes {
		apply()
	}
	next.changes = nil
	n.setRules(n.config, c)
	old := n.parts
	n.runOrigins(next)
	for name, o := range old.origins {
		// A reload may come before Run, when there is nothing to stop.
		if stop := old.stop[name]; stop != nil && next.origins[name] != o {
			stop() // requests in flight keep the origin; only probes end
		}
	}
	n.reloads++
	n.changed, n.refused = config.Diff(n.config, c), refusal{}
	n.config, n.parts, n.loaded = c, next, time.Now()
}
