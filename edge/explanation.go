package edge

import (
	"net/netip"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/recorder"
	"spillway/origin/faas"
)

// An Explanation says what would become of a request at one instant, and why: how
// it stands on each rung of the ladder, and what follows. What a request does not
// come to is nil.
type Explanation struct {
	Method string `json:"method"`
	URL    string `json:"url"`

	Client  ClientLook   `json:"client"`
	Hosts   []string     `json:"hosts,omitempty"`  // that there are, if there is no site for this one
	Passed  []PassedLook `json:"passed,omitempty"` // routes of the host before the one that matches
	Route   *RouteLook   `json:"route,omitempty"`
	Cache   *CacheLook   `json:"cache,omitempty"`
	Origin  *OriginLook  `json:"origin,omitempty"`
	Waiting *WaitingLook `json:"waiting,omitempty"`
	// Barred says why the request may go to no function, whatever they say.
	Barred    outcome.Reason `json:"barred,omitempty"`
	Functions []faas.Look    `json:"functions,omitempty"` // in the order of preference

	// Now is what would happen, Full what would if the origin took no more: each
	// step is taken if the one before comes to nothing.
	Now  []recorder.Step `json:"now"`
	Full []recorder.Step `json:"if_full"`
}

// A ClientLook is who would ask.
type ClientLook struct {
	Peer    netip.Addr `json:"peer"`    // at the other end of the connection
	Visitor netip.Addr `json:"visitor"` // the same, or whom a trusted proxy names
	Trusted bool       `json:"trusted"` // the peer's fields are believed
	// Refused says why its network is not let in now.
	Refused outcome.Reason `json:"refused,omitempty"`
}

// A PassedLook is a route that does not take the request.
type PassedLook struct {
	Route string `json:"route"`
	Why   string `json:"why"` // path or method
}

// A RouteLook is the route of the request.
type RouteLook struct {
	Route  string `json:"route"`
	Origin string `json:"origin"`
	Spills bool   `json:"spills"`
}

// A CacheLook is what the cache has for the request.
type CacheLook struct {
	// Used is false on a route that stores nothing.
	Used  bool            `json:"used"`
	State cache.Freshness `json:"state"`
	Why   cache.Fwd       `json:"why,omitempty"`
	// Entry says that there is an entry. What follows is its age, and how long it is
	// fresh yet, below zero since when it is not.
	Entry bool    `json:"entry"`
	Age   float64 `json:"age_seconds"`
	TTL   float64 `json:"ttl_seconds"`
	// Found describes the entry.
	Found *cache.Look `json:"found,omitempty"`
	// StaleLeft is for how long the entry may stand in for an origin that is full.
	StaleLeft float64 `json:"stale_left_seconds"`
	Forbids   bool    `json:"forbids_stale"` // the response does
	Joins     bool    `json:"joins"`         // a fetch of the same in flight
	Late      bool    `json:"late"`          // such a fetch, which others have waited for long enough: the entry answers
	Alone     bool    `json:"alone"`         // nobody would wait for the answer to this request
}

// An OriginLook is how the origin stands for the request.
type OriginLook struct {
	Name     string `json:"name"`
	Up       bool   `json:"up"`
	Paused   bool   `json:"paused"` // it has asked to be left alone
	Phase    string `json:"phase"`
	Limit    int    `json:"limit"`
	InFlight int    `json:"in_flight"`
	// Share is the part of the limit that the request may fill, Room whether there is
	// any.
	Share float64 `json:"share"`
	Room  bool    `json:"room"`
	// Baseline is what such a request takes at an idle origin; zero is not known.
	Baseline   float64 `json:"baseline_seconds"`
	Queued     int     `json:"queued"`
	QueueLimit int     `json:"queue_limit"`
}

// A WaitingLook is how the request stands to the waiting room of its origin.
type WaitingLook struct {
	// Waits says that the request is one that could be sent to wait.
	Waits    bool    `json:"waits"`
	Standing string  `json:"standing"`
	Visitors int     `json:"visitors"` // who wait
	Estimate float64 `json:"estimate_seconds,omitempty"`
}
