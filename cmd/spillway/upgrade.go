package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"spillway/edge/admin"
)

func newUpgradeCommand() *cobra.Command {
	var path, address string
	cmd := &cobra.Command{
		Use:   "upgrade [--config FILE | --admin ADDRESS]",
		Short: "Let a new process take the running node's place, and lose nothing",
		Long: `Tell the node on this machine to start its program anew, as it is on the disk
now and with the configuration file as it is now, and to hand its sockets over. The
new process serves new visitors; the old one finishes what it has begun, within
timeouts.drain, and ends. While one still does, a further upgrade waits for it. When
the new process does not come to serve, the old one goes on as if nothing had
happened: then the reason is printed, and the exit code is 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := adminClient(path, address)
			if err != nil {
				return err
			}
			return askUpgrade(cmd.Context(), client, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration `file` of the node")
	cmd.Flags().StringVar(&address, "admin", "", "`address` of the admin listener: unix:PATH or a loopback address")
	return cmd
}

// An upgradeStep is a line of the answer to POST /upgrade: what happens, and in the
// last one how it ended.
type upgradeStep struct {
	Text string `json:"text"`
	Done bool   `json:"done,omitempty"` // it is the last
	OK   bool   `json:"ok,omitempty"`   // the successor serves
}

func askUpgrade(ctx context.Context, client *admin.Client, out, errs io.Writer) error {
	var last upgradeStep
	err := client.Follow(ctx, "/upgrade", func(line []byte) error {
		if err := json.Unmarshal(line, &last); err != nil {
			return fmt.Errorf("read answer to /upgrade: %w", err)
		}
		if !last.Done || last.OK {
			fmt.Fprintln(out, last.Text)
		}
		return nil
	})
	switch {
	case err != nil:
		return notRunning(err)
	case !last.Done:
		return errors.New("the node went away before the upgrade was done; see its log")
	case !last.OK:
		fmt.Fprintf(errs, "%s\nrefused; the process that runs goes on\n", last.Text)
		return errReported
	}
	return nil
}

// serveUpgrade answers POST /upgrade, a line for each step as it comes. Who asks and
// goes away before anything was handed over has changed its mind.
func (n *node) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	answer := http.NewResponseController(w)
	_ = answer.SetWriteDeadline(time.Time{}) // the wait has its own bound
	tell := func(s upgradeStep) {
		_ = json.NewEncoder(w).Encode(s) // who asked may have left
		_ = answer.Flush()
	}
	if err := n.upgrade(r.Context(), func(text string) { tell(upgradeStep{Text: text}) }); err != nil {
		tell(upgradeStep{Text: err.Error(), Done: true})
		return
	}
	select { // who reads the last line and asks for more is answered by the successor
	case <-n.admin.Left():
	case <-r.Context().Done():
	}
	tell(upgradeStep{Text: fmt.Sprintf("process %d serves; this one ends when its requests have, %s from now at the latest",
		n.successor.process.Pid, n.patience()), Done: true, OK: true})
}

var errStopping = errors.New("the node is stopping")

// upgrade lets a successor take over, or says why not: then everything is as it was.
// It tells what it does.
func (n *node) upgrade(ctx context.Context, tell func(text string)) (err error) {
	n.mu.Lock()
	stopping := n.stopping
	n.mu.Unlock()
	switch {
	case stopping.Err() != nil:
		return errStopping
	case !n.upgrading.TryLock():
		return errors.New("another upgrade is under way")
	}
	defer n.upgrading.Unlock()
	if n.wasReplaced() {
		// Both processes have the admin listener, until this one notices.
		return fmt.Errorf("process %d has just taken this one's place; ask again, and it answers", n.successor.process.Pid)
	}
	defer func() { n.noteUpgrade(err) }()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	defer context.AfterFunc(stopping, func() { abort(errStopping) })()
	if err := n.awaitDrained(ctx, tell); err != nil {
		return err
	}
	// A reload must not fall between what the successor has read and its beginning.
	n.reloading.Lock()
	defer n.reloading.Unlock()
	tell("starting " + n.program.path)
	s, m, err := n.prepareSuccessor(ctx)
	if err != nil {
		return err
	}
	tell(fmt.Sprintf("process %d is prepared: spillway %s, configuration with hash %s", s.process.Pid, m.Program, m.Hash))
	if err := n.handOver(s); err != nil {
		return fmt.Errorf("process %d did not come to serve: %w", s.process.Pid, err)
	}
	return nil
}

// awaitDrained waits for the process that this one has succeeded: two generations at a
// time are what the memory and the connection IDs have room for.
func (n *node) awaitDrained(ctx context.Context, tell func(text string)) error {
	before, drained := n.before.state()
	if before.PID == 0 {
		return nil
	}
	tell(fmt.Sprintf("waiting for process %d: it drains until %s, requests left: %d",
		before.PID, before.Until.Local().Format(time.TimeOnly), before.Requests))
	bound := time.NewTimer(time.Until(before.Until) + servePatience)
	defer bound.Stop()
	select {
	case <-drained:
		return nil
	case <-bound.C:
		return fmt.Errorf("process %d, which drains, does not end; end it by kill -KILL %[1]d, and try again", before.PID)
	case <-ctx.Done():
		return fmt.Errorf("wait for process %d, which drains: %w", before.PID, context.Cause(ctx))
	}
}

// prepareSuccessor starts a successor and returns it when it is prepared.
func (n *node) prepareSuccessor(ctx context.Context) (*successor, message, error) {
	if ctx.Err() != nil {
		return nil, message{}, context.Cause(ctx)
	}
	if n.first {
		return nil, message{}, errors.New("this is process 1, with which its container would end; replace the container instead")
	}
	files, err := n.bequest()
	if err != nil {
		return nil, message{}, err
	}
	defer closeFiles(files)
	hello := message{
		Word: wordHello, Generation: 1 - n.inherited.generation, Steering: n.listeners.State().UDPSteering,
		ConnectionIDKey: n.ids.keys.Master(), ConnectionIDLength: n.ids.Len(),
	}
	s, err := startSuccessor(n.program, hello, files)
	if err != nil {
		return nil, message{}, err
	}
	defer context.AfterFunc(ctx, s.giveUp)()
	m, err := s.await(wordPrepared, n.prepareIn)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.kill()
		return nil, m, errors.Join(fmt.Errorf("process %d: %w", s.process.Pid, err), n.retake())
	}
	return s, m, nil
}

// handOver releases what one process alone can have, and takes it back when the
// successor does not serve.
func (n *node) handOver(s *successor) error {
	n.layDown()
	if err := n.parts.ledger.HandOver(); err != nil {
		n.log.Warn("budget ledger", "error", err) // the successor finds what it can, as after a crash
	}
	n.released.Store(true)
	err := s.talk.send(message{Word: wordRelease, Rules: n.commanded()})
	if err == nil {
		_, err = s.await(wordServing, n.serveIn)
	}
	if err != nil {
		s.kill()
		n.released.Store(false)
		n.parts.ledger.Open()
		n.takeDuties()
		return errors.Join(err, n.retake())
	}
	n.log.Info("handed over", "successor", s.process.Pid)
	// The successor says so too, but this process may end before that is heard, which a
	// service manager would take for the end of the service.
	_ = notify(fmt.Sprintf("MAINPID=%d", s.process.Pid)) // without a manager nobody needs to know
	n.successor = s
	close(n.replaced)
	return nil
}

// retake takes packets, rules and QUIC flows back from a successor that is no more.
func (n *node) retake() error {
	err := n.listeners.Retake()
	if n.kernel != nil {
		err = errors.Join(err, n.kernel.Retake(), n.restoreRules())
	}
	return err
}

// noteUpgrade counts an upgrade that was refused, for the status and the log. One that
// was not is the successor's to tell.
func (n *node) noteUpgrade(err error) {
	if err == nil {
		return
	}
	n.log.Error("upgrade refused, this process goes on", "error", err)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.upgradeRefusals++
	n.upgradeRefused = refusedUpgrade{At: time.Now(), Reason: err.Error()}
}
