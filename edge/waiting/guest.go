package waiting

// A Standing says how a request stands to the room.
type Standing uint8

const (
	// Outside is a request that never waits here, and has no pass.
	Outside Standing = iota
	// Free is a visit while nobody waits.
	Free
	// Behind is a visit before which others have to be let in.
	Behind
	// Called is a visit whose turn has come.
	Called
	// Admitted is a request with a pass.
	Admitted
)

// String returns the word of an explanation.
func (s Standing) String() string {
	return [...]string{"outside", "free", "behind", "called", "admitted"}[min(s, Admitted)]
}

// An Ask is what the room has to know of a request.
type Ask struct {
	// Waits says that the request can be sent to wait.
	Waits bool
	// Ticket and Pass are what it carries, or empty.
	Ticket, Pass string
}

// A Guest is a request that has asked, and must be told how it went: by Wait or
// Serve, and in any case by Leave. The zero Guest stands Outside.
type Guest struct {
	Standing Standing
	Waits    bool   // as it asked
	ticket   ticket // the zero value is none
	held     bool   // the turn of the ticket is this guest's
}

// New reports whether the guest has not waited before, as far as it can show.
func (g *Guest) New() bool { return g.ticket.id == 0 }
