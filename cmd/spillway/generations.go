package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// upgradeState is what the status says of the processes of a node.
type upgradeState struct {
	// Inherited tells that the process was handed over to by another.
	Inherited bool `json:"inherited"`
	// Draining is the process that was, while it finishes its requests.
	Draining generation `json:"draining,omitzero"`
	// Refusals counts upgrades that did not take place, Refused is the last.
	Refusals uint64         `json:"refusals"`
	Refused  refusedUpgrade `json:"refused,omitzero"`
}

// refusedUpgrade is an upgrade that changed nothing. The zero value is none.
type refusedUpgrade struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// write shows an upgrade that goes on, and one that was refused.
func (u *upgradeState) write(w io.Writer) {
	if d := u.Draining; d.PID != 0 {
		fmt.Fprintf(w, "draining\tprocess %d until %s, requests left: %d\n", d.PID, d.Until.Local().Format(time.TimeOnly), d.Requests)
	}
	if !u.Refused.At.IsZero() {
		fmt.Fprintf(w, "upgrade refused\t%s, %s\n", u.Refused.At.Local().Format(time.DateTime), firstLine(u.Refused.Reason))
	}
}

// A predecessor is the process that handed over, as long as it drains. It is safe for
// concurrent use; the zero value is none.
type predecessor struct {
	stopped chan struct{} // has a value when it passed on that the node is to end

	mu    sync.Mutex
	now   generation
	ended chan struct{}
}

// state returns what is known of it, and a channel that is closed when it has ended.
// The zero generation is none.
func (p *predecessor) state() (generation, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.ended
}

func (p *predecessor) set(g generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now.PID == 0 {
		p.ended = make(chan struct{})
	}
	p.now = g
}

func (p *predecessor) end() (was generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, p.now = p.now, generation{}
	if was.PID != 0 {
		close(p.ended)
	}
	return was
}

// receive takes over what the process before has released: the ledger, the rules of
// commands, and what was learned. Of one that died the rules are lost. It is called once,
// before Run.
func (n *node) receive(hash string) error {
	if !n.inherited.succeeds() {
		return nil
	}
	alive, err := n.inherited.await(hash)
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	if !alive {
		n.log.Warn("the process before has died in the middle of the upgrade")
		if err := n.inherited.talk.awaitEnd(endPatience); err != nil {
			n.log.Warn("the process before may still hold its locks", "error", err)
		}
	}
	n.inheritRules()
	n.parts.ledger.Open()
	n.learned = readLearned(n.config.Edge.State, n.log)
	if !alive {
		return nil
	}
	// It drains until it says otherwise, so that nobody upgrades in between.
	n.before.set(generation{PID: os.Getppid(), Since: time.Now(), Until: time.Now().Add(n.config.Edge.Timeouts.Drain)})
	return nil
}

// announce tells all who wait for it that the node serves: the process before, and the
// service manager, which is to follow this process from now on and to keep its sockets
// over a restart.
func (n *node) announce(ctx context.Context) {
	select {
	case <-n.listeners.Started():
	case <-ctx.Done():
		return
	}
	if n.inherited.succeeds() {
		if err := n.inherited.talk.send(message{Word: wordServing}); err != nil {
			n.log.Warn("the process before cannot be told", "error", err) // it has died
		}
		n.running.Go(n.followPredecessor)
	}
	err := notify(fmt.Sprintf("READY=1\nMAINPID=%d", os.Getpid()))
	if err == nil {
		err = n.storeSockets()
	}
	if err != nil {
		n.log.Warn("the service manager cannot be told that the node serves", "error", err)
	}
}

// storeSockets leaves the listening sockets with the service manager.
func (n *node) storeSockets() error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	socks := n.listeners.Sockets()
	files, err := socks.StreamFiles()
	defer closeFiles(files)
	return errors.Join(err, storeFiles(files))
}

// bequest returns what a successor gets; the files' names say what they are. The caller
// closes them.
func (n *node) bequest() ([]*os.File, error) {
	socks := n.listeners.Sockets()
	// From now on all QUIC flows stay here until the successor asks for them.
	if err := socks.Hold(); err != nil {
		return nil, err
	}
	files, err := socks.StreamFiles()
	if err != nil {
		return nil, err
	}
	operator, err := n.admin.File()
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	files = append(files, operator)
	if n.kernel == nil {
		return files, nil
	}
	var judged []*os.File
	if err = n.admit.EndTrial(); err == nil {
		judged, err = n.kernel.Files()
	}
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	return append(files, judged...), nil
}

// followPredecessor hears what the process before tells while it drains, until it ends.
func (n *node) followPredecessor() {
	for {
		m, files, err := n.inherited.talk.receive(time.Time{})
		closeFiles(files)
		if err != nil {
			n.inherited.talk.close()
			if was := n.before.end(); was.PID != 0 {
				n.log.Info("the process before has ended", "pid", was.PID)
			}
			return
		}
		switch m.Word {
		case wordDraining:
			n.parts.ledger.Correct(time.Now(), m.At, m.Corrections)
			n.before.set(m.Draining)
		case wordStop:
			select {
			case n.before.stopped <- struct{}{}:
			default: // it said so before
			}
		}
	}
}

// awaitPredecessor waits for the process before until ctx ends: a service manager ends
// what is left of a service when its main process has ended.
func (n *node) awaitPredecessor(ctx context.Context) {
	if !n.inherited.succeeds() {
		return
	}
	if before, drained := n.before.state(); before.PID != 0 {
		select {
		case <-drained:
		case <-ctx.Done():
		}
	}
	n.inherited.talk.conn.CloseRead() // ends followPredecessor
}

// reportEvery is how often a process that drains tells its successor how it does.
const reportEvery = 500 * time.Millisecond

// report tells the successor how this process drains and what it has spent, until ctx
// ends.
func (n *node) report(ctx context.Context, until time.Time) {
	g := generation{PID: os.Getpid(), Since: time.Now(), Until: until}
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		g.Requests = n.server.InFlight()
		n.tellSuccessor(g, false)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-n.successor.ended:
			n.mourn()
			return
		}
	}
}

// tellSuccessor reports once. What cannot be told stays counted as spent.
func (n *node) tellSuccessor(g generation, end bool) {
	now := time.Now()
	m := message{Word: wordDraining, Draining: g, At: now, Corrections: n.parts.ledger.GiveBack(now, end)}
	if err := n.successor.talk.send(m); err != nil && n.successor.failed() == nil {
		n.log.Debug("the successor was not told", "error", err)
	}
}

// mourn makes this process the main one again for the service manager if the successor
// was lost: that starts the node anew when this process has ended, with an error.
func (n *node) mourn() {
	if err := n.successor.failed(); err != nil {
		n.log.Error("new visitors are not served until the node is started again", "error", err)
		_ = notify(fmt.Sprintf("MAINPID=%d", os.Getpid())) // without a manager nobody starts it
	}
}

// leave ends a process that was replaced: it tells the last of its money. Who has sent it
// the signal that ends the node waits for it, so that it waits for the other.
func (n *node) leave() error {
	n.tellSuccessor(generation{PID: os.Getpid(), Since: time.Now(), Until: time.Now()}, true)
	n.successor.talk.close()
	if n.stopPassed {
		<-n.successor.ended
	}
	return n.successor.failed()
}

// passStop tells the process that serves to end, if this one was replaced while the
// signal came. It is a word and no signal: that may have been sent to both, and a second
// one would cut off requests.
func (n *node) passStop() {
	if !n.wasReplaced() {
		return
	}
	n.stopPassed = true
	if err := n.successor.talk.send(message{Word: wordStop}); err != nil {
		n.log.Warn("the successor cannot be told to stop", "error", err) // it has died
	}
}
