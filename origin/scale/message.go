package scale

import (
	"crypto/rand"
	"os"
	"time"
)

// A Message is what the webhook gets, as JSON.
type Message struct {
	// ID is the same for all attempts to deliver one message.
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Node is the name of the machine. Each node tells what itself sees.
	Node   string `json:"node"`
	Origin string `json:"origin"`
	// Needed says that more is wanted. False says that this is over, so that servers
	// may go.
	Needed bool `json:"needed"`
	// Since is when the need began.
	Since time.Time `json:"since"`
	// Ratio is what is wanted over what is there, in servers WantedServers over
	// Servers.
	Ratio         float64 `json:"ratio"`
	Servers       int     `json:"servers"`
	WantedServers int     `json:"wanted_servers"`
	// Limit is how many requests the origin may run now, InFlight how many it runs.
	Limit    int `json:"limit"`
	InFlight int `json:"in_flight"`
	// SpilledShare is the share of the requests that it does not get, and
	// SpendPerHour what functions cost at the present pace, in US dollars.
	SpilledShare float64 `json:"spilled_share"`
	SpendPerHour float64 `json:"spend_usd_per_hour"`
}

func newMessage(origin string, at time.Time, s *State, st *Standing) *Message {
	node, _ := os.Hostname() // without one it stays empty
	return &Message{
		ID: rand.Text(), Time: at.UTC().Round(time.Millisecond), Node: node, Origin: origin,
		Needed: s.Needed, Since: s.Since.UTC().Round(time.Millisecond),
		Ratio: s.Ratio, Servers: s.Servers, WantedServers: s.Wanted, Limit: st.Limit, InFlight: st.InFlight,
		SpilledShare: s.Spilled, SpendPerHour: s.SpendPerHour,
	}
}
