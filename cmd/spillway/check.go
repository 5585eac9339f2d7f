package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"spillway/config"
)

func newCheckCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check FILE... | --config FILE",
		Short: "Say what is wrong with configuration files",
		Long: `Read each configuration file as run would, with the environment on top, and
print everything that is wrong with it. Nothing is started, and no server is
asked. The exit code is 1 when a file does not pass.`,
		RunE: func(cmd *cobra.Command, files []string) error {
			if path != "" {
				files = append(files, path)
			}
			if len(files) == 0 {
				return usageError{fmt.Errorf("name a configuration file")}
			}
			return check(files, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration `file`, as for run")
	return cmd
}

func check(files []string, out, errs io.Writer) error {
	var failed error
	for _, file := range files {
		c, err := config.Load(file, os.Environ())
		if err != nil {
			fmt.Fprintln(errs, err)
			failed = errReported
			continue
		}
		fmt.Fprintf(out, "%s: ok\n", file)
		summarize(out, c)
	}
	return failed
}

// summarize shows what the node would do, so that a file that passes and is not
// meant shows as well.
func summarize(out io.Writer, c *config.Config) {
	protocols := "h1, h2, h3"
	if !c.Edge.HTTP3.Enabled {
		protocols = "h1, h2"
	}
	servers := 0
	for _, o := range c.Origins {
		servers += len(o.Servers)
	}
	routes, spilling := 0, 0
	for _, s := range c.Sites {
		for _, r := range s.Routes {
			routes++
			if r.Overflow != nil {
				spilling++
			}
		}
	}
	fmt.Fprintf(out, "  listen     %s (%s), http %s, admin %s\n", c.Edge.Listen, protocols, c.Edge.HTTP, c.Admin)
	fmt.Fprintf(out, "  origins    %d (%s)\n", len(c.Origins), counted(servers, "server"))
	fmt.Fprintf(out, "  functions  %d (%s)\n", len(c.Functions), counted(len(c.Budgets), "budget"))
	fmt.Fprintf(out, "  routes     %d in %s, %d may spill\n", routes, counted(len(c.Sites), "site"), spilling)
	fmt.Fprintf(out, "  hash       %s\n", c.Hash())
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
