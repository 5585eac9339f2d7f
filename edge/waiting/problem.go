package waiting

import "encoding/json"

// A problem is a notice for programs: an object of RFC 9457 with members of the
// room's own.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Ticket is to be sent back as Spillway-Ticket.
	Ticket string `json:"ticket,omitempty"`
	Ahead  int    `json:"ahead"`
	// Estimate is left out where it is not known.
	Estimate   *int   `json:"estimate_seconds,omitempty"`
	RetryAfter int    `json:"retry_after_seconds"`
	RequestID  string `json:"request_id"`
	// Reason is the word of the access log, where it is not to be kept from clients.
	Reason string `json:"reason,omitempty"`
}

// JSON returns a notice for programs. The reason may be empty.
func (n *Notice) JSON(status int, requestID, reason string) []byte {
	p := problem{
		Type: "about:blank", Title: "Waiting room", Status: status, Ticket: n.Ticket,
		Ahead: n.Ahead, RetryAfter: n.Seconds(), RequestID: requestID, Reason: reason,
	}
	if n.Known {
		seconds := int(n.Estimate.Seconds())
		p.Estimate = &seconds
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic("BUG: " + err.Error()) // numbers and strings always marshal
	}
	return append(b, '\n')
}
