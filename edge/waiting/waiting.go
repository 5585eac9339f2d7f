// Package waiting is the waiting room: where page visits go when everything
// else is spent, and out of which they are let in by the order of arrival.
//
// # Tickets
//
// A visitor who has to wait gets a ticket: an id and the time of arrival,
// signed. The room believes tickets and nothing else, so that a restart loses
// nobody's place, and any node with the same key can read it. A ticket cannot be
// made, dated back or prolonged without the key. It is good for one admission on
// each node; the ids of the admitted are remembered until their tickets expire.
// Who was admitted gets a pass, which spares it the room for some minutes.
//
// # The order
//
// Those whose visitors keep coming back are seated: the room counts how many of
// them arrived before a given time. The first so many of them are called, and
// let in at their next visit; the arrival time at which that ends is the cursor.
// How many are called at a time follows from how they fare: more, as long as
// they find a place at once; fewer, when they stand at the origin's door for
// long. Nobody has to say how many visitors a second the origin can take.
//
// Who does not come back in time loses its seat, so that those who left hold
// nobody up, and keeps its ticket: it is called at once when it comes later.
//
// # When it fails
//
// Everything that strangers can make grow is bounded: seats, remembered ids, and
// the rates of passes. Beyond the bound of seats visitors are let in all the same
// and only not counted; beyond the bound of ids the oldest tickets expire early.
// A ticket that is no good is no error: its owner goes to the end.
//
// # What it does not do
//
// It writes no response and takes no permit of the origin. Nodes do not talk to
// each other: what one knows of the other it learns from the tickets that
// visitors carry.
package waiting

import "time"

// Config describes the waiting room of a route.
type Config struct {
	// Pass is how long a visitor who was let in is not sent to wait again. It
	// does not begin anew with a visit. Zero means DefaultPass.
	Pass time.Duration `koanf:"pass" unit:"duration" default:"10m" min:"10s" max:"1h"`
	// Page is a template of html/template, shown instead of the room's own page.
	Page string `koanf:"page" format:"file"`
}

// DefaultPass is how long a pass is good where no configuration says otherwise.
const DefaultPass = 10 * time.Minute

// The bounds and times of the room. They are not knobs: within a factor of two
// none of them decides anything.
const (
	// TicketLife is how long after its arrival a visitor may be let in.
	TicketLife = 6 * time.Hour
	// clockAhead is how far the clock of the node that wrote a ticket may be ahead.
	clockAhead = 5 * time.Minute
	// mostPass bounds the rest of a pass, whatever clock it was written by.
	mostPass = time.Hour + clockAhead

	// mostSeats bounds the visitors that are counted: about 16 MiB.
	mostSeats = 1 << 18
	// mostSpent bounds the admitted tickets that are remembered: about 24 MiB.
	mostSpent = 1 << 20

	// Hold is how long a visitor whose turn has come may stand at the origin's
	// door: browsers wait that long without a word, and most visitors too.
	Hold = 10 * time.Second
)
