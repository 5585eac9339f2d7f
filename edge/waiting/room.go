package waiting

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Room is where the visitors of one origin wait. It is safe for concurrent use,
// starts nothing, and costs nothing while it is empty.
type Room struct {
	name  string
	node  uint32
	keys  func() [][32]byte
	clock func() int64 // microseconds since 1970; replaced by simulations
	epoch atomic.Pointer[time.Time]

	waiting atomic.Int64 // seats; tells without the lock that nobody waits
	meters  meters
	door    door

	mu      sync.Mutex
	seats   seats
	spent   spent
	holding map[uint64]bool // tickets whose turn has come, and who ask the origin
	window  window
	pace    pace
	peers   peers
	front   front
	// calm is since when there has been room for all.
	calm     int64
	stepped  int64
	observed int64
	// What happened since then.
	admitted, left, admittedStep int
	counts                       counts
}

// counts are of the whole life of the room.
type counts struct{ tickets, admitted, left, void uint64 }

// NewRoom returns an empty room. Its name must be the same on all nodes whose
// visitors wait for the same origin. keys are those of tickets: the first signs,
// all are believed.
func NewRoom(name string, keys func() [][32]byte) *Room {
	r := &Room{name: name, node: rand.Uint32(), keys: keys, holding: map[uint64]bool{}, window: newWindow()}
	r.peers.step(0)
	epoch := time.Now()
	r.epoch.Store(&epoch)
	r.clock = r.steadyClock
	return r
}

// steadyClock is the wall clock as it was when the room opened, and the monotonic
// one since: a step must not call everybody, or nobody. An empty room follows it.
func (r *Room) steadyClock() int64 {
	now, epoch := time.Now(), r.epoch.Load()
	steady := epoch.Add(now.Sub(*epoch)).UnixMicro()
	if off := now.UnixMicro() - steady; r.waiting.Load() == 0 && (off > second || off < -second) {
		r.epoch.Store(&now)
		return now.UnixMicro()
	}
	return steady
}

// calmTime is for how long there must have been room for all who wait before
// somebody who has not waited is let in beside them. Without it, a room that
// drains would send everybody away for some seconds, forever.
const calmTime = 10 * second

// Enter says how a request stands.
func (r *Room) Enter(a Ask) Guest {
	now := r.clock()
	if id, ok := r.pass(a.Pass, now); ok && r.meters.take(id, now) {
		return Guest{Standing: Admitted, Waits: a.Waits}
	}
	if !a.Waits {
		return Guest{}
	}
	if a.Ticket == "" && r.waiting.Load() == 0 {
		return Guest{Standing: Free, Waits: true}
	}
	t := r.ticket(a.Ticket)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	if r.void(&t, now) {
		if a.Ticket != "" {
			r.counts.void++
		}
		return Guest{Standing: r.newcomer(now), Waits: true}
	}
	r.peers.note(t.hint, r.node, now)
	if !r.turn(&t) {
		return Guest{Standing: Behind, Waits: true, ticket: t}
	}
	// It keeps its seat as long as it holds, so that those behind it stay there.
	r.holding[t.id] = true
	r.sit(&t, now+(Hold+grace(Hold)).Microseconds(), now)
	return Guest{Standing: Called, Waits: true, ticket: t, held: true}
}

// Look says how a request would stand, and gives it no turn and no seat: its ticket
// and its pass are as good as before.
func (r *Room) Look(a Ask) Guest {
	now := r.clock()
	if id, ok := r.pass(a.Pass, now); ok && r.meters.has(id, now) {
		return Guest{Standing: Admitted, Waits: a.Waits}
	}
	if !a.Waits {
		return Guest{}
	}
	t := r.ticket(a.Ticket)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	switch {
	case r.void(&t, now):
		return Guest{Standing: r.newcomer(now), Waits: true}
	case !r.turn(&t):
		return Guest{Standing: Behind, Waits: true}
	}
	return Guest{Standing: Called, Waits: true}
}

// pass returns the id of a pass, if it is one and good yet.
func (r *Room) pass(text string, now int64) (id uint64, ok bool) {
	if text == "" {
		return 0, false
	}
	t, ok := parse(text, kindPass, r.keys(), r.name)
	return t.id, ok && now < t.at && t.at-now < mostPass.Microseconds()
}

// ticket returns what a text says, or the zero ticket if it is none.
func (r *Room) ticket(text string) ticket {
	t, ok := parse(text, kindTicket, r.keys(), r.name)
	if !ok {
		return ticket{}
	}
	return t
}

// void reports whether a ticket is not good, or not any more. The zero one is not.
func (r *Room) void(t *ticket, now int64) bool {
	return t.id == 0 || now-t.at > TicketLife.Microseconds() || t.at-now > clockAhead.Microseconds() || r.spent.has(t)
}

// newcomer is how a visit without a ticket stands.
func (r *Room) newcomer(now int64) Standing {
	if len(r.seats.all) == 0 || now-r.calm > calmTime {
		return Free
	}
	return Behind
}

// turn reports whether the turn of a ticket has come. A ticket that is being
// admitted has no other turn. Tickets that were hoarded can come in any order,
// each of them as the first; so the number of those held is bounded as well.
func (r *Room) turn(t *ticket) bool {
	called := r.window.called()
	return !r.holding[t.id] && len(r.holding) < 2*called && t.at <= r.peers.bound && r.seats.line.before(t.at) < called
}

// sit gives a ticket a seat, or keeps it for longer.
func (r *Room) sit(t *ticket, until, now int64) {
	if len(r.seats.all) == 0 {
		r.open(now)
	}
	r.seats.take(t.id, t.at, until, now)
	r.waiting.Store(int64(len(r.seats.all)))
}

// open makes an empty room ready. How many it called last is as good a guess as
// any; how fast it emptied is not.
func (r *Room) open(now int64) {
	r.seats.open(now)
	r.pace, r.admitted, r.left = pace{}, 0, 0
	r.calm, r.stepped, r.observed = now, now, now
	r.front = front{moved: now}
	r.peers.step(now)
}

// A Notice is what a visitor who waits is told.
type Notice struct {
	// Ticket is to be brought back.
	Ticket string
	// Ahead is about how many are let in before.
	Ahead int
	// Estimate is how long that takes, if Known.
	Estimate time.Duration
	Known    bool
	// Again is when to come back.
	Again time.Duration
}

// Wait sends a guest to wait, and gives it a ticket if it has none.
func (r *Room) Wait(g *Guest) Notice {
	r.Leave(g)
	n, t := r.wait(g, r.clock())
	if t.id != 0 {
		n.Ticket = t.sign(&r.keys()[0], r.name)
	}
	return n
}

// wait seats a guest, and returns its ticket with what it is told.
func (r *Room) wait(g *Guest, now int64) (n Notice, t ticket) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	if g.Standing != Behind {
		r.calm = now // there was no room for somebody
	}
	if g.Standing == Admitted {
		// The pass is its place. To seat it would let it wait with the others.
		return Notice{Again: again(0, true, 0), Known: true}, t
	}
	if t = g.ticket; t.id == 0 {
		t = ticket{kind: kindTicket, id: newID(), at: now}
		r.counts.tickets++
	}
	n.Ahead = r.seats.line.before(t.at)
	called := r.window.called()
	if n.Known = n.Ahead < called; !n.Known {
		n.Estimate, n.Known = r.estimate(n.Ahead)
	}
	soon := n.Known || n.Ahead < 8*called // while the window grows, it may be their turn soon
	n.Again = again(n.Estimate, soon, len(r.seats.all))
	if !r.holding[t.id] {
		r.sit(&t, now+(n.Again+grace(n.Again)).Microseconds(), now)
	}
	t.hint = r.front.hint(r.node, now)
	return n, t
}

// Await waits until it is the guest's turn at the door of the origin: at most
// for patience, or until ctx ends. The guest may then ask for a permit, and must
// call leave when it has one, or gives up; stood says that others were before it.
// Without its turn leave is nil.
func (r *Room) Await(ctx context.Context, g *Guest, patience time.Duration) (leave func(), stood bool) {
	// A pass has no arrival: those with one go first.
	c := r.door.stand(g.ticket.at)
	if c != nil && !r.door.await(ctx, c, patience) {
		return nil, true
	}
	return r.door.leave, c != nil
}

// Serve uses the ticket of a guest that was Called, for an answer that is about
// to be sent, and returns a pass that lasts for life. It returns nothing for
// other guests.
func (r *Room) Serve(g *Guest, life time.Duration) (pass string) {
	if !g.held {
		return ""
	}
	g.held = false
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.holding, g.ticket.id)
	r.spent.add(&g.ticket, now)
	r.seats.leave(g.ticket.id)
	r.waiting.Store(int64(len(r.seats.all)))
	r.admitted++
	r.admittedStep++
	r.counts.admitted++
	t := ticket{kind: kindPass, id: newID(), at: now + life.Microseconds()}
	return t.sign(&r.keys()[0], r.name)
}

// Leave ends what Enter began. A guest that was not served keeps its ticket and
// its place. It may be called more than once.
func (r *Room) Leave(g *Guest) {
	if !g.held {
		return
	}
	g.held = false
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.holding, g.ticket.id)
}

// Crowded reports whether anybody waits, so that those who did not have to must
// leave room.
func (r *Room) Crowded() bool {
	if r.waiting.Load() == 0 {
		return false
	}
	// All may have left, and nobody else come to the room who would notice.
	if now := r.clock(); r.mu.TryLock() {
		r.advance(now)
		r.mu.Unlock()
	}
	return r.waiting.Load() > 0
}

// estimate is how long those ahead take, and whether that is known: not while the
// room still finds out how many can be called.
func (r *Room) estimate(ahead int) (time.Duration, bool) {
	if !r.window.steady {
		return 0, false
	}
	return r.pace.estimate(ahead)
}

// advance brings the room up to the present.
func (r *Room) advance(now int64) {
	if len(r.seats.all) == 0 {
		return
	}
	left := r.seats.sweep(now)
	r.left += left
	r.counts.left += uint64(left)
	r.waiting.Store(int64(len(r.seats.all)))
	if now-r.stepped < windowTick {
		return
	}
	waiting := len(r.seats.all)
	atDoor, since := r.door.standing()
	stood := time.Duration(0)
	if atDoor > 0 {
		stood = time.Since(since)
	}
	r.peers.step(now)
	cursor := min(r.seats.line.find(r.window.called()+1), now)
	grows, lately := r.admittedStep, now-r.front.moved < latelyTime
	if cursor > r.peers.bound { // others are behind, not the origin
		grows, lately = 0, false
	}
	was := r.window.steady
	if r.window.step(atDoor, stood, grows, lately, waiting); !was && r.window.steady {
		r.pace, r.admitted, r.left, r.observed = pace{}, 0, 0, now // the start says little
	}
	r.front.move(cursor, r.admittedStep > 0, now)
	if waiting > r.window.called() || atDoor > crowdedBy {
		r.calm = now
	}
	r.stepped, r.admittedStep = now, 0
	if passed := now - r.observed; passed >= second {
		r.pace.observe(float64(passed)/float64(second), waiting, r.admitted, r.left)
		r.observed, r.admitted, r.left = now, 0, 0
	}
}
