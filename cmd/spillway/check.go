package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"
	"github.com/spf13/cobra"

	"spillway/config"
	"spillway/edge"
	"spillway/edge/admin"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/origin"
	"spillway/origin/faas/budget"
	"spillway/origin/faas/lambda"
)

func newCheckCommand() *cobra.Command {
	var path, address string
	var strict, asJSON, live bool
	cmd := &cobra.Command{
		Use:   "check FILE... | --config FILE [--strict] [--json] [--online [--admin ADDRESS]]",
		Short: "Say what is wrong with configuration files",
		Long: `Read each configuration file as run would, with the environment on top, and
print everything that is wrong with it. Nothing is started, and no server is
asked. The exit code is 0 when all files pass, 1 when one does not, and with
--strict 2 when one passes with warnings.

With --online the running node is asked besides, within ten seconds: whether it
runs this configuration, whether it reaches its origins, whether each function
answers, and whether what it answered was compared with the origin's. Each
function is called once, at its warm_up, which costs what a call costs; one that
cannot start, or answers with 500 or more, fails. The exit code is 1 when
something fails, or is UNPROVEN.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			if path != "" {
				files = append(files, path)
			}
			if len(files) == 0 {
				return usageError{fmt.Errorf("name a configuration file")}
			}
			if live && len(files) > 1 {
				return usageError{fmt.Errorf("--online: name one configuration file, that of the running node")}
			}
			var results []checked
			for _, file := range files {
				results = append(results, checkFile(file))
			}
			var report *onlineReport
			var failed error
			if live && results[0].OK {
				address, err := adminAddress(files[0], address)
				if err != nil {
					return err
				}
				report, failed = online(cmd.Context(), admin.NewClient(address), results[0].Hash)
			}
			if asJSON {
				if err := writeChecked(cmd.OutOrStdout(), results, report); err != nil {
					return err
				}
			} else {
				showChecked(cmd.OutOrStdout(), cmd.ErrOrStderr(), results)
				report.write(cmd.OutOrStdout())
			}
			switch {
			case failed != nil:
				return failed
			case report != nil && !report.OK:
				return errReported
			}
			return verdict(results, strict)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration `file`, as for run")
	cmd.Flags().BoolVar(&strict, "strict", false, "let warnings end in exit code 2")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the problems as JSON")
	cmd.Flags().BoolVar(&live, "online", false, "ask the running node whether all that is named answers; costs a call of each function")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener, if it is not that of the file")
	return cmd
}

// checked is what was found in a file. Its keys in JSON do not change from
// version to version.
type checked struct {
	File string `json:"file"`
	OK   bool   `json:"ok"` // it has no errors; it may have warnings
	// Hash names the settings in force; empty when it is not OK.
	Hash     string          `json:"hash"`
	Problems config.Problems `json:"problems"`

	config *config.Config
}

// load reads a configuration and makes sure that a node can be built of it.
func load(file string) (*config.Config, error) {
	c, err := config.Load(file, os.Environ())
	if err != nil {
		return nil, err
	}
	if problems := rehearse(c); len(problems) > 0 {
		return nil, problems
	}
	return c, nil
}

func checkFile(file string) checked {
	c, err := load(file)
	if err != nil {
		return checked{File: file, Problems: problemsOf(file, err)}
	}
	return checked{File: file, OK: true, Hash: c.Hash(), Problems: c.Warnings(), config: c}
}

// problemsOf returns the problems that the error is made of.
func problemsOf(file string, err error) config.Problems {
	if problems, ok := errors.AsType[config.Problems](err); ok {
		return problems
	}
	return config.Problems{{Severity: config.Error, File: file, Message: err.Error(), Remedy: "mend that, and try again"}}
}

// rehearse makes what the configuration names and throws it away, to find what
// only its owner can know to be wrong.
func rehearse(c *config.Config) (problems config.Problems) {
	log := slog.New(slog.DiscardHandler)
	for _, name := range slices.Sorted(maps.Keys(c.Origins)) {
		if _, err := origin.New(name, c.Origins[name], log); err != nil {
			problems = append(problems, c.Problem("origins."+name, err.Error(), "mend that setting of the origin"))
		}
	}
	aws := lambda.NewAccount(log)
	for _, name := range slices.Sorted(maps.Keys(c.Functions)) {
		if _, err := newProvider(c.Functions[name], aws); err != nil {
			problems = append(problems, c.Problem("functions."+name, err.Error(), "mend that setting of the function"))
		}
	}
	if len(problems) == 0 {
		return rehearseServer(c, log)
	}
	return problems
}

// rehearseServer makes what answers requests, without the access log: to open
// it would make the file.
func rehearseServer(c *config.Config, log *slog.Logger) (problems config.Problems) {
	if err := c.Edge.Log.Check(); err != nil {
		problems = append(problems, c.Problem("log.access", err.Error(), "name a file in a folder that the node may write to, or stdout"))
	}
	p, err := newParts(c, &config.Config{}, &parts{aws: lambda.NewAccount(log), ledger: budget.OpenLedger("", log)}, log)
	if err == nil {
		quiet := c.Edge
		quiet.Log.Access = "off"
		_, err = edge.NewServer(quiet, c.Sites, c.Origins, p.backends(c), cache.New(cache.Config{}), admit.New(c.Admission, 1), metrics.NewSet(), log)
	}
	if err != nil {
		key := "sites"
		if strings.HasPrefix(err.Error(), "error_pages:") {
			key = "error_pages"
		}
		problems = append(problems, c.Problem(key, strings.TrimPrefix(err.Error(), key+": "), "mend that setting"))
	}
	return problems
}

func writeChecked(out io.Writer, results []checked, report *onlineReport) error {
	for i := range results {
		if results[i].Problems == nil {
			results[i].Problems = config.Problems{} // a list, also when it is empty
		}
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Files  []checked     `json:"files"`
		Online *onlineReport `json:"online,omitempty"`
	}{results, report})
}

func showChecked(out, errs io.Writer, results []checked) {
	for _, r := range results {
		if len(r.Problems) > 0 {
			fmt.Fprintln(errs, r.Problems)
		}
		if r.OK {
			fmt.Fprintf(out, "%s: ok\n", r.File)
			summarize(out, r.config, r.File)
		}
	}
}

func verdict(results []checked, strict bool) error {
	warned := false
	for _, r := range results {
		if !r.OK {
			return errReported
		}
		warned = warned || len(r.Problems) > 0
	}
	if warned && strict {
		return errWarned
	}
	return nil
}
