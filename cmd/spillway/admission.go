package main

import (
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge/admin"
	"spillway/edge/admit"
)

// admissionFlags are those of all commands about admission.
type admissionFlags struct {
	path, address string
	asJSON        bool
}

func (f *admissionFlags) client() (*admin.Client, error) { return adminClient(f.path, f.address) }

func newAdmissionCommand() *cobra.Command {
	var f admissionFlags
	cmd := &cobra.Command{
		Use:   "admission show|allow|deny|clear|level|enable|disable [--config FILE | --admin ADDRESS] [--json]",
		Short: "Show who may begin connections, and change it",
		Long: `Show how the node on this machine admits connections: where packets are judged, how
strict it is and why, what became of them, and who is allowed or denied; and change
that until the next restart. What is to last stands in the configuration, as
admission.allow and admission.deny.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&f.path, "config", defaultConfig, "configuration `file` of the node")
	cmd.PersistentFlags().StringVar(&f.address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	cmd.PersistentFlags().BoolVar(&f.asJSON, "json", false, "print everything, as JSON")
	cmd.AddCommand(newAdmissionShowCommand(&f), newAllowCommand(&f), newDenyCommand(&f), newClearCommand(&f),
		newLevelCommand(&f), newEnableCommand(&f), newDisableCommand(&f))
	for _, sub := range cmd.Commands() {
		sub.DisableFlagsInUseLine = true
	}
	return cmd
}

func newAllowCommand(f *admissionFlags) *cobra.Command {
	var during time.Duration
	cmd := &cobra.Command{
		Use:   "allow PREFIX [--for 1h]",
		Short: "Let new connections of a network in over all limits",
		Long: `Let new connections from an address or a network in over all limits, whatever the
level is. The longest prefix of an address counts.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := ruleQuery(args[0], during)
			return f.setRule(cmd, "/admission/allow", query, err)
		},
	}
	addFor(cmd, &during)
	return cmd
}

func newDenyCommand(f *admissionFlags) *cobra.Command {
	var during time.Duration
	var force bool
	cmd := &cobra.Command{
		Use:   "deny PREFIX [--for 1h] [--force]",
		Short: "Drop new connections of a network",
		Long: `Drop new connections from an address or a network, whatever the level is; those that
are there go on. The longest prefix of an address counts. What holds everybody, an
address of this machine, the one that you are logged in from, or a proxy through
which visitors come, is refused without --force.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query, err := ruleQuery(args[0], during)
			if err == nil {
				query["operator"] = operators()
			}
			if force {
				query.Set("force", "1")
			}
			return f.setRule(cmd, "/admission/deny", query, err)
		},
	}
	addFor(cmd, &during)
	cmd.Flags().BoolVar(&force, "force", false, "also where it looks like a slip")
	return cmd
}

func newClearCommand(f *admissionFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "clear [PREFIX]",
		Short: "Forget what was allowed or denied",
		Long: `Forget the rule of a prefix, or all rules but those of the configuration, and what
sources owe for connections that they began and did not complete.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			var err error
			if len(args) > 0 {
				query, err = ruleQuery(args[0], 0)
			}
			return f.setRule(cmd, "/admission/clear", query, err)
		},
	}
}

func addFor(cmd *cobra.Command, during *time.Duration) {
	cmd.Flags().DurationVar(during, "for", 0, "how long it holds; without it, until the next restart")
}

// ruleQuery names a prefix and how long its rule holds.
func ruleQuery(prefix string, during time.Duration) (url.Values, error) {
	p, err := admit.ParsePrefix(prefix)
	if err == nil && during < 0 {
		err = fmt.Errorf("--for %v: write a time such as 1h", during)
	}
	query := url.Values{"prefix": {p.String()}}
	if during > 0 {
		query.Set("for", during.String())
	}
	return query, err
}

// setRule has the node change its rules, unless the query is wrong, and prints what it
// has done.
func (f *admissionFlags) setRule(cmd *cobra.Command, path string, query url.Values, wrong error) error {
	if wrong != nil {
		return usageError{wrong}
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	return printAnswer(cmd.Context(), client, path+"?"+query.Encode(), f.asJSON, cmd.OutOrStdout(),
		func(out io.Writer, r *ruleReport) error { return r.write(out) })
}
