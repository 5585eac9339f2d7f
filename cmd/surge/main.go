// Surge makes the weather that Spillway is built for: the crowd, the origin that
// cannot hold it, the functions that take the rest, and the bad network between.
// Its programs run on one machine, without accounts and without privileges, and
// count for themselves, so that the node's own numbers can be checked.
//
// It is a test bench, not a product: it binds and calls what it is told to, and has
// no authentication. Keep it off public addresses.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"spillway/cmd/surge/bench"
	"spillway/cmd/surge/contest"
	"spillway/cmd/surge/flood"
	"spillway/cmd/surge/functions"
	"spillway/cmd/surge/origin"
	"spillway/cmd/surge/peers"
	"spillway/cmd/surge/wan"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "surge:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "surge",
		Short:         "Flash crowds and what they meet, for testing Spillway",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(crowdCommand(), origin.Command(), functions.Command(), wan.Command(), bench.Command(), bench.BareCommand(), contest.Command(), flood.Command(), peers.Command())
	return root
}
