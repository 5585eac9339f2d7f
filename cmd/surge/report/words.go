package report

import (
	"cmp"
	"maps"
	"slices"

	"spillway/cmd/surge/crowd"
	"spillway/edge/outcome"
)

// clientErrors is the layer of what the client had to name, in plots one for all.
const clientErrors = "client errors"

// layers orders outcomes from the bottom of a stack to its top. The origin lies at
// the bottom, where its flat top shows that it ran at its capacity; what went wrong
// lies at the top.
var layers = []string{
	string(outcome.Origin), string(outcome.Queued), string(outcome.Function),
	string(outcome.Hit), string(outcome.Collapsed), string(outcome.Stale),
	crowd.Unlabelled, string(outcome.Local), string(outcome.Waiting),
	string(outcome.Shed), string(outcome.Refused), string(outcome.Failed), string(outcome.Canceled),
	clientErrors,
}

// meanings say in a few words what each outcome and client error is.
var meanings = map[string]string{
	string(outcome.Hit):       "answered from the cache",
	string(outcome.Collapsed): "shared an identical fetch in flight",
	string(outcome.Origin):    "answered by the origin at once",
	string(outcome.Queued):    "answered by the origin after a short wait",
	string(outcome.Function):  "answered by a function",
	string(outcome.Stale):     "answered by an expired cache entry",
	string(outcome.Waiting):   "sent to the waiting room",
	string(outcome.Shed):      "turned away: nothing could serve it",
	string(outcome.Refused):   "not let in",
	string(outcome.Failed):    "tried, no usable answer",
	string(outcome.Canceled):  "the client left",
	string(outcome.Local):     "an answer of the node itself",
	crowd.Unlabelled:          "answered, without the node's word",
	clientErrors:              "no complete answer; see below",
	"offered":                 "all together; latency of the answered",

	crowd.ClassTimeout:     "the visitor lost patience",
	crowd.ClassRefused:     "the connection was refused",
	crowd.ClassTLS:         "handshake or certificate failed",
	crowd.ClassReset:       "the answer broke off",
	crowd.ClassRejected:    "turned away unread",
	crowd.ClassProtocol:    "not the protocol asked for",
	crowd.Class4xx:         "an error without the node's word",
	crowd.Class5xx:         "an error without the node's word",
	crowd.ClassCapped:      "not sent: too many visitors for this machine",
	crowd.ClassNoSocket:    "not sent: no socket left on this machine",
	crowd.ClassInterrupted: "the run was ended first",
}

// present returns the layers that occur, bottom first.
func present(c crowd.Counts) []string {
	var out []string
	for _, l := range layers {
		if layerCount(c, l) > 0 {
			out = append(out, l)
		}
	}
	return out
}

func layerCount(c crowd.Counts, layer string) int64 {
	if layer != clientErrors {
		return c.Outcomes[layer]
	}
	var n int64
	for _, v := range c.ClientErrors {
		n += v
	}
	return n
}

// byCount returns the keys of counts, the most frequent first.
func byCount(counts map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
}

// byLayer returns the outcomes in the order of the layers.
func byLayer(c crowd.Counts) []string {
	return slices.SortedFunc(maps.Keys(c.Outcomes), func(a, b string) int {
		return cmp.Compare(slices.Index(layers, a), slices.Index(layers, b))
	})
}
