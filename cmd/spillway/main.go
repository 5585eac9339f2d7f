// Command spillway is an edge node that sheds load: it terminates HTTP/3, HTTP/2
// and HTTP/1.1, answers from its cache or an origin, and spills what the origin
// cannot take to functions, within a budget, before it sheds anything.
//
// This package is the command line and the wiring; what a node does is in edge
// and origin. It exits with 0 when all went well, 1 on an error, 2 when it was
// called wrongly; check --strict and doctor exit with 2 on a warning.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(execute()) }

const (
	exitError = 1
	exitUsage = 2

	exitWarned = 2
)

// usageError is an error in how the program was called, found by a command
// itself.
type usageError struct{ error }

// errReported is the error of a command that has told what is wrong already.
var errReported = errors.New("reported")

// errWarned is the error of a strict check, or of doctor, that has told its warnings
// already.
var errWarned = errors.New("warned")

// execute runs the command that the arguments name and returns the exit code.
func execute() int {
	began := false // the arguments were understood
	root := newRootCommand()
	root.PersistentPreRun = func(*cobra.Command, []string) { began = true }
	cmd, err := root.ExecuteC()
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errWarned):
		return exitWarned
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintf(os.Stderr, "spillway: %v\n", err)
	}
	if _, wrong := errors.AsType[usageError](err); began && !wrong {
		return exitError
	}
	fmt.Fprintf(os.Stderr, "Usage: %s\nSee %s --help.\n", cmd.UseLine(), cmd.CommandPath())
	return exitUsage
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "spillway COMMAND",
		Short:         "An edge node that spills overload to functions before it sheds it",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newRunCommand(), newCheckCommand(), newReloadCommand(), newUpgradeCommand(), newPrewarmCommand(), newStatusCommand(), newExplainCommand(), newRecorderCommand(),
		newBudgetCommand(), newCacheCommand(), newPurgeCommand(), newAdmissionCommand(), newDoctorCommand(),
		newFunctionsCommand(), newDemoCommand(), newVersionCommand())
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true
	}
	return root
}
