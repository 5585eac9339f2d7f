// Package outcome is the vocabulary of Spillway: the one set of words for how a
// request ended and why. The same words stand in the Spillway header, the
// access log, the metric spillway_requests_total and the documentation.
//
// It holds types and constants only, imports nothing of ours, and may be
// imported by every package.
package outcome

// An Outcome says how a request ended. Every request ends in exactly one, so
// that the counts of all outcomes add up to the arrivals.
type Outcome string

// The outcomes on the ladder, ordered by the freshness of the answer.
const (
	Hit       Outcome = "hit"       // answered from the cache
	Collapsed Outcome = "collapsed" // shared the answer of an identical fetch in flight
	Origin    Outcome = "origin"    // answered by the origin at once
	Queued    Outcome = "queued"    // answered by the origin after a short wait
	Function  Outcome = "function"  // answered by a function
	Stale     Outcome = "stale"     // answered by an expired entry of the cache
	Waiting   Outcome = "waiting"   // sent to the waiting room
	Shed      Outcome = "shed"      // nothing could serve it: 503 and Retry-After
)

// The outcomes off the ladder.
const (
	Refused  Outcome = "refused"  // not let in: admission, filter, no route
	Failed   Outcome = "failed"   // tried, no usable answer
	Canceled Outcome = "canceled" // the client left
	Local    Outcome = "local"    // an answer of the node itself, such as a redirect
)

// All lists every outcome, in the order of the ladder.
var All = []Outcome{
	Hit, Collapsed, Origin, Queued, Function, Stale, Waiting, Shed,
	Refused, Failed, Canceled, Local,
}

// A Reason says why a request ended as it did. The zero value means that there
// is nothing to explain.
type Reason string

// Reasons. Each is a token of RFC 9651, so that it can stand bare in a
// structured field.
const (
	None Reason = ""

	// Why the cache answered, or did not.
	Fresh       Reason = "fresh"
	Revalidated Reason = "revalidated"
	// Revalidating: it has expired, and is fetched anew in the background.
	Revalidating Reason = "revalidating"

	// Why the request left the origin.
	OriginSaturated Reason = "origin-saturated"
	OriginDown      Reason = "origin-down"
	OriginFailed    Reason = "origin-failed"
	OriginTimeout   Reason = "origin-timeout"
	OriginThrottled Reason = "origin-throttled"
	OriginSlow      Reason = "origin-slow" // and an expired entry may answer when it fails
	Deadline        Reason = "deadline"    // the origin would probably have answered too late
	Hedged          Reason = "hedged"      // the origin was late, and a function was faster

	// Why no function took it.
	NoOverflow          Reason = "no-overflow"
	MethodNotSpilled    Reason = "method-not-spilled"
	BodyTooLarge        Reason = "body-too-large"
	FunctionBusy        Reason = "function-busy"
	SharedBusy          Reason = "shared-busy" // no room at what functions share with origins
	FunctionThrottled   Reason = "function-throttled"
	FunctionUnavailable Reason = "function-unavailable"
	FunctionAuth        Reason = "function-auth"
	FunctionTooLarge    Reason = "function-too-large"
	FunctionError       Reason = "function-error"
	FunctionTimeout     Reason = "function-timeout"
	RetriesSpent        Reason = "retries-spent" // a function failed, and no more may be tried anew
	BudgetSpent         Reason = "budget-spent"
	ClientShareSpent    Reason = "client-share-spent"
	LedgerFailed        Reason = "ledger-failed" // what was spent cannot be written down
	Crawler             Reason = "crawler"
	Prefetch            Reason = "prefetch"
	EventStream         Reason = "event-stream"
	Upgrade             Reason = "upgrade"

	// Why a waiter gave up.
	QueueFull    Reason = "queue-full"
	QueueTimeout Reason = "queue-timeout"

	// Why a visitor has to wait although there may be room.
	OthersFirst Reason = "others-first"

	// Why a request was refused.
	NoRoute          Reason = "no-route"
	UnknownHost      Reason = "unknown-host"
	MethodNotAllowed Reason = "method-not-allowed"
	UnknownProtocol  Reason = "unknown-protocol"
	BadRequest       Reason = "bad-request"
	HeaderTooLarge   Reason = "header-too-large"
	OnlyIfCached     Reason = "only-if-cached"
	TooManyRequests  Reason = "too-many-requests"
	TooEarly         Reason = "too-early"
	Loop             Reason = "loop"

	// Why an answer was cut off.
	ClientGone   Reason = "client-gone"
	Aborted      Reason = "aborted"
	ReadTimeout  Reason = "read-timeout"
	WriteTimeout Reason = "write-timeout"

	// Answers of the node itself.
	Redirect Reason = "redirect"
	Purged   Reason = "purged"
)
